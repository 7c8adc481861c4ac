"""`compute: faster` is settled in the sweep's own document, so that whoever reads it later computes alike."""

from dataclasses import replace
from typing import Any

import pytest

from paretta.orchestrator.agent.agent_client import AgentClient
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.settled_compute import settled_compute
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.meter import meter_of
from paretta.pipelines.verification import faster_compute as module
from paretta.pipelines.verification.faster_compute import FasterCompute
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.yaml_io import parse_yaml, write_yaml

FASTER = {"kind": "quantize", "bits": {"int": [4, 8]}, "compute": "faster"}
DECIDED = FasterCompute(Reading(1.4, "ratio", low=1.3, high=1.5))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.setattr(module, "faster_compute", lambda *_, **__: DECIDED)
    task: Any = None
    return Checked(task, (meter_of("size", {}), meter_of("latency", {})), (), "", (), 0, 0)


def test_the_document_says_how_the_model_computes(checked: Checked) -> None:
    step = {"choice": [FASTER, None]}
    sweep = Sweep("digits", [step], deliver={"variants": [[{"kind": "quantize", "compute": "faster"}]]})
    found, line = settled_compute(sweep, checked)
    assert line == "compute: faster: float: in integers the model takes 1.40 of its time in floats"
    assert [knob.name for knob in found.space.knobs()] == [knob.name for knob in sweep.space.knobs()]
    again = Sweep.parse(parse_yaml(write_yaml(found.document()), "again"), "again", sweep.folder)
    stages = [stage for plan in again.space.corners() for stage in plan.stages]
    assert stages
    assert all(stage["compute"] == "float" for stage in stages)
    assert again.config.deliver.variants[0][0]["compute"] == "float"


def test_an_agent_times_it(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AgentClient | None] = []

    def faster(*_: object, elsewhere: AgentClient | None, **_more: object) -> FasterCompute:
        asked.append(elsewhere)
        return DECIDED

    monkeypatch.setattr(module, "faster_compute", faster)
    monkeypatch.setenv("PARETTA_AGENT_TOKEN", "a-token-for-the-tests")
    settled_compute(Sweep("digits", [FASTER]), checked)
    settled_compute(Sweep("digits", [FASTER], measuring={"agent": "http://pi5:7711"}), checked)
    here, there = asked
    assert here is None
    assert there is not None
    assert (there.agent.url, there.agent.patience_s) == ("http://pi5:7711", 600)


def test_a_sweep_that_does_not_ask_is_left_alone(checked: Checked) -> None:
    sweep = Sweep("digits", [{"kind": "quantize", "compute": "float"}])
    assert settled_compute(sweep, checked) == (sweep, None)


def test_it_needs_a_time_and_stands_in_no_choice(checked: Checked) -> None:
    sweep = Sweep("digits", [FASTER])
    with pytest.raises(WrongInput, match=r"faster` needs an objective that compares times.*add latency"):
        settled_compute(sweep, replace(checked, meters=(meter_of("size", {}),)))
    with pytest.raises(WrongInput, match="stands in no choice"):
        settled_compute(Sweep("digits", [{**FASTER, "compute": {"choice": ["integer", "faster"]}}]), checked)


def test_dynamic_activations_are_timed_as_such_and_not_beside_calibrated_ones(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[bool] = []

    def faster_compute(*_: object, dynamic: bool, **_more: object) -> FasterCompute:
        timed.append(dynamic)
        return DECIDED

    monkeypatch.setattr(module, "faster_compute", faster_compute)
    other = {"kind": "quantize", "activation_range": "mse"}  # it does not ask
    for ranges in ("dynamic", {"choice": ["dynamic"]}, {"choice": ["mse", "percentile"]}):
        settled_compute(Sweep("digits", [other, {**FASTER, "activation_range": ranges}]), checked)
    assert timed == [True, True, False]
    with pytest.raises(WrongInput, match="`compute: faster` stands beside `activation_range: dynamic` and others"):
        settled_compute(Sweep("digits", [{**FASTER, "activation_range": {"choice": ["mse", "dynamic"]}}]), checked)
