"""What a search gains from results of another table: ``python -m benchmarks.search.transfer --tables DIR``.

Each table is searched with a prior from random results of each other table that shares knobs with it, as they are and
in three ways that mislead: effects inverted, those of every other input inverted, results shuffled.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.search.__main__ import MAKERS, OURS, RANDOM, STEP, TPE, report
from benchmarks.search.tables import DEFAULTS, read_tables
from paretta.orchestrator.offline.simulator import Table, simulate
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.policy.prior import Lessons, Prior
from paretta.orchestrator.search.experience import PastResult, experience_of

MISLEADING = ("inverted", "half inverted", "shuffled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of parquet tables")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--results", type=int, default=400, help="of the other table")
    parser.add_argument("--budget", type=int, default=OURS, help="full trials of a search with a prior")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = [table for table in read_tables(options.tables) if table.name in DEFAULTS]
    seeds = range(options.seeds)
    for table in tables:
        curves = {name: _curves([_run(table, name, seed) for seed in seeds]) for name in (RANDOM, TPE, "grey_box")}
        for source in tables:
            for way in ("", *MISLEADING) if source is not table else ():
                priors = (prior_from(source, table, options.results, seed, way) for seed in seeds)
                runs = [_with_prior(table, prior, seed, options.budget) for seed, prior in enumerate(priors)]
                curves[f"{source.name} {way}".strip()] = _curves(runs)
        report(table.name, curves)


def prior_from(source: Table, table: Table, count: int, seed: int, way: str = "") -> Prior | None:
    """Return the prior of a search on `table` from `count` random results of `source`, or None if they apply not."""
    rng = np.random.default_rng(1000 + seed)
    rows = rng.choice(len(source.configs), min(count, len(source.configs)), replace=False)
    gains = np.log(source.validation[rows, -1, 0]) - np.log(1.0 - DEFAULTS[source.name]["validation"])
    results = [
        PastResult(source.name, source.configs[row], {"error": gain}) for row, gain in zip(rows, gains, strict=True)
    ]
    experience = experience_of(results, table.knobs, ["error"])
    if experience is None:
        return None
    lessons = _misled(experience.lessons, way, rng)
    return Prior.of(lessons, np.log(np.array([1.0 - DEFAULTS[table.name]["validation"]])), seed=seed)


def _misled(lessons: Lessons, way: str, rng: np.random.Generator) -> Lessons:
    if way == "inverted":
        return replace(lessons, gains=lessons.gains.max() + lessons.gains.min() - lessons.gains)
    if way == "half inverted":
        return replace(lessons, inputs=lessons.inputs * np.where(np.arange(lessons.inputs.shape[1]) % 2, 1.0, -1.0))
    return replace(lessons, gains=lessons.gains[rng.permutation(len(lessons.gains))]) if way == "shuffled" else lessons


def _with_prior(table: Table, prior: Prior | None, seed: int, budget: int) -> NDArray[np.float64]:
    search = GreyBox(replace(table.problem(), prior=prior), seed=seed)
    return simulate(search, table, budget).shares(table, _budgets(budget))


def _run(table: Table, policy: str, seed: int) -> NDArray[np.float64]:
    budget = {RANDOM: 100, TPE: 60}.get(policy, OURS)
    return simulate(MAKERS[policy](table, seed), table, budget).shares(table, _budgets(budget))


def _budgets(budget: int) -> NDArray[np.float64]:
    return np.arange(STEP, budget + STEP / 2, STEP)


def _curves(runs: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array(runs)


if __name__ == "__main__":
    main()
