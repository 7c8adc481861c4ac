"""The events of a running trial, one small class each."""

from dataclasses import dataclass
from typing import TypeAlias

from paretta.orchestrator.lanes.messages import ProgressMessage
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class TrialBegun:
    """The trial has started."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class TrialWaits:
    """Nothing has happened: the trial waits for a lane, or for the first epoch of its training."""


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """The training progress of the trial `uid`, or the message that it is being measured."""

    uid: str
    message: ProgressMessage


@dataclass(frozen=True, slots=True)
class ByProductEnded:
    """A by-product of the trial has ended; it is a trial of its own, complete or failed."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class TrialReturned:
    """The trial was returned without an end, and a resumed sweep continues it; `why` is set if this ends the sweep.

    Either the lanes returned it before it started, or the disk is full.
    """

    why: str | None = None


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """The trial has ended; `by_input`: it failed because of the user's data or code."""

    trial: Trial
    by_input: bool = False


RunEvent: TypeAlias = TrialWaits | TrialProgress | ByProductEnded | TrialReturned | TrialEnded
