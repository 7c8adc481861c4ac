"""Which candidate next: exactly the asked number of distinct plans, each told back once, whatever became of it."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from search_spaces.holes import Choice, Hole, Int, Label
from search_spaces.objectives import Objective
from search_spaces.plan import Json, Plan
from search_spaces.space import Recorder, Space

Verdict: TypeAlias = Literal["complete", "failed", "pruned"]

REPEATS_IN_A_ROW = 10  # of a strategy that proposes known plans, before a plan is drawn at random
DRAWS = 200  # at random, at least, before a space counts as exhausted
DRAWS_PER_PLAN = 20  # times the number of plans: the odds of missing the last one are exp(-20)


@dataclass(frozen=True, slots=True)
class Search:
    """What a sampler is made for.

    Args:
        space: of the plans.
        objectives: in the order of the losses; every loss is smaller for better.
        num_trials: distinct plans that will be run.
        seed: equal seeds and equal order of completion give equal plans.
    """

    space: Space
    objectives: tuple[Objective, ...]
    num_trials: int
    seed: int = 0


class Strategy(Protocol):
    """A search algorithm. It may propose the same plan twice; `Suggester` sees to that."""

    def ask(self, pinned: Mapping[str, Label] | None = None) -> tuple[int, Plan, Mapping[str, Json]]:
        """Propose a plan: the strategy's own number for it, the plan and its knobs by name.

        `pinned` answers by knob name; what it leaves out is the strategy's choice.
        """

    def tell(self, number: int, verdict: Verdict, losses: Sequence[float] | None) -> None:
        """Learn what became of a proposal; losses are finite, and there exactly when it is complete."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A plan to run; `number` counts the distinct plans of the search from 0."""

    number: int
    plan: Plan
    knobs: Mapping[str, Json]


@dataclass(slots=True)
class _Asked:
    proposal: int
    verdict: Verdict | None = None
    losses: tuple[float, ...] | None = None


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

    Equal asks and tells in equal order give equal plans: `orchestrator.resume` relies on it.

    Args:
        search: space, objectives, number of trials and seed.
        strategy: the search algorithm.
    """

    search: Search
    strategy: Strategy
    num_repeats: int = 0
    exhausted: bool = False
    asked: list[_Asked] = field(default_factory=list)
    known: dict[str, _Asked] = field(default_factory=dict)
    draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Seed the draws that step in when the strategy repeats itself."""
        self.draws = random.Random(self.search.seed)  # noqa: S311 - a search, not a secret

    @property
    def finished(self) -> bool:
        """Whether no further plan will be suggested."""
        return self.exhausted or len(self.asked) >= self.search.num_trials

    @property
    def running(self) -> tuple[int, ...]:
        """Numbers that were asked and not told yet."""
        return tuple(number for number, entry in enumerate(self.asked) if entry.verdict is None)

    def ask(self, pinned: Mapping[str, Label] | None = None) -> Suggestion | None:
        """Return a plan that was never suggested before; None when the search is finished.

        With `pinned` it is the plan with these knobs, or None if that is known.

        A known plan that the strategy proposes again is told to it at once with the known losses. After a few of
        those in a row a plan is drawn at random; when only known plans are drawn, the space is exhausted.
        """
        if self.finished:
            return None
        if pinned is not None:
            return self._new(*self.strategy.ask(pinned))
        for _ in range(REPEATS_IN_A_ROW):
            if (suggestion := self._new(*self.strategy.ask())) is not None:
                return suggestion
        pinned = self._draw()
        suggestion = None if pinned is None else self._new(*self.strategy.ask(pinned))
        self.exhausted = suggestion is None
        return suggestion

    def tell(self, number: int, losses: Sequence[float] | None = None, *, pruned: bool = False) -> Verdict:
        """Say what became of a suggestion, and return how it counts.

        Losses that are missing, of a wrong count or not finite make it failed; a pruned one was stopped on purpose.
        Only the first word on a number counts.
        """
        entry = self.asked[number]
        if entry.verdict is None:
            whole = (
                losses is not None and len(losses) == len(self.search.objectives) and all(map(math.isfinite, losses))
            )
            entry.verdict = "pruned" if pruned else "complete" if whole else "failed"
            entry.losses = tuple(losses) if losses is not None and entry.verdict == "complete" else None
            self.strategy.tell(entry.proposal, entry.verdict, entry.losses)
        return entry.verdict

    def adopt(self, knobs: Mapping[str, Label], losses: Sequence[float] | None, *, pruned: bool = False) -> bool:
        """Learn a trial of an earlier run as if it had been asked here; False if its plan is known already."""
        suggestion = self.ask(knobs)
        if suggestion is not None:
            self.tell(suggestion.number, losses, pruned=pruned)
        return suggestion is not None

    def _new(self, proposal: int, plan: Plan, knobs: Mapping[str, Json]) -> Suggestion | None:
        known = self.known.get(plan.fingerprint)
        if known is not None:
            self.num_repeats += 1
            self.strategy.tell(proposal, known.verdict or "failed", known.losses)
            return None
        entry = self.known[plan.fingerprint] = _Asked(proposal)
        self.asked.append(entry)
        return Suggestion(len(self.asked) - 1, plan, knobs)

    def _draw(self) -> Mapping[str, Label] | None:
        size = self.search.space.cardinality()
        for _ in range(int(min(max(DRAWS, DRAWS_PER_PLAN * size), 100 * DRAWS))):
            recorder = Recorder(_RandomAsker(self.draws))
            if self.search.space.fill(recorder).fingerprint not in self.known:
                return {name: _label(value) for name, value in recorder.knobs.items()}
        return None


def _label(value: Json) -> Label:
    assert value is None or isinstance(value, bool | int | float | str)
    return value
