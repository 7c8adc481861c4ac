"""The mailbox as an asynchronous actor: a question that has no answer yet waits here, not in a loop of calls."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.mailbox import Delivery, Letter, Mailbox, Order, Patience, Place, Progress, Report, Update

T = TypeVar("T")


class PostOffice:
    """Passes every call on to its `Mailbox`, wakes whoever waits, and lets time's own rules act.

    Args:
        num_lanes: lanes that will say hello.
        patience: the limits of waiting.
    """

    def __init__(self, num_lanes: int, patience: Patience) -> None:
        self.mailbox = Mailbox(num_lanes, time.monotonic, patience)
        self.changed = asyncio.Event()

    async def submit(self, letter: Letter) -> None:
        """See `Mailbox.submit`."""
        self.mailbox.submit(letter)
        self._wake()

    async def cancel(self, uid: str, abandon: bool) -> None:
        """See `Mailbox.cancel`."""
        self.mailbox.cancel(uid, abandon=abandon)
        self._wake()

    async def wait(self, uid: str, seen: int, timeout_s: float) -> Update:
        """See `Mailbox.look`; waits for news."""

        def news() -> Update | None:
            update = self.mailbox.look(uid, seen)
            return update if update.progress or update.outcome else None

        return await self._until(news, timeout_s) or self.mailbox.look(uid, seen)

    async def forget(self, uid: str) -> None:
        """See `Mailbox.forget`."""
        self.mailbox.forget(uid)

    async def wind_down(self) -> None:
        """See `Mailbox.wind_down`."""
        self.mailbox.wind_down()
        self._wake()

    async def close(self) -> None:
        """See `Mailbox.close`."""
        self.mailbox.close()
        self._wake()

    async def hello(self, place: Place, size: int, node: str, reservation: str, kills: int) -> None:
        """See `Mailbox.hello`."""
        self.mailbox.hello(place, size, node, reservation, kills)
        self._wake()

    async def orders(self, place: Place, timeout_s: float) -> Order:
        """See `Mailbox.orders`; waits for another order than to stay."""

        def other() -> Order | None:
            order = self.mailbox.orders(place)
            return None if order == "stay" else order

        return await self._until(other, timeout_s) or "stay"

    async def take(self, place: Place, number: int, timeout_s: float) -> Delivery | None:
        """See `Mailbox.take`; waits for a job."""
        return await self._until(lambda: self.mailbox.take(place, number), timeout_s)

    async def progress(self, place: Place, number: int, index: int, values: Progress) -> bool:
        """See `Mailbox.progress`."""
        stop = self.mailbox.progress(place, number, index, values)
        self._wake()
        return stop

    async def report(self, place: Place, number: int, report: Report) -> None:
        """See `Mailbox.report`."""
        self.mailbox.report(place, number, report)
        self._wake()

    async def lost(self) -> str:
        """See `Mailbox.lost`."""
        return self.mailbox.lost()

    async def blame_memory(self, lane: int) -> None:
        """See `Mailbox.blame_memory`."""
        self.mailbox.blame_memory(lane)

    async def lane_ended(self, lane: int, reason: str) -> None:
        """See `Mailbox.lane_ended`."""
        self.mailbox.lane_ended(lane, reason)
        self._wake()

    async def add_lane(self) -> int:
        """See `Mailbox.add_lane`."""
        return self.mailbox.add_lane()

    async def alive(self) -> int:
        """See `Mailbox.alive`."""
        return self.mailbox.alive()

    async def served(self, lane: int) -> int:
        """Count the attempts at jobs that ended on `lane`, by whatever: while they do, the lane is not to blame."""
        return self.mailbox.lanes[lane].served + self.mailbox.lanes[lane].lost_jobs

    async def reservation(self, lane: int) -> str:
        """Return what the last worker group of `lane` held of the cluster; empty before there was one."""
        group = self.mailbox.lanes[lane].group
        return group.reservation if group is not None else ""

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def _until(self, ready: Callable[[], T | None], timeout_s: float) -> T | None:
        """Wait for `ready` to answer; time's own rules are applied at least twice a second meanwhile."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.mailbox.tick()
            if (answer := ready()) is not None or (left := deadline - time.monotonic()) <= 0:
                return answer
            try:
                await asyncio.wait_for(self.changed.wait(), min(left, 0.5))
            except TimeoutError:
                continue
