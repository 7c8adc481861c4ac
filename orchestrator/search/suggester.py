"""Which candidate next: exactly the asked number of distinct plans, each told back once, whatever became of it."""

import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paretta.orchestrator.search.interfaces import NeverStop, Stopper, Strategy, Verdict
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.objectives.pareto import hypervolume, non_dominated
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.holes import Choice, Hole, Int, Label
from paretta.search_spaces.space.inverse import knobs_of
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Recorder

REPEATS_IN_A_ROW = 10  # of a strategy that proposes known plans, before a plan is drawn at random
REJECTS_IN_A_ROW = 10  # of proposals that break a limit known before training, before one is drawn at random
DRAWS = 200  # at random, at least, before a space counts as exhausted
DRAWS_PER_PLAN = 20  # times the number of plans: the odds of missing the last one are exp(-20)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A plan to run; its key counts the distinct plans of the search from 1."""

    key: TrialKey
    plan: Plan
    knobs: Mapping[str, Label]


@dataclass(slots=True)
class _Asked:
    proposal: int  # the strategy's own number; -1 where no proposal leads to the plan
    key: TrialKey | None = None  # None where the plan is known without being a trial
    verdict: Verdict | None = None
    losses: tuple[float, ...] | None = None
    rung: int = -1
    goes_on: bool = True


@dataclass(slots=True)
class _RandomAsker:
    rng: random.Random

    def ask(self, name: str, hole: Hole) -> Label:
        if isinstance(hole, Choice):
            return self.rng.choice(hole.labels)
        if isinstance(hole, Int):
            return self.rng.randrange(hole.low, hole.high + 1, hole.step)
        if hole.log:
            return math.exp(self.rng.uniform(math.log(hole.low), math.log(hole.high)))
        return self.rng.uniform(hole.low, hole.high)


@dataclass(slots=True)
class Suggester:
    """Asks a strategy for plans and tells it the outcomes; knows every plan that was asked.

    Equal asks and tells in equal order give equal plans: `paretta.orchestrator.tune.resume` relies on it.

    Args:
        search: space, objectives, limits, number of trials and seed.
        strategy: the search algorithm.
        stopper: what may stop a trial early.
        first: knobs to try before the strategy is asked.
        over: why the search ends before all trials were asked, once it does; see `end`.
        best: losses that keep the limits and that no others beat.
        volume: the hypervolume of all that is complete and keeps the limits; 0 without a baseline.
        volumes: the same after each trial that ended, on the axes of `Objective.axis`.
    """

    search: Search
    strategy: Strategy
    stopper: Stopper = field(default_factory=NeverStop)
    first: deque[Mapping[str, Label]] = field(default_factory=deque)
    over: str | None = None
    num_repeats: int = 0
    num_rejected: int = 0
    exhausted: bool = False
    volume: float = 0.0
    volumes: list[float] = field(default_factory=list)
    asked: list[_Asked] = field(default_factory=list)
    known: dict[str, _Asked] = field(default_factory=dict)
    best: list[tuple[float, ...]] = field(default_factory=list)
    draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Seed the draws that step in when the strategy repeats itself."""
        self.draws = random.Random(self.search.seed)  # noqa: S311 - a search, not a secret

    @property
    def finished(self) -> bool:
        """Whether no further plan will be suggested."""
        return self.exhausted or self.over is not None or len(self.asked) >= self.search.num_trials

    @property
    def running(self) -> tuple[TrialKey, ...]:
        """What was asked and not told yet."""
        return tuple(entry.key for entry in self.asked if entry.key is not None and entry.verdict is None)

    def end(self, why: str) -> None:
        """Suggest nothing any more; the first reason stays."""
        self.over = self.over or why

    def ask(self, pinned: Mapping[str, Label] | None = None) -> Suggestion | None:
        """Return a plan that was never suggested before; None when the search is finished.

        With `pinned` it is the plan with these knobs, or None if that is known.

        A known plan that the strategy proposes again is told to it at once with the known losses, and one that breaks
        a limit known before training as failed: neither is run. After a few of those in a row a plan is drawn at
        random; when only such plans are drawn, the space is exhausted.
        """
        if self.finished:
            return None
        if pinned is not None:
            return self._new(*self.strategy.ask(pinned), look=False)
        while self.first:
            if (suggestion := self._new(*self.strategy.ask(self.first.popleft()))) is not None:
                return suggestion
        repeats = rejects = 0
        while repeats < REPEATS_IN_A_ROW and rejects < REJECTS_IN_A_ROW:
            before = self.num_rejected
            if (suggestion := self._new(*self.strategy.ask())) is not None:
                return suggestion
            repeats, rejects = repeats + (self.num_rejected == before), rejects + (self.num_rejected > before)
        for _ in range(DRAWS):
            pinned = self._draw()
            if pinned is None:
                break
            if (suggestion := self._new(*self.strategy.ask(pinned))) is not None:
                return suggestion
        self.exhausted = True
        return None

    def report(self, key: TrialKey, rung: int, scores: Mapping[str, float]) -> bool:
        """Say how good a running suggestion is at a rung, by metric; False where it is to stop.

        Only the first word on a rung counts: a trial that goes on from a checkpoint may come by again.
        """
        entry = self.asked[key.number - 1]
        if entry.goes_on and rung > entry.rung:
            entry.rung = rung
            self.strategy.report(entry.proposal, rung, scores)
            entry.goes_on = self.stopper.goes_on(entry.proposal, rung, scores)
        return entry.goes_on

    def tell(self, key: TrialKey, losses: Sequence[float] | None = None, *, stopped: bool = False) -> Verdict:
        """Say what became of a suggestion, and return how it counts.

        Losses that are missing, of a wrong count or not finite make it failed; `stopped` says that it was stopped
        early on purpose. Only the first word on a suggestion counts.
        """
        entry = self.asked[key.number - 1]
        if entry.verdict is None:
            self._settle(entry, losses, stopped=stopped)
            self.volumes.append(self.volume)
        assert entry.verdict is not None
        return entry.verdict

    def adopt(self, knobs: Mapping[str, Label], losses: Sequence[float] | None, *, stopped: bool = False) -> bool:
        """Learn a trial of an earlier run as if it had been asked here; False if its plan is known already."""
        suggestion = self.ask(knobs)
        if suggestion is not None:
            self.tell(suggestion.key, losses, stopped=stopped)
        return suggestion is not None

    def add_point(self, plan: Plan, losses: Sequence[float]) -> None:
        """Learn of a point that was not asked for, such as one of an earlier sweep or a by-product of a trial.

        It takes none of the trials. Where the space can express its plan, the strategy learns it as its own, and the
        plan is never run again.
        """
        if plan.fingerprint in self.known and self.known[plan.fingerprint].verdict is not None:
            return
        knobs = knobs_of(self.search.space, plan)
        if knobs is None:
            self.known[plan.fingerprint] = _Asked(-1, verdict="complete", losses=tuple(losses))
            self._keep_best(tuple(losses))
            self.strategy.add_point(losses)
            return
        proposal, _, _ = self.strategy.ask(knobs)
        entry = self.known[plan.fingerprint] = _Asked(proposal)
        self.stopper.begin(proposal, knobs)
        self._settle(entry, losses)

    def reserve(self, plan: Plan) -> bool:
        """Take a plan for someone who makes it as a by-product; False where it is known or taken already."""
        if plan.fingerprint in self.known:
            return False
        self.known[plan.fingerprint] = _Asked(-1)
        return True

    def _settle(self, entry: _Asked, losses: Sequence[float] | None, *, stopped: bool = False) -> None:
        whole = losses is not None and len(losses) == len(self.search.objectives) and all(map(math.isfinite, losses))
        entry.verdict = "stopped early" if stopped else "complete" if whole else "failed"
        entry.losses = tuple(losses) if losses is not None and entry.verdict == "complete" else None
        if entry.losses is not None:
            self._keep_best(entry.losses)
        self.strategy.tell(entry.proposal, entry.verdict, entry.losses)
        self.stopper.tell(entry.proposal, entry.losses, stopped=stopped)

    def _keep_best(self, losses: tuple[float, ...]) -> None:
        """Keep the losses if they keep the limits and none that is kept already beats them."""
        if any(miss > 0 for miss in self.search.violations(losses).values()):
            return
        marks = non_dominated(np.array([*self.best, losses]))
        if marks[-1]:
            self.best = [point for point, kept in zip([*self.best, losses], marks, strict=True) if kept]
            self.volume = self._volume() if self.search.baseline else 0.0

    def _volume(self) -> float:
        scales = self.search.scales
        rows = (self.search.values(losses).values() for losses in self.best)
        axes = [[scale.known(value) for scale, value in zip(scales, row, strict=True)] for row in rows]
        return hypervolume(np.array(axes), np.array([scale.reference for scale in scales]))

    def _new(self, proposal: int, plan: Plan, knobs: Mapping[str, Label], *, look: bool = True) -> Suggestion | None:
        known = self.known.get(plan.fingerprint)
        if known is not None:
            self.num_repeats += 1
            self.strategy.tell(proposal, known.verdict or "failed", known.losses)
            return None
        if look and not self._may_run(knobs):
            self.num_rejected += 1
            self.known[plan.fingerprint] = _Asked(proposal, verdict="failed")
            self.strategy.tell(proposal, "failed", None)
            return None
        key = TrialKey.of(len(self.asked) + 1, plan)
        entry = self.known[plan.fingerprint] = _Asked(proposal, key)
        self.asked.append(entry)
        self.stopper.begin(proposal, knobs)
        return Suggestion(key, plan, knobs)

    def _may_run(self, knobs: Mapping[str, Label]) -> bool:
        """Look before training at what limits bound: who breaks one is never trained."""
        foresight = self.search.foresight
        if foresight is None or not {limit.meter for limit in self.search.limits} & set(self.search.known):
            return True
        return foresight.keeps(knobs)

    def _draw(self) -> Mapping[str, Label] | None:
        size = self.search.space.cardinality()
        for _ in range(int(min(max(DRAWS, DRAWS_PER_PLAN * size), 100 * DRAWS))):
            recorder = Recorder(_RandomAsker(self.draws))
            if self.search.space.fill(recorder).fingerprint not in self.known:
                return recorder.knobs
        return None
