"""What is wrong with a sweep is found before any compute, wherever in its space it lies."""

from pathlib import Path

import pytest

from paretta.orchestrator.config.check import check
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.yaml_io import parse_yaml

SOUND = """
task: {use: digits, options: {width: 4, hidden: 8}}
baseline: [{kind: train, epochs: 1}]
space: [{kind: train}]
"""


def refused(text: str) -> str:
    """Check a sweep that must be refused, and return the message."""
    with pytest.raises(WrongInput) as caught:
        check(Sweep.parse(parse_yaml(text, "s.yaml"), "s", Path()))
    return str(caught.value)


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("{kind: quantize, bits: {float: [2, 8]}}", "s.yaml:4 space[0] (quantize).bits: must be a whole number"),
        ("{kind: quantize, bits: {'conv*': {float: [2, 8]}}}", "space[0] (quantize).bits"),
        ("{choice: [null, {kind: quantize, bits: {choice: [8, {float: [2, 4]}]}}]}", "(quantize).bits"),
        ("{kind: train, epochs: {float: [1, 3]}}", "(train).epochs: must be a valid integer"),
        ("{kind: train, epochs: {choice: [1, 2, three, 4, 5]}}", "(train).epochs"),
        ("{choice: [{kind: train}, {choice: [null, {kind: trian}, {kind: train, lr: 1}]}]}", "did you mean 'train'"),
        ('{kind: train, epochs: "2"}', "must be a valid integer; got '2'"),
    ],
)
def test_every_branch_and_inner_points_of_ranges_are_parsed(stage: str, told: str) -> None:
    message = refused(SOUND.replace("{kind: train}]", f"{stage}]"))
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize("lanes", ["0", "-3", "true", "1.5", "many"])
def test_lanes_are_at_least_one(lanes: str) -> None:
    assert "s.yaml:5 workers.lanes" in refused(f"{SOUND}workers: {{lanes: {lanes}}}\n")


@pytest.mark.parametrize("name", ["knee", "smallest", "most-accurate", "baseline"])
def test_a_wish_is_not_called_like_a_role(name: str) -> None:
    message = refused(f"{SOUND}wishes: {{{name}: {{prefer: size}}}}\n")
    assert f"wishes.{name}: a wish's name must not be that of a role" in message
