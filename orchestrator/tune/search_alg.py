"""The suggester as a Ray Tune search algorithm."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from ray.tune.search import Searcher

from paretta.orchestrator.config.budget import SearchBudget
from paretta.orchestrator.search.by_products import ByProducts
from paretta.orchestrator.search.suggester import Suggester, Suggestion
from paretta.orchestrator.tune.messages import DELIVERED, RETURNED, STATUS_KEY, TuneConfig, config_of, key_of
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.holes import Label


class TuneSearcher(Searcher):
    """Passes suggestions to Tune and outcomes back to the suggester.

    A trial's config is what `config_of` returns. Its last report must hold ``status``: ``complete`` with one value per
    objective under the meter's name, ``stopped early``, or ``returned``, which leaves the suggestion open. A trial that
    Tune stops before it reports a status counts as stopped early. Everything else, including NaN, counts as failed.

    It is not saved with Tune's experiment: the sweep's journal holds all asks and tells in order, and
    `paretta.orchestrator.tune.resume` restores a new searcher from it.

    Args:
        suggester: the search itself, independent of Ray.
        max_running: how many trials run at the same time; one more than the lanes keeps every lane busy. It may be
            changed as lanes come and go.
        asked: called with each new suggestion before Tune receives it.
        budget: limits that end the search before its number of trials is reached.
        by_products: makes the by-product plans of a trial; the new ones go into its config.
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
        """Pickle as an empty searcher."""
        return Searcher, ()

    def suggest(self, trial_id: str) -> TuneConfig | str | None:  # type: ignore[override]  # FINISHED is text
        """Return the next config, None while enough trials run, or ``FINISHED``; interrupted trials come first."""
        if self.budget is not None and (why := self.budget.spent(self.suggester.volumes)) is not None:
            self.suggester.end(why)
        if self.has_asked_all:
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
        """Ask the search for a plan, with `knobs` if given, and count it as running."""
        suggestion = self.suggester.ask(knobs)
        if suggestion is not None:
            self.live[trial_id] = suggestion.key
        return suggestion

    def on_trial_result(self, trial_id: str, result: Mapping[str, object]) -> None:
        """Add the by-products that a trial has delivered."""
        if DELIVERED in result:
            self.add_trial(Trial.from_document(json.loads(str(result[DELIVERED]))))

    def add_trial(self, trial: Trial) -> None:
        """Tell the search of a finished trial that it did not ask for."""
        losses = self._losses({meter: reading.value for meter, reading in trial.readings.items()})
        if trial.is_measured and losses is not None:
            self.suggester.add_point(trial.plan, losses)

    @property
    def has_asked_all(self) -> bool:
        """Whether every trial of the search has been asked, so that only those that run are left."""
        return self.closed or (not self.waiting and self.suggester.finished)

    def suggest_again(self, trials: Mapping[str, Trial]) -> None:
        """Suggest the trials that were asked and have not ended again, first and in their order.

        Args:
            trials: all trials by uid, including the unfinished ones.
        """
        for key in sorted(self.live.values()):
            self.waiting.append(config_of(key, trials[key.uid].plan, trials[key.uid].knobs))
        self.live.clear()

    def close(self) -> None:
        """Suggest no further plans."""
        self.closed = True

    def on_trial_complete(self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False) -> None:
        """Record the outcome. Tune calls this once per trial, also for trials that it stopped or lost."""
        key = self.live.pop(trial_id, None)
        status = None if result is None or error else result.get(STATUS_KEY)
        if key is None or status == RETURNED:
            return
        stopped = result is not None and not error and status in (None, "running", "stopped early")
        losses = self._losses(result) if result is not None and status in ("complete", "infeasible") else None
        self.suggester.tell(key, losses, stopped=stopped)

    def _losses(self, values: Mapping[str, object]) -> list[float] | None:
        """Return the loss of each objective; None if one was not measured."""
        found = [(objective, values.get(objective.meter)) for objective in self.suggester.search.objectives]
        losses = [objective.loss(value) for objective, value in found if isinstance(value, int | float)]
        return losses if len(losses) == len(found) else None

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file, which Tune requires."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a sweep is resumed from its journal."""
        raise NotImplementedError
