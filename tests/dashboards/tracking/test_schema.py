import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_sweep import OBJECTIVES

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.schema import join_document, split_document, trial_from_run, trial_run
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.results.trial import STATUSES, Trial
from paretta.search_spaces.space.plan import Plan

RECORD = SweepRecord(name="s", objectives=OBJECTIVES, started=1_790_000_000.0)
TRIAL = Trial(
    uid="7",
    number=7,
    plan=Plan((), ({"kind": "prune", "sparsity": 0.5},)),
    seed=3,
    status="complete",
    knobs={"bits[conv*]": 4, "on": True, "kind": "l2", "tiny": 1e-7, "none": None},
    words="prune 50 %",
    readings={"size": Reading(1000.0, "B"), "energy": Reading.not_measured("J", "no counter")},
    started=1_790_000_001.0,
    finished=1_790_000_002.5,
)


def test_names_are_those_that_mlflow_allows_and_only_numbers_are_metrics() -> None:
    run = trial_run(RECORD, TRIAL)
    keys = {*run.params, *run.tags, *(point.key for point in run.points)}
    assert all(re.fullmatch(r"[\w\-. /:]+", key) for key in keys)
    assert run.params["bits_conv__"] == "4"
    assert run.params["on"] == "true"
    assert {point.key for point in run.points if point.key.startswith("hp/")} == {"hp/bits_conv__", "hp/tiny"}


def test_unmeasured_reading_is_a_reason_and_no_number() -> None:
    run = trial_run(RECORD, TRIAL)
    assert run.tags["unmeasured.energy"] == "no counter"
    assert "energy" not in {point.key for point in run.points}


def test_what_is_read_again_later_counts_for_the_store_which_keeps_the_larger_of_equal_times() -> None:
    once = Reading(0.6, "ratio", details={"contended": True, "cpu": "AMD EPYC"})
    again = Reading(0.5, "ratio", details={"contended": False, "read_at": 1_790_000_100.0})
    first, last = (trial_run(RECORD, replace(TRIAL, readings={"latency": reading})) for reading in (once, again))
    points = [{point.key: point for point in run.points} for run in (first, last)]
    assert [found["latency"].value for found in points] == [0.6, 0.5]
    assert [found["latency"].time for found in points] == [1_790_000_002_500, 1_790_000_100_000]
    assert [found["detail/latency_contended"].value for found in points] == [1.0, 0.0]
    assert "latency_cpu" not in points[0]


def test_trial_is_read_from_its_tags() -> None:
    assert trial_from_run(trial_run(RECORD, TRIAL).tags) == TRIAL
    wordy = replace(TRIAL, detail="".join(chr(33 + i * i % 90) for i in range(60_000)))
    run = trial_run(RECORD, wordy)
    assert trial_from_run(run.tags) == wordy
    assert max(map(len, run.tags.values())) <= 5_000


def test_run_says_whose_training_it_went_on_from() -> None:
    trained = Plan(({"kind": "train", "epochs": 3},), ({"kind": "prune", "sparsity": 0.5},))
    baseline = replace(TRIAL, uid="baseline", role="baseline", plan=trained.baseline_plan())
    record = replace(RECORD, trials={"baseline": baseline})
    reused = ({"stages": ["train"], "trial": "baseline"}, {"stages": ["prune", "distill"], "trial": "2-abc"})
    child = trial_run(record, replace(TRIAL, plan=trained, of="3-abc", reused=reused)).tags
    assert child["lineage.reused"] == "train by baseline; prune, distill by 2-abc"
    again = trial_run(record, replace(TRIAL, reused=({"stages": ["prune"], "trial": TRIAL.uid},))).tags
    assert again["lineage.reused"] == "prune by itself, before an interruption"
    assert (child["lineage.baseline"], child["lineage.trial"]) == ("baseline", "3-abc")
    assert not {"lineage.baseline", "lineage.trial", "lineage.reused"} & trial_run(record, baseline).tags.keys()
    assert "lineage.baseline" not in trial_run(record, TRIAL).tags


def test_run_says_what_stages_left_as_it_was() -> None:
    notes = (Note("prune", "no layer can", verdict="changed nothing"), Note("quantize", "stays in float: x", ("gru",)))
    run = trial_run(RECORD, replace(TRIAL, notes=notes)).tags
    assert run["plan.notes"] == "prune changed nothing: no layer can\ngru stays in float: x"
    assert trial_from_run(run).notes == notes
    assert "plan.notes" not in trial_run(RECORD, replace(TRIAL, notes=())).tags


def test_digest_tells_any_change_of_what_the_run_holds() -> None:
    changed = [
        replace(TRIAL, status="failed", reason="x"),
        replace(TRIAL, finished=1_790_000_002.6),
        replace(TRIAL, readings={**TRIAL.readings, "size": Reading(1001.0, "B")}),
        TRIAL.with_test_readings({"size": Reading(1.0, "B")}),
    ]
    digests = {trial_run(RECORD, trial).digest for trial in (TRIAL, *changed)}
    assert len(digests) == 5
    assert trial_run(RECORD, replace(TRIAL)).digest == trial_run(RECORD, TRIAL).digest


@given(st.text(max_size=200), st.integers(0, 60))
def test_any_document_survives_tags(text: str, times: int) -> None:
    document = {"text": [text] * times, "numbers": [1, 0.5, None, True]}
    assert join_document("key", split_document("key", document)) == document


def test_leftover_parts_of_a_longer_document_do_no_harm() -> None:
    rows = [{"a": str(i * 7919 % 10_007)} for i in range(9_000)]
    tags = split_document("key", {"rows": rows})
    assert len(tags) > 2
    tags |= split_document("key", {"rows": rows[:4_000]})
    assert join_document("key", tags) == {"rows": rows[:4_000]}


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_running_trial_has_no_end(status: str) -> None:
    run = trial_run(RECORD, replace(TRIAL, status=status, reason="why"))  # type: ignore[arg-type]
    assert (run.end is None) == (run.status == "RUNNING") == (status == "running")
