"""Write what Tune reports on each trial to the journal."""

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
from paretta.orchestrator.tune.messages import DELIVERED, PROGRESS, RETURNED, STATUS_KEY, TuneConfig, key_of
from paretta.orchestrator.tune.trainable import TRIAL, WHY, trial_from_config
from paretta.search_spaces.errors import disk_full
from paretta.search_spaces.results.trial import Trial


@dataclass(slots=True)
class Throttle:
    """Limits an action to once every `seconds`."""

    seconds: float
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Return True if the action is due."""
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True


def record_asked(log: EventLog, seed: int, config: TuneConfig) -> None:
    """Record a suggested candidate in the journal as a running trial."""
    log.trial(trial_from_config(config, seed))


class JournalCallback(TuneCallback):
    """Records each candidate's progress and end in the journal; `record_asked` has recorded its start.

    The journal then holds every ask and tell of the search in order, from which a sweep is resumed.

    Args:
        log: the event log to write to.
        each_step: called regularly during the search.
        on_returned: called when a candidate is returned without an end.

    Attributes:
        returned: uids of candidates that were returned without an end.
        why: the reason of the first of them, if known.
        failure: the error that prevented writing the journal, which ends the search.
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
        """Pickle as an empty callback, because open files cannot be pickled."""
        return TuneCallback, ()

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **_: object) -> None:
        """Called before Tune waits for results; ends the search if the journal cannot be written."""
        if self.failure is not None:
            raise self.failure
        self.each_step()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Store a write error for the next step, because Tune would count it as a failure of the candidate."""
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
        """Record a candidate's progress or end."""
        if result.get(STATUS_KEY) == RETURNED:
            self._take_back(trial, cast("str | None", result.get(WHY)))
        elif TRIAL in result or DELIVERED in result:
            with self._writing():
                self.log.trial(Trial.from_document(json.loads(str(result.get(TRIAL) or result[DELIVERED]))))
        elif PROGRESS in result:
            with self._writing():
                self.log.progress(key_of(trial.config).uid, json.loads(str(result[PROGRESS])))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """Record a candidate as stopped early if it neither reported its end nor was returned."""
        known = self._known(trial)
        last: Mapping[str, object] = trial.last_result
        if known.status == "running" and last.get(STATUS_KEY) != RETURNED:
            message = self.log.record.progress.get(known.uid, {})
            reason = f"stopped after {activity_words(message)}" if message else "stopped"
            cost = {"wall_s": cast(float, message.get("seconds", 0.0))}
            with self._writing():
                self.log.trial(replace(known, status="stopped early", reason=reason, cost=cost, finished=time.time()))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """Record a candidate whose actor died or raised in every attempt as failed; as returned if the disk is full."""
        detail = str(trial.get_error() or "no message").strip()
        if full := disk_full(RuntimeError(detail)):
            self._take_back(trial, full)
            return
        reason = f"the trial's actor failed: {detail.splitlines()[-1]}"
        failed = replace(self._known(trial), status="failed", reason=reason, detail=detail, finished=time.time())
        with self._writing():
            self.log.trial(failed)

    def _known(self, trial: TuneTrial) -> Trial:
        """Return the last recorded state of the trial; at least its start has been recorded."""
        return self.log.record.trials[key_of(trial.config).uid]
