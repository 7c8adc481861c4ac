"""Verbs that say what a sweep file may hold."""

import json

import click

from paretta.orchestrator.cli.shared import DONE, exits
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

_NOUNS = (
    "stages",
    "importances",
    "quantizers",
    "sensitivities",
    "tweaks",
    "meters",
    "samplers",
    "stoppers",
    "tasks",
    "presets",
)


@click.command()
@click.argument("noun", metavar="|".join(_NOUNS))
@exits
def list_command(noun: str) -> int:
    """List what a sweep file may name."""
    from paretta.orchestrator.config.catalogue import entries, origins

    if noun not in _NOUNS:
        raise WrongInput(Problem("list", did_you_mean(noun, _NOUNS, "list")))
    found, homes = entries(noun), origins(noun)
    width, home_width = max(map(len, found), default=0), max(map(len, homes.values()), default=0)
    for name, story in found.items():
        click.echo(f"{name:{width}}  {homes[name]:{home_width}}  {story}".rstrip())
    return DONE


@click.command()
@exits
def schema_command() -> int:
    """Print the JSON schema of the sweep file, for editors and checks."""
    from paretta.orchestrator.config.sweep import SweepConfig

    click.echo(json.dumps(SweepConfig.model_json_schema(), indent=2))
    return DONE
