"""NSGA-II, a genetic algorithm that recombines non-dominated candidates; for hundreds of cheap trials."""

from optuna.samplers import NSGAIISampler

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy
from paretta.orchestrator.search.spec import Search


def make(search: Search) -> Strategy:
    """Make NSGA-II with about eight generations in the requested number of trials, and populations of 4 to 50.

    Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002. Deciding takes about 1 ms.
    """
    population = max(4, min(50, search.num_trials // 8))
    return OptunaStrategy(search, NSGAIISampler(seed=search.seed, population_size=population))
