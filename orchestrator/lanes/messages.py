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
    """A job as the queue stores it. The payload stays pickled, so the queue never imports the modules it refers to."""

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
    """The sender of a message: a rank of one incarnation of a lane's worker group."""

    lane: int
    incarnation: str
    rank: int


@dataclass(frozen=True, slots=True)
class RankReport:
    """One rank's result of a job, pickled, or the error it raised."""

    result: bytes | None = None
    error_type: str = ""
    reason: str = ""
    detail: str = ""
    stopped: bool = False
    by_input: bool = False


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended; `result` is rank 0's, `seconds` are those of the last attempt.

    A returned job was not run to its end, because the lanes wind down, close or are lost; it may be resubmitted after a
    resume.
    """

    uid: str
    status: JobStatus
    result: bytes | None = None
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    seconds: float = 0.0
    by_input: bool = False


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """What is new about a job: unseen progress messages, its outcome once it has ended, and the lane that runs it."""

    progress: tuple[ProgressMessage, ...]
    outcome: JobOutcome | None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limits of the job queue, in seconds.

    Args:
        agree_s: after one rank raised, how long the other ranks have to end the job too; later ones count as stuck in
            a collective.
        alive_s: a rank with a heartbeat within this time is alive.
        hung_s: after this time without a heartbeat a rank counts as dead and its job goes to another lane. The group
            may never restart, for example if the cluster has lost a node.
        silence_s: after this time without a message a lane counts as dead, if its trainer process is silent too; must
            be longer than a worker group takes to start.
        slow_s: the same limit if the trainer process is alive: the lane may be slow, for example importing on a busy
            machine.
    """

    agree_s: float = 10.0
    alive_s: float = 4.0
    hung_s: float = 60.0
    silence_s: float = 240.0
    slow_s: float = 3600.0
