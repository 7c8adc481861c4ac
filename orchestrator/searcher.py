"""The suggester as a Ray Tune search algorithm."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from ray.tune.search import Searcher

from orchestrator.suggest import Suggester, Suggestion
from search_spaces.holes import Label
from search_spaces.plan import Json, Plan

STATUS = "status"  # the key of a trial's report that says how it ended; only `complete` counts as measured
RETURNED = "returned"  # of a trial that was not begun because the sweep stops; it is neither done nor failed

Config: TypeAlias = dict[str, object]


class TuneSearcher(Searcher):
    """Hands suggestions to Tune and tells the outcomes back.

    A trial's config is ``{"number", "plan", "knobs"}``, the plan as a document. Its last report must hold
    ``status``: ``complete`` together with one value per objective, under the meter's name; ``pruned``, or a trial that
    Tune stopped before it said how it ended, counts as stopped; ``returned`` leaves the suggestion open; everything
    else, NaN included, counts as failed.

    Nothing of it is saved with Tune's experiment: the sweep's journal holds what was asked and told, in order, and
    `orchestrator.resume` brings a new searcher to the same point.

    Args:
        suggester: the search itself, free of Ray.
        max_running: trials at the same time; one more than there are lanes keeps every lane busy.
        asked: told of each new suggestion before Tune is.
    """

    def __init__(
        self, suggester: Suggester, *, max_running: int, asked: Callable[[Config], None] = lambda _: None
    ) -> None:
        super().__init__()
        self.suggester, self.max_running, self.asked = suggester, max_running, asked
        self.live: dict[str, int] = {}
        self.waiting: deque[Config] = deque()
        self.closed = False

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        """Be saved with Tune's experiment as nothing."""
        return Searcher, ()

    def suggest(self, trial_id: str) -> Config | str | None:  # type: ignore[override]  # FINISHED is text
        """Return the next config, None while enough trials run, or ``FINISHED``; what was interrupted goes first."""
        if self.closed or (not self.waiting and self.suggester.finished):
            return Searcher.FINISHED
        if len(self.live) >= self.max_running:
            return None
        if self.waiting:
            config = self.waiting.popleft()
            self.live[trial_id] = int(str(config["number"]))
            return config
        suggestion = self.ask(trial_id)
        if suggestion is None:
            return Searcher.FINISHED
        config = config_of(suggestion.number, suggestion.plan, suggestion.knobs)
        self.asked(config)
        return config

    def ask(self, trial_id: str, knobs: Mapping[str, Label] | None = None) -> Suggestion | None:
        """Ask the search for a plan, for one with `knobs` where they are given, and count it as live."""
        suggestion = self.suggester.ask(knobs)
        if suggestion is not None:
            self.live[trial_id] = suggestion.number
        return suggestion

    def close(self) -> None:
        """Suggest nothing any more."""
        self.closed = True

    def on_trial_complete(self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False) -> None:
        """Tell the outcome. Tune calls this once per trial, also for trials it stopped or lost."""
        number = self.live.pop(trial_id, None)
        status = None if result is None or error else result.get(STATUS)
        if number is None or status == RETURNED:
            return
        pruned = result is not None and not error and status in (None, "running", "pruned")
        values = [] if result is None else [result.get(o.meter) for o in self.suggester.search.objectives]
        measured = [float(value) for value in values if isinstance(value, int | float)]
        if status == "complete" and len(measured) == len(values):
            goals = self.suggester.search.objectives
            self.suggester.tell(number, [goal.loss(value) for goal, value in zip(goals, measured, strict=True)])
        else:
            self.suggester.tell(number, pruned=pruned)

    def save(self, checkpoint_path: str) -> None:
        """Leave Tune the file that it asks for, empty."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a sweep is resumed from its journal."""
        raise NotImplementedError


def config_of(number: int, plan: Plan, knobs: Mapping[str, Json]) -> Config:
    """Return what Tune passes to the trial of a suggestion."""
    return {"number": number, "plan": plan.to_document(), "knobs": dict(knobs)}
