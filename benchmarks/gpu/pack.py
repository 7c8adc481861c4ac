"""Pack what the GPU check needs beside torch into one folder, for a machine without network."""

import importlib
import shutil
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Final

# what comes with torch and its own dependencies
_THERE: Final = frozenset(
    [
        "torch",
        "torchgen",
        "functorch",
        "numpy",
        "sympy",
        "mpmath",
        "networkx",
        "jinja2",
        "markupsafe",
        "fsspec",
        "filelock",
        "typing_extensions",
        "triton",
        "setuptools",
        "pip",
        "_distutils_hack",
    ]
)
_ROOMS: Final = ("orchestrator", "pipelines", "dashboards", "search_spaces")


def pack(folder: Path) -> float:
    """Copy this package, the benchmark and the packages that it imports to `folder`; return its size in MB."""
    importlib.import_module("benchmarks.gpu.check").needed()
    root = Path(__file__).resolve().parents[2]
    for room in _ROOMS:
        _copy(root / room, folder / "paretta" / room)
    for file in ("__init__.py", "__main__.py"):
        _copy(root / "src" / "paretta" / file, folder / "paretta" / file)
    _copy(root / "benchmarks" / "gpu", folder / "benchmarks" / "gpu")
    (folder / "benchmarks" / "__init__.py").touch()
    names = {name.partition(".")[0] for name in sys.modules} - _THERE - {"paretta", "benchmarks"}
    owners = packages_distributions()
    for owner in sorted({owner for name in names for owner in owners.get(name, ())}):
        if owner not in ("paretta", "nvidia", *_THERE):
            for file in distribution(owner).files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    _copy(Path(str(file.locate())), folder / file)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
