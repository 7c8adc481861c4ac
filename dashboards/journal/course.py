"""How a trial went: the lane that trained it, when it was trained and measured, and its scores epoch by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from paretta.search_spaces.canonical import Document

MEASURING: Final = "measuring"
WAITS: Final = "waits"  # what a measurement waits for, as in "for the agent at ..."


@dataclass(slots=True)
class Course:
    """What the progress messages of one trial say of it.

    Args:
        where: the lane that trained it and the lane's node; empty before a lane had it.
        trained: Unix time of the first message of its training; None before that.
        measured: Unix time at which its measurement began; None before that.
        scores: validation scores by metric at the epochs at which they were read, counted over all trainings of the
            trial.
    """

    where: str = ""
    trained: float | None = None
    measured: float | None = None
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    _epochs: int = 0
    _last: tuple[str, int] = ("", 0)

    def take(self, message: Document, time: float) -> None:
        """Update with a progress message that was recorded at a Unix time."""
        if message.get("state") == MEASURING:
            self.measured = self.measured if WAITS in message else time
            return
        self.where = str(message.get("where", self.where))
        self.trained = time if self.trained is None else self.trained
        epoch = message.get("epoch")
        if not isinstance(epoch, int):
            return
        stage = str(message.get("stage", ""))
        if stage != self._last[0] or epoch < self._last[1]:  # the next training of the plan, or one that began again
            self._epochs += self._last[1] if stage != self._last[0] else 0
        self._last = (stage, epoch)
        scores = message.get("scores")
        if isinstance(scores, Mapping):
            self.scores[self._epochs + epoch] = {
                name: float(value) for name, value in scores.items() if isinstance(value, int | float)
            }
