"""Confirming: which trials are created, and that they run concurrently and all end."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from paretta.orchestrator.monitor.front_text import confirmation_table, curse_notes, limits_note
from paretta.orchestrator.trials import confirmation as confirm_module
from paretta.orchestrator.trials.confirmation import confirm, repeats
from paretta.orchestrator.trials.events import RunEvent, TrialBegun, TrialEnded, TrialProgress, TrialWaits
from paretta.orchestrator.trials.run_trial import TrialContext
from paretta.search_spaces.objectives.limits import parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

PLAN = Plan(({"kind": "train"},), ({"kind": "prune", "sparsity": 0.5},))
MEMBERS = [Trial(f"{n:04d}-abcdef", n, PLAN, 5, "complete", knobs={"prune.sparsity": 0.5}) for n in (1, 2)]
NOWHERE = cast(TrialContext, Path())


def test_each_member_is_repeated_with_the_seeds_that_follow() -> None:
    made = repeats(MEMBERS, 2, 5)
    assert [(trial.of, trial.seed) for trial in made] == [
        ("0001-abcdef", 6),
        ("0002-abcdef", 6),
        ("0001-abcdef", 7),
        ("0002-abcdef", 7),
    ]
    assert len({trial.uid for trial in made}) == 4
    assert {trial.role for trial in made} == {"confirmation"}
    assert all(trial.plan == PLAN and trial.status == "running" for trial in made)
    assert repeats(MEMBERS, 0, 5) == []
    assert repeats(MEMBERS[:1], 1, 2**32 - 1)[0].seed == 0


def test_at_most_so_many_run_at_once_and_all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    open_now: set[str] = set()
    most = 0

    def run_trial(trial: Trial, _: TrialContext) -> Iterator[RunEvent]:
        nonlocal most
        open_now.add(trial.uid)
        most = max(most, len(open_now))
        for epoch in range(trial.number):
            yield TrialProgress(trial.uid, {"epoch": epoch})
        yield TrialWaits()
        open_now.remove(trial.uid)
        yield TrialEnded(replace(trial, status="complete"))

    monkeypatch.setattr(confirm_module, "run_trial", run_trial)
    events = list(confirm(repeats(MEMBERS, 3, 0), NOWHERE, at_once=lambda: 2))
    assert most == 2
    assert open_now == set()
    ended = [event.trial for event in events if isinstance(event, TrialEnded)]
    begun = [event.trial for event in events if isinstance(event, TrialBegun)]
    assert sorted(t.uid for t in ended) == sorted(t.uid for t in begun) == sorted(t.uid for t in repeats(MEMBERS, 3, 0))
    assert sum(isinstance(event, TrialProgress) for event in events) == 3 * (1 + 2)


def test_people_are_told_of_limits_confirmations_and_the_curse() -> None:
    objectives = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))

    def trial(uid: str, accuracy: float, of: str | None = None) -> Trial:
        readings = {"size": Reading(2000, "B"), "accuracy": Reading(accuracy, "share")}
        return Trial(uid, 1, PLAN, 0, "complete", role="confirmation" if of else "trial", of=of, readings=readings)

    limits = parse_limits([{"meter": "size", "at_most": "1kB"}])
    front = Front.of([trial("a", 0.9), trial("x", 0.8, "a"), trial("y", 0.8, "a")], objectives, "s", limits)
    assert (
        limits_note(front)
        == "best effort: no trial has size at most 1 kB; a misses it by least (size 2 kB, the bound is 1 kB)"
    )
    assert curse_notes(front) == ["mean over the front: accuracy was claimed 10.00 points better than with fresh seeds"]
    table = confirmation_table(front)
    assert table is not None
    assert list(table.columns[-1].cells) == ["90.00 % → 80.00 %"]
    plain = Front.of([trial("a", 0.9)], objectives)
    assert (limits_note(plain), curse_notes(plain), confirmation_table(plain)) == (None, [], None)
