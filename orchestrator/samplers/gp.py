"""Optuna's Gaussian-process sampler, one process for each objective: sample-efficient but slow to decide."""

from optuna.samplers import GPSampler

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy, quiet
from paretta.orchestrator.search.spec import Search


def make(search: Search) -> Strategy:
    """Make Optuna's GPSampler: log expected hypervolume improvement over one process for each objective.

    It treats size and latency as unknown. Conditional knobs are drawn at random; deciding takes about half a second.
    """
    num_random = max(2, min(10, search.num_trials // 3))
    with quiet():
        return OptunaStrategy(search, GPSampler(seed=search.seed, n_startup_trials=num_random))
