"""Uniform random candidates: the yardstick every other sampler has to beat."""

from optuna.samplers import RandomSampler

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy
from paretta.orchestrator.search.spec import Search


def make(search: Search) -> Strategy:
    """Make a seeded random sampler; Bergstra and Bengio 2012 say why not a grid."""
    return OptunaStrategy(search, RandomSampler(seed=search.seed))
