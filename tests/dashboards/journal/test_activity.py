from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.activity import now_document, seconds_left, trial_activities
from paretta.dashboards.journal.record import SweepRecord


@pytest.fixture
def record(tmp_path: Path) -> SweepRecord:
    record = write_sweep(tmp_path / "s", trials=10, finished=False, artifacts=False)
    record.facts = {**record.facts, "lanes": 1}
    return record


def _running(record: SweepRecord) -> list[str]:
    return [trial.uid for trial in record.trials.values() if trial.status == "running"]


def test_trial_without_a_lane_says_why_it_waits(record: SweepRecord) -> None:
    first, second = _running(record)
    record.progress = {first: {"stage": "train", "epoch": 2, "num_epochs": 6, "loss": 0.5, "where": "lane 0, node-1"}}
    works, waits = trial_activities(record)
    assert (works.trial.uid, works.words, works.where) == (first, "train epoch 2 of 6, loss 0.5", "lane 0, node-1")
    assert (waits.trial.uid, waits.waits, waits.words) == (second, True, "waits for a lane: the only one is training")


def test_one_artifact_is_measured_at_a_time(record: SweepRecord) -> None:
    first, second = _running(record)
    record.progress = {first: {"state": "measuring"}, second: {"state": "measuring"}}
    works, waits = trial_activities(record)
    assert works.words == "is measured"
    assert waits.words == f"waits to be measured, one artifact at a time: {first} is"


def test_what_a_measurement_waits_for_is_told(record: SweepRecord) -> None:
    first, second = _running(record)
    why = "for the agent at http://pi5:7711, for up to 600 s: does not answer: Connection refused"
    record.progress = {first: {"state": "measuring", "waits": why}, second: {"state": "measuring"}}
    told = {said.trial.uid: (said.waits, said.words) for said in trial_activities(record)}
    assert told[first] == (True, f"waits {why}")
    record.progress[first] = {"state": "measuring", "waits": ""}
    told = {said.trial.uid: (said.waits, said.words) for said in trial_activities(record)}
    assert told[first] == (False, "is measured")


def test_lanes_that_never_ran_anything_are_still_starting(record: SweepRecord) -> None:
    fresh = SweepRecord(trials={uid: record.trials[uid] for uid in _running(record)})
    assert {said.words for said in trial_activities(fresh)} == {"waits for the lanes to start"}


def test_plan_is_told_by_its_knobs_until_it_has_words(record: SweepRecord) -> None:
    first = _running(record)[0]
    waiting = replace(record.trials[first], words="", knobs={"prune.sparsity": 0.51234, "quantize.bits": 4, "x": None})
    said = now_document(replace(record, trials={first: waiting}), "")["doing"]
    assert [told["words"] for told in said] == ["prune.sparsity 0.512, quantize.bits 4"]


def test_time_left_is_that_of_the_trials_so_far(record: SweepRecord) -> None:
    began = min(trial.started for trial in record.trials.values() if trial.role == "trial")
    assert seconds_left(record, 10, now=began + 80) == pytest.approx(20)
    assert seconds_left(replace(record, trials={}), 10) is None
    document = now_document(record, "MLflow: complete")
    assert (document["asked"], document["ended"]) == (10, 8)
