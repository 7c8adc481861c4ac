"""What a trial tells while it runs, one small value for each kind of news."""

from dataclasses import dataclass
from typing import TypeAlias

from paretta.orchestrator.lanes.messages import ProgressMessage
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class TrialBegun:
    """The trial begins now."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class TrialWaits:
    """There is no news: the trial waits for a lane, or for the first epoch of its training."""


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """How far the training of the trial `uid` is, or that it is being measured."""

    uid: str
    message: ProgressMessage


@dataclass(frozen=True, slots=True)
class ByProductEnded:
    """What came of a plan that went on where the trial's ended: a trial of its own, complete or failed."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class TrialReturned:
    """The trial has not ended, and a resumed sweep goes on with it; `why` is given where that ends the whole sweep.

    The lanes gave it back before they began it, or the disk is full.
    """

    why: str | None = None


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """The trial as it ended."""

    trial: Trial


RunEvent: TypeAlias = TrialWaits | TrialProgress | ByProductEnded | TrialReturned | TrialEnded
