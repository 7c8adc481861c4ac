"""The command line: each verb reads its arguments, calls one function, and prints what it returns."""

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from orchestrator.home import HOME_VARIABLE, Home
from search_spaces.errors import ParettaError, Problem, WrongInput, did_you_mean

P = ParamSpec("P")

DONE, FAILED, WRONG_INPUT, STOPPED = 0, 1, 2, 130
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

_home = click.option("--home", metavar="DIR", help=f"Folder of the sweeps.  [default: ${HOME_VARIABLE} or ./sweeps]")
_store = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="PARETTA_TRACKING_URI",
    help="MLflow store.  [default: $PARETTA_TRACKING_URI or SQLite in the home folder]",
)
_storage = click.option(
    "--storage", metavar="URI", help="Where files go between nodes that share no disk, such as s3://bucket/sweeps."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON with a versioned schema.")


def _exits(body: Callable[P, int]) -> Callable[P, None]:
    """Turn a verb's result and our own errors into the exit code, errors into one message each, without traceback."""

    @wraps(body)
    def verb(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = body(*args, **kwargs)
        except WrongInput as error:
            click.echo(f"error: {error}", err=True)
            code = WRONG_INPUT
        except ParettaError as error:
            from orchestrator.stopping import SweepStopped

            stopped = isinstance(error, SweepStopped)
            click.echo(str(error) if stopped else f"error: {error}", err=True)
            code = STOPPED if stopped else FAILED
        sys.exit(code)

    return verb


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="paretta")
def main() -> None:
    """Search for smaller, faster versions of a trained model, and pull the best ones.

    Exit codes: 0 done; 1 the sweep ran but something failed; 2 wrong input, nothing was computed or written;
    130 stopped by a signal, to be resumed.
    """


@main.command()
@click.argument("sweep")
@_home
@click.option("--name", help="What to call this sweep.  [default: the file's name, numbered if it is taken]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster, or auto.  [default: a cluster of its own]")
@_storage
@_store
@click.option("--trials", type=int, help="Number of trials instead of the file's.")
@click.option("--seed", type=int, help="Seed instead of the file's.")
@click.option("--sampler", help="Sampler instead of the file's.")
@click.option("--stopper", help="Stopper instead of the file's.")
@click.option("--confirm", type=int, metavar="N", help="Train the front again with N fresh seeds.")
@click.option("--resume", "again", is_flag=True, help="Go on with SWEEP: name, folder or URI of one that was stopped.")
@_exits
def launch(
    sweep: str,
    *,
    again: bool,
    home: str | None,
    name: str | None,
    address: str | None,
    storage: str | None,
    tracking_uri: str | None,
    trials: int | None,
    seed: int | None,
    sampler: str | None,
    stopper: str | None,
    confirm: int | None,
) -> int:
    """Run a sweep: SWEEP is a preset's name or a YAML file.

    Ctrl-C or SIGTERM lets what runs come to its end, a second one stops at once; --resume goes on after either.
    """
    from orchestrator.launcher import launch as run_sweep
    from orchestrator.launcher import resume
    from orchestrator.result import print_result

    if again:
        _refuse_with_resume(
            name=name, storage=storage, trials=trials, seed=seed, sampler=sampler, stopper=stopper, confirm=confirm
        )
        front = resume(sweep, home=home, address=address, tracking_uri=tracking_uri)
    else:
        front = run_sweep(
            sweep,
            home=home,
            name=name,
            address=address,
            storage=storage,
            tracking_uri=tracking_uri,
            trials=trials,
            seed=seed,
            sampler=sampler,
            stopper=stopper,
            confirm=confirm,
        )
    print_result(front)
    return FAILED if any(trial.status == "failed" for trial in front.trials) else DONE


@main.command()
@click.argument("sweep")
@_exits
def check(sweep: str) -> int:
    """Find what is wrong with a sweep before any compute: every branch of the space, one batch through the task."""
    from orchestrator.check import check as check_sweep
    from orchestrator.check import report
    from orchestrator.foresee import look_ahead
    from orchestrator.sweep import Sweep

    read = Sweep.read(sweep)
    checked = check_sweep(read)
    outlook = look_ahead(read, checked)
    click.echo(report(read, checked))
    click.echo(outlook)
    return DONE


@main.command()
@click.argument("sweep")
@_home
@_json
@_exits
def front(sweep: str, home: str | None, as_json: bool) -> int:
    """Print the front of a sweep, running or finished: SWEEP is a name, a folder, or a URI such as s3://bucket/NAME."""
    from dashboards.journal import SweepRecord
    from orchestrator.mirror import found

    points = SweepRecord.read(found(Home.at(home), sweep).root).front()
    if as_json:
        from dashboards.table import front_document

        click.echo(json.dumps(front_document(points), indent=2))
    else:
        from orchestrator.progress import print_front

        print_front(points)
    return DONE


@main.command()
@click.argument("sweep")
@click.option("--address", metavar="URL", required=True, help="The cluster's Jobs API, such as http://10.0.0.5:8265.")
@click.option("--home", metavar="DIR", required=True, help="Folder of the sweeps there, which every node sees.")
@click.option("--name", help="What to call this sweep.  [default: the file's name, numbered if a job has it]")
@click.option("--requirements", type=click.Path(path_type=Path), metavar="FILE", help="Packages to install there.")
@_storage
@click.option("--tracking-uri", metavar="URI", help="MLflow store that the cluster reaches.")
@click.option("--resume", "again", is_flag=True, help="Go on with the sweep of this name in the home folder.")
@click.option("--detach", is_flag=True, help="Do not follow the log.")
@_exits
def submit(
    sweep: str,
    *,
    address: str,
    home: str,
    name: str | None,
    requirements: Path | None,
    storage: str | None,
    tracking_uri: str | None,
    again: bool,
    detach: bool,
) -> int:
    """Send a sweep to a Ray cluster as a job, and follow its log; Ctrl-C detaches, the sweep goes on."""
    from orchestrator.submit import submit as send

    sent = send(
        sweep,
        address=address,
        home=home,
        name=name,
        requirements=requirements,
        storage=storage,
        tracking_uri=tracking_uri,
        resume=again,
    )
    click.echo(f"{sent.name}: submitted to {address} as {sent.job}", err=True)
    return DONE if detach else _follow(sent.name, address)


@main.command()
@click.argument("sweep")
@_home
@click.option("--address", metavar="URL", help="Jobs API of the cluster that it was submitted to.")
@click.option("--now", is_flag=True, help="Do not wait for what runs; it is begun again when the sweep is resumed.")
@_exits
def stop(sweep: str, home: str | None, address: str | None, now: bool) -> int:
    """Stop a running sweep: what runs comes to its end, and the sweep can be resumed."""
    if address:
        from orchestrator.submit import stop_job

        if now:
            raise WrongInput(
                Problem("--now", "a submitted sweep is stopped gently", mend="leave --now or --address out")
            )
        running = stop_job(sweep, address=address)
        click.echo(f"{sweep}: {'what runs comes to its end first' if running else 'had ended'}")
    else:
        from orchestrator.stopping import stop as stop_process

        stop_process(Home.at(home).find(sweep), now=now)
        click.echo(f"{sweep}: {'stops now' if now else 'what runs comes to its end first'}")
    return DONE


@main.command()
@click.argument("sweep")
@_home
@_json
@click.option("--address", metavar="URL", help="Jobs API of the cluster that it was submitted to.")
@click.option("--follow", is_flag=True, help="Follow the log of a submitted sweep; Ctrl-C ends that.")
@_exits
def status(sweep: str, *, home: str | None, as_json: bool, address: str | None, follow: bool) -> int:
    """Say how far a sweep is: trials by state, failures with their reasons, hypervolume.

    SWEEP is a name, a folder, or a URI such as s3://bucket/NAME.
    """
    if address and follow:
        return _follow(sweep, address)
    if address:
        from orchestrator.submit import job_lines

        click.echo("\n".join(job_lines(sweep, address=address)))
        return DONE
    from orchestrator.mirror import found
    from orchestrator.status import status_document, status_lines

    document = status_document(found(Home.at(home), sweep))
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(status_lines(document)))
    return DONE


@main.command()
@_home
@_store
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Any but loopback takes a token; MLflow stays on loopback."
)
@click.option("--port", type=int, default=5000, show_default=True, help="Of the live pages; 0 finds a free one.")
@_exits
def board(home: str | None, tracking_uri: str | None, host: str, port: int) -> int:
    """Serve live pages of the sweeps, and the MLflow UI over their store beside them; Ctrl-C ends both."""
    from dashboards.board import serve_board

    place = Home.at(home)
    serve_board(place.path, tracking_uri or place.tracking_uri(), host=host, port=port)
    return DONE


@main.command()
@click.argument("sweep")
@_home
@_store
@click.option("--prefer", default="knee", show_default=True, help="An objective's name, or knee.")
@click.option("--at-least", multiple=True, metavar="METER=VALUE", help="Lower limit, such as accuracy=97%.")
@click.option("--at-most", multiple=True, metavar="METER=VALUE", help="Upper limit, such as size=50kB or latency=2ms.")
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder for the artifact."
)
@_exits
def pull(
    sweep: str,
    home: str | None,
    tracking_uri: str | None,
    prefer: str,
    at_least: tuple[str, ...],
    at_most: tuple[str, ...],
    to: Path,
) -> int:
    """Fetch the artifact of the front that meets the limits and is best by the preference, verified and run once.

    SWEEP is a name, a folder, or a URI such as s3://bucket/NAME. It may name a role, such as digits@smallest, or be a
    model of MLflow's registry, such as models:/digits@knee.
    """
    from orchestrator.pull import pull as pull_from_home
    from orchestrator.pull import pull_from_store, pull_registered
    from search_spaces.wish import Wish

    if sweep.startswith("models:"):
        if prefer != "knee" or at_least or at_most:
            raise WrongInput(Problem(sweep, "a registered model takes no preference and no limits"))
        artifact = pull_registered(tracking_uri or Home.at(home).tracking_uri(), sweep, to)
        for meter, reading in artifact.readings.items():
            click.echo(f"{meter}: {reading}")
        click.echo(f"{sweep} is in {to}")
        return DONE
    wish = Wish(prefer, _limits("--at-least", at_least), _limits("--at-most", at_most))
    if tracking_uri:
        pulled = pull_from_store(tracking_uri, sweep, wish, to)
    else:
        pulled = pull_from_home(Home.at(home), sweep, wish, to)
    trial = pulled.trial
    for meter, reading in trial.readings.items():
        click.echo(f"{meter}: {reading}")
    if pulled.note:
        click.echo(pulled.note)
    click.echo(f"{trial.uid} is in {to}: {trial.words or 'the uncompressed model'}")
    return DONE


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--port", type=int, default=8080, show_default=True)
@_exits
def serve(folder: Path, port: int) -> int:
    """Answer /invocations with a pulled model, on this machine's loopback address; Ctrl-C ends it."""
    from orchestrator.serve import serve as serve_folder

    serve_folder(folder, port=port)
    return DONE


@main.command()
@click.argument("sweep")
@_home
@_store
@_exits
def publish(sweep: str, home: str | None, tracking_uri: str | None) -> int:
    """Bring MLflow to what the sweep's journal says: writes what is missing, changes nothing that is there."""
    from dashboards.publisher import publish as publish_sweep

    place = Home.at(home)
    standing = publish_sweep(place.find(sweep), tracking_uri or place.tracking_uri())
    click.echo(str(standing))
    return FAILED if standing.behind or standing.refused else DONE


@main.command()
@click.argument("sweep")
@_home
@click.option("--json", type=click.Path(path_type=Path), metavar="FILE", help="The front, with a versioned schema.")
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="All trials.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="All trials.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="The front, as .png or .svg.")
@click.option("--optuna", type=click.Path(path_type=Path), metavar="FILE", help="A study for optuna-dashboard, SQLite.")
@_exits
def export(
    sweep: str,
    *,
    home: str | None,
    json: Path | None,
    csv: Path | None,
    parquet: Path | None,
    picture: Path | None,
    optuna: Path | None,
) -> int:
    """Write a sweep, running or finished, to files that other tools read."""
    from orchestrator.export import export as export_sweep

    given = {"json": json, "csv": csv, "parquet": parquet, "picture": picture, "optuna": optuna}
    wanted = {kind: path for kind, path in given.items() if path is not None}
    for path in export_sweep(Home.at(home).find(sweep), wanted):
        click.echo(path)
    return DONE


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--task", metavar="USE", help="Its task here, such as ./mytask.py:make.  [default: a registered one it names]"
)
@_exits
def verify(folder: Path, task: str | None) -> int:
    """Look again at an artifact in a process without paretta's code: files, size, and accuracy with its task."""
    from orchestrator.verify import verify as verify_artifact

    findings = verify_artifact(folder, task=task)
    for finding in findings:
        click.echo(str(finding))
    return FAILED if any(finding.outcome == "mismatch" for finding in findings) else DONE


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="FILE", help="New file, such as best.prt."
)
@_exits
def pack(model: Path, to: Path) -> int:
    """Write a model in its fewest bytes, to store or send: MODEL is a pulled folder or an ONNX file."""
    from orchestrator.coded import pack as pack_model
    from search_spaces.quantities import format_quantity

    coded, size = pack_model(model, to)
    parts = ", ".join(f"{part} {round(number)} B" for part, number in coded.parts.items())
    packed = len(coded.content)
    click.echo(f"{to}: {format_quantity(packed, 'B')} of {format_quantity(size, 'B')} ({parts})")
    return DONE


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder for the model.onnx."
)
@_exits
def unpack(file: Path, to: Path) -> int:
    """Give back, bit for bit, the model.onnx that was packed into FILE."""
    from orchestrator.coded import unpack as unpack_model

    click.echo(f"{unpack_model(file, to)}: as it was packed, by its SHA-256")
    return DONE


@main.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder for the artifact."
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Ray cluster, or auto.  [default: one worker runs here, more on a cluster of their own]",
)
@_exits
def run(plan: Path, to: Path, address: str | None) -> int:
    """Run one plan: PLAN is an artifact's plan.yaml. The same seed on one worker gives the same bytes."""
    from orchestrator.rerun import rerun

    click.echo(f"{to}: {rerun(plan, to, address=address)}")
    return DONE


@main.command()
@click.argument("results")
@_home
@click.option("--sampler", "samplers", multiple=True, metavar="NAME[+STOPPER]", help="What to compare; give several.")
@click.option("--seeds", type=click.IntRange(min=2), default=10, show_default=True, help="Replays of each.")
@click.option("--budget", type=click.IntRange(min=1), default=60, show_default=True, help="Full trials of one replay.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at the same time.")
@click.option("--minimise", multiple=True, metavar="COLUMN", help="An objective of a file; smaller is better.")
@click.option("--maximise", multiple=True, metavar="COLUMN", help="An objective of a file; larger is better.")
@click.option("--known", multiple=True, metavar="COLUMN", help="An objective of a file that is known before training.")
@click.option("--to", type=click.Path(path_type=Path), metavar="PNG", help="Draw the curves into this file.")
@_exits
def replay(
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
    from orchestrator.replay import compare, plot, report
    from orchestrator.results_table import KNOWN_METERS, results_of_file, results_of_sweep

    if results.endswith((".parquet", ".csv")):
        found = results_of_file(Path(results), known=known, minimise=minimise, maximise=maximise)
    else:
        found = results_of_sweep(Home.at(home).find(results), KNOWN_METERS)
    curves = compare(found, samplers or ("random", "tpe", "grey_box"), num_seeds=seeds, budget=budget, workers=workers)
    click.echo(report(found, curves))
    if to is not None:
        plot(found, curves, to)
        click.echo(f"curves: {to}")
    return DONE


@main.command(name="list")
@click.argument("noun", metavar="|".join(_NOUNS))
@_exits
def list_names(noun: str) -> int:
    """List what a sweep file may name."""
    from orchestrator.catalogue import entries

    if noun not in _NOUNS:
        raise WrongInput(Problem("list", did_you_mean(noun, _NOUNS, "list")))
    found = entries(noun)
    width = max(map(len, found), default=0)
    for name, story in found.items():
        click.echo(f"{name:{width}}  {story}")
    return DONE


@main.command()
@_exits
def schema() -> int:
    """Print the JSON schema of the sweep file, for editors and checks."""
    from orchestrator.sweep import SweepConfig

    click.echo(json.dumps(SweepConfig.model_json_schema(), indent=2))
    return DONE


def _follow(sweep: str, address: str) -> int:
    from orchestrator.submit import follow, submission_of

    try:
        good = follow(submission_of(sweep, address=address), address=address, tell=lambda t: click.echo(t, nl=False))
    except KeyboardInterrupt:
        asking = f"paretta status {sweep} --address {address}"
        click.echo(
            f"\ndetached; the sweep goes on. ask: {asking}; stop: {asking.replace('status', 'stop', 1)}", err=True
        )
        return DONE
    return DONE if good else FAILED


def _refuse_with_resume(**options: object) -> None:
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        rule = "a resumed sweep is the one that was stopped, with all its settings"
        raise WrongInput(Problem(", ".join(given), rule, mend="leave it out, or launch a new sweep"))


def _limits(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for meter, equals, value in pairs:
        if not (meter and equals and value):
            rule = "a limit is METER=VALUE"
            raise WrongInput(Problem(option, rule, f"{meter}{equals}{value}", "write it like size=50kB"))
    return {meter: value for meter, _, value in pairs}
