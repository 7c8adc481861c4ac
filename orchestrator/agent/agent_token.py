"""The secret that a sweep and a device's agent share; it comes from a file or the environment."""

import os
import secrets
from pathlib import Path
from typing import Final

from paretta.search_spaces.errors import Problem, WrongInput

TOKEN_VARIABLE: Final = "PARETTA_AGENT_TOKEN"  # noqa: S105 - the name of the variable
LEAST_LENGTH: Final = 16
_LONGEST: Final = 1024
_OF_OTHERS: Final = 0o077


def read_token(file: Path | None, *, where: str) -> str:
    """Return the token in `file`, or by default in ``PARETTA_AGENT_TOKEN``.

    Args:
        file: a file with the token alone.
        where: the place of the setting that names the file, for messages; no message contains the token.

    Raises:
        WrongInput: there is none, others can read the file, or it is too short or no single printable word.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            hint = f"name its file here, or set {TOKEN_VARIABLE}; `paretta agent --token-file FILE` makes one"
            raise WrongInput(Problem(where, "the agent needs its token", hint=hint))
        return _sound(token, TOKEN_VARIABLE)
    try:
        if file.stat().st_mode & _OF_OTHERS:
            hint = f"make it yours alone: chmod 600 {file}"
            raise WrongInput(
                Problem(where, "other users of this machine can read or change the token", str(file), hint)
            )
        with file.open(encoding="utf-8") as opened:
            token = opened.read(_LONGEST + 1).strip()
    except FileNotFoundError:
        hint = "copy it from the agent's machine"
        raise WrongInput(Problem(where, "there is no such file", str(file), hint)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise WrongInput(Problem(where, f"the token cannot be read: {reason}", str(file))) from None
    return _sound(token, f"{where} {file}")


def make_token(file: Path) -> None:
    """Write a new token to a file that only its user can read. Raises `WrongInput` if it cannot be written."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{secrets.token_urlsafe(32)}\n")
    except OSError as error:
        raise WrongInput(Problem("--token-file", f"the token cannot be written: {error.strerror}", str(file))) from None


def _sound(token: str, where: str) -> str:
    if not (LEAST_LENGTH <= len(token) <= _LONGEST and token.isascii() and token.isprintable() and " " not in token):
        rule = f"a token is one word of {LEAST_LENGTH} to {_LONGEST} printable ASCII characters"
        raise WrongInput(Problem(where, rule, hint="let `paretta agent --token-file FILE` make one"))
    return token
