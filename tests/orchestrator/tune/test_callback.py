"""Tune's results reach the journal, and a progress message neither parses a plan nor computes a digest."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.lanes.messages import ProgressMessage
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.trials.events import TrialEnded, TrialProgress, TrialReturned, TrialWaits
from paretta.orchestrator.trials.run_trial import new_trial
from paretta.orchestrator.tune.callback import JournalCallback, record_asked
from paretta.orchestrator.tune.messages import config_of
from paretta.orchestrator.tune.trainable import report_of
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space import plan as plan_module
from paretta.search_spaces.space.plan import Plan

STAGES: tuple[Document, ...] = ({"kind": "quantize", "bits": 8},)


class Silent:
    """A display that shows nothing."""

    def update(self, record: SweepRecord, event: Document) -> None:
        pass

    def show_line(self, text: str) -> None:
        pass


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with Journal(tmp_path) as journal:
        yield EventLog(journal, Silent(), SweepFiles(tmp_path), SweepRecord(tmp_path.name, tmp_path))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the plans that are parsed and the digests that are taken of them."""
    calls: Counter[str] = Counter()
    digest, parse = plan_module.digest, Plan.from_document

    def counted_digest(value: Json) -> str:
        calls["digests"] += 1
        return digest(value)

    def counted_parse(document: Document) -> Plan:
        calls["parses"] += 1
        return parse(document)

    monkeypatch.setattr(plan_module, "digest", counted_digest)
    monkeypatch.setattr(Plan, "from_document", counted_parse)
    return calls


def asked(log: EventLog, number: int = 1) -> Any:
    """Ask for a trial as the searcher does, and return Tune's trial of it."""
    plan = Plan((), STAGES)
    config = config_of(TrialKey.of(number, plan), plan, {})
    record_asked(log, 0, config)
    return SimpleNamespace(config=config, last_result={}, get_error=lambda: "the node is gone\nActorDiedError")


def tell(callback: JournalCallback, trial: Any, event: Any) -> None:
    trial.last_result = report_of(event)
    callback.on_trial_result(0, [], trial, trial.last_result)


def test_a_progress_message_costs_no_parse_and_no_digest(log: EventLog, counted: Counter[str]) -> None:
    callback, trial = JournalCallback(log), asked(log)
    key = TrialKey.of(1, Plan((), STAGES))
    counted.clear()
    for epoch in range(50):
        message: ProgressMessage = {"stage": "train", "epoch": epoch}
        tell(callback, trial, TrialWaits())
        tell(callback, trial, TrialProgress(key.uid, message))
    assert counted == {}
    assert log.record.progress == {key.uid: {"stage": "train", "epoch": 49}}


def test_a_plan_is_digested_once_however_often_its_fingerprint_is_asked_for(counted: Counter[str]) -> None:
    plan = Plan((), STAGES)
    trial = new_trial(1, plan, seed=0, knobs={})
    assert trial.to_document()["fingerprint"] == plan.fingerprint == plan.fingerprint
    assert counted == {"digests": 1}


def test_a_trial_that_tune_stopped_is_told_as_stopped_early(log: EventLog) -> None:
    callback, trial = JournalCallback(log), asked(log)
    uid = log.record.trials.copy().popitem()[0]
    tell(callback, trial, TrialProgress(uid, {"stage": "train", "epoch": 3, "num_epochs": 9, "seconds": 2.5}))
    callback.on_trial_complete(0, [], trial)
    known = log.record.trials[uid]
    assert (known.status, known.reason, known.cost) == (
        "stopped early",
        "stopped after train epoch 3 of 9",
        {"wall_s": 2.5},
    )


def test_a_trial_that_ended_keeps_what_it_said_itself(log: EventLog) -> None:
    callback, trial = JournalCallback(log), asked(log)
    (known,) = log.record.trials.values()
    ended = Trial(known.uid, 1, known.plan, 0, "failed", reason="diverged", started=known.started)
    tell(callback, trial, TrialEnded(ended))
    callback.on_trial_complete(0, [], trial)
    assert log.record.trials == {known.uid: ended}


def test_a_returned_trial_ends_the_search_and_stays_open(log: EventLog) -> None:
    closed: list[str] = []
    callback, trial = JournalCallback(log, on_returned=partial(closed.append, "closed")), asked(log)
    (known,) = log.record.trials.values()
    tell(callback, trial, TrialReturned())
    callback.on_trial_complete(0, [], trial)
    assert (callback.returned, closed) == ([known.uid], ["closed"])
    assert log.record.trials == {known.uid: known}


def test_an_actor_that_died_fails_its_trial_with_the_last_line(log: EventLog) -> None:
    callback, trial = JournalCallback(log), asked(log)
    (begun,) = log.record.trials.values()
    callback.on_trial_error(0, [], trial)
    (known,) = log.record.trials.values()
    assert (known.status, known.reason, known.started) == (
        "failed",
        "the trial's actor failed: ActorDiedError",
        begun.started,
    )
    assert known.detail == "the node is gone\nActorDiedError"


def test_an_actor_of_a_trial_loads_neither_torch_nor_the_search() -> None:
    code = (
        "import sys; import paretta.orchestrator.tune.trainable\n"
        "print([name for name in ('torch', 'scipy', 'optuna', 'mlflow', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
