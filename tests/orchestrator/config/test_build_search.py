"""A sampler that reads the objectives known before training gets them, whatever its name."""

from pathlib import Path

import pytest

from paretta.orchestrator.config.build_search import suggester_of
from paretta.orchestrator.config.check import Checked, check
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.user_code import look_in

SWEEP = """
task: {use: digits}
space:
  - {kind: quantize, bits: {int: [4, 8]}}
objectives: [size, accuracy]
search: {trials: 4, sampler: SAMPLER, stopper: none}
"""
READER = """
from paretta.orchestrator.samplers.random import make as make_random
from paretta.orchestrator.search.interfaces import reads_known_objectives


@reads_known_objectives
def make(search):
    return make_random(search)
"""
BASELINE = {"size": Reading(144_000.0, "B"), "accuracy": Reading(0.97, "share")}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    file = tmp_path_factory.mktemp("checked") / "sweep.yaml"
    file.write_text(SWEEP.replace("SAMPLER", "random"))
    return check(Sweep.read(str(file)))


@pytest.mark.parametrize(
    ("sampler", "reads"), [("grey_box", True), ("random", False), ("tpe", False), ("./reader.py:make", True)]
)
def test_known_objectives_are_looked_up_for_the_samplers_that_read_them(
    sampler: str, reads: bool, checked: Checked, tmp_path: Path
) -> None:
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "sweep.yaml").write_text(SWEEP.replace("SAMPLER", sampler))
    sweep = Sweep.read(str(tmp_path / "sweep.yaml"))
    look_in(sweep.folder)
    suggester = suggester_of(sweep, checked, BASELINE, lambda *_, **__: None)
    known = suggester.search.foresight
    assert [scale.objective.meter for scale in known.scales] == ["size"] if reads else known is None
