"""Following a journal while it grows."""

from dataclasses import dataclass, field
from pathlib import Path

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.schema import Point, curve_points


@dataclass(slots=True)
class Tail:
    """The part of a journal that has been read.

    Args:
        record: the state of the sweep at `position`.
        position: number of bytes read.
        curves: the training curves of each trial by uid.
    """

    record: SweepRecord
    position: int = 0
    curves: dict[str, list[Point]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Tail":
        """Start at the beginning of the journal in `folder`."""
        return cls(SweepRecord(name=folder.name, folder=folder))

    def read(self) -> bool:
        """Read the events written since the last call; return whether any of them is more than progress.

        Raises `DamagedRecord` on every call until the damaged line is repaired.
        """
        changed = False
        for event, position in self.record.follow(self.position):
            self.position = position
            if event["event"] == "progress":
                curve = self.curves.setdefault(str(event["uid"]), [])
                curve.extend(curve_points(event, len(curve)))
            else:
                changed = True
        return changed
