"""A journal followed while it grows."""

from dataclasses import dataclass, field
from pathlib import Path

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.schema import Point, curve_points


@dataclass(slots=True)
class Tail:
    """A journal as far as it was read.

    Args:
        position: bytes read.
        curves: what each trial reported while it trained, by uid.
    """

    record: SweepRecord
    position: int = 0
    curves: dict[str, list[Point]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Tail":
        """Start at the beginning of the journal in `folder`."""
        return cls(SweepRecord(name=folder.name, folder=folder))

    def read(self) -> bool:
        """Take in what was written since the last time; return whether there was more than progress.

        Raises `DamagedRecord`, and then again each time until the line is mended.
        """
        news = False
        for event, position in self.record.follow(self.position):
            self.position = position
            if event["event"] == "progress":
                curve = self.curves.setdefault(str(event["uid"]), [])
                curve.extend(curve_points(event, len(curve)))
            else:
                news = True
        return news
