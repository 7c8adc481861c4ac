"""Sweeps side by side: the joint front, hypervolume from one reference point, the knobs of the fronts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.cli import main
from paretta.orchestrator.monitor.side_by_side import SideBySide
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.front import Front


@pytest.fixture
def records(tmp_path: Path) -> tuple[SweepRecord, SweepRecord]:
    return tuple(
        write_sweep(tmp_path / name, trials=20, seed=seed, artifacts=False) for name, seed in (("a", 1), ("b", 2))
    )  # type: ignore[return-value]


def test_the_joint_front_is_that_of_all_trials(records: tuple[SweepRecord, SweepRecord]) -> None:
    found = SideBySide.of(records)
    values = {
        f"{record.name}@{trial.uid}": [trial.value("size"), trial.value("latency"), -(trial.value("accuracy") or 0)]
        for record in records
        for trial in record.trials.values()
        if trial.is_measured
    }

    def beaten(uid: str) -> bool:
        return any(
            all(x <= y for x, y in zip(other, values[uid], strict=True)) and other != values[uid]  # type: ignore[operator]
            for other in values.values()
        )

    assert {trial.uid for trial in found.joint} == {uid for uid in values if not beaten(uid)}
    assert sum(map(found.on_joint, found.names)) == len(found.joint)


def test_all_volumes_have_the_reference_point_of_the_first(records: tuple[SweepRecord, SweepRecord]) -> None:
    first, second = records
    size = replace(second.trials["baseline"].readings["size"], value=1e6)
    moved = replace(second.trials["baseline"], readings={**second.trials["baseline"].readings, "size": size})
    second.trials["baseline"] = moved
    found = SideBySide.of(records)
    of_first = [first.trials["baseline"], *(trial for trial in second.trials.values() if trial.role == "trial")]
    assert found.volumes == pytest.approx((first.front().hypervolume, Front.of(of_first, first.objectives).hypervolume))
    assert found.volumes[1] != pytest.approx(second.front().hypervolume)


def test_knobs_and_counts_are_told(records: tuple[SweepRecord, SweepRecord], tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["compare", "a", "b", "--home", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    (row,) = [line for line in shown.output.splitlines() if line.startswith("prune.sparsity")]
    values = [float(str(trial.knobs["prune.sparsity"])) for trial in records[0].front() if trial.knobs]
    assert f"{min(values):.3g} to {max(values):.3g}" in row
    document = json.loads(CliRunner().invoke(main, ["compare", "a", "b", "--json", "--home", str(tmp_path)]).output)
    assert [sweep["hypervolume"] for sweep in document["sweeps"]] == list(SideBySide.of(records).volumes)
    assert document["notes"] == []


def test_what_cannot_be_compared_is_refused_or_said(records: tuple[SweepRecord, SweepRecord]) -> None:
    first, second = records
    with pytest.raises(WrongInput, match="at least two different sweeps"):
        SideBySide.of([first, first])
    with pytest.raises(WrongInput, match="at least two different sweeps"):
        SideBySide.of([first])
    second.facts = {**second.facts, "data_digest": "other"}
    assert SideBySide.of(records).notes == ("b was measured on other data than a, so accuracies differ by samples",)
    second.objectives = (Objective("size", "min", "B"),)
    with pytest.raises(WrongInput, match="the objectives of b must be those of a, which are size, latency, accuracy"):
        SideBySide.of(records)
