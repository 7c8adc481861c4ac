"""The messages between a driver, its job queue and the lanes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from paretta.search_spaces.canonical import Json

Directive: TypeAlias = Literal["stay", "restart", "leave"]


JobStatus: TypeAlias = Literal["done", "failed", "stopped", "returned"]


ProgressMessage: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job as the queue keeps it. The payload stays pickled, so the job queue never imports what it carries."""

    uid: str
    payload: bytes
    max_attempts: int = 2
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job given to one rank; `attempt` counts from 1."""

    job: QueuedJob
    attempt: int


@dataclass(frozen=True, slots=True)
class RankAddress:
    """Who speaks: a rank of one incarnation of a lane's worker group."""

    lane: int
    incarnation: str
    rank: int


@dataclass(frozen=True, slots=True)
class RankReport:
    """What one rank says at the end of a job: a pickled result, or the error it raised."""

    result: bytes | None = None
    error_type: str = ""
    reason: str = ""
    detail: str = ""
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended; `result` is rank 0's, `seconds` are those of the last attempt.

    A job that is returned has not ended: its lanes wind down, close or are lost, and another day it may be given again.
    """

    uid: str
    status: JobStatus
    result: bytes | None = None
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """News of a job: the progress messages not seen yet, the outcome once there is one, and the lane that has it."""

    progress: tuple[ProgressMessage, ...]
    outcome: JobOutcome | None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the job queue waits, in seconds.

    Args:
        agree_s: after one rank raised, for the other ranks to end too; then they are stuck in a collective.
        alive_s: a rank heard from within this time is alive; a silent one is dead, and its job is delivered again.
        hung_s: a rank that is silent for longer is not waited for: its job goes to another lane, whatever may become of
            its group, which on a cluster that lost a node may find no place any more.
        silence_s: for any sign of life of a lane whose host is not known to live either; longer than a worker group may
            take to start.
        slow_s: for a sign of life of a lane whose host lives: it is slow, such as while it imports on a busy machine.
    """

    agree_s: float = 10.0
    alive_s: float = 4.0
    hung_s: float = 60.0
    silence_s: float = 240.0
    slow_s: float = 3600.0
