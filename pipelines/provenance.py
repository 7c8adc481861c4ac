"""Which code a task's numbers come from, as one digest."""

import sys
import sysconfig
from collections.abc import Iterator
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from pipelines.task import Task

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


def _files(task: Task) -> set[Path]:
    parts: list[object] = [task.model, task.loss, task.train, *task.metrics.values()]
    parts += [metric.score for metric in task.metrics.values()]
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
    ours = Path(__file__).parent
    return None if ours in file.parents or any(library in file.parents for library in _LIBRARIES) else file


@cache
def _own_digest() -> str:
    """Return the digest of this package: a stage that works otherwise makes another baseline."""
    return sha256("".join(_file_digest(file) for file in _ours()).encode()).hexdigest()


def _ours() -> Iterator[Path]:
    yield from sorted(Path(__file__).parent.rglob("*.py"))


def _file_digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()
