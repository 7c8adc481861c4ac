"""The last reading decides the front: which trials are read, together with which others, and their intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.sweeps import last_reading_phase
from paretta.orchestrator.sweeps.last_reading_phase import read_side_by_side
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

OBJECTIVES = (Objective("size", "min", "B"), Objective("latency", "min", "ratio"))
BASELINE_S = 30e-6


def latency(ratio: float, *, half: float = 0.02, baseline_s: float = BASELINE_S) -> Reading:
    details = {"seconds": ratio * baseline_s, "baseline_seconds": baseline_s, "slowness": 1.0}
    return Reading(ratio, "ratio", ratio * (1 - half), ratio * (1 + half), 8, details=details)


def trial(uid: str, size: float, timed: Reading) -> Trial:
    role = "baseline" if uid == "baseline" else "trial"
    readings = {"size": Reading(size, "B"), "latency": timed}
    return Trial(uid, 1, Plan(), 0, "complete", role=cast("Any", role), readings=readings, artifact=f"artifacts/{uid}")


@dataclass
class Sweep:
    """What the phase needs of a sweep's context; the measuring actor answers with `truth`."""

    truth: dict[str, float]
    record: SweepRecord = field(default_factory=lambda: SweepRecord(objectives=OBJECTIVES))
    groups: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fails: bool = False
    baseline: str = "baseline"
    files: None = None

    @property
    def trials(self) -> "Sweep":
        return self

    log = measuring = display = trials

    def stop_asked(self) -> bool:
        return False

    def trial(self, ended: Trial) -> None:
        self.record.trials[ended.uid] = ended

    def show_line(self, text: str) -> None:
        self.notes.append(text)

    def read_together(self, artifacts: Sequence[str], baseline: str) -> list[dict[str, Reading]]:
        assert baseline == "artifacts/baseline"
        if self.fails:
            raise TrialFailed("it does not run")
        uids = [artifact.removeprefix("artifacts/") for artifact in artifacts]
        self.groups.append(sorted(uids))
        return [{"latency": latency(self.truth[uid])} for uid in uids]

    def value(self, uid: str) -> float | None:
        return self.record.trials[uid].value("latency")

    def front(self) -> set[str]:
        return {member.uid for member in self.record.front()}


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sweep]:
    monkeypatch.setattr(last_reading_phase, "keep_readings", lambda *_: None)

    def make(truth: dict[str, float], *trials: Trial) -> Sweep:
        made = Sweep({"baseline": 1.0, **truth})
        for each in (trial("baseline", 1000, latency(1.0)), *trials):
            made.trial(each)
        return made

    return make


def read(made: Sweep) -> Sweep:
    read_side_by_side(cast("Any", made))
    return made


def test_the_front_and_what_may_belong_to_it_are_read_in_the_same_rounds(sweep: Callable[..., Sweep]) -> None:
    trials = [trial("a", 500, latency(0.5)), trial("b", 510, latency(0.505)), trial("c", 900, latency(0.9))]
    made = sweep({"a": 0.52, "b": 0.48, "c": 0.1}, *trials)
    assert made.front() == {"a"}
    read(made)
    assert made.groups == [["a", "b", "baseline"]], "c is worse beyond all intervals"
    assert made.front() == {"a", "b"}, "decided by the last readings"
    assert [made.value(uid) for uid in "abc"] == [0.52, 0.48, 0.9]
    assert read(made).groups == [["a", "b", "baseline"]], "and once only"


def test_one_that_joins_the_front_is_read_as_well(sweep: Callable[..., Sweep]) -> None:
    trials = [trial("a", 500, latency(0.5)), trial("b", 510, latency(0.6))]
    made = read(sweep({"a": 0.65, "b": 0.61}, *trials))
    assert made.groups == [["a", "baseline"], ["b"]]
    assert made.value("b") == 0.61


def test_how_far_two_visits_differ_is_part_of_the_intervals(sweep: Callable[..., Sweep]) -> None:
    first, last = [0.30, 0.40, 0.50, 0.60], [0.27, 0.45, 0.45, 0.67]
    trials = [trial(f"t{i}", 100 - i, latency(value)) for i, value in enumerate(first)]
    ratios = sorted(first, reverse=True)  # smaller ones are slower, so that all are on the front
    trials = [trial(f"t{i}", 100 + i, latency(value)) for i, value in enumerate(ratios)]
    made = read(sweep({f"t{i}": last[::-1][i] for i in range(4)}, *trials))
    reading = made.record.trials["t0"].readings["latency"]
    halves = 1.96**2 * np.log(np.array(last) / first) ** 2 / 2
    spread = math.sqrt((8 * 0.02**2 + halves.sum()) / 12)
    assert reading.details["visit_spread"] == pytest.approx(spread, rel=1e-3)
    assert reading.low is not None
    assert math.log(0.67 / reading.low) == pytest.approx(
        math.hypot(math.log(1 / 0.98), math.sqrt(spread**2 - 0.02**2)), rel=1e-3
    )
    calm = read(sweep({"t": 0.5}, trial("t", 100, latency(0.5)))).record.trials["t"].readings["latency"]
    assert (calm.low, calm.high) == pytest.approx((0.49, 0.51)), "equal visits add nothing"


def test_a_visit_before_the_full_speed_was_known_is_marked_and_counts_less(sweep: Callable[..., Sweep]) -> None:
    slow = latency(0.603, half=0.005, baseline_s=1.5 * BASELINE_S)
    better = trial("fast", 490, latency(0.535, half=0.005))
    made = sweep({"slow": 0.536, "fast": 0.535}, trial("slow", 500, slow), better)
    assert "slow" not in {undecided.uid for undecided in made.record.front().undecided}, "sure, and wrong"
    read(made)
    assert made.groups == [["baseline", "fast", "slow"]]
    assert made.value("slow") == 0.536
    made = sweep({"fast": 0.535}, trial("slow", 500, slow), better)
    made.fails = True
    marked = read(made).record.trials["slow"].readings["latency"]
    assert marked.details["contended"] is True
    assert marked.low == pytest.approx(0.603 / math.exp(math.hypot(math.log(1 / 0.995), math.log(1.5))))
    assert made.notes[-1] == "the front keeps the times measured during the search: it does not run"


def test_nothing_is_read_where_nothing_is_timed_or_the_front_is_frozen(sweep: Callable[..., Sweep]) -> None:
    untimed = sweep({}, replace(trial("a", 500, Reading(0.5, "ratio"))))
    untimed.trial(trial("baseline", 1000, Reading(1.0, "ratio")))
    assert read(untimed).groups == []
    frozen = sweep({"a": 0.5}, trial("a", 500, latency(0.5)))
    frozen.record.frozen = ("a",)
    assert read(frozen).groups == []


def test_models_that_take_too_long_keep_their_readings(sweep: Callable[..., Sweep]) -> None:
    made = read(sweep({"a": 0.5}, trial("a", 500, latency(0.5, baseline_s=20.0)), trial("baseline", 1, latency(1.0))))
    assert made.groups == []
    assert "measuring 2 models again takes too long" in made.notes[-1]
