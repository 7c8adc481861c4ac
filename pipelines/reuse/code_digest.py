"""Which code and which files a result comes from, as digests."""

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from hashlib import file_digest, sha256
from importlib.metadata import entry_points, version
from pathlib import Path
from types import ModuleType

from paretta.pipelines.task import Task
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.registry import IMPORTANCES, QUANTIZERS, SENSITIVITIES, STAGES, TWEAKS

_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))


def code_digest(task: Task) -> str:
    """Return the SHA-256 (hex) of all source files that the task's parts come from, ours, and torch's version.

    A part's files are its own and every imported one below its folder, so that a helper beside it counts. Code of
    installed libraries does not. What code reads from other files while it runs cannot be seen here.
    """
    total = sha256(version("torch").encode())
    for digest in sorted({_own_digest(), *(_file_digest(file) for file in _files(task))}):
        total.update(digest.encode())
    return total.hexdigest()


def named_digest(document: Json) -> str:
    """Return the SHA-256 (hex) of what a stage's settings name: files by path, and code of others' distributions.

    Code that is named as ``package.module:Thing``, or comes from an entry point, counts with its whole package.
    """
    total, names = sha256(), sorted(set(_texts(document)))
    plugged = _entry_points()
    for name in names:
        if os.path.isfile(name):
            total.update(_content_digest(name))
        for code in _package_files(plugged.get(name, name).partition(":")):
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


@cache
def _entry_points() -> Mapping[str, str]:
    registries = (STAGES, TWEAKS, IMPORTANCES, QUANTIZERS, SENSITIVITIES)
    return {point.name: point.value for known in registries for point in entry_points(group=known.group)}


def _package_files(place: tuple[str, str, str]) -> list[Path]:
    """Return the source files of the package that ``module:attribute`` belongs to; none for any other text."""
    home, separator, _ = place
    module = sys.modules.get(home) if separator else None
    if module is None or not getattr(module, "__file__", None):
        return []
    file = Path(str(module.__file__))
    top = sys.modules.get(home.partition(".")[0])
    folders = [Path(folder) for folder in getattr(top, "__path__", [])]
    return sorted({file, *(code for folder in folders for code in folder.rglob("*.py"))})


def _content_digest(file: str | Path) -> bytes:
    with open(file, "rb") as content:
        return file_digest(content, "sha256").digest()


def _files(task: Task) -> set[Path]:
    parts: list[object] = [task.model, task.loss, task.train, task.validation, task.source]
    parts += [*task.metrics.values(), *task.variants.values()]
    parts += [metric.score for metric in task.metrics.values()]
    parts += [task.stream.dataset] if task.stream is not None else []
    folders = {file.parent for part in parts if (file := _source(_module(part))) is not None}
    loaded = {file for module in list(sys.modules.values()) if (file := _source(module)) is not None}
    return {file for file in loaded if any(folder in file.parents for folder in folders)}


def _module(part: object) -> ModuleType | None:
    while isinstance(part, partial):
        part = part.func
    name = getattr(part, "__module__", None) or type(part).__module__
    return sys.modules.get(name)


def _source(module: ModuleType | None) -> Path | None:
    """Return the module's source file; None where it has none, or where it belongs to a library."""
    file = Path(getattr(module, "__file__", None) or "")
    if not (file.suffix == ".py" and file.is_absolute() and file.is_file()):  # torch has modules with made-up names
        return None
    file = file.resolve()
    ours = Path(__file__).resolve().parents[1]
    return None if ours in file.parents or any(library in file.parents for library in _LIBRARIES) else file


@cache
def _own_digest() -> str:
    """Return the digest of this package: a stage that works otherwise makes another baseline."""
    return sha256("".join(_file_digest(file) for file in _ours()).encode()).hexdigest()


def _ours() -> Iterator[Path]:
    yield from sorted(Path(__file__).resolve().parents[1].rglob("*.py"))


def _file_digest(file: Path) -> str:
    return _content_digest(file).hex()
