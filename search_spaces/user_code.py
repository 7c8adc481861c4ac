"""Loading of user code that a file names: `package.module:Thing`, or `./file.py:Thing` beside the sweep file."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Final, TextIO

from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming

_PREFIX: Final = "paretta_file_"
_START: Final = [Path()]


def look_in(folder: Path) -> None:
    """Resolve ``./file.py:Thing`` relative to `folder` from now on, and make the modules in it importable.

    Like the import path, this applies to the whole process: names travel between processes as text, so every process
    calls this before it parses a sweep, a plan or a task. The folder is appended to the import path, so that its
    modules shadow nothing that is installed.
    """
    _START[0] = folder
    _let_import_from(folder.resolve())


def load_object(reference: str, where: str) -> object:
    """Return the object that ``module:attribute`` or ``./file.py:attribute`` names.

    Raises:
        WrongInput: the file, the module or the attribute is missing, or importing it fails; placed at `where`.
    """
    place, _, attribute = reference.rpartition(":")
    module = _file_module(place, where) if place.endswith(".py") else _named_module(place, where)
    try:
        return getattr(module, attribute)
    except AttributeError:
        near = get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], n=1)
        nearest = f"; did you mean {near[0]!r}?" if near else ""
        hint = "correct the name after the colon"
        raise WrongInput(Problem(where, f"{place} has no {attribute!r}{nearest}", hint=hint)) from None


def loaded_module(reference: str) -> ModuleType | None:
    """Return the module that a reference names; None if the text is not a reference or the module is not loaded."""
    place, separator, _ = reference.rpartition(":")
    if not (separator and place):
        return None
    if not place.endswith(".py"):
        return sys.modules.get(place)
    path = (_START[0] / place).resolve()
    return sys.modules.get(_module_name(path)) if path.is_file() else None


def names_code(document: object) -> bool:
    """Return whether any text in a document may name code, as ``module:Thing`` does.

    >>> names_code({"stages": [{"kind": "./mine.py:Mine"}]}), names_code({"stages": [{"kind": "train"}]})
    (True, False)
    """
    if isinstance(document, str):
        return ":" in document
    if isinstance(document, Mapping):
        return any(names_code(value) for value in document.values())
    return isinstance(document, Sequence) and any(map(names_code, document))


@contextmanager
def streams_kept() -> Iterator[None]:
    """Leave the standard output and error as they were before the block, though the user's code may close them."""
    kept = {"stdout": sys.stdout, "stderr": sys.stderr}
    try:
        yield
    finally:
        for fd, (name, stream) in enumerate(kept.items(), start=1):
            gone = stream is not None and stream.closed
            setattr(sys, name, _opened(fd, stream) if gone else stream)


def _opened(fd: int, like: TextIO) -> TextIO:
    return open(fd, "w", encoding=like.encoding, errors=like.errors, closefd=False)


def reference_to(thing: type) -> str:
    """Return a reference with which another process on this machine can load a class, wherever it is defined.

    >>> from collections import OrderedDict
    >>> reference_to(OrderedDict)
    'collections:OrderedDict'
    """
    module = sys.modules[thing.__module__]
    home = module.__file__ if module.__name__.startswith(_PREFIX) else module.__name__
    return f"{home}:{thing.__qualname__}"


def _file_module(place: str, where: str) -> ModuleType:
    """Import a file by its path; it is imported again only if its content has changed."""
    path = (_START[0] / place).resolve()
    if not path.is_file():
        hint = "give the path relative to the sweep file's folder"
        raise WrongInput(Problem(where, "the file must exist", str(path), hint))
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _let_import_from(path.parent)
    # registered before it runs, as the import system does, because dataclasses and pickle look up their module by name
    sys.modules[name] = module
    try:
        with blaming(where, "importing it"):
            spec.loader.exec_module(module)
    except WrongInput:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    return _PREFIX + sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()[:12]


def _named_module(place: str, where: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        hint = "write package.module:Thing or ./file.py:Thing"
        raise WrongInput(Problem(where, "must name a module, or a file that ends in .py", place, hint))
    try:
        with blaming(where, "importing it"):
            return importlib.import_module(place)
    except WrongInput as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is None or not f"{place}.".startswith(f"{missing}."):
            raise
        rule = f"No module named {missing!r}: it is not installed, and not in {_START[0].resolve()}"
        raise WrongInput(Problem(where, rule, hint="install it or correct the name")) from None


def _let_import_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
