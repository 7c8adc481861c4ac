"""The sweep file of each example is valid and leaves something to search."""

from pathlib import Path

import pytest

from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.yaml_io import parse_yaml

FILES = sorted((Path(__file__).parents[2] / "examples").glob("*/sweep.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_its_sweep_file_is_valid(path: Path) -> None:
    sweep = Sweep.parse(parse_yaml(path.read_text(encoding="utf-8"), str(path)), path.parent.name, path.parent)
    assert sweep.space.knobs()
