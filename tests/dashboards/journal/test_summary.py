from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import f_oneway
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.front_growth import Growth
from paretta.dashboards.journal.summary import roles, total_cost
from paretta.dashboards.report.figure import front_picture
from paretta.dashboards.report.knob_importance import explained_share, influence
from paretta.search_spaces.results.front import Front


def test_growth_ends_where_the_whole_front_is_and_never_falls(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=60, artifacts=False)
    steps = record.history()
    assert [step.number for step in steps] == list(range(1, 62))
    assert steps[-1].size == len(record.front())
    assert steps[-1].hypervolume == pytest.approx(record.front().hypervolume)
    volumes = [step.hypervolume for step in steps]
    assert volumes == sorted(volumes)
    ended = [trial for _, trial in record.endings]
    for count in (1, 7, 23):
        whole = Front.of(ended[:count], record.objectives)
        assert (steps[count - 1].size, steps[count - 1].hypervolume) == (len(whole), pytest.approx(whole.hypervolume))


def test_growth_takes_a_baseline_that_ends_after_a_trial_that_beats_it(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=4, artifacts=False)
    baseline, trial = record.trials["baseline"], next(t for t in record.trials.values() if t.role == "trial")
    worse = {meter: replace(reading, value=0.5) for meter, reading in baseline.readings.items()}
    better = {**worse, **{o.meter: replace(worse[o.meter], value=0.5 - o.loss(0.1)) for o in record.objectives}}
    growth = Growth(Front.of((), record.objectives))
    growth.add(1.0, replace(trial, status="complete", readings=better))
    growth.add(2.0, replace(baseline, readings=worse))
    assert growth.front.baseline is not None
    assert (growth.steps[0].hypervolume, growth.steps[1].size) == (0.0, 1)
    assert growth.steps[1].hypervolume > 0


def test_roles_name_the_knee_and_the_best_of_each_objective(tmp_path: Path) -> None:
    front = write_sweep(tmp_path / "s", trials=60, artifacts=False).front()
    held = roles(front)
    by_role = {role: uid for uid, names in held.items() for role in names}
    sizes = {trial.uid: trial.value("size") for trial in front}
    assert by_role.keys() == {"knee", "smallest", "fastest", "most accurate"}
    assert by_role["knee"] == front.knee().uid
    assert sizes[by_role["smallest"]] == min(sizes.values())
    assert roles(Front.of((), front.objectives)) == {}


def test_cost_adds_up(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=9, artifacts=False)
    assert total_cost(record)["wall_s"] == pytest.approx(sum(t.cost["wall_s"] for t in record.trials.values()))


@pytest.mark.parametrize("effect", [0.0, 0.4, 3.0])
def test_explained_share_is_that_of_an_analysis_of_variance(effect: float) -> None:
    rng = np.random.default_rng(7)
    groups = rng.integers(0, 4, 200)
    values = rng.normal(size=200) + effect * groups
    f = f_oneway(*(values[groups == g] for g in range(4))).statistic
    expected = (f - 1) * 3 / (f * 3 + 196)
    assert explained_share(values, groups) == pytest.approx(max(expected, 0.0))


def test_influence_finds_the_knob_that_matters(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=300, artifacts=False)
    shares = influence(list(record.trials.values()), record.objectives)
    assert max(shares["latency"], key=shares["latency"].__getitem__) == "prune.sparsity"
    assert shares["latency"]["prune.importance"] < 0.05
    assert influence(list(record.trials.values())[:5], record.objectives) == {}


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_picture_is_drawn_and_the_same_for_the_same_front(tmp_path: Path, suffix: str) -> None:
    front = write_sweep(tmp_path / "s", trials=30, artifacts=False).front()
    front_picture(front, tmp_path / f"a{suffix}")
    front_picture(front, tmp_path / f"b{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert (tmp_path / f"a{suffix}").stat().st_size > 10_000
