"""The stopper as a Ray Tune scheduler, which stops trials and never pauses them."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from paretta.orchestrator.lanes.messages import ProgressMessage
from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.tune.messages import PROGRESS, TuneConfig, key_of

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

Cancel = Callable[[TuneConfig], None]


class RungScheduler(FIFOScheduler):
    """Passes a trial's report at a rung to the suggester, and stops the trial if it decides so.

    Ray's own schedulers do not support several objectives (Ray 2.60). A stopped trial's job is cancelled in its lane,
    which ends it at its next epoch.

    Args:
        suggester: the search, shared with the `TuneSearcher`.
        cancel: cancels the job of a trial, given the trial's config.
    """

    _supports_buffered_results = False

    def __init__(self, suggester: Suggester, cancel: Cancel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.suggester, self.cancel = suggester, cancel
        self.starting: set[str] = set()  # Tune's ids of the trials for which it starts an actor

    def choose_trial_to_run(self, tune_controller: "TuneController") -> TuneTrial | None:
        """Return the waiting trial that was suggested first, without Tune's search through all trials so far.

        One without an actor comes before those whose actors are starting: it takes over the actor of a trial that has
        ended. Given to one of those, that actor would make the start of theirs useless; where trials are shorter than
        such a start, each of them started a process in vain, and one ran at a time however many lanes there were.
        """
        live: set[TuneTrial] = tune_controller.get_live_trials()  # type: ignore[no-untyped-call]
        waiting = [trial for trial in live if trial.status == TuneTrial.PENDING]
        self.starting &= {trial.trial_id for trial in waiting}
        chosen = min(waiting, key=lambda trial: (trial.trial_id in self.starting, key_of(trial.config)), default=None)
        if chosen is not None:
            self.starting.add(chosen.trial_id)
        return chosen

    def on_trial_result(self, tune_controller: "TuneController", trial: TuneTrial, result: Mapping[str, object]) -> str:
        """Decide at each rung; between rungs a trial always goes on."""
        message = json.loads(str(result.get(PROGRESS, "{}")))
        rung = rung_of(self.suggester.search.rungs, message)
        if rung is None:
            return TrialScheduler.CONTINUE
        if self.suggester.report(key_of(trial.config), rung, message["scores"]):
            return TrialScheduler.CONTINUE
        self.cancel(trial.config)
        return TrialScheduler.STOP


def rung_of(rungs: Rungs, message: ProgressMessage) -> int | None:
    """Return the highest rung below the last one that a trial has reached; None before the first.

    A trial with fewer epochs than the longest reaches its rungs at the same fractions of its epochs.

    >>> rungs = Rungs((1.0, 3.0, 9.0), (1.0, 3.0, 9.0))
    >>> [rung_of(rungs, {"epoch": epoch, "num_epochs": 9, "scores": {"accuracy": 0.5}}) for epoch in (1, 2, 3, 9)]
    [0, 0, 1, None]
    """
    epoch, num_epochs = message.get("epoch"), message.get("num_epochs")
    if not message.get("scores") or not isinstance(epoch, int) or not isinstance(num_epochs, int):
        return None
    if epoch >= num_epochs:
        return None
    share = epoch / num_epochs * rungs.fidelities[-1]
    passed = [rung for rung, fidelity in enumerate(rungs.fidelities[:-1]) if fidelity <= share + 1e-9]
    return passed[-1] if passed else None
