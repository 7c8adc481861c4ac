"""Knobs as numbers: round trips, conditions and neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretta.orchestrator.policy.encoding import Coordinates
from paretta.search_spaces.space.holes import Choice, Float, Int
from paretta.search_spaces.space.space import Knob

SPACE = Coordinates(
    (
        Knob("score", Choice(("l1", "l2", "taylor"))),
        Knob("sparsity", Float(0.1, 0.9), (("score", "l1"), ("score", "l2"))),
        Knob("bits", Int(2, 8)),
        Knob("rate", Float(1e-4, 1e-1, log=True)),
        Knob("width", Int(8, 64, step=8)),
    )
)


@given(st.integers(0, 2**32 - 1))
def test_decode_undoes_encode_and_keeps_ranges(seed: int) -> None:
    codes = SPACE.draw(5, np.random.default_rng(seed))
    for code in codes:
        config = SPACE.decode(code)
        assert SPACE.decode(SPACE.encode(config)) == config
        assert ("sparsity" in config) == (config["score"] != "taylor")
        assert isinstance(config["width"], int)
        assert config["width"] % 8 == 0
        assert 2 <= int(str(config["bits"])) <= 8


def test_every_whole_number_is_drawn_about_equally_often() -> None:
    codes = Coordinates((Knob("bits", Int(2, 8)),)).draw(7000, np.random.default_rng(0))
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == 7
    assert counts == pytest.approx(1000, rel=0.15)


def test_neighbours_differ_in_one_knob_and_what_it_switches() -> None:
    rng = np.random.default_rng(1)
    code = SPACE.encode({"score": "taylor", "bits": 4, "rate": 0.01, "width": 16})
    seen = [SPACE.decode(row) for row in SPACE.neighbours(code, rng)]
    base = SPACE.decode(code)
    assert seen
    for config in seen:
        changed = {name for name in config if config[name] != base.get(name)}
        assert len(changed - {"sparsity"}) == 1
        assert ("sparsity" in config) == (config["score"] != "taylor")
    assert {config["bits"] for config in seen} == set(range(2, 9))


def test_unordered_choices_become_indicators() -> None:
    assert SPACE.inputs(SPACE.draw(3, np.random.default_rng(0))).shape == (3, 7)
    first = SPACE.encode({"score": "taylor", "bits": 2, "rate": 1e-4, "width": 8})
    low = -(3.0**0.5)  # the lower end of what is uniform with variance 1
    assert SPACE.inputs(first[None])[0] == pytest.approx([-(0.5**0.5), -(0.5**0.5), 2.0**0.5, 0.0, low, low, low])


def test_inputs_have_about_mean_0_and_variance_1() -> None:
    inputs = SPACE.inputs(SPACE.draw(20_000, np.random.default_rng(0)))
    assert inputs.mean(axis=0) == pytest.approx(0.0, abs=0.05)
    # more for few whole numbers, whose ends are drawn too; less for a knob that is not always asked for
    assert inputs.var(axis=0) == pytest.approx(1.0, abs=0.4)
