"""The suggester as a Ray Tune search algorithm."""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from ray.tune.search import Searcher

from paretta.orchestrator.search.budget import SearchBudget
from paretta.orchestrator.search.by_products import ByProducts
from paretta.orchestrator.search.suggester import Suggester, Suggestion
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan

STATUS_KEY = "status"  # the key of a trial's report that says how it ended; only `complete` counts as measured
PROGRESS = "progress"  # of the last message of its training, as JSON text
DELIVERED = "delivered"  # of a by-product that was measured, as JSON text
RETURNED = "returned"  # of a trial that was not begun because the sweep stops; it is neither done nor failed

TuneConfig: TypeAlias = dict[str, object]


class TuneSearcher(Searcher):
    """Hands suggestions to Tune and tells the outcomes back.

    A trial's config is what `config_of` returns. Its last report must hold ``status``: ``complete`` together with one
    value per objective, under the meter's name; ``stopped early``, or a trial that Tune stopped before it said how it
    ended, counts as stopped; ``returned`` leaves the suggestion open; everything else, NaN included, counts as failed.

    Nothing of it is saved with Tune's experiment: the sweep's journal holds what was asked and told, in order, and
    `paretta.orchestrator.tune.resume` brings a new searcher to the same point.

    Args:
        suggester: the search itself, free of Ray.
        max_running: trials at the same time; one more than there are lanes keeps every lane busy.
        asked: told of each new suggestion before Tune is.
        budget: what ends the search beside its number of trials.
        by_products: makes the plans that a trial may deliver beside its own; those that are new go into its config.
    """

    def __init__(
        self,
        suggester: Suggester,
        *,
        max_running: int,
        asked: Callable[[TuneConfig], None] = lambda _: None,
        budget: SearchBudget | None = None,
        by_products: ByProducts | None = None,
    ) -> None:
        super().__init__()
        self.suggester, self.max_running, self.asked = suggester, max_running, asked
        self.budget, self.by_products = budget, by_products
        self.live: dict[str, TrialKey] = {}  # by Tune's own id
        self.waiting: deque[TuneConfig] = deque()
        self.closed = False

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        """Be saved with Tune's experiment as nothing."""
        return Searcher, ()

    def suggest(self, trial_id: str) -> TuneConfig | str | None:  # type: ignore[override]  # FINISHED is text
        """Return the next config, None while enough trials run, or ``FINISHED``; what was interrupted goes first."""
        if self.budget is not None and (why := self.budget.spent(self.suggester.volumes)) is not None:
            self.suggester.end(why)
        if self.closed or (not self.waiting and self.suggester.finished):
            return Searcher.FINISHED
        if len(self.live) >= self.max_running:
            return None
        if self.waiting:
            config = self.waiting.popleft()
            self.live[trial_id] = key_of(config)
            return config
        suggestion = self.ask(trial_id)
        if suggestion is None:
            return Searcher.FINISHED
        more = self.by_products.reserved(suggestion.plan, self.suggester) if self.by_products else []
        config = config_of(suggestion.key, suggestion.plan, suggestion.knobs, more)
        self.asked(config)
        return config

    def ask(self, trial_id: str, knobs: Mapping[str, Label] | None = None) -> Suggestion | None:
        """Ask the search for a plan, for one with `knobs` where they are given, and count it as live."""
        suggestion = self.suggester.ask(knobs)
        if suggestion is not None:
            self.live[trial_id] = suggestion.key
        return suggestion

    def on_trial_result(self, trial_id: str, result: Mapping[str, object]) -> None:
        """Take in what a trial delivered beside its own plan."""
        if DELIVERED in result:
            self.add_trial(Trial.from_document(json.loads(str(result[DELIVERED]))))

    def add_trial(self, trial: Trial) -> None:
        """Tell the search of a finished trial that it did not ask for."""
        losses = self._losses({meter: reading.value for meter, reading in trial.readings.items()})
        if trial.is_measured and losses is not None:
            self.suggester.add_point(trial.plan, losses)

    def allow_one_more(self) -> None:
        """Let one more trial run at the same time from now on, such as for a lane that was added."""
        self.max_running += 1

    def suggest_again(self, trials: Mapping[str, Trial]) -> None:
        """Suggest once more, first and in their order, the trials that were asked and have not ended.

        Args:
            trials: by uid; the unfinished ones are among them.
        """
        for key in sorted(self.live.values()):
            self.waiting.append(config_of(key, trials[key.uid].plan, trials[key.uid].knobs))
        self.live.clear()

    def close(self) -> None:
        """Suggest nothing any more."""
        self.closed = True

    def on_trial_complete(self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False) -> None:
        """Tell the outcome. Tune calls this once per trial, also for trials it stopped or lost."""
        key = self.live.pop(trial_id, None)
        status = None if result is None or error else result.get(STATUS_KEY)
        if key is None or status == RETURNED:
            return
        stopped = result is not None and not error and status in (None, "running", "stopped early")
        losses = self._losses(result) if result is not None and status in ("complete", "infeasible") else None
        self.suggester.tell(key, losses, stopped=stopped)

    def _losses(self, values: Mapping[str, object]) -> list[float] | None:
        """Return the loss of each objective, None where one was not measured."""
        found = [(objective, values.get(objective.meter)) for objective in self.suggester.search.objectives]
        losses = [objective.loss(value) for objective, value in found if isinstance(value, int | float)]
        return losses if len(losses) == len(found) else None

    def save(self, checkpoint_path: str) -> None:
        """Leave Tune the file that it asks for, empty."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a sweep is resumed from its journal."""
        raise NotImplementedError


def config_of(key: TrialKey, plan: Plan, knobs: Mapping[str, Json], by_products: Sequence[Plan] = ()) -> TuneConfig:
    """Return what Tune passes to the trial of a suggestion: its key, plans as documents, and knobs."""
    more = [other.to_document() for other in by_products]
    return {**key.to_document(), "plan": plan.to_document(), "knobs": dict(knobs), "by_products": more}


def key_of(config: TuneConfig) -> TrialKey:
    """Return the key in a config that `config_of` made."""
    return TrialKey.from_document(cast(Document, config))
