"""The job queue as an asynchronous actor: a call that has to wait is suspended here, so clients need not poll."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from paretta.orchestrator.lanes.job_queue import JobQueue
from paretta.orchestrator.lanes.messages import (
    Assignment,
    Directive,
    JobUpdate,
    ProgressMessage,
    QueuedJob,
    RankAddress,
    RankReport,
    Timeouts,
)

_T = TypeVar("_T")


class QueueActor:
    """Forwards every call to its `JobQueue`, wakes waiting callers, and applies the time limits.

    Args:
        num_lanes: lanes whose ranks will register.
        timeouts: the time limits.
    """

    def __init__(self, num_lanes: int, timeouts: Timeouts) -> None:
        self.jobs = JobQueue(num_lanes, time.monotonic, timeouts)
        self.changed = asyncio.Event()

    async def submit(self, job: QueuedJob) -> None:
        """See `JobQueue.submit`."""
        self.jobs.submit(job)
        self._wake()

    async def cancel(self, uid: str, abandon: bool) -> None:
        """See `JobQueue.cancel`."""
        self.jobs.cancel(uid, abandon=abandon)
        self._wake()

    async def wait(self, uid: str, seen: int, timeout_s: float) -> JobUpdate:
        """See `JobQueue.update_of`; waits for a change."""

        def news() -> JobUpdate | None:
            update = self.jobs.update_of(uid, seen)
            return update if update.progress or update.outcome else None

        return await self._until(news, timeout_s) or self.jobs.update_of(uid, seen)

    async def forget(self, uid: str) -> None:
        """See `JobQueue.forget`."""
        self.jobs.forget(uid)

    async def wind_down(self) -> None:
        """See `JobQueue.wind_down`."""
        self.jobs.wind_down()
        self._wake()

    async def close(self) -> None:
        """See `JobQueue.close`."""
        self.jobs.close()
        self._wake()

    async def register(self, address: RankAddress, size: int, node: str, reservation: str, kills: int) -> None:
        """See `JobQueue.register`."""
        self.jobs.register(address, size, node, reservation, kills)
        self._wake()

    async def heartbeat(self, address: RankAddress, timeout_s: float) -> Directive:
        """See `JobQueue.heartbeat`; returns at once if the directive is not to stay."""

        def other() -> Directive | None:
            directive = self.jobs.heartbeat(address)
            return None if directive == "stay" else directive

        return await self._until(other, timeout_s) or "stay"

    async def take(self, address: RankAddress, number: int, timeout_s: float) -> Assignment | None:
        """See `JobQueue.take`; waits for a job."""
        return await self._until(lambda: self.jobs.take(address, number), timeout_s)

    async def progress(self, address: RankAddress, number: int, index: int, values: ProgressMessage) -> bool:
        """See `JobQueue.progress`."""
        stop = self.jobs.progress(address, number, index, values)
        self._wake()
        return stop

    async def report(self, address: RankAddress, number: int, report: RankReport) -> None:
        """See `JobQueue.report`."""
        self.jobs.report(address, number, report)
        self._wake()

    async def lost(self) -> str:
        """See `JobQueue.lost`."""
        return self.jobs.lost()

    async def trainers_alive(self, lanes: list[int]) -> None:
        """See `JobQueue.trainers_alive`."""
        self.jobs.trainers_alive(lanes)

    async def blame_memory(self, lane: int) -> None:
        """See `JobQueue.blame_memory`."""
        self.jobs.blame_memory(lane)

    async def lane_ended(self, lane: int, reason: str) -> None:
        """See `JobQueue.lane_ended`."""
        self.jobs.lane_ended(lane, reason)
        self._wake()

    async def resize(self, num_lanes: int) -> list[int]:
        """See `JobQueue.resize`."""
        added = self.jobs.resize(num_lanes)
        self._wake()
        return added

    async def alive(self) -> int:
        """See `JobQueue.alive`."""
        return self.jobs.alive()

    async def ready(self) -> int:
        """See `JobQueue.ready`."""
        return self.jobs.ready()

    async def served(self, lane: int) -> int:
        """See `JobQueue.served`."""
        return self.jobs.served(lane)

    async def reservation(self, lane: int) -> str:
        """See `JobQueue.reservation`."""
        return self.jobs.reservation(lane)

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def _until(self, ready: Callable[[], _T | None], timeout_s: float) -> _T | None:
        """Wait until `ready` returns an answer; meanwhile apply the time limits at least twice a second."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.jobs.tick()
            if (answer := ready()) is not None or (left := deadline - time.monotonic()) <= 0:
                return answer
            try:
                await asyncio.wait_for(self.changed.wait(), min(left, 0.5))
            except TimeoutError:
                continue
