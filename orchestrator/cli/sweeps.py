"""Verbs on sweeps: launch, extend, check, submit, stop, status."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paretta.orchestrator.cli.completion import launchable, names, sweep_names
from paretta.orchestrator.cli.shared import (
    DONE,
    FAILED,
    at_home,
    exits,
    home_at,
    home_option,
    json_option,
    storage_option,
    store_option,
    tell,
    tip,
    watching,
)
from paretta.search_spaces.errors import Problem, WrongInput

if TYPE_CHECKING:
    from paretta.orchestrator.storage.sweep_files import SweepFiles


@click.command()
@click.argument("sweep", shell_complete=launchable)
@home_option
@click.option("--name", help="What to call this sweep.  [default: the file's name, numbered if it is taken]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster, or auto.  [default: a cluster of its own]")
@storage_option
@store_option
@click.option("--trials", type=int, help="Number of trials instead of the file's.")
@click.option("--seed", type=int, help="Seed instead of the file's.")
@click.option("--sampler", help="Sampler instead of the file's.", shell_complete=names("samplers"))
@click.option("--stopper", help="Stopper instead of the file's.", shell_complete=names("stoppers"))
@click.option("--confirm", type=int, metavar="N", help="Train the front again with N fresh seeds.")
@click.option("--resume", "again", is_flag=True, help="Go on with SWEEP: name, folder or URI of one that was stopped.")
@click.option("--changed-code", is_flag=True, help="With --resume: the task's code changed, but no number does.")
@exits
def launch_command(
    sweep: str,
    *,
    again: bool,
    changed_code: bool,
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
    from paretta.orchestrator.sweeps.launcher import launch as run_sweep
    from paretta.orchestrator.sweeps.launcher import resume
    from paretta.orchestrator.sweeps.result import print_result

    if again:
        _refuse_with_resume(
            name=name, storage=storage, trials=trials, seed=seed, sampler=sampler, stopper=stopper, confirm=confirm
        )
        front = resume(sweep, home=home, address=address, tracking_uri=tracking_uri, changed_code=changed_code)
    elif changed_code:
        raise WrongInput(Problem("--changed-code", "only a resumed sweep has code of before", hint="leave it out"))
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


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@click.option("--trials", type=int, required=True, help="How many trials to add.")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster, or auto.  [default: a cluster of its own]")
@store_option
@click.option("--changed-code", is_flag=True, help="The task's code changed, but no number does.")
@exits
def extend_command(
    sweep: str, *, home: str | None, trials: int, address: str | None, tracking_uri: str | None, changed_code: bool
) -> int:
    """Add trials to a sweep that ended: the search goes on from all its results.

    The times of the front are then read again side by side, and the test split is read for its new members.
    """
    from paretta.orchestrator.sweeps.launcher import extend
    from paretta.orchestrator.sweeps.result import print_result

    front = extend(sweep, trials, home=home, address=address, tracking_uri=tracking_uri, changed_code=changed_code)
    print_result(front)
    return FAILED if any(trial.status == "failed" for trial in front.trials) else DONE


@click.command()
@click.argument("sweep", shell_complete=launchable)
@home_option
@exits
def check_command(sweep: str, home: str | None) -> int:
    """Find what is wrong with a sweep before it runs: its settings, its data, one step of all that it will do."""
    from paretta.orchestrator.config.check import check as check_sweep
    from paretta.orchestrator.config.check import check_report
    from paretta.orchestrator.config.outlook import look_ahead
    from paretta.orchestrator.config.sweep import Sweep
    from paretta.orchestrator.sweeps.earlier import earlier_sweeps, require_earlier
    from paretta.orchestrator.sweeps.learning import require_experience

    read = Sweep.read(sweep)
    require_earlier(read, home_at(home))
    checked = check_sweep(read, tell=tell)
    earlier_sweeps(read, checked, home_at(home))
    require_experience(read, checked, home_at(home))
    outlook = look_ahead(read, checked, tell=tell)
    click.echo(check_report(read, checked))
    click.echo(outlook)
    tip(f"paretta launch {shlex.quote(sweep)}")
    return DONE


@click.command()
@click.argument("sweep", shell_complete=launchable)
@click.option("--address", metavar="URL", required=True, help="The cluster's Jobs API, such as http://10.0.0.5:8265.")
@click.option("--home", metavar="DIR", required=True, help="Folder of the sweeps there, which every node sees.")
@click.option("--name", help="What to call this sweep.  [default: the file's name, numbered if a job has it]")
@click.option("--requirements", type=click.Path(path_type=Path), metavar="FILE", help="Packages to install there.")
@storage_option
@click.option("--tracking-uri", metavar="URI", help="MLflow store that the cluster reaches.")
@click.option("--resume", "again", is_flag=True, help="Go on with the sweep of this name in the home folder.")
@click.option("--detach", is_flag=True, help="Do not follow the log.")
@exits
def submit_command(
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
    from paretta.orchestrator.cluster.jobs import submit_sweep

    sent = submit_sweep(
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


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@click.option("--address", metavar="URL", help="Jobs API of the cluster that it was submitted to.")
@click.option("--now", is_flag=True, help="Do not wait for what runs; it is begun again when the sweep is resumed.")
@exits
def stop_command(sweep: str, home: str | None, address: str | None, now: bool) -> int:
    """Stop a running sweep: what runs comes to its end, and the sweep can be resumed."""
    if address:
        from paretta.orchestrator.cluster.jobs import stop_job

        if now:
            raise WrongInput(
                Problem("--now", "a submitted sweep is stopped gently", hint="leave --now or --address out")
            )
        running = stop_job(sweep, address=address)
        click.echo(f"{sweep}: {'what runs comes to its end first' if running else 'had ended'}")
    else:
        from paretta.orchestrator.storage.driver_file import stop_driver

        stop_driver(home_at(home).find(sweep), now=now)
        click.echo(f"{sweep}: {'stops now' if now else 'what runs comes to its end first'}")
        tip(f"paretta launch --resume {shlex.quote(sweep)}{at_home(home)}")
    return DONE


@click.command()
@click.argument("sweep", shell_complete=sweep_names)
@home_option
@json_option
@click.option("--address", metavar="URL", help="Jobs API of the cluster that it was submitted to.")
@click.option("--follow", is_flag=True, help="Show it as it goes on, until it ends; Ctrl-C ends the showing alone.")
@exits
def status_command(sweep: str, *, home: str | None, as_json: bool, address: str | None, follow: bool) -> int:
    """Say how far a sweep is: trials by state, failures with their reasons, hypervolume.

    SWEEP is a name, a folder, or a URI such as s3://bucket/NAME.
    """
    if address and follow:
        return _follow(sweep, address)
    if address:
        from paretta.orchestrator.cluster.jobs import job_lines

        click.echo("\n".join(job_lines(sweep, address=address)))
        return DONE
    from paretta.orchestrator.monitor.status import status_document, status_lines
    from paretta.orchestrator.storage.mirror import found

    files = found(home_at(home), sweep)
    if follow:
        _follow_here(files)
    document = status_document(files)
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(status_lines(document)))
    usual = {"running": "status --follow", "stopped": "launch --resume", "failed": "launch --resume"}
    tip(f"paretta {usual.get(str(document['status']), 'front')} {shlex.quote(sweep)}{at_home(home)}")
    return DONE


def _follow_here(files: "SweepFiles") -> None:
    from paretta.orchestrator.monitor.follow import follow_sweep

    with watching(files, "--follow"):
        follow_sweep(files.root)


def _follow(sweep: str, address: str) -> int:
    from paretta.orchestrator.cluster.jobs import follow_job, submission_of

    try:
        good = follow_job(
            submission_of(sweep, address=address), address=address, tell=lambda t: click.echo(t, nl=False)
        )
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
        raise WrongInput(Problem(", ".join(given), rule, hint="leave it out, or launch a new sweep"))
