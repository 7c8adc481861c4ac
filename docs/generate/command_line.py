"""Generates the page of the command line from itself: each verb with its words, arguments and options."""

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from paretta.orchestrator.cli import main

PAGE = Path(__file__).parents[1] / "reference" / "command-line.md"


def command_line_page() -> str:
    """Return the page."""
    # a verb keeps the help option of the first context that asks it, so this must be the one of the command line
    context = click.Context(main, info_name="paretta", **main.context_settings)
    verbs = {name: main.get_command(context, name) for name in main.list_commands(context)}
    lines = [line for name, verb in verbs.items() if verb for line in _verb(name, verb, context)]
    return "\n".join([*_head(main), *lines]) + "\n"


def _head(group: click.Command) -> Iterator[str]:
    yield from ("# Command line", "", "Generated from the code by `make docs`; a test checks that it is up to date.")
    yield from ("", cleandoc(group.help or ""))


def _verb(name: str, verb: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(verb, info_name=name, parent=parent)
    usage = " ".join(verb.collect_usage_pieces(context))
    yield from ("", f"## {name}", "", "```text", f"paretta {name} {usage}", "```", "", cleandoc(verb.help or ""))
    options = [option for option in verb.get_params(context) if isinstance(option, click.Option)]
    yield from ("", "| option | meaning |", "|---|---|")
    for names, words in filter(None, (option.get_help_record(context) for option in options)):
        yield f"| `{names.replace('|', '/')}` | {' '.join(words.split()).replace('|', '/')} |"


def command_line_pages() -> dict[Path, str]:
    """Return the page by its path."""
    return {PAGE: command_line_page()}
