"""Digests of the code and files that a result depends on."""

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from hashlib import file_digest, sha256
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from paretta.pipelines.task import Task
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.registry import IMPORTANCES, QUANTIZERS, SENSITIVITIES, STAGES, TWEAKS
from paretta.search_spaces.user_code import loaded_module

_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
_INSTALLED = {"site-packages", "dist-packages"}  # of the user, of the system, or of another environment on the path


def code_digest(task: Task) -> str:
    """Return the SHA-256 (hex) of the task's source files, our source files and torch's version.

    The files of a task's part are its own and every imported one below its folder, which includes helper modules. Code
    of installed libraries is left out. Files that the code reads at run time are not covered.
    """
    total = sha256(version("torch").encode())
    for digest in sorted({_own_digest(), *(_file_digest(file) for file in _loaded_below(_folders(task)))}):
        total.update(digest.encode())
    return total.hexdigest()


def code_files(task: Task) -> dict[str, str]:
    """Return the SHA-256 (hex) of each of the task's own source files, by its path below the folder of a part.

    Code of installed libraries, including ours, is left out.
    """
    folders, found = _folders(task), dict[str, list[str]]()
    for file in sorted(_loaded_below(_folders(task))):
        names = [file.relative_to(folder).as_posix() for folder in folders if folder in file.parents]
        found.setdefault(min(names, key=len), []).append(_file_digest(file))
    return {name: "".join(digests) for name, digests in found.items()}


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of files whose digest has changed: of the files in both, or all files if none is in both.

    Files loaded in only one of two processes are left out: either the file that loads them has changed as well, or the
    difference does not matter.

    >>> changed_files({"task.py": "a", "other.py": "b"}, {"task.py": "c", "other.py": "b", "new.py": "d"})
    ['task.py']
    """
    both = before.keys() & now.keys()
    if not both and before and now:
        return sorted({*before, *now})
    return sorted(name for name in both if before[name] != now[name])


def named_digest(document: Json) -> str:
    """Return the SHA-256 (hex) of the files and the foreign code that a stage's settings name.

    Code named as ``package.module:Thing``, or by an entry point, counts with its whole package; a file named as
    ``./file.py:Thing`` counts with every imported one below its folder.
    """
    total = sha256()
    for name in sorted(set(_texts(document))):
        if os.path.isfile(name):
            total.update(_content_digest(name))
        for code in _named_files(name):
            total.update(_content_digest(code))
    return total.hexdigest()


def _texts(document: Json) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield key
            yield from _texts(value)
    elif isinstance(document, Sequence):
        for value in document:
            yield from _texts(value)


def _named_files(name: str) -> list[Path]:
    """Return the source files that a name of code refers to; none for our own code or other text."""
    registries = (STAGES, TWEAKS, IMPORTANCES, QUANTIZERS, SENSITIVITIES)
    reference = next((found for known in registries if (found := known.reference(name)) != name), name)
    module = loaded_module(reference)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return []
    if reference.rpartition(":")[0].endswith(".py"):
        return sorted({Path(file), *_loaded_below({Path(file).parent})})
    top = sys.modules.get(module.__name__.partition(".")[0])
    folders = [Path(folder) for folder in getattr(top, "__path__", [])]
    return sorted({Path(file), *(code for folder in folders for code in folder.rglob("*.py"))})


def _content_digest(file: str | Path) -> bytes:
    with open(file, "rb") as content:
        return file_digest(content, "sha256").digest()


def _folders(task: Task) -> set[Path]:
    parts: list[object] = [task.model, task.loss, task.train, task.validation, task.source]
    parts += [*task.metrics.values(), *task.variants.values()]
    parts += [metric.score for metric in task.metrics.values()]
    parts += [task.stream.dataset] if task.stream is not None else []
    return {file.parent for part in parts if (file := _source(_module(part))) is not None}


def _loaded_below(folders: set[Path]) -> set[Path]:
    """Return the source files of all imported modules below `folders`, except those of libraries."""
    loaded = {file for module in list(sys.modules.values()) if (file := _source(module)) is not None}
    return {file for file in loaded if any(folder in file.parents for folder in folders)}


def _module(part: object) -> ModuleType | None:
    while isinstance(part, partial):
        part = part.func
    name = getattr(part, "__module__", None) or type(part).__module__
    return sys.modules.get(name)


def _source(module: ModuleType | None) -> Path | None:
    """Return the module's source file; None if it has none or belongs to a library."""
    name = getattr(module, "__file__", None) or ""
    if not (name.endswith(".py") and os.path.isabs(name)) or _is_library(os.path.dirname(name)):
        return None
    if not os.path.isfile(name):  # torch has modules without a real file
        return None
    file = Path(name).resolve()
    return None if _is_library(str(file.parent)) else file


@cache
def _is_library(folder: str) -> bool:
    """Return whether modules in `folder` are a library's, or ours; a process has thousands in some hundred folders."""
    real = Path(folder).resolve() / "module.py"
    ours = Path(__file__).resolve().parents[1]
    return not _INSTALLED.isdisjoint(real.parts) or any(known in real.parents for known in (*_LIBRARIES, ours))


@cache
def _own_digest() -> str:
    """Return the digest of this package, since a changed stage gives a different result."""
    return sha256("".join(_file_digest(file) for file in _ours()).encode()).hexdigest()


def _ours() -> Iterator[Path]:
    yield from sorted(Path(__file__).resolve().parents[1].rglob("*.py"))


def _file_digest(file: Path) -> str:
    return _content_digest(file).hex()
