"""Each phase of a sweep in isolation, with fake lanes and a fake measuring actor: no Ray, no training."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps import baseline_phase, holdout_phase
from paretta.orchestrator.sweeps.baseline_phase import train_baseline
from paretta.orchestrator.sweeps.confirmation_phase import confirm_front
from paretta.orchestrator.sweeps.context import SweepContext, SweepFailed
from paretta.orchestrator.sweeps.holdout_phase import freeze_front, read_test_split
from paretta.orchestrator.sweeps.signals import StopRequest, SweepStopped
from paretta.orchestrator.trials import confirmation
from paretta.orchestrator.trials.events import TrialEnded, TrialProgress, TrialReturned, TrialWaits
from paretta.orchestrator.trials.run_trial import new_trial
from paretta.search_spaces.errors import TrialFailed, WrongInput
from paretta.search_spaces.objectives.limits import parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Space

PLAN = Plan(({"kind": "train"},), ({"kind": "quantize", "bits": 8},))
SIZE = Objective("size", "min", "B")


@dataclass
class Notes:
    """A display that keeps its lines."""

    lines: list[str] = field(default_factory=list)

    def update(self, record: SweepRecord, event: object) -> None:
        pass

    def show_line(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Measuring:
    """Reads the test split: one byte more at each reading."""

    looked_at: list[str] = field(default_factory=list)

    read_of: list[str] = field(default_factory=list)

    def require_readable(self, split: str) -> None:
        self.looked_at.append(split)

    def read(self, artifact: str, baseline: str, split: str, *, answers_only: bool) -> dict[str, Reading]:
        assert (baseline, split, answers_only) == ("artifacts/baseline", "test", True)
        self.read_of.append(artifact)
        return {"size": Reading(float(len(self.read_of)), "B")}


@pytest.fixture
def context(tmp_path: Path) -> Iterator[SweepContext]:
    """A sweep of one objective that has been opened, and nothing more."""
    files, measuring = SweepFiles(tmp_path), Measuring()
    search = SimpleNamespace(confirm=2, seed=7, trials=3)
    sweep = SimpleNamespace(
        space=Space.parse([{"kind": "train"}], [{"kind": "quantize", "bits": 8}]),
        limits=(),
        config=SimpleNamespace(search=search),
    )
    prepared: Any = SimpleNamespace(folder=tmp_path, files=files, sweep=sweep, num_lanes=1)
    trials: Any = SimpleNamespace(
        baseline="baseline", seed=7, files=files, measuring=measuring, lanes=SimpleNamespace(wind_down=lambda: None)
    )
    lanes: Any = SimpleNamespace(lost=lambda: "")
    with Journal(tmp_path) as journal:
        log = EventLog(journal, Notes(), files, SweepRecord(tmp_path.name, tmp_path))
        log.sweep(name="s", config={"search": {"trials": 3}}, objectives=(SIZE,), facts={})
        yield SweepContext(prepared, trials, lanes, log, StopRequest())


def complete(trial: Trial, size: float = 100.0) -> Trial:
    return replace(trial, status="complete", readings={"size": Reading(size, "B")})


def answering(monkeypatch: pytest.MonkeyPatch, module: Any, *, by_input: bool = False, **changes: Any) -> None:
    """Let every trial of a phase report once and then end as given."""

    def run_trial(trial: Trial, _: object) -> Iterator[Any]:
        yield TrialWaits()
        yield TrialProgress(trial.uid, {"stage": "train", "epoch": 1})
        ended = TrialEnded(replace(complete(trial), **changes), by_input) if changes != {"returned": True} else None
        yield ended or TrialReturned()

    monkeypatch.setattr(module, "run_trial", run_trial)


def test_the_baseline_is_trained_once_and_again_only_where_its_artifact_is_damaged(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, baseline_phase)
    first = train_baseline(context)
    assert (first.uid, first.role, first.plan, first.value("size")) == (
        "baseline",
        "baseline",
        Plan(({"kind": "train"},), ()),
        100.0,
    )
    assert context.record.trials == {"baseline": first}

    answering(monkeypatch, baseline_phase, words="trained anew")
    assert train_baseline(context).words == "trained anew"  # nothing was delivered: the artifact's folder is missing
    answering(monkeypatch, baseline_phase, words="trained a third time")
    monkeypatch.setattr(baseline_phase, "verify_files", lambda folder: [folder])
    assert train_baseline(context).words == "trained anew"


def test_a_baseline_that_fails_or_that_the_lanes_returned(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, baseline_phase, status="failed", reason="no lane", detail="line 3")
    with pytest.raises(SweepFailed) as caught:
        train_baseline(context)
    assert str(caught.value) == "the baseline failed: no lane; set PARETTA_TRACEBACK=1 to see the traceback"
    assert cast(TrialFailed, caught.value.__cause__).detail == "line 3"
    assert context.record.trials["baseline"].status == "failed"
    answering(monkeypatch, baseline_phase, returned=True)
    assert train_baseline(context).status == "running"


def test_a_baseline_that_fails_by_the_users_data_is_wrong_input(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "train: task.train[37]: reading it failed: OSError: gone (at mine.py:3)"
    answering(monkeypatch, baseline_phase, by_input=True, status="failed", reason=told, detail="")
    with pytest.raises(WrongInput) as caught:
        train_baseline(context)
    assert str(caught.value) == f"the baseline failed: {told}"


def test_a_test_split_that_cannot_be_read_is_told_before_anything_is_trained(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, baseline_phase)
    measuring: Any = context.trials.measuring
    measuring.require_readable = partial(failing, "task.test[37]: reading it failed: OSError: gone", True)
    with pytest.raises(WrongInput, match=r"^the test split: task\.test\[37\]: reading it failed: OSError: gone\n"):
        train_baseline(context)
    assert context.record.trials == {}


@pytest.mark.parametrize(("baseline", "read"), [([{"kind": "train"}], ["test"]), ([], ["test", "train"])])
def test_the_training_split_is_looked_through_where_trials_would_be_the_first_to_read_it(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch, baseline: Any, read: list[str]
) -> None:
    answering(monkeypatch, baseline_phase)
    prepared: Any = context.prepared
    prepared.sweep.space = Space.parse(baseline, [{"kind": "train"}])
    prepared.checked = SimpleNamespace(epochs=1, task=SimpleNamespace(stream=None))
    train_baseline(context)
    measuring: Any = context.trials.measuring
    assert measuring.looked_at == read


def failing(reason: str, by_input: bool, *_: object, **__: object) -> None:
    raise TrialFailed(reason, "", by_input)


def test_a_test_split_that_cannot_be_read_is_told_with_how_to_resume(context: SweepContext) -> None:
    measuring: Any = context.trials.measuring
    member = complete(new_trial(1, PLAN, seed=7, knobs={}))
    for by_input, kind in ((True, WrongInput), (False, SweepFailed)):
        measuring.read = partial(failing, "measure: task.test[37]: reading it failed: OSError: gone", by_input)
        with pytest.raises(kind) as caught:
            read_test_split(context, [member])
        told, state, resume = str(caught.value).splitlines()
        assert told == "the test split: measure: task.test[37]: reading it failed: OSError: gone"
        assert state.endswith("is stopped: 0 of 3 trials have ended")
        assert resume.startswith("resume: paretta launch --resume")


def test_a_limit_that_the_baseline_shows_to_have_no_value(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, baseline_phase)
    sweep: Any = context.prepared.sweep
    sweep.limits = parse_limits([{"meter": "size", "at_most": "2ms"}])
    with pytest.raises(SweepFailed, match="limit size at most 2 ms: size was measured without a value in 's'"):
        train_baseline(context)


def test_the_front_is_frozen_once_and_each_member_is_tested_once(
    context: SweepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(holdout_phase, "keep_readings", lambda files, artifact, *_: kept.append(artifact))
    best = complete(new_trial(1, PLAN, seed=7, knobs={}), 10.0)
    context.log.trial(complete(Trial("baseline", 0, PLAN.baseline_plan(), 7, "running", role="baseline")))
    context.log.trial(best)
    members = freeze_front(context)
    assert members == [best]
    context.log.trial(complete(new_trial(2, PLAN.baseline_plan(), seed=7, knobs={}), 1.0))  # better, and too late
    assert freeze_front(context) == [best]
    read_test_split(context, members)
    read_test_split(context, freeze_front(context))
    measuring: Any = context.trials.measuring
    assert measuring.read_of == kept == [f"artifacts/{best.uid}"]
    (tested,) = freeze_front(context)
    assert tested.test_readings == {"size": Reading(1.0, "B")}


def test_only_confirmations_that_have_not_ended_are_run(context: SweepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, confirmation)
    member = complete(new_trial(1, PLAN, seed=7, knobs={}), 10.0)
    context.log.trial(member)
    context.log.trial(complete(replace(member, uid=f"{member.uid}-seed8", role="confirmation", of=member.uid), 55.0))
    confirm_front(context, [member])
    sizes = {trial.uid: trial.value("size") for trial in context.record.trials.values() if trial.of == member.uid}
    assert sizes == {f"{member.uid}-seed8": 55.0, f"{member.uid}-seed9": 100.0}


def test_a_sweep_goes_on_until_it_is_stopped_or_its_lanes_are_lost(context: SweepContext) -> None:
    wound_down: list[bool] = []
    client, lanes, notes = cast("tuple[Any, Any, Notes]", (context.trials.lanes, context.lanes, context.log.display))
    client.wind_down = lambda: wound_down.append(True)
    context.require_going_on()
    assert not context.stop_asked()
    lanes.lost = lambda: "no lane is left"
    with pytest.raises(SweepFailed, match=r"no lane is left\n.* is stopped: 0 of 3 trials have ended"):
        context.require_going_on()
    context.stopping.asked = "SIGINT"
    assert context.stop_asked()
    assert context.stop_asked()
    assert wound_down == [True]
    assert notes.lines == ["SIGINT: finishing running trials first; once more stops at once"]
    with pytest.raises(SweepStopped, match="resume: "):
        context.require_going_on()
