"""Searches over finished results, from a file and from a sweep's journal."""

from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from paretta.dashboards.journal.journal import Journal
from paretta.orchestrator.offline.compare import compare, comparison_text, plot
from paretta.orchestrator.offline.results_table import results_of_file, results_of_sweep
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

GOALS = {"known": ("size",), "minimise": ("size",), "maximise": ("accuracy",)}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = []
    for bits, sparsity, score in product((2, 3, 4, 6, 8), [step / 14 for step in range(14)], ("l1", "l2")):
        error = 0.02 + 0.2 / bits**2 + 0.3 * sparsity**3 + 0.03 * (score == "l1")
        rows.append({"bits": bits, "sparsity": sparsity, "score": score, "size": bits * (1.05 - sparsity)})
        rows[-1] |= {"accuracy": 1 - error, "accuracy@1": 0.9 - error, "accuracy@3": 0.97 - error}
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_file_is_replayed_and_the_policy_beats_chance(table: Path, tmp_path: Path) -> None:
    results = results_of_file(table, **GOALS)
    assert [knob.name for knob in results.space.knobs()] == ["row.bits", "row.sparsity", "row.score"]
    assert results.rungs.fidelities == (1.0, 3.0, 9.0)
    curves = compare(results, ["random", "grey_box", "random+mo_asha"], num_seeds=3, budget=10)
    chance, ours, halving = (curve.mean for curve in curves)
    assert ours[-1] > chance[-1]
    assert halving[-1] != chance[-1]
    assert all((curve.shares[:, 1:] >= curve.shares[:, :-1] - 1e-9).all() for curve in curves)
    assert "grey_box" in comparison_text(results, curves)
    plot(results, curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_sweep_is_replayed_with_what_its_trials_told(tmp_path: Path) -> None:
    objectives = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))
    config = {"baseline": [], "space": [{"kind": "quantize", "bits": {"int": [2, 20]}}]}
    with Journal(tmp_path) as journal:
        journal.sweep(name="s", config=config, objectives=objectives, facts={})
        for number in range(10):
            plan, knobs = Plan((), ({"kind": "quantize", "bits": number + 2},)), {"quantize.bits": number + 2}
            readings = {"size": Reading(100.0 - 5 * number, "B"), "accuracy": Reading(0.9 + number / 100, "share")}
            role = "trial" if number else "baseline"
            trial = Trial(str(number), number, plan, 0, "complete", role=role, knobs=knobs, readings=readings)
            for epoch in range(1, 10):
                message = {"epoch": epoch, "num_epochs": 9, "scores": {"accuracy": 0.8 + epoch / 50}}
                journal.progress(trial.uid, message)
            journal.trial(trial)
    results = results_of_sweep(tmp_path, frozenset({"size"}))
    assert len(results.configs) == 9
    assert results.rungs.fidelities == (1.0, 3.0, 9.0)
    assert results.curves["accuracy"][0].tolist() == pytest.approx([0.82, 0.86, 0.91])
    (curve,) = compare(results, ["tpe+index"], num_seeds=2, budget=5)
    assert curve.shares.shape == (2, 60)


@pytest.mark.parametrize(
    ("goals", "words"),
    [
        ({**GOALS, "maximise": ("acuracy",)}, "did you mean 'accuracy'"),
        ({**GOALS, "known": ("size", "accuracy")}, "learned by training"),
        ({**GOALS, "known": ("sise",)}, "did you mean 'size'"),
    ],
)
def test_wrong_columns_are_refused(table: Path, goals: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        results_of_file(table, **goals)


def test_an_unknown_sampler_and_too_few_rows_are_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="did you mean 'grey_box'"):
        compare(results_of_file(table, **GOALS), ["greybox"], num_seeds=2)
    pd.read_csv(table).head(5).to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(WrongInput, match="at least 8"):
        results_of_file(tmp_path / "short.csv", **GOALS)
