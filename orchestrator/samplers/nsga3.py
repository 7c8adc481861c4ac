"""NSGA-III: like NSGA-II, with niches along reference directions; for four or more objectives."""

from optuna.samplers import NSGAIIISampler

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy, quiet
from paretta.orchestrator.search.spec import Search


def make(search: Search) -> Strategy:
    """Make NSGA-III with about eight generations in the requested number of trials, and populations of 4 to 50.

    Deb and Jain, "An evolutionary many-objective optimization algorithm using reference-point-based nondominated
    sorting approach", 2014. Deciding takes about 1 ms.
    """
    population = max(4, min(50, search.num_trials // 8))
    with quiet():
        return OptunaStrategy(search, NSGAIIISampler(seed=search.seed, population_size=population))
