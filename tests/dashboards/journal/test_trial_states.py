"""The states of trials in a record: what a journal of any schema says, and what follows from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paretta.dashboards.journal.activity import num_ended, trial_activities
from paretta.dashboards.journal.journal import SCHEMA_VERSION, Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.trial import STATUSES, Role, Trial
from paretta.search_spaces.space.plan import Plan

SIZE, ACCURACY = Objective("size", "min", "B"), Objective("accuracy", "max", "share")
LIMITS: list[Json] = [{"meter": "size", "at_most": {"of_baseline": 0.5}}, {"meter": "accuracy", "at_least": "80%"}]


def old_trial(uid: str, number: int, status: str, **more: object) -> dict[str, object]:
    """A trial as the first schema of the journal had it."""
    plan = {"baseline": [{"kind": "train"}], "stages": [{"kind": "prune", "sparsity": 0.5}] if number else []}
    return {
        "uid": uid,
        "number": number,
        "role": "trial" if number else "baseline",
        "status": status,
        "reason": None,
        "detail": "",
        "plan": plan,
        "fingerprint": "f" * 64,
        "seed": 1,
        "knobs": {},
        "words": "",
        "readings": {},
        "test_readings": {},
        "artifact": None,
        "cost": {},
        "started": 100.0,
        "finished": 110.0,
        **more,
    }


def test_a_journal_of_the_first_schema_is_read_in_todays_words(tmp_path: Path) -> None:
    size = {
        "size": {"value": 10.0, "unit": "B", "low": None, "high": None, "num_samples": 1, "reason": None, "details": {}}
    }
    lines = [
        {
            "event": "sweep",
            "time": 100.0,
            "name": "old",
            "config": {"search": {"trials": 4}},
            "objectives": [{"meter": "size", "goal": "min", "unit": "B"}],
            "facts": {},
            "schema": 1,
        },
        {"event": "trial", "time": 101.0, "trial": old_trial("baseline", 0, "complete", readings=size)},
        {"event": "trial", "time": 102.0, "trial": old_trial("0001-aaaaaa", 1, "pruned", reason="stopped after 3")},
        {"event": "trial", "time": 103.0, "trial": old_trial("0002-bbbbbb", 2, "failed", reason="diverged")},
        {"event": "trial", "time": 104.0, "trial": old_trial("0003-cccccc", 3, "running")},
        {"event": "end", "time": 105.0, "status": "stopped", "reason": "interrupted"},
    ]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = SweepRecord.read(tmp_path)
    assert {uid: trial.status for uid, trial in record.trials.items()} == {
        "baseline": "complete",
        "0001-aaaaaa": "stopped early",
        "0002-bbbbbb": "failed",
        "0003-cccccc": "interrupted",
    }
    assert {status: record.count(status) for status in STATUSES if record.count(status)} == {
        "stopped early": 1,
        "failed": 1,
        "interrupted": 1,
    }
    assert num_ended(record) == 2
    assert trial_activities(record) == []
    assert [trial.uid for _, trial in record.endings] == ["baseline", "0001-aaaaaa", "0002-bbbbbb"]


def test_what_ran_when_a_sweep_ended_is_interrupted_until_it_is_resumed(tmp_path: Path) -> None:
    running = Trial("0001-aaaaaa", 1, Plan(), 0, "running", started=5.0)
    with Journal(tmp_path) as journal:
        opened = journal.sweep(name="s", config={"search": {"trials": 1}}, objectives=(SIZE,), facts={})
        journal.trial(running)
        journal.progress(running.uid, {"stage": "train", "epoch": 1})
        assert SweepRecord.read(tmp_path).count("running", "interrupted") == SweepRecord.read(tmp_path).count("running")
        journal.end("stopped", "interrupted")
        stopped = SweepRecord.read(tmp_path)
        assert (stopped.trials[running.uid].status, stopped.count("interrupted"), stopped.count("running")) == (
            "interrupted",
            1,
            0,
        )
        journal.resumed({})
        resumed = SweepRecord.read(tmp_path)
        assert resumed.trials == {running.uid: running}
        assert (resumed.count("running"), resumed.count("interrupted")) == (1, 0)
        journal.trial(Trial(running.uid, 1, Plan(), 0, "failed", reason="why", started=5.0))
        journal.end("done")
    done = SweepRecord.read(tmp_path)
    assert (done.count("failed"), done.count("running", "interrupted"), len(done.endings)) == (1, 0, 1)
    assert opened["schema"] == SCHEMA_VERSION == 2


@pytest.mark.parametrize(
    ("size", "accuracy", "status", "reason"),
    [
        (50.0, 0.8, "complete", None),
        (51.0, 0.9, "infeasible", "misses size at most 0.5 of the baseline"),
        (51.0, 0.7, "infeasible", "misses size at most 0.5 of the baseline and accuracy at least 80.00 %"),
    ],
)
def test_a_measured_trial_that_misses_a_limit_is_infeasible(
    tmp_path: Path, size: float, accuracy: float, status: str, reason: str | None
) -> None:
    def trial(uid: str, number: int, size: float, accuracy: float) -> Trial:
        readings = {"size": Reading(size, "B"), "accuracy": Reading(accuracy, "share")}
        role = "trial" if number else "baseline"
        return Trial(uid, number, Plan((), ({"n": number},)), 0, "complete", role=role, readings=readings)  # type: ignore[arg-type]

    with Journal(tmp_path) as journal:
        config = {"search": {"trials": 1}, "limits": LIMITS}
        journal.sweep(name="s", config=config, objectives=(SIZE, ACCURACY), facts={})
        journal.trial(trial("baseline", 0, 100.0, 0.7))  # itself misses both limits, and stays what all refer to
        journal.trial(trial("0001-aaaaaa", 1, size, accuracy))
    record = SweepRecord.read(tmp_path)
    known = record.trials["0001-aaaaaa"]
    assert (known.status, known.reason, known.is_measured, known.has_ended) == (status, reason, True, True)
    assert record.trials["baseline"].status == "complete"
    front = record.front()
    assert [member.uid for member in front] == (["0001-aaaaaa"] if status == "complete" else [front.members[0].uid])
    assert front.best_effort == (status == "infeasible")
    assert Trial.from_document(known.to_document()) == known


def test_a_trial_that_is_read_again_is_judged_again_and_has_ended_once(tmp_path: Path) -> None:
    def trial(role: Role, size: float) -> Trial:
        uid = "baseline" if role == "baseline" else "0001-aaaaaa"
        return Trial(uid, int(role == "trial"), Plan(), 0, "complete", role=role, readings={"size": Reading(size, "B")})

    def status() -> tuple[str, str | None, int, int]:
        record = SweepRecord.read(tmp_path)
        known = record.trials["0001-aaaaaa"]
        return known.status, known.reason, record.count("complete", "infeasible"), len(record.endings)

    misses = "misses size at most 0.5 of the baseline"
    with Journal(tmp_path) as journal:
        config: Document = {"search": {"trials": 1}, "limits": LIMITS[:1]}
        journal.sweep(name="s", config=config, objectives=(SIZE,), facts={})
        journal.trial(trial("baseline", 100.0))
        journal.trial(trial("trial", 60.0))
        assert status() == ("infeasible", misses, 1, 2)
        known = SweepRecord.read(tmp_path).trials["0001-aaaaaa"]
        journal.trial(replace(known, readings={"size": Reading(40.0, "B")}))
        assert status() == ("complete", None, 1, 2)
        journal.trial(trial("baseline", 70.0))
        assert status() == ("infeasible", misses, 1, 2)
        journal.trial(trial("baseline", 100.0))
        assert status() == ("complete", None, 1, 2)
