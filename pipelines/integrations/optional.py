"""Import an optional library, or say how to install it."""

import importlib
from types import ModuleType

from paretta.search_spaces.errors import Problem, WrongInput


def optional(name: str, *, extra: str) -> ModuleType:
    """Return the module `name`, which the extra `extra` of paretta installs. Raises `WrongInput` if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise WrongInput(Problem(name, "is not installed", hint=f"pip install 'paretta[{extra}]'")) from None
