"""Verbs on artifacts: pull, serve, verify, pack, unpack, run."""

import shlex
from pathlib import Path

import click

from paretta.orchestrator.cli.completion import sweep_names
from paretta.orchestrator.cli.shared import DONE, FAILED, exits, home_at, home_option, store_option, tip
from paretta.search_spaces.errors import Problem, WrongInput

_artifact_option = click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder for the artifact."
)


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@store_option
@click.option(
    "--prefer", default="knee", show_default=True, help="knee, an objective or its role: size or smallest, ..."
)
@click.option("--at-least", multiple=True, metavar="METER=VALUE", help="Lower limit, such as accuracy=97%.")
@click.option("--at-most", multiple=True, metavar="METER=VALUE", help="Upper limit, such as size=50kB or latency=2ms.")
@_artifact_option
@exits
def pull_command(
    sweep: str,
    home: str | None,
    tracking_uri: str | None,
    prefer: str,
    at_least: tuple[str, ...],
    at_most: tuple[str, ...],
    to: Path,
) -> int:
    """Fetch the artifact of the front that meets the limits and is best by the preference, verified and run once.

    SWEEP is a name, a folder, or a URI such as s3://bucket/NAME. It may name whom to pull: SWEEP@smallest is the same
    as --prefer smallest and --prefer size; SWEEP@UID is any complete trial, on the front or not, or the baseline. Or
    it is a model of MLflow's registry, such as models:/digits@knee.
    """
    from paretta.orchestrator.delivery.pull import pull as pull_from_home
    from paretta.orchestrator.delivery.pull import pull_from_store, pull_registered
    from paretta.search_spaces.objectives.wish import Wish

    if sweep.startswith("models:"):
        if prefer != "knee" or at_least or at_most:
            raise WrongInput(Problem(sweep, "a registered model takes no preference and no limits"))
        artifact = pull_registered(tracking_uri or home_at(home).tracking_uri(), sweep, to)
        for meter, reading in artifact.readings.items():
            click.echo(f"{meter}: {reading}")
        click.echo(f"{sweep} is in {to}")
        _warn(to)
        tip(f"paretta verify {shlex.quote(str(to))}")
        return DONE
    wish = Wish(prefer, _limits("--at-least", at_least), _limits("--at-most", at_most))
    if tracking_uri:
        pulled = pull_from_store(tracking_uri, sweep, wish, to)
    else:
        pulled = pull_from_home(home_at(home), sweep, wish, to)
    trial = pulled.trial
    for meter, reading in trial.readings.items():
        click.echo(f"{meter}: {reading}")
    if pulled.note:
        click.echo(pulled.note)
    click.echo(f"{trial.uid} is in {to}: {trial.words or 'the uncompressed model'}")
    _warn(to)
    tip(f"paretta verify {shlex.quote(str(to))}")
    return DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@exits
def serve_command(folder: Path, port: int) -> int:
    """Answer /invocations with a pulled model, on this machine's loopback address; Ctrl-C ends it."""
    from paretta.orchestrator.delivery.serve import serve as serve_folder

    serve_folder(folder, port=port, tell=lambda warning: click.echo(warning, err=True))
    return DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--task", metavar="USE", help="Its task here, such as ./mytask.py:make.  [default: a registered one it names]"
)
@exits
def verify_command(folder: Path, task: str | None) -> int:
    """Look again at an artifact in a process without paretta's code: files, size, and accuracy with its task."""
    from paretta.orchestrator.delivery.verify import verify_folder

    findings = verify_folder(folder, task=task)
    for finding in findings:
        click.echo(str(finding))
    if any(finding.outcome == "mismatch" for finding in findings):
        return FAILED
    _warn(folder)
    tip(f"paretta serve {shlex.quote(str(folder))}")
    return DONE


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="FILE", help="New file, such as best.prt."
)
@exits
def pack_command(model: Path, to: Path) -> int:
    """Write a model in its fewest bytes, to store or send: MODEL is a pulled folder or an ONNX file."""
    from paretta.orchestrator.delivery.pack import pack as pack_model
    from paretta.search_spaces.quantities import format_quantity

    coded, size = pack_model(model, to)
    parts = ", ".join(f"{part} {round(number)} B" for part, number in coded.parts.items())
    packed = len(coded.content)
    click.echo(f"{to}: {format_quantity(packed, 'B')} of {format_quantity(size, 'B')} ({parts})")
    tip(f"paretta unpack {shlex.quote(str(to))} --to DIR")
    return DONE


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder for the model.onnx."
)
@exits
def unpack_command(file: Path, to: Path) -> int:
    """Give back, bit for bit, the model.onnx that was packed into FILE."""
    from paretta.orchestrator.delivery.pack import unpack as unpack_model

    click.echo(f"{unpack_model(file, to)}: as it was packed, by its SHA-256")
    return DONE


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@_artifact_option
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Ray cluster, or auto.  [default: one worker runs here, more on a cluster of their own]",
)
@exits
def run_command(plan: Path, to: Path, address: str | None) -> int:
    """Run one plan: PLAN is an artifact's plan.yaml. The same seed on one worker gives the same bytes."""
    from paretta.orchestrator.delivery.rerun import rerun

    click.echo(f"{to}: {rerun(plan, to, address=address)}")
    tip(f"paretta verify {shlex.quote(str(to))}")
    return DONE


def _warn(folder: Path) -> None:
    """Tell on standard error if integer kernels of this machine overflow with the model's weights."""
    from paretta.pipelines.artifact import MODEL
    from paretta.pipelines.kernels.saturation import warning_of

    if warning := warning_of(folder / MODEL):
        click.echo(warning, err=True)


def _limits(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for meter, equals, value in pairs:
        if not (meter and equals and value):
            rule = "a limit is METER=VALUE"
            raise WrongInput(Problem(option, rule, f"{meter}{equals}{value}", "write it like size=50kB"))
    return {meter: value for meter, _, value in pairs}
