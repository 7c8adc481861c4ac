"""Shell completion of the names of sweeps, artifacts, presets and extensions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import click
from click.shell_completion import CompletionItem

from paretta.orchestrator.cli.shared import home_at
from paretta.search_spaces.errors import ParettaError

if TYPE_CHECKING:
    from paretta.orchestrator.storage.home import Home

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def sweep_names(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a sweep of the home; after ``SWEEP@``, a role on its front or one of its measured trials."""
    home = home_at(context.params.get("home"))
    name, at, _rest = typed.partition("@")
    found = home.sweeps() if not at else [f"{name}@{who}" for who in _holders(home, name)]
    return [CompletionItem(item) for item in found if item.startswith(typed)]


def archivable(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a sweep that is not archived; with --undo, one that is."""
    home = home_at(context.params.get("home"))
    found = home.archived() if context.params.get("undo") else home.sweeps()
    return [CompletionItem(item) for item in found if item.startswith(typed)]


def launchable(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a preset or a file; with --resume, a sweep of the home."""
    if context.params.get("again"):
        return sweep_names(context, parameter, typed)
    return [*names("presets")(context, parameter, typed), CompletionItem(typed, type="file")]


def names(noun: str) -> Completer:
    """Return a completer for the names that `paretta list NOUN` prints, each with its description."""

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        from paretta.orchestrator.config.catalogue import entries

        return [CompletionItem(name, help=told) for name, told in entries(noun).items() if name.startswith(typed)]

    return complete


def _holders(home: "Home", name: str) -> list[str]:
    from paretta.dashboards.journal.record import SweepRecord
    from paretta.dashboards.journal.summary import holders
    from paretta.search_spaces.objectives.roles import alias

    try:
        record = SweepRecord.read(home.find(name))
    except (ParettaError, OSError):
        return []
    measured = [trial.uid for trial in record.trials.values() if trial.is_measured and trial.artifact is not None]
    return [*map(alias, holders(record.front())), *measured]
