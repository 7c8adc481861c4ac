"""The modules of the examples, and their data as npm and pip fetch it."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def module(path: Path) -> ModuleType:
    made = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert made is not None
    assert made.loader is not None
    loaded = importlib.util.module_from_spec(made)
    made.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """The module ``task`` of an example."""
    return lambda name: module(EXAMPLES / name / "task.py")


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the data of an example; the test is skipped where it cannot be fetched."""
    folder, done = tmp_path_factory.mktemp("data"), set[str]()

    def fetch(name: str) -> Path:
        if name not in done:
            try:
                module(EXAMPLES / name / "fetch.py").fetch(folder / name)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"the data of examples/{name} cannot be fetched here: {type(error).__name__}")
            done.add(name)
        return folder / name

    return fetch
