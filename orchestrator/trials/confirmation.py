"""Train the members of a front again with new seeds, and measure them as the search did."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from paretta.orchestrator.trials.events import RunEvent, TrialBegun, TrialEnded, TrialProgress, TrialReturned
from paretta.orchestrator.trials.run_trial import TrialContext, new_trial, run_trial
from paretta.search_spaces.results.trial import Trial


def repeats(members: Iterable[Trial], num_seeds: int, seed: int) -> list[Trial]:
    """Return `num_seeds` confirmations of each member, grouped by seed; the seeds follow the search's `seed`.

    The whole plan is repeated, including the training of its baseline, so that every source of randomness is
    resampled.
    """
    seeds = [(seed + step) % 2**32 for step in range(1, num_seeds + 1)]
    return [_repeat(member, fresh) for fresh in seeds for member in members]


def confirm(
    trials: Sequence[Trial],
    context: TrialContext,
    *,
    at_once: Callable[[], int],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[TrialBegun | TrialProgress | TrialReturned | TrialEnded]:
    """Run the trials, up to `at_once()` at a time, and yield their events: start, progress and end.

    Progress is polled round-robin, so a report of one trial may wait for the next report of another; the lanes are not
    delayed. After `stopped` returns True no further trial is started.
    """
    waiting, running = deque(trials), deque[Iterator[RunEvent]]()
    while waiting or running:
        if stopped():
            waiting.clear()
        while waiting and len(running) < at_once():
            begun = replace(waiting.popleft(), started=time.time())
            yield TrialBegun(begun)
            running.append(run_trial(begun, context))
        event = next(running[0])
        if isinstance(event, TrialProgress | TrialReturned | TrialEnded):
            yield event
        if isinstance(event, TrialReturned | TrialEnded):
            running.popleft()
        else:
            running.rotate(-1)


def _repeat(member: Trial, seed: int) -> Trial:
    fresh = new_trial(member.number, member.plan, seed=seed, knobs=member.knobs, role="confirmation")
    return replace(fresh, uid=f"{member.uid}-seed{seed}", of=member.uid)
