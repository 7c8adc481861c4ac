"""The job queue between trials and lanes: it assigns jobs, collects their outcomes and detects lost workers.

A lane is one worker group; all its ranks receive the same jobs in the same order. A restarted group is a new
incarnation and receives the job that its predecessor did not acknowledge. This module uses neither Ray nor the system
clock, so tests can call every rule directly; `paretta.orchestrator.lanes.pool` runs the queue in an actor.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from paretta.orchestrator.lanes.messages import (
    Assignment,
    Directive,
    JobOutcome,
    JobStatus,
    JobUpdate,
    ProgressMessage,
    QueuedJob,
    RankAddress,
    RankReport,
    Timeouts,
)
from paretta.search_spaces.errors import MEMORY_MEND

_NO_REPORT: Final = RankReport()


@dataclass(slots=True)
class _Entry:
    job: QueuedJob
    attempts: int = 0
    started: float = 0.0
    stop: bool = False
    abandoned: bool = False
    progress: list[ProgressMessage] = field(default_factory=list)
    outcome: JobOutcome | None = None


@dataclass(slots=True)
class _Group:
    incarnation: str
    size: int
    node: str = ""
    reservation: str = ""
    directive: Directive = "stay"
    number: int = 0
    entry: _Entry | None = None
    reports: dict[int, RankReport] = field(default_factory=dict)
    first_error: float | None = None
    verdicts: list[bool] = field(default_factory=list)
    seen: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Lane:
    heard: float
    trainer_heard: float
    group: _Group | None = None
    served: int = 0
    lost_jobs: int = 0
    ended: str | None = None
    leaving: bool = False
    kills: dict[str, int] = field(default_factory=dict)
    out_of_memory: bool = False


class JobQueue:
    """A queue of jobs, the lanes that serve it, and the rules of delivery.

    Args:
        num_lanes: lanes whose ranks will register.
        clock: a monotonic clock, in seconds.
        timeouts: the time limits.
    """

    def __init__(self, num_lanes: int, clock: Callable[[], float], timeouts: Timeouts | None = None) -> None:
        self.clock, self.timeouts = clock, timeouts or Timeouts()
        self.queue: deque[_Entry] = deque()
        self.entries: dict[str, _Entry] = {}
        self.lanes = {lane: _Lane(clock(), clock()) for lane in range(num_lanes)}
        self.closed = self.winding_down = self.waiting = False

    # Called by clients.

    def submit(self, job: QueuedJob) -> None:
        """Queue a job. Has no effect while a job of this uid waits or runs; one that has ended may run again."""
        known = self.entries.get(job.uid)
        if known is not None and known.outcome is None:
            return
        entry = self.entries[job.uid] = _Entry(job)
        if self.winding_down:
            self._end(entry, "returned")
        elif self.closed or not (self.alive() or self.waiting):
            self._end(entry, "returned", reason=self._why_no_lane())
        else:
            self.queue.append(entry)

    def cancel(self, uid: str, *, abandon: bool = False) -> None:
        """Remove a waiting job from the queue; ask a running one to stop at its next progress message.

        With `abandon` the job is dropped as soon as it has ended, because nobody will ask for its outcome.
        """
        entry = self.entries[uid]
        entry.stop, entry.abandoned = True, abandon
        if abandon and entry.outcome is not None:
            del self.entries[uid]
        if entry in self.queue:
            self.queue.remove(entry)
            self._end(entry, "stopped", reason="stopped before it started")

    def update_of(self, uid: str, seen: int) -> JobUpdate:
        """Return the progress after the first `seen` messages, and the outcome if the job has ended."""
        entry = self.entries[uid]
        return JobUpdate(tuple(entry.progress[seen:]), entry.outcome, self._where(entry))

    def _where(self, entry: _Entry) -> str:
        for number, lane in self.lanes.items():
            if lane.group is not None and lane.group.entry is entry:
                return f"lane {number} on {lane.group.node}" if lane.group.node else f"lane {number}"
        return ""

    def forget(self, uid: str) -> None:
        """Drop the state of a job that has ended."""
        if (entry := self.entries.get(uid)) is not None and entry.outcome is not None:
            del self.entries[uid]

    def wind_down(self) -> None:
        """Return waiting and future jobs to their owners; a job that was started runs to its end."""
        self.winding_down = True
        for entry in [entry for entry in self.queue if not entry.attempts]:
            self.queue.remove(entry)
            self._end(entry, "returned")

    def close(self) -> None:
        """Tell every lane to leave; jobs that have not ended are returned."""
        self.closed = True
        for entry in list(self.entries.values()):
            if entry.outcome is None:
                self._end(entry, "returned", reason="the lanes were closed")
        self.queue.clear()

    # Called by the ranks of a lane.

    def register(self, address: RankAddress, size: int, node: str = "", reservation: str = "", kills: int = 0) -> None:
        """Register a rank of a group of `size` ranks on `node`; `reservation` is the ID of its placement group.

        The first rank of a new incarnation replaces the old group, whose job is delivered again. `kills` is the node's
        count of OOM kills: if it has grown, the old group was OOM-killed.
        """
        lane = self.lanes[address.lane]
        lane.heard = self.clock()
        if lane.group is None or lane.group.incarnation != address.incarnation:
            lane.out_of_memory |= kills > lane.kills.get(node, kills)
            self._lose_job(address.lane, f"a worker of lane {address.lane} died while running it")
            lane.group, lane.out_of_memory = _Group(address.incarnation, size, node, reservation), False
        lane.kills[node] = kills

    def trainers_alive(self, lanes: Iterable[int]) -> None:
        """Record that the trainer processes of `lanes` are alive, whatever their worker groups are doing."""
        for lane in lanes:
            self.lanes[lane].trainer_heard = self.clock()

    def blame_memory(self, lane: int) -> None:
        """Record that the lane's current group was OOM-killed."""
        self.lanes[lane].out_of_memory = True

    def heartbeat(self, address: RankAddress) -> Directive:
        """Record a rank's heartbeat, and return its directive."""
        lane, group = self.lanes[address.lane], self._group(address)
        lane.heard = self.clock()
        if self.closed or group is None or lane.ended is not None or (lane.leaving and group.entry is None):
            return "leave"
        group.seen[address.rank] = lane.heard
        return group.directive

    def take(self, address: RankAddress, number: int) -> Assignment | None:
        """Return job `number` of this incarnation, the same for every rank; None while there is none.

        A rank that is ahead waits here, outside of any collective, until the others have ended the previous job.
        """
        group = self._group(address)
        if self.closed or group is None or group.directive != "stay" or group.number != number:
            return None
        if group.entry is None and self.queue and not self.lanes[address.lane].leaving:
            group.entry = entry = self.queue.popleft()
            entry.attempts, entry.started = entry.attempts + 1, self.clock()
        return Assignment(group.entry.job, group.entry.attempts) if group.entry is not None else None

    def progress(self, address: RankAddress, number: int, index: int, values: ProgressMessage) -> bool:
        """Store rank 0's progress message; return whether to stop.

        The first rank that sends message `index` fixes the verdict on it, so all ranks stop at the same message.
        """
        group = self._group(address)
        if group is None or group.number != number or group.entry is None:
            return True
        if address.rank == 0:
            group.entry.progress.append(values)
        while len(group.verdicts) <= index:
            group.verdicts.append(group.entry.stop)
        return group.verdicts[index]

    def report(self, address: RankAddress, number: int, report: RankReport) -> None:
        """Store one rank's report on its job; the last rank's report ends the job."""
        group = self._group(address)
        if group is None or group.number != number or group.entry is None:
            return
        group.reports[address.rank] = report
        if report.error_type and group.first_error is None:
            group.first_error = self.clock()
        if len(group.reports) == group.size:
            self._settle(address.lane, group)

    def lane_ended(self, lane: int, reason: str) -> None:
        """Mark a lane as dead; its job goes to another lane. With the last lane, all waiting jobs are returned."""
        if self.lanes[lane].ended is not None:
            return
        self.lanes[lane].ended = reason
        self._lose_job(lane, f"lane {lane} ended: {reason}")
        if not self.alive() and not self.waiting:
            for entry in self.queue:
                self._end(entry, "returned", reason=self._why_no_lane())
            self.queue.clear()

    def resize(self, num_lanes: int) -> list[int]:
        """Change the number of lanes, and return those to start, whose ranks will register.

        Lanes beyond `num_lanes` leave when their job has ended, idle ones first. While any lane is still leaving, it
        counts, because it still holds its resources. With 0 lanes, jobs wait in the queue.
        """
        self.waiting = num_lanes == 0
        alive = [number for number, lane in self.lanes.items() if lane.ended is None]
        staying = sorted((number for number in alive if not self.lanes[number].leaving), key=self._is_at_work)
        for number in staying[: max(0, len(staying) - num_lanes)]:
            self.lanes[number].leaving = True
        return [self._add_lane() for _ in range(num_lanes - len(alive))]

    def _is_at_work(self, number: int) -> bool:
        group = self.lanes[number].group
        return group is not None and group.entry is not None

    def _add_lane(self) -> int:
        number = len(self.lanes)
        self.lanes[number] = _Lane(self.clock(), self.clock())
        return number

    def served(self, lane: int) -> int:
        """Count the attempts that ended on `lane` for any reason; while the count grows, the lane itself works."""
        return self.lanes[lane].served + self.lanes[lane].lost_jobs

    def reservation(self, lane: int) -> str:
        """Return the placement group ID of the lane's last worker group; an empty string if it had none."""
        group = self.lanes[lane].group
        return group.reservation if group is not None else ""

    def alive(self) -> int:
        """Count the lanes that have not ended, including those that are leaving."""
        return sum(lane.ended is None for lane in self.lanes.values())

    def ready(self) -> int:
        """Count the lanes whose workers have started."""
        return sum(lane.ended is None and lane.group is not None for lane in self.lanes.values())

    def lost(self) -> str:
        """Return why no lane is left; an empty string if any lane is alive or awaited, or after `close`."""
        return "" if self.closed or self.waiting or self.alive() else self._why_no_lane()

    # Called periodically.

    def tick(self) -> None:
        """Apply the time limits."""
        now = self.clock()
        for number, lane in self.lanes.items():
            self._check_silence(number, lane, now)
            group = lane.group
            if group is not None and group.entry is not None:
                self._check_limit(number, group, group.entry, now)
                self._check_life(number, group, now)
                self._check_agreement(number, group, now)

    def _check_silence(self, number: int, lane: _Lane, now: float) -> None:
        """Mark a silent lane as dead; wait longer if its trainer process is alive, as the lane may just be slow."""
        slow = now - lane.trainer_heard <= self.timeouts.silence_s
        limit = max(self.timeouts.slow_s, self.timeouts.silence_s) if slow else self.timeouts.silence_s
        if lane.ended is None and now - lane.heard > limit:
            why = ", although its trainer process is alive" if slow else ""
            self.lane_ended(number, f"it sent no heartbeat for {limit:g} s{why}")

    def _check_limit(self, lane: int, group: _Group, entry: _Entry, now: float) -> None:
        limit = entry.job.limit_s
        if limit is not None and now - entry.started > limit:
            self._finish(lane, group, "failed", reason=f"took longer than its limit of {limit:g} s")
            group.directive = "restart"

    def _check_life(self, lane: int, group: _Group, now: float) -> None:
        silent = sorted(rank for rank, seen in group.seen.items() if now - seen > self.timeouts.hung_s)
        if group.entry is not None and silent:
            which = ", ".join(map(str, silent))
            self._lose_job(lane, f"rank {which} of lane {lane} sent no heartbeat for {self.timeouts.hung_s:g} s")
            group.directive = "restart"

    def _check_agreement(self, lane: int, group: _Group, now: float) -> None:
        if group.entry is None or group.first_error is None or now - group.first_error <= self.timeouts.agree_s:
            return
        silent = sorted(set(range(group.size)) - set(group.reports))
        if all(now - group.seen.get(rank, -1e9) <= self.timeouts.alive_s for rank in silent):
            self._disagree(lane, group, f"; rank {', '.join(map(str, silent))} did not end the job")

    def _settle(self, lane: int, group: _Group) -> None:
        reports = [group.reports[rank] for rank in range(group.size)]
        if not any(report.error_type for report in reports):
            self._finish(lane, group, "done", result=reports[0].result)
        elif len({(report.error_type, report.reason) for report in reports}) == 1:
            status: Literal["failed", "stopped"] = "stopped" if reports[0].stopped else "failed"
            self._finish(lane, group, status, reason=reports[0].reason, cause=reports[0])
        else:
            self._disagree(lane, group, "; the other ranks ended otherwise" if group.size > 1 else "")

    def _disagree(self, lane: int, group: _Group, how: str) -> None:
        """Fail the job with the first error, its cause, and restart the group, whose collectives are out of step."""
        rank, cause = next((rank, report) for rank, report in group.reports.items() if report.error_type)
        self._finish(lane, group, "failed", reason=f"{cause.reason} (rank {rank}{how})", cause=cause)
        group.directive = "restart"

    def _finish(
        self,
        lane: int,
        group: _Group,
        status: JobStatus,
        *,
        result: bytes | None = None,
        reason: str = "",
        cause: RankReport = _NO_REPORT,
    ) -> None:
        assert group.entry is not None
        self._end(group.entry, status, result=result, reason=reason, cause=cause)
        group.entry, group.first_error = None, None
        group.reports.clear()
        group.verdicts.clear()
        group.number += 1
        self.lanes[lane].served += 1

    def _end(
        self,
        entry: _Entry,
        status: JobStatus,
        *,
        result: bytes | None = None,
        reason: str = "",
        cause: RankReport = _NO_REPORT,
    ) -> None:
        if entry.outcome is None:
            seconds = self.clock() - entry.started if entry.attempts else 0.0
            told = (cause.detail, entry.attempts, seconds, cause.by_input)
            entry.outcome = JobOutcome(entry.job.uid, status, result, reason, *told)
            if entry.abandoned:
                self.entries.pop(entry.job.uid, None)

    def _lose_job(self, lane: int, how: str) -> None:
        group = self.lanes[lane].group
        if group is None or group.entry is None:
            return
        entry, tries = group.entry, group.entry.job.max_attempts
        if entry.stop:
            self._finish(lane, group, "stopped", reason=how)
        elif entry.attempts >= tries:
            reason = f"{how} (attempt {entry.attempts} of {tries})"
            if self.lanes[lane].out_of_memory:
                reason = f"out of memory: {reason}; {MEMORY_MEND}"
            self._finish(lane, group, "failed", reason=reason)
        else:
            group.entry = None
            self.lanes[lane].lost_jobs += 1
            self.queue.appendleft(entry)

    def _group(self, address: RankAddress) -> _Group | None:
        group = self.lanes[address.lane].group
        return group if group is not None and group.incarnation == address.incarnation else None

    def _why_no_lane(self) -> str:
        reasons = {number: lane.ended for number, lane in self.lanes.items() if lane.ended is not None}
        if not reasons:
            return "the lanes were closed"
        return "no lane is left to run it: " + "; ".join(f"lane {lane}: {why}" for lane, why in reasons.items())
