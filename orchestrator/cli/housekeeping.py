"""Verbs that keep a home in order: note, rename, archive, remove."""

import shlex

import click

from paretta.orchestrator.cli.completion import archivable, sweep_names
from paretta.orchestrator.cli.shared import DONE, at_home, exits, home_at, home_option, store_option, tip
from paretta.search_spaces.errors import Problem, WrongInput


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@click.argument("text", required=False)
@home_option
@store_option
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Set a tag; give several.")
@click.option("--untag", "untags", multiple=True, metavar="KEY", help="Remove a tag; give several.")
@exits
def note_command(
    sweep: str,
    text: str | None,
    home: str | None,
    tracking_uri: str | None,
    tags: tuple[str, ...],
    untags: tuple[str, ...],
) -> int:
    """Note something of a sweep, or of the trial SWEEP@UID: TEXT replaces its note, "" removes it.

    A trial is named by its uid, its number in four digits, or its role, as in digits@0007 and digits@knee. Notes and
    tags are kept in the journal, also of a sweep that runs. The list, the reports, the board and MLflow show them.
    Without TEXT and tags this prints what is noted.
    """
    from paretta.orchestrator.sweeps.notes import annotate_sweep, parse_tags

    name, _, who = sweep.partition("@")
    folder = home_at(home).find(name)
    click.echo(annotate_sweep(folder, who, note=text, tags=parse_tags(tags, untags), tracking_uri=tracking_uri))
    tip(f"paretta list{at_home(home)}")
    return DONE


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@store_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@exits
def remove_command(sweep: str, home: str | None, tracking_uri: str | None, *, yes: bool) -> int:
    """Remove a sweep for good: its folder with all artifacts, its runs and models in MLflow."""
    from paretta.orchestrator.sweeps.housekeeping import remove_sweep

    folder = home_at(home).find(sweep)
    if not (yes or _confirmed(f"remove {folder} and what MLflow has of it?")):
        raise WrongInput(Problem("remove", "nothing was removed", sweep, "say yes, or give --yes"))
    click.echo(remove_sweep(folder, tracking_uri))
    tip(f"paretta list{at_home(home)}")
    return DONE


def _confirmed(question: str) -> bool:
    """Ask, and take an input that ends for a no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@click.argument("new")
@home_option
@store_option
@exits
def rename_command(sweep: str, new: str, home: str | None, tracking_uri: str | None) -> int:
    """Call a sweep NEW, here and in MLflow: its folder, runs, views and registered model."""
    from paretta.orchestrator.sweeps.housekeeping import rename_sweep

    click.echo(rename_sweep(home_at(home).find(sweep), new, tracking_uri))
    tip(f"paretta front {shlex.quote(new)}{at_home(home)}")
    return DONE


@click.command()
@click.argument("sweep", shell_complete=archivable)
@home_option
@store_option
@click.option("--undo", is_flag=True, help="Bring an archived sweep back.")
@exits
def archive_command(sweep: str, home: str | None, tracking_uri: str | None, *, undo: bool) -> int:
    """Leave a sweep out of the list, the board and MLflow's tables, and keep all its files.

    Its runs wait in MLflow's trash, its registered models stay. Every verb still finds it by its name; to go on with
    it, bring it back first.
    """
    from paretta.orchestrator.sweeps.housekeeping import archive_sweep, restore_sweep

    act = restore_sweep if undo else archive_sweep
    click.echo(act(home_at(home).find(sweep), tracking_uri))
    tip(f"paretta list{'' if undo else ' --archived'}{at_home(home)}")
    return DONE
