"""Processes that find the standard library, paretta and the packages of deploy/runtime.txt, and nothing else."""

import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RUNTIME_FILE = Path(__file__).parents[2] / "deploy" / "runtime.txt"
LISTED = [Requirement(line) for line in RUNTIME_FILE.read_text().splitlines() if not line.startswith("#")]

# finds neither more nor less than the standard library and what is allowed
HIDING = """
import sys
from importlib.machinery import PathFinder

class Alone(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        standard = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if standard or top in allowed else None

sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [Alone]
"""


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """Return the distributions that an installation of `wanted` brings."""
    found: set[str] = set()
    waiting = [canonicalize_name(requirement.name) for requirement in wanted]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def allowed_packages() -> set[str]:
    """Return the top-level modules of paretta and of what deploy/runtime.txt brings."""
    brought = closure(LISTED)
    homes = packages_distributions()
    return {"paretta", *(top for top, names in homes.items() if brought & {canonicalize_name(name) for name in names})}


def hiding_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which Python, and each process that it starts, finds no other package."""
    code = f"allowed = {sorted(allowed_packages())!r}\n{HIDING}"
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder)}
