"""Uniform random candidates: the yardstick every other sampler has to beat."""

from optuna.samplers import RandomSampler

from orchestrator.search import Search
from orchestrator.study import OptunaStrategy
from orchestrator.suggest import Strategy


def make(search: Search) -> Strategy:
    """Make a seeded random sampler; Bergstra and Bengio 2012 say why not a grid."""
    return OptunaStrategy(search, RandomSampler(seed=search.seed))
