"""Verbs that print names and schemas: list, schema, completion."""

import json
import shlex
import sys
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from paretta.orchestrator.cli.shared import DONE, at_home, exits, home_at, home_option, json_option, tip
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

if TYPE_CHECKING:
    from paretta.orchestrator.storage.home import Home

_UNBOUNDED = 10_000  # columns: in a pipe or a file each name is one line
_NOUNS = (
    "stages",
    "importances",
    "quantizers",
    "sensitivities",
    "tweaks",
    "meters",
    "runtimes",
    "samplers",
    "stoppers",
    "tasks",
    "presets",
)


def _nouns(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(noun) for noun in ("sweeps", *_NOUNS) if noun.startswith(typed)]


@click.command()
@click.argument("noun", metavar="[NOUN]", default="sweeps", shell_complete=_nouns)
@home_option
@json_option
@click.option("--archived", is_flag=True, help="List the archived sweeps too.")
@exits
def list_command(noun: str, home: str | None, *, as_json: bool, archived: bool) -> int:
    """List the sweeps: state, trials, best point, size on disk, last event. Or list what a sweep file may name.

    NOUN is sweeps, stages, importances, quantizers, sensitivities, tweaks, meters, runtimes, samplers, stoppers, tasks
    or presets.
    """
    if noun == "sweeps":
        return _list_sweeps(home_at(home), at_home(home), as_json=as_json, archived=archived)
    if noun not in _NOUNS:
        raise WrongInput(Problem("list", did_you_mean(noun, ("sweeps", *_NOUNS), "list")))
    from paretta.orchestrator.config.catalogue import default_name, entries, origins

    found, homes, usual = entries(noun), origins(noun), default_name(noun)
    if as_json:
        rows = [{"name": name, "from": homes[name], "about": found[name], "default": name == usual} for name in found]
        click.echo(json.dumps(rows, indent=2))
        return DONE
    width, home_width = max(map(len, found), default=0), max(map(len, homes.values()), default=0)
    columns = get_terminal_size().columns if sys.stdout.isatty() else _UNBOUNDED
    for name, story in found.items():
        default = "  (default)" if name == usual else ""
        start = f"{name:{width}}  {homes[name]:{home_width}}  "
        click.echo(fill(f"{start}{story}{default}".rstrip(), columns, subsequent_indent=" " * len(start)))
    return DONE


def _list_sweeps(home: "Home", where: str, *, as_json: bool, archived: bool) -> int:
    names, hidden = home.sweeps(archived=archived), 0 if archived else len(home.archived())
    left_out = f"{hidden} archived: paretta list --archived" if hidden else ""
    if not names:
        click.echo("[]" if as_json else f"no sweep is in {home.path}{f' ({left_out})' if left_out else ''}")
        tip(f"paretta launch digits{where}")
        return DONE
    from paretta.orchestrator.monitor.home_table import sweep_documents

    documents = sweep_documents([home.path / name for name in names])
    if as_json:
        click.echo(json.dumps(documents, indent=2))
        return DONE
    from paretta.orchestrator.monitor.console import printer
    from paretta.orchestrator.monitor.home_table import sweeps_table

    printer().print(sweeps_table(documents))
    if left_out:
        click.echo(left_out, err=True)
    tip(f"paretta front {shlex.quote(str(documents[0]['sweep']))}{where}")
    return DONE


@click.command()
@exits
def schema_command() -> int:
    """Print the JSON schema of the sweep file, for editors and checks.

    It knows the settings of every stage, sampler and meter that is installed here. Save it as sweep.schema.json and
    begin a sweep file with: # yaml-language-server: $schema=sweep.schema.json
    """
    from paretta.orchestrator.config.sweep_schema import sweep_schema

    click.echo(json.dumps(sweep_schema(), indent=1))
    return DONE


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@exits
def completion_command(shell: str) -> int:
    """Print what completes verbs, options and names of sweeps in a shell.

    \b
    bash: echo 'eval "$(paretta completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(paretta completion zsh)"' >> ~/.zshrc
    fish: paretta completion fish > ~/.config/fish/completions/paretta.fish
    """  # noqa: D301 - a true backspace keeps the lines apart
    root = click.get_current_context().find_root().command
    completing = get_completion_class(shell)
    assert completing is not None
    click.echo(completing(root, {}, "paretta", "_PARETTA_COMPLETE").source())
    return DONE
