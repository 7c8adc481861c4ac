"""What the report shows of each trial beside its readings, and what it advises."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.advice import advice
from paretta.dashboards.report.courses import courses, curves, layers_of
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.objectives.limits import parse_limits


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> SweepRecord:
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "s", trials=40, artifacts=False)


def test_times_of_a_trial_are_in_order_and_count_from_the_sweeps_start(record: SweepRecord) -> None:
    found = courses(record, list(record.trials.values()))
    for uid, trial in record.trials.items():
        row = found[uid]
        assert isinstance(row, list)
        times = [time for time in row[1:] if isinstance(time, float)]
        assert times == sorted(times)
        assert times[-1] == pytest.approx(trial.finished - record.started, abs=0.1)


def test_curves_are_of_the_objective_that_was_scored(record: SweepRecord) -> None:
    (metric,) = found = curves(record, list(record.trials.values()))
    assert metric == "accuracy"
    lines = found[metric]
    assert isinstance(lines, dict)
    points = lines["baseline"]
    assert points == [[epoch, round(0.9861 - 0.3 / epoch**2, 4)] for epoch in (1, 2, 3)]
    for course in record.courses.values():
        assert len(course.scores) == 3


def test_layers_are_kept_of_front_and_baseline_and_of_others_while_they_are_few(record: SweepRecord) -> None:
    trials = list(record.trials.values())
    assert set(layers_of(trials, record.front())) == {trial.uid for trial in trials if trial.layers}
    many: dict[str, Json] = {f"layer{i}": {"shape": [1], "bits": 8, "sparsity": 0.0} for i in range(5000)}
    front = {trial.uid for trial in record.front()}
    deep = [replace(trial, layers=many) if trial.layers else trial for trial in trials]
    assert set(layers_of(deep, record.front())) == {"baseline", *front}


def test_knobs_at_their_bounds_are_named(record: SweepRecord) -> None:
    sparsities = [trial.knobs["prune.sparsity"] for trial in record.front() if trial.knobs]
    top = max(value for value in sparsities if isinstance(value, float))
    best = [replace(t, knobs={**t.knobs, "prune.sparsity": top}) if t.knobs else t for t in record.trials.values()]
    bounded = replace(record, trials={trial.uid: trial for trial in best})
    bounded.config = {**record.config, "space": [{"kind": "prune", "sparsity": {"float": [0.0, top]}}]}
    told = advice(bounded, bounded.front())
    assert [text for text in told if text.startswith("prune.sparsity is at the top of its range")]
    bounded.config = {**record.config, "space": [{"kind": "prune", "sparsity": {"float": [0.0, top * 2]}}]}
    assert not [text for text in advice(bounded, bounded.front()) if "prune.sparsity" in text]


def test_a_corner_that_no_trial_has_looked_at_is_told(tmp_path: Path) -> None:
    whole = write_sweep(tmp_path / "s", trials=60, artifacts=False)
    corner = "No trial has prune.sparsity of at least 0.633 with quantize.bits.conv* of at most 4."
    assert corner not in advice(whole, whole.front())

    def in_corner(knobs: Mapping[str, object]) -> bool:
        sparsity, bits = knobs.get("prune.sparsity"), knobs.get("quantize.bits.conv*")
        return isinstance(sparsity, float) and isinstance(bits, int) and sparsity >= 0.95 * 2 / 3 and bits <= 4

    kept = {uid: trial for uid, trial in whole.trials.items() if not in_corner(trial.knobs)}
    assert len(kept) < len(whole.trials)
    without = replace(whole, trials=kept)
    assert corner in advice(without, without.front())


def test_a_limit_that_is_nearly_met_is_told(tmp_path: Path, record: SweepRecord) -> None:
    smallest = min(record.front(), key=lambda trial: trial.value("size") or 0.0)
    limit: dict[str, Json] = {"meter": "size", "at_most": f"{(smallest.value('size') or 0.0) / 1.02:.0f}B"}
    missed = write_sweep(tmp_path / "s", trials=40, artifacts=False, limits=[limit])
    (text,) = [text for text in advice(missed, missed.front()) if "misses the limit" in text]
    assert smallest.uid in text
    assert "by only 2.0 %" in text
    assert str(parse_limits([limit])[0]) in text
