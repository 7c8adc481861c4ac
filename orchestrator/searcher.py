"""The suggester as a Ray Tune search algorithm."""

import pickle
from collections.abc import Mapping
from pathlib import Path

from ray.tune.search import Searcher

from orchestrator.suggest import Suggester

STATUS = "status"  # the key of a trial's report that says how it ended; only `complete` counts as measured


class TuneSearcher(Searcher):
    """Hands suggestions to Tune and tells the outcomes back.

    A trial's config is ``{"number", "plan", "knobs"}``, the plan as a document. Its last report must hold
    ``status``: ``complete`` together with one value per objective, under the meter's name; ``pruned``, or a trial that
    Tune stopped before it said how it ended, counts as stopped; everything else, NaN included, as failed.

    Args:
        suggester: the search itself, free of Ray.
        max_running: trials at the same time; one more than there are lanes keeps every lane busy.
    """

    def __init__(self, suggester: Suggester, *, max_running: int) -> None:
        super().__init__()
        self.suggester, self.max_running = suggester, max_running
        self.live: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, object] | str | None:  # type: ignore[override]  # FINISHED is text
        """Return the next config, None while enough trials run, or ``FINISHED``."""
        if len(self.live) >= self.max_running and not self.suggester.finished:
            return None
        suggestion = self.suggester.ask()
        if suggestion is None:
            return Searcher.FINISHED
        self.live[trial_id] = suggestion.number
        plan, knobs = suggestion.plan.to_document(), dict(suggestion.knobs)
        return {"number": suggestion.number, "plan": plan, "knobs": knobs}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False) -> None:
        """Tell the outcome. Tune calls this once per trial, also for trials it stopped or lost."""
        number = self.live.pop(trial_id, None)
        if number is None:
            return
        status = None if result is None or error else result.get(STATUS)
        pruned = result is not None and not error and status in (None, "running", "pruned")
        values = [] if result is None else [result.get(o.meter) for o in self.suggester.search.objectives]
        measured = [float(value) for value in values if isinstance(value, int | float)]
        if status == "complete" and len(measured) == len(values):
            goals = self.suggester.search.objectives
            self.suggester.tell(number, [goal.loss(value) for goal, value in zip(goals, measured, strict=True)])
        else:
            self.suggester.tell(number, pruned=pruned)

    def save(self, checkpoint_path: str) -> None:
        """Write the whole search, the study in memory included."""
        Path(checkpoint_path).write_bytes(pickle.dumps((self.suggester, self.live)))

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote: a file of this sweep's own folder."""
        self.suggester, self.live = pickle.loads(Path(checkpoint_path).read_bytes())  # noqa: S301
