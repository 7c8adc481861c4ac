"""The front that a launch returns: a front that knows where its artifacts are."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.journal import SweepRecord
from orchestrator.pull import fetch
from search_spaces.front import Front
from search_spaces.trial import Trial

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class SweepFront(Front):
    """A front with the folder of its sweep."""

    folder: Path = Path()

    @classmethod
    def read(cls, folder: Path) -> "SweepFront":
        """Read the sweep in `folder`, running or finished."""
        front = SweepRecord.read(folder).front()
        return cls(**{field.name: getattr(front, field.name) for field in fields(Front)}, folder=folder)

    def to_frame(self) -> "DataFrame":
        """Return one row a member: uid, readings with intervals, test readings, knobs, the plan in words."""
        from dashboards.table import to_frame  # noqa: PLC0415 - pandas is loaded when it is asked for

        return to_frame(self)

    def pull(
        self,
        to: str | Path,
        *,
        prefer: str = "knee",
        at_least: Mapping[str, str | float] | None = None,
        at_most: Mapping[str, str | float] | None = None,
    ) -> Trial:
        """Copy the artifact that `pick` chooses to the new folder `to`, verified, and return its trial."""
        trial = self.pick(prefer=prefer, at_least=at_least, at_most=at_most)
        assert trial.artifact is not None
        fetch(self.folder / trial.artifact, Path(to))
        return trial
