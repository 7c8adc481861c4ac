"""Uniform random candidates: the reference that every other sampler has to beat."""

from optuna.samplers import RandomSampler

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy
from paretta.orchestrator.search.spec import Search


def make(search: Search) -> Strategy:
    """Make a seeded random sampler; Bergstra and Bengio 2012 show why it is better than a grid."""
    return OptunaStrategy(search, RandomSampler(seed=search.seed))
