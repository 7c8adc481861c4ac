"""Synthetic sweeps and an empty MLflow store, each made once and copied for tests that write."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.tracking.store import default_uri, open_store

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that is on its way out.
_MLFLOW_WARNING = "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Except the one warning of MLflow's own in the tests of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(_MLFLOW_WARNING))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with its tables: making them takes seconds."""
    home = tmp_path_factory.mktemp("store")
    open_store(default_uri(home))
    return home / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, empty_store: Path) -> Path:
    """A folder for sweeps, with a store."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def sweep(home: Path) -> Callable[..., Path]:
    """Make a sweep in `home`: `sweep(trials=12)` returns its folder."""

    def make(name: str = "invented", **settings: int | bool) -> Path:
        write_sweep(home / name, **settings)
        return home / name

    return make
