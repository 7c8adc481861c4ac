"""Compare samplers by replaying searches over finished results, in seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.offline.results_table import Results
from paretta.orchestrator.offline.simulator import Table, simulate
from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.problem import Candidate
from paretta.orchestrator.search.interfaces import Stopper, Strategy
from paretta.orchestrator.search.losses import LossScale
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.registry import SAMPLERS, STOPPERS
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.plan import Plan

_DRAWS = 2000
_HIDDEN = 0.1  # share of the trials hidden with each seed, so that the interval includes the influence of single trials
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Curve:
    """The results of one search.

    Args:
        name: ``SAMPLER`` or ``SAMPLER+STOPPER``.
        budgets: [b], compute in full trials.
        shares: [seeds, b], the reached share of the hypervolume of all results.
    """

    name: str
    budgets: Array
    shares: Array

    @property
    def mean(self) -> Array:
        """Mean over the seeds, [b]."""
        return np.asarray(self.shares.mean(axis=0))

    def interval(self) -> Array:
        """Return the 95 % bootstrap interval of the mean over resampled seeds, [2, b]."""
        rng = np.random.default_rng(0)
        drawn = self.shares[rng.integers(len(self.shares), size=(_DRAWS, len(self.shares)))].mean(axis=1)
        return np.asarray(np.quantile(drawn, [0.025, 0.975], axis=0))


def compare(
    results: Results, names: Sequence[str], *, num_seeds: int, budget: int = 60, workers: int = 1
) -> list[Curve]:
    """Replay each of `names` with `num_seeds` seeds, until the compute of `budget` full trials is spent.

    Each proposal of a sampler is replaced by the nearest trial that it has not received yet; ``grey_box`` chooses among
    the trials themselves. Each seed hides a tenth of the trials. The fewer trials the results have, the less reliable
    the comparison is.

    Raises:
        WrongInput: a sampler or stopper does not exist, or no trial is better than the reference point.
    """
    pairs = [_pair(name) for name in names]
    table = results.table()
    if table.best == 0:
        rule = "no trial is better than the reference point in every objective, so there is no hypervolume to compare"
        raise WrongInput(Problem(results.name, rule, hint="move it by `reference` in the sweep file"))
    budgets = np.linspace(0.0, float(min(budget, len(table.configs))), _STEPS + 1)[1:]
    curves = []
    for name, (sampler, stopper) in zip(names, pairs, strict=True):
        runs = [
            simulate(_Rows(results, table, sampler, stopper, seed), table, budgets[-1], workers=workers)
            for seed in range(num_seeds)
        ]
        curves.append(Curve(name, budgets, np.array([run.shares(table, budgets) for run in runs])))
    return curves


def comparison_text(results: Results, curves: Sequence[Curve]) -> str:
    """Format each search's results after 1/8, 1/4, 1/2 and all of the budget, and when it reached 95 %."""
    total, budget = len(results.configs), float(curves[0].budgets[-1])
    at = [budget * share for share in (0.125, 0.25, 0.5, 1.0)]
    head = "".join(f"{f'{budget:.3g} trials':>24s}" for budget in at)
    width = max(len(curve.name) for curve in curves)
    lines = [
        f"{results.name}: share of the hypervolume of all {total} trials, mean of {len(curves[0].shares)} seeds "
        "[95 % interval]",
        f"{'':{width}s}{head}{'95 % after':>14s}",
    ]
    for curve in curves:
        low, high = curve.interval()
        index = [int(np.argmin(np.abs(curve.budgets - budget))) for budget in at]
        cells = [f"{curve.mean[i]:.3f} [{low[i]:.3f}, {high[i]:.3f}]" for i in index]
        reached = np.flatnonzero(curve.mean >= 0.95)
        enough = f"{curve.budgets[reached[0]]:.3g} trials" if len(reached) else "never"
        lines.append(f"{curve.name:{width}s}{''.join(f'{cell:>24s}' for cell in cells)}{enough:>14s}")
    return "\n".join(lines)


def plot(results: Results, curves: Sequence[Curve], path: Path) -> None:
    """Plot hypervolume over compute with the intervals, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - drawn only when asked for
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles = ("-", "--", "-.", ":")
    for number, curve in enumerate(curves):
        low, high = curve.interval()
        axes.plot(curve.budgets, curve.mean, styles[number % len(styles)], label=curve.name, color=f"C{number}")
        axes.fill_between(curve.budgets, low, high, alpha=0.2, color=f"C{number}", linewidth=0)
    axes.set(xlabel="compute, in full trials", ylabel="share of the hypervolume of all trials")
    axes.set_title(f"{results.name}: {len(results.configs)} trials, {len(curves[0].shares)} seeds, 95 % intervals")
    axes.set_ylim(0.0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


class _Rows:
    """Adapts a sampler and a stopper to `paretta.orchestrator.offline.simulator`."""

    def __init__(self, results: Results, table: Table, sampler: str, stopper: str, seed: int) -> None:
        self._table, self._inputs = table, results.inputs()
        self._coordinates = Coordinates(results.space.knobs())
        self._left = np.random.default_rng(seed).random(len(table.configs)) >= _HIDDEN
        self._rows: list[int] = []
        self._keys: list[TrialKey] = []
        foresight = _RowForesight(results, table, self._nearest)
        search = Search(
            results.space,
            results.objectives,
            len(table.configs),
            seed,
            baseline=results.baseline,
            reference=results.reference,
            foresight=foresight if results.known else None,
            rungs=table.rungs,
            menu=tuple(config for config, left in zip(table.configs, self._left.tolist(), strict=True) if left),
        )
        strategy = cast(Callable[[Search], Strategy], SAMPLERS.load(sampler))(search)
        rule = cast(Callable[[Search, Strategy], Stopper], STOPPERS.load(stopper))(search, strategy)
        self._suggester = Suggester(search, strategy, rule)
        self._results = results

    def ask(self) -> Candidate | None:
        if not self._left.any():
            return None
        suggestion = self._suggester.ask()
        if suggestion is None:
            return None
        row = self._nearest(suggestion.knobs, self._left)
        self._left[row] = False
        self._rows.append(row)
        self._keys.append(suggestion.key)
        return Candidate(len(self._keys) - 1, self._table.configs[row])

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        rung = self._table.rungs.at(fidelity)
        if rung == self._table.rungs.last:
            return True
        scores = {meter: float(curve[self._rows[number], rung]) for meter, curve in self._results.curves.items()}
        goes_on = self._suggester.report(self._keys[number], rung, scores)
        if not goes_on:
            self._suggester.tell(self._keys[number], stopped=True)
        return goes_on

    def tell(self, number: int, losses: Mapping[str, float] | None) -> None:
        row, objectives = self._rows[number], self._results.objectives
        told = [o.loss(float(self._results.values[o.meter][row])) for o in objectives]
        self._suggester.tell(self._keys[number], told)

    def _nearest(self, knobs: Configuration, among: NDArray[np.bool_] | None = None) -> int:
        at = self._coordinates.inputs(self._coordinates.encode(knobs)[None])
        distances = ((self._inputs - at) ** 2).sum(axis=1)
        return int(np.argmin(distances if among is None else np.where(among, distances, np.inf)))


@dataclass(frozen=True, slots=True)
class _RowForesight:
    """Takes the known objectives of a plan from the nearest trial."""

    results: Results
    table: Table
    nearest: Callable[[Configuration], int]

    @property
    def scales(self) -> tuple[LossScale, ...]:
        return tuple(scale for scale in self.results.scales if scale.objective.meter in self.results.known)

    def estimate(self, configs: Sequence[Configuration]) -> Array:
        return self.table.known[np.array([self.nearest(config) for config in configs], dtype=np.intp)]

    def look(self, config: Configuration) -> Array:
        return np.asarray(self.table.known[self.nearest(config)])

    def learn(self, plan: Plan, config: Configuration, readings: Mapping[str, float]) -> Array:
        return self.look(config)

    def keeps(self, config: Configuration) -> bool:
        return True


def _pair(name: str) -> tuple[str, str]:
    sampler, _, stopper = name.partition("+")
    for registry, part in ((SAMPLERS, sampler), (STOPPERS, stopper or "none")):
        registry.load(part, where="--sampler")
    return sampler, stopper or "none"
