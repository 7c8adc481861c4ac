"""Verbs on the results of sweeps: front, compare, board, publish, export, replay."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paretta.orchestrator.cli.completion import sweep_names
from paretta.orchestrator.cli.shared import (
    DONE,
    FAILED,
    at_home,
    exits,
    home_at,
    home_option,
    json_option,
    store_option,
    tip,
    watching,
)
from paretta.search_spaces.errors import Problem, WrongInput

if TYPE_CHECKING:
    from paretta.dashboards.journal.record import SweepRecord


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@json_option
@click.option("--watch", is_flag=True, help="Keep the table up to date until the sweep ends; Ctrl-C ends that.")
@exits
def front_command(sweep: str, home: str | None, *, as_json: bool, watch: bool) -> int:
    """Print the front of a sweep, running or finished: SWEEP is a name, a folder, or a URI such as s3://bucket/NAME."""
    from paretta.dashboards.journal.liveness import has_died, home_argument, state_words
    from paretta.dashboards.journal.record import SweepRecord
    from paretta.orchestrator.storage.mirror import found

    if watch and as_json:
        raise WrongInput(Problem("--watch, --json", "JSON is printed once", hint="leave one of them out"))
    files = found(home_at(home), sweep)
    if watch:
        from paretta.orchestrator.monitor.follow import watch_front

        with watching(files, "--watch"):
            watch_front(files.root)
    else:
        _show_front(SweepRecord.read(files.root), as_json=as_json)
    record = SweepRecord.read(files.root)
    if files.storage is None and has_died(record):
        _, how = state_words(record)
        click.echo(f"{record.name} died, {how}", err=True)
    elif len(record.front()):
        tip(f"paretta pull {shlex.quote(record.name)} --prefer knee --to ./best{home_argument(files.root)}")
    return DONE


def _show_front(record: "SweepRecord", *, as_json: bool) -> None:
    front = record.front()
    if as_json:
        from paretta.dashboards.report.table import front_document

        click.echo(json.dumps(front_document(front), indent=2))
    else:
        from paretta.orchestrator.monitor.front_table import print_front

        print_front(front)
        shown = {"", *(trial.uid for trial in (*front, *front.undecided))}
        for uid, about in sorted(record.annotations.items()):
            if about and uid in shown:
                click.echo(f"noted {uid or record.name}: {about}")


@click.command()
@click.argument("sweeps", nargs=-1, required=True, metavar="SWEEP SWEEP...", shell_complete=sweep_names)
@home_option
@json_option
@exits
def compare_command(sweeps: tuple[str, ...], home: str | None, *, as_json: bool) -> int:
    """Compare sweeps: their joint front, hypervolume from one reference point, the knobs of their fronts."""
    from paretta.dashboards.journal.record import SweepRecord
    from paretta.orchestrator.monitor.console import printer
    from paretta.orchestrator.monitor.side_by_side import SideBySide, print_side_by_side
    from paretta.orchestrator.storage.mirror import found

    place = home_at(home)
    compared = SideBySide.of([SweepRecord.read(found(place, sweep).root) for sweep in sweeps])
    if as_json:
        click.echo(json.dumps(compared.to_document(), indent=2))
        return DONE
    print_side_by_side(printer(), compared)
    if len(compared.joint):
        tip(f"paretta pull {shlex.quote(compared.joint.knee().uid)} --to ./best{at_home(home)}")
    return DONE


@click.command()
@home_option
@store_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Any but loopback takes a token; MLflow stays on loopback."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5000,
    show_default=True,
    help="Of the live pages; 0 finds a free one.",
)
@exits
def board_command(home: str | None, tracking_uri: str | None, host: str, port: int) -> int:
    """Serve live pages of the sweeps, and the MLflow UI over their store beside them; Ctrl-C ends both."""
    from paretta.dashboards.server.board import serve_board

    serve_board(home_at(home).path, tracking_uri, host=host, port=port)
    return DONE


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@store_option
@exits
def publish_command(sweep: str, home: str | None, tracking_uri: str | None) -> int:
    """Bring MLflow to what the sweep's journal says: writes what is missing, changes nothing that is there."""
    from paretta.dashboards.tracking.publisher import publish_sweep

    place = home_at(home)
    status = publish_sweep(place.find(sweep), tracking_uri or place.tracking_uri())
    click.echo(str(status))
    tip(f"paretta board{at_home(home)}")
    return FAILED if status.behind or status.refused else DONE


@click.command()
@click.argument("sweep", required=False, shell_complete=sweep_names)
@home_option
@click.option("--json", type=click.Path(path_type=Path), metavar="FILE", help="The front, with a versioned schema.")
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="All trials.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="All trials.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="The front, as .png or .svg.")
@click.option("--optuna", type=click.Path(path_type=Path), metavar="FILE", help="A study for optuna-dashboard, SQLite.")
@click.option(
    "--experience",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What other sweeps may learn from, for learn_from; of all sweeps without SWEEP.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@exits
def export_command(
    sweep: str | None,
    *,
    home: str | None,
    json: Path | None,
    csv: Path | None,
    parquet: Path | None,
    picture: Path | None,
    optuna: Path | None,
    experience: Path | None,
    force: bool,
) -> int:
    """Write a sweep, running or finished, to files that other tools read."""
    from paretta.orchestrator.delivery.export import export_experience, export_sweep

    given = {"json": json, "csv": csv, "parquet": parquet, "picture": picture, "optuna": optuna}
    wanted = {kind: path for kind, path in given.items() if path is not None}
    place = home_at(home)
    if sweep is None and (wanted or experience is None):
        raise WrongInput(Problem("SWEEP", "must be named", hint="only --experience can be of all sweeps"))
    folder = None if sweep is None else place.find(sweep)
    if folder is not None and (wanted or experience is None):
        for path in export_sweep(folder, wanted, force=force):
            click.echo(path)
    if experience is not None:
        count = export_experience(place.path, folder, experience, force=force)
        click.echo(f"{experience}: {count} results")
    return DONE


@click.command()
@click.argument("results", shell_complete=sweep_names)
@home_option
@click.option("--sampler", "samplers", multiple=True, metavar="NAME[+STOPPER]", help="What to compare; give several.")
@click.option("--seeds", type=click.IntRange(min=2), default=10, show_default=True, help="Replays of each.")
@click.option("--budget", type=click.IntRange(min=1), default=60, show_default=True, help="Full trials of one replay.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at the same time.")
@click.option("--minimise", multiple=True, metavar="COLUMN", help="An objective of a file; smaller is better.")
@click.option("--maximise", multiple=True, metavar="COLUMN", help="An objective of a file; larger is better.")
@click.option("--known", multiple=True, metavar="COLUMN", help="An objective of a file that is known before training.")
@click.option("--to", type=click.Path(path_type=Path), metavar="PNG", help="Draw the curves into this file.")
@exits
def replay_command(
    results: str,
    home: str | None,
    samplers: tuple[str, ...],
    seeds: int,
    budget: int,
    workers: int,
    minimise: tuple[str, ...],
    maximise: tuple[str, ...],
    known: tuple[str, ...],
    to: Path | None,
) -> int:
    """Compare samplers by re-running them over results: RESULTS is a finished sweep, or a .parquet or .csv table."""
    from paretta.orchestrator.offline.compare import compare, comparison_text, plot
    from paretta.orchestrator.offline.results_table import KNOWN_METERS, results_of_file, results_of_sweep

    if results.endswith((".parquet", ".csv")):
        found = results_of_file(Path(results), known=known, minimise=minimise, maximise=maximise)
    else:
        found = results_of_sweep(home_at(home).find(results), KNOWN_METERS)
    curves = compare(found, samplers or ("random", "tpe", "grey_box"), num_seeds=seeds, budget=budget, workers=workers)
    click.echo(comparison_text(found, curves))
    if to is not None:
        plot(found, curves, to)
        click.echo(f"curves: {to}")
    return DONE
