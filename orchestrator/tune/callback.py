"""Writes down in the journal what Tune says of each trial."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from ray.tune import Callback as TuneCallback
from ray.tune.experiment import Trial as TuneTrial

from paretta.dashboards.journal.activity import activity_words
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.tune.search_alg import DELIVERED, PROGRESS, RETURNED, STATUS_KEY, TuneConfig, key_of
from paretta.orchestrator.tune.trainable import TRIAL, WHY, trial_from_config
from paretta.search_spaces.errors import disk_full
from paretta.search_spaces.results.trial import Trial


@dataclass(slots=True)
class Throttle:
    """Lets something happen every `seconds`, however often it is asked."""

    seconds: float
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Say whether it is time again."""
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True


def record_asked(log: EventLog, seed: int, config: TuneConfig) -> None:
    """Write a candidate down that was suggested, as a trial that runs."""
    log.trial(trial_from_config(config, seed))


class JournalCallback(TuneCallback):
    """Writes each candidate down while it trains and when it has ended; `record_asked` did when it was asked for.

    The journal then holds every ask and tell of the search as it happened, which is what a sweep is resumed from.

    Args:
        log: where to.
        each_step: called again and again while the search goes on.
        on_returned: called when a candidate came back without an ending.

    Attributes:
        returned: uids of candidates that came back without an ending.
        why: what kept the first of them from it, if known.
        failure: what kept the journal from being written, which ends the search.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        each_step: Callable[[], None] = lambda: None,
        on_returned: Callable[[], None] = lambda: None,
    ) -> None:
        self.log, self.each_step, self.on_returned = log, each_step, on_returned
        self.returned: list[str] = []
        self.why: str | None = None
        self.failure: OSError | None = None

    def __reduce__(self) -> tuple[type[TuneCallback], tuple[()]]:
        """Be saved with Tune's experiment as nothing: open files stay here."""
        return TuneCallback, ()

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **_: object) -> None:
        """Tune is about to wait for news; a journal that cannot be written ends the search."""
        if self.failure is not None:
            raise self.failure
        self.each_step()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep what the disk refuses for the next step: Tune would count it as a failure of the candidate."""
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error

    def _take_back(self, trial: TuneTrial, why: str | None) -> None:
        self.returned.append(key_of(trial.config).uid)
        self.why = self.why or why
        self.on_returned()

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, object], **_: object
    ) -> None:
        """A candidate has news, or has ended."""
        if result.get(STATUS_KEY) == RETURNED:
            self._take_back(trial, cast("str | None", result.get(WHY)))
        elif TRIAL in result or DELIVERED in result:
            with self._writing():
                self.log.trial(Trial.from_document(json.loads(str(result.get(TRIAL) or result[DELIVERED]))))
        elif PROGRESS in result:
            with self._writing():
                self.log.progress(key_of(trial.config).uid, json.loads(str(result[PROGRESS])))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """A candidate is over; one that has neither said how it ended nor was returned was stopped."""
        known = self._known(trial)
        last: Mapping[str, object] = trial.last_result
        if known.status == "running" and last.get(STATUS_KEY) != RETURNED:
            message = self.log.record.progress.get(known.uid, {})
            reason = f"stopped after {activity_words(message)}" if message else "stopped"
            cost = {"wall_s": cast(float, message.get("seconds", 0.0))}
            with self._writing():
                self.log.trial(replace(known, status="stopped early", reason=reason, cost=cost, finished=time.time()))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """The actor behind a candidate died or raised, each time it was begun; a full disk is not its fault."""
        detail = str(trial.get_error() or "it left no word").strip()
        if full := disk_full(RuntimeError(detail)):
            self._take_back(trial, full)
            return
        reason = f"the trial's actor failed: {detail.splitlines()[-1]}"
        failed = replace(self._known(trial), status="failed", reason=reason, detail=detail, finished=time.time())
        with self._writing():
            self.log.trial(failed)

    def _known(self, trial: TuneTrial) -> Trial:
        """Return the trial as it was last written down, which is when it was asked for at the latest."""
        return self.log.record.trials[key_of(trial.config).uid]
