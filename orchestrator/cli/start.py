"""The verb that begins: init."""

import json
import shlex
import sys
from pathlib import Path

import click

from paretta.orchestrator.cli.shared import DONE, exits, tip
from paretta.search_spaces.errors import Problem, WrongInput

_KINDS = ("--example", "--module", "--image-folder", "--transformers")


@click.command()
@click.option("--example", is_flag=True, help="A task that runs as it is, to put your own model and data into.")
@click.option("--module", metavar="USE", help="You have a function that returns a task, such as mytask:make.")
@click.option("--image-folder", metavar="DIR", help="You have images, in a folder for each class.")
@click.option(
    "--transformers", metavar="DIR", help="You have a text classifier, saved by save_pretrained; with --data."
)
@click.option("--data", metavar="FILE", help="Its texts: a CSV file with the columns text and label.")
@click.option("--to", type=click.Path(path_type=Path), default=".", metavar="DIR", help="Where to.  [default: here]")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@exits
def init_command(
    *,
    example: bool,
    module: str | None,
    image_folder: str | None,
    transformers: str | None,
    data: str | None,
    to: Path,
    force: bool,
) -> int:
    """Write a commented sweep.yaml, and a task to start from; both pass `paretta check`.

    On a terminal it asks for what no option says.
    """
    from paretta.orchestrator.config import starter
    from paretta.orchestrator.config.sweep_schema import sweep_schema

    given = dict(zip(_KINDS, (example, module, image_folder, transformers), strict=True))
    kind, value = _asked() if not any(given.values()) and sys.stdin.isatty() else _only(given)
    if kind == "--module":
        start = starter.of_function(value)
    elif kind == "--image-folder":
        start = starter.of_images(value)
    elif kind == "--transformers":
        if data is None:
            raise WrongInput(
                Problem("--data", "is needed with --transformers", None, "name a CSV file of texts and labels")
            )
        start = starter.of_transformers(value, data)
    else:
        start = starter.example()
    for path in start.with_schema(json.dumps(sweep_schema(), indent=1)).write(to, force=force):
        click.echo(path)
    tip(f"paretta check {shlex.quote(str(to / starter.SWEEP))}")
    return DONE


def _only(given: dict[str, bool | str | None]) -> tuple[str, str]:
    chosen = [(kind, str(value)) for kind, value in given.items() if value]
    if len(chosen) != 1:
        found = ", ".join(kind for kind, _ in chosen) or None
        raise WrongInput(Problem("init", f"give one of {', '.join(_KINDS)}", found))
    return chosen[0]


def _asked() -> tuple[str, str]:
    click.echo("What do you have?")
    answers = (
        ("an example is fine for now", ""),
        ("a function that returns a task", "which one, such as mytask:make"),
        ("images, in a folder for each class", "which folder"),
        ("a text classifier of transformers", "which folder"),
    )
    for number, (words, _) in enumerate(answers, start=1):
        click.echo(f"  {number}  {words}")
    number = click.prompt("number", type=click.IntRange(1, len(answers)), default=1)
    question = answers[number - 1][1]
    return _KINDS[number - 1], click.prompt(question) if question else "yes"
