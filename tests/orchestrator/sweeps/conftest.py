"""Two sweeps that were published to MLflow once, copied for tests that change them."""

import shutil
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.tracking.publisher import publish_sweep


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("published")
    for name in ("first", "second"):
        publish_sweep(write_sweep(home / name, trials=4, seed=len(name)))
    return home


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Path:
    """Copy two published sweeps and their store, except MLflow's files, which stay where the store says they are."""
    shutil.copytree(published, tmp_path / "home", ignore=lambda *_: ["mlartifacts"])
    return tmp_path / "home"
