"""Decide when a search ends early: its wall time or compute is spent, or it no longer improves the front."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from paretta.dashboards.journal.activity import held_resources
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.config.sections import BudgetConfig

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """Limits that end a search before its number of trials is reached.

    Compute is the time since the search started, multiplied by the CPUs or GPUs that the workers reserve, idle or not.

    Args:
        config: the sweep file's section.
        cpus, gpus: reserved by all lanes together.
        began: the start of the search, Unix time in seconds.
    """

    config: BudgetConfig
    cpus: float
    gpus: float
    began: float

    def spent(self, volumes: Sequence[float], now: float | None = None) -> str | None:
        """Return the limit that is reached, in words; None if there is none.

        Args:
            volumes: the hypervolume after each trial that ended.
            now: Unix time in seconds; the current time by default.
        """
        hours = ((time.time() if now is None else now) - self.began) / _HOUR
        config = self.config
        if config.hours is not None and hours >= config.hours:
            return f"the budget of {config.hours:g} hours is spent"
        if config.cpu_hours is not None and hours * self.cpus >= config.cpu_hours:
            return f"the budget of {config.cpu_hours:g} CPU hours is spent"
        if config.gpu_hours is not None and hours * self.gpus >= config.gpu_hours:
            return f"the budget of {config.gpu_hours:g} GPU hours is spent"
        if config.gain is not None:
            gained = gain(volumes, config.gain.over)
            if gained is not None and gained < config.gain.under:
                return f"the last {config.gain.over} trials gained {gained:.1%} of hypervolume"
        return None

    def words(self, volumes: Sequence[float], now: float | None = None) -> list[str]:
        """Describe how much of each limit is used."""
        hours = ((time.time() if now is None else now) - self.began) / _HOUR
        config = self.config
        limits = (("", config.hours, 1.0), ("CPU ", config.cpu_hours, self.cpus), ("GPU ", config.gpu_hours, self.gpus))
        said = [f"{hours * held:.2g} of {limit:g} {name}hours" for name, limit, held in limits if limit is not None]
        if config.gain is not None:
            gained = gain(volumes, config.gain.over)
            far = "not known yet" if gained is None else f"{gained:.1%}"
            said.append(f"gain over {config.gain.over} trials {far}, ends under {config.gain.under:.1%}")
        return said


def budget_words(record: SweepRecord) -> list[str]:
    """Describe how much of its budget a running sweep has used, from its record."""
    config = BudgetConfig.model_validate(record.config.get("budget", {}))
    held = held_resources(record)
    if config == BudgetConfig() or record.began is None or held is None:
        return []
    cpus, gpus = held
    budget = SearchBudget(config, cpus, gpus, record.began)
    steps = record.history() if config.gain is not None else []
    return budget.words([step.hypervolume for step in steps if record.trials[step.uid].role == "trial"])


def gain(volumes: Sequence[float], over: int) -> float | None:
    """Return the share of the current hypervolume that the last `over` trials added; None without earlier trials.

    While the hypervolume is 0 the share counts as 1, so that the search goes on.

    >>> gain([1.0, 2.0, 2.0, 2.0], 2), gain([1.0, 2.0], 2)
    (0.0, None)
    """
    if len(volumes) <= over:
        return None
    return 1.0 - volumes[-over - 1] / volumes[-1] if volumes[-1] > 0 else 1.0
