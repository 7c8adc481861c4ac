"""Suggest candidates: exactly the requested number of distinct plans, each of whose outcomes is reported once."""

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

REPEATS_IN_A_ROW = 10  # known plans that a strategy may propose in a row before a random one is drawn
REJECTS_IN_A_ROW = 10  # the same for plans that violate a limit known before training
DRAWS = 200  # the least number of random draws before a space counts as exhausted
DRAWS_PER_PLAN = 20  # draws per plan of the space: the probability to miss the last plan is exp(-20)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A plan to run; its key numbers the distinct plans of the search from 1."""

    key: TrialKey
    plan: Plan
    knobs: Mapping[str, Label]


@dataclass(slots=True)
class _Asked:
    proposal: int  # the strategy's number; -1 if the plan was not proposed
    key: TrialKey | None = None  # None if the plan is known but no trial
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
    """Asks a strategy for plans and tells it the outcomes; remembers every plan.

    The same asks and tells in the same order give the same plans: `paretta.orchestrator.tune.resume` relies on it.

    Args:
        search: space, objectives, limits, number of trials and seed.
        strategy: the search algorithm.
        stopper: the rule that stops trials early.
        first: knobs to try before the strategy is asked.
        over: why the search ended before all trials were asked, if it did; see `end`.
        best: the non-dominated losses that keep the limits.
        volume: the hypervolume of the complete trials that keep the limits; 0 without a baseline.
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
        """Seed the random draws used when the strategy repeats itself."""
        self.draws = random.Random(self.search.seed)  # noqa: S311 - a search, not a secret

    @property
    def finished(self) -> bool:
        """Whether no further plan will be suggested."""
        return self.exhausted or self.over is not None or len(self.asked) >= self.search.num_trials

    @property
    def running(self) -> tuple[TrialKey, ...]:
        """The trials that were asked and have not ended."""
        return tuple(entry.key for entry in self.asked if entry.key is not None and entry.verdict is None)

    def end(self, why: str) -> None:
        """Suggest no further plans; the first reason given is kept."""
        self.over = self.over or why

    def ask(self, pinned: Mapping[str, Label] | None = None) -> Suggestion | None:
        """Return a plan that was never suggested before; None when the search is finished.

        With `pinned` return the plan with these knobs, or None if it is known.

        If the strategy proposes a known plan, it is told the known losses at once; if a plan violates a limit known
        before training, it is told as failed. Neither is run. After several of these in a row a plan is drawn at
        random; when the draws find no new plan either, the space is exhausted.
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
        """Record a running suggestion's scores at a rung, by metric; return False if it should stop.

        Only the first report of a rung counts: a trial that restarts from a checkpoint may reach a rung twice. Once no
        further plan will be suggested, every trial goes on: its worker would have nothing else to do.
        """
        entry = self.asked[key.number - 1]
        if entry.goes_on and rung > entry.rung:
            entry.rung = rung
            self.strategy.report(entry.proposal, rung, scores)
            entry.goes_on = self.finished or self.stopper.goes_on(entry.proposal, rung, scores)
        return entry.goes_on

    def tell(self, key: TrialKey, losses: Sequence[float] | None = None, *, stopped: bool = False) -> Verdict:
        """Record how a suggestion ended, and return the state it counts as.

        Losses that are missing, of a wrong number or not finite make it failed; `stopped` means that it was stopped
        early on purpose. Only the first outcome of a suggestion counts.
        """
        entry = self.asked[key.number - 1]
        if entry.verdict is None:
            self._settle(entry, losses, stopped=stopped)
            self.volumes.append(self.volume)
        assert entry.verdict is not None
        return entry.verdict

    def adopt(self, knobs: Mapping[str, Label], losses: Sequence[float] | None, *, stopped: bool = False) -> bool:
        """Add a trial of an earlier run as if it had been asked here; return False if its plan is already known."""
        suggestion = self.ask(knobs)
        if suggestion is not None:
            self.tell(suggestion.key, losses, stopped=stopped)
        return suggestion is not None

    def add_point(self, plan: Plan, losses: Sequence[float]) -> None:
        """Add a point that was not asked for, such as one of an earlier sweep or a by-product of a trial.

        It does not count as a trial. If the space can express its plan, the strategy learns it like a proposal of its
        own, and the plan is never run again.
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
        """Reserve a plan that is made as a by-product; return False if it is already known or reserved."""
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
        """Add the losses to the front if they keep the limits and are not dominated."""
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
        """Return False for a plan that violates a limit known before training."""
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
