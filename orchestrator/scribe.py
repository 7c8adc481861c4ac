"""Writes down in the journal what Tune says of each trial."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from ray.tune import Callback as TuneCallback
from ray.tune.experiment import Trial as TuneTrial

from orchestrator.logbook import Logbook
from orchestrator.searcher import STATUS, Config
from orchestrator.trial import TRIAL, trial_of
from search_spaces.trial import Trial


class Scribe(TuneCallback):
    """Writes each candidate down when it is asked for, while it trains and when it has ended, in this order.

    The journal then holds every ask and tell of the search as it happened, which is what a sweep is resumed from.

    Args:
        log: where to.
        seed: of the trials.
        each_step: called again and again while the search goes on.
    """

    def __init__(self, log: Logbook, seed: int, each_step: Callable[[], None] = lambda: None) -> None:
        self.log, self.seed, self.each_step = log, seed, each_step

    def __reduce__(self) -> tuple[type[TuneCallback], tuple[()]]:
        """Be saved with Tune's experiment as nothing: open files stay here."""
        return TuneCallback, ()

    def asked(self, config: Config) -> None:
        """A candidate was suggested."""
        self.log.trial(trial_of(config, self.seed))

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **_: object) -> None:
        """Tune is about to wait for news."""
        self.each_step()

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, object], **_: object
    ) -> None:
        """A candidate has news, or has ended."""
        if TRIAL in result:
            self.log.trial(Trial.from_document(json.loads(str(result[TRIAL]))))
        elif result.get(STATUS) == "running" and (message := json.loads(str(result["progress"]))):
            self.log.progress(trial_of(trial.config, self.seed).uid, message)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """The actor behind a candidate died, each time it was begun."""
        begun = trial_of(trial.config, self.seed)
        started = self.log.record.trials.get(begun.uid, begun).started
        reason = "the trial's actor died"
        self.log.trial(replace(begun, status="failed", reason=reason, started=started, finished=time.time()))
