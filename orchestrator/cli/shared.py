"""What the verbs share: exit codes, options, and errors as one message."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from paretta.dashboards.journal.liveness import HOME_VARIABLE
from paretta.search_spaces.errors import ParettaError, WrongInput

P = ParamSpec("P")

DONE, FAILED, WRONG_INPUT, STOPPED = 0, 1, 2, 130

home_option = click.option(
    "--home", metavar="DIR", help=f"Folder of the sweeps.  [default: ${HOME_VARIABLE} or ./sweeps]"
)
store_option = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="PARETTA_TRACKING_URI",
    help="MLflow store.  [default: $PARETTA_TRACKING_URI or SQLite in the home folder]",
)
storage_option = click.option(
    "--storage", metavar="URI", help="Where files go between nodes that share no disk, such as s3://bucket/sweeps."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON with a versioned schema.")


def exits(body: Callable[P, int]) -> Callable[P, None]:
    """Turn a verb's result and our own errors into the exit code, errors into one message each, without traceback."""

    @wraps(body)
    def verb(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = body(*args, **kwargs)
        except WrongInput as error:
            click.echo(f"error: {error}", err=True)
            code = WRONG_INPUT
        except ParettaError as error:
            from paretta.orchestrator.sweeps.signals import SweepStopped

            stopped = isinstance(error, SweepStopped)
            click.echo(str(error) if stopped else f"error: {error}", err=True)
            code = STOPPED if stopped else FAILED
        sys.exit(code)

    return verb
