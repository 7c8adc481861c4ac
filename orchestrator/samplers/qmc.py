"""Quasi-random candidates that cover the space evenly; a better reference than `random` if all knobs are ranges."""

from optuna.samplers import QMCSampler

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy, quiet
from paretta.orchestrator.search.spec import Search


def make(search: Search) -> Strategy:
    """Make a scrambled Sobol sequence; Bergstra and Bengio 2012 compare it with random search and grids.

    Choices, and the knobs inside their options, are drawn at random.
    """
    with quiet():
        sampler = QMCSampler(qmc_type="sobol", scramble=True, seed=search.seed, warn_independent_sampling=False)
        return OptunaStrategy(search, sampler)
