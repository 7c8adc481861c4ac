"""Shared by all verbs: exit codes, options, and the conversion of errors into messages."""

import codecs
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TextIO

import click

from paretta.dashboards.journal.home_names import HOME_VARIABLE
from paretta.search_spaces.errors import ParettaError, Problem, TrialFailed, WrongInput, disk_full, os_problem
from paretta.search_spaces.faults import TRACEBACK_VARIABLE

if TYPE_CHECKING:
    from paretta.orchestrator.storage.home import Home
    from paretta.orchestrator.storage.sweep_files import SweepFiles

P = ParamSpec("P")

DONE, FAILED, WRONG_INPUT, STOPPED = 0, 1, 2, 130

_NEAREST: Final = {
    "→": "->",
    "±": "+-",
    "◆": "*",
    "≈": "~",
    "×": "x",
    "–": "-",
    "≤": "<=",
    "≥": ">=",
    "…": "...",
    "·": ".",
}

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


def home_at(path: str | None) -> "Home":
    """Return the home at `path`; what reads sweeps is imported here, since most of a short verb's time is imports."""
    from paretta.orchestrator.storage.home import Home

    return Home.at(path)


def at_home(home: str | None) -> str:
    """Return the option that names `home` again in a suggested command; empty if none was given."""
    return f" --home {shlex.quote(home)}" if home else ""


def tell(step: str) -> None:
    """Print the current step on standard error, if it is a terminal."""
    if sys.stderr.isatty():
        click.echo(f"... {step}", err=True)


def tip(command: str) -> None:
    """Suggest the usual next command on standard error, if it is a terminal."""
    if sys.stderr.isatty():
        click.echo(f"next: {command}", err=True)


@contextmanager
def watching(files: "SweepFiles", option: str) -> Iterator[None]:
    """Make Ctrl-C stop only the watching of a sweep. Raises `WrongInput` if the sweep is in a storage."""
    if files.storage is not None:
        hint = "watch it where it runs, or leave the option out and ask again"
        raise WrongInput(Problem(option, "only a sweep on this disk can be watched", files.storage, hint))
    with suppress(KeyboardInterrupt):
        yield


def exits(body: Callable[P, int]) -> Callable[P, None]:
    """Convert a verb's result and our own errors into the exit code, and print each error as one message.

    The traceback of its cause is printed only if `PARETTA_TRACEBACK` is set.
    """

    @wraps(body)
    def verb(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = body(*args, **kwargs)
        except WrongInput as error:
            _show_cause(error)
            click.echo(f"error: {error}", err=True)
            code = WRONG_INPUT
        except ParettaError as error:
            from paretta.orchestrator.sweeps.signals import SweepStopped

            _show_cause(error)
            stopped = isinstance(error, SweepStopped)
            click.echo(str(error) if stopped else f"error: {error}", err=True)
            code = STOPPED if stopped else FAILED
        except BrokenPipeError:
            code = DONE  # the reader, such as `head -1`, closed the pipe: no error
        except OSError as error:
            click.echo(f"error: {disk_full(error) or os_problem(error)}", err=True)
            code = FAILED
        sys.exit(code)

    return verb


def _show_cause(error: ParettaError) -> None:
    """Print the traceback of an error's cause, if the user asked for it; that of another process is in the detail."""
    cause = error.__cause__
    if os.environ.get(TRACEBACK_VARIABLE) and cause is not None:
        detail = cause.detail if isinstance(cause, TrialFailed) else ""
        click.echo(detail or "".join(traceback.format_exception(cause)), err=True)


class Verbs(click.Group):
    """The verbs of the command line, with output that suits any terminal, file or pipe."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a verb and end the process, or raise `SystemExit` with its exit code."""
        _print_to_any_terminal()
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            # rich and click exit by themselves if a pipe was closed
            code = DONE if isinstance(end.__context__, BrokenPipeError) else end.code
        except OSError as error:  # from the help, which is printed before any verb runs
            code = _cannot_write(error)
        raise SystemExit(_flushed(code))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; Ctrl-C where no sweep runs yet, as in a check, ends with the code shells expect of it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nAborted!", err=True)
            ctx.exit(STOPPED)


def _cannot_write(error: OSError) -> int:
    click.echo(f"error: the output cannot be written: {os_problem(error)}", err=True)
    return FAILED


def _flushed(code: str | int | None) -> str | int | None:
    """Flush the output while errors can still be reported, not at Python's exit, and return the exit code."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # Python sets one to None if the caller has closed it
        try:
            stream.flush()
        except BrokenPipeError:
            _discard(stream)
        except OSError as error:
            _discard(stream)
            code = code or (_cannot_write(error) if stream is sys.stdout else FAILED)
    return code


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, which discards the rest of its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _print_to_any_terminal() -> None:
    """Replace characters that the output cannot encode by similar ones, instead of failing."""
    codecs.register_error("paretta", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="paretta")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = "".join(_NEAREST.get(sign, "?") for sign in error.object[error.start : error.end])
    return text, error.end
