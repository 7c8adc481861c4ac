"""`import paretta` offers what users need without loading much; each public name is defined in one module."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import paretta
from paretta.orchestrator.config.catalogue import REGISTRIES

SOURCE = Path(__file__).parents[1] / "src" / "paretta"
# the folders of extensions, where each file offers `make` or the class of its name, such as `fold_norms.FoldNorms`
EXTENSIONS = {registry.package.rpartition(".")[2] for registry in REGISTRIES.values()}


@pytest.mark.parametrize("name", paretta.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(paretta, name) is not None
    assert name in dir(paretta)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'paretta' has no attribute 'lunch'"):
        _ = paretta.lunch


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, paretta; assert paretta.Float(0.0, 1.0).high == 1.0; "
        "print(sorted({'torch', 'ray', 'mlflow', 'onnx', 'onnxruntime', 'pandas', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def public_names(file: Path) -> set[str]:
    """The functions, classes and constants that a module defines at its top level without an underscore."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_is_defined_in_one_module_only() -> None:
    homes = defaultdict(list)
    files = [file for folder in sorted(SOURCE.iterdir()) if folder.is_dir() for file in sorted(folder.rglob("*.py"))]
    assert len(files) > 200
    for file in files:
        own = {"make", file.stem.title().replace("_", "")} if file.parent.name in EXTENSIONS else set()
        for name in public_names(file) - own:
            homes[name].append(str(file.relative_to(SOURCE)))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
