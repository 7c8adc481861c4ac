"""What is foreseen as exact is what the trained artifact weighs, to the byte; what is not, is called an estimate."""

from pathlib import Path

import pytest

from pipelines.artifact import MODEL
from pipelines.foresee import foresee, structure_key
from pipelines.meter import meter_of
from pipelines.ranks import Ranks
from pipelines.run import run
from pipelines.task import Task
from pipelines.tasks.digits import make
from search_spaces.plan import Document, Plan

TRAIN: Document = {"kind": "train", "epochs": 1, "lr": 0.01, "batch_size": 64}
LAYERS: Document = {"kind": "prune", "sparsity": 0.5, "importance": "taylor"}
WHOLE: Document = {"kind": "prune", "sparsity": 0.5, "scope": "global"}
BITS: Document = {"kind": "quantize", "bits": 4}


@pytest.fixture(scope="module")
def task() -> Task:
    return make(width=4, hidden=16)


@pytest.mark.parametrize(
    ("stages", "certainty"),
    [((), "exact"), ((LAYERS, TRAIN), "exact"), ((LAYERS, BITS, TRAIN), "estimate"), ((WHOLE, TRAIN), "estimate")],
)
def test_the_size_is_that_of_the_trained_artifact(
    task: Task, tmp_path: Path, stages: tuple[Document, ...], certainty: str
) -> None:
    plan = Plan((TRAIN,), stages)
    foreseen = foresee(plan, task, [meter_of("size", {})])["size"]
    delivered = run(plan, task, seed=1, ranks=Ranks.alone(), folder=tmp_path / "a").folder / MODEL
    assert foreseen.certainty == certainty
    if certainty == "exact":
        assert foreseen.reading.value == delivered.stat().st_size
    else:
        assert foreseen.reading.value == pytest.approx(delivered.stat().st_size, rel=0.15)


def test_what_training_decides_is_not_foreseen(task: Task) -> None:
    foreseen = foresee(Plan((TRAIN,), ()), task, [meter_of("accuracy", task.metrics)])["accuracy"]
    assert foreseen.reading.value is None
    assert foreseen.reading.reason == "it is known once the model is trained"


def test_settings_that_only_train_do_not_change_the_structure() -> None:
    longer: Document = {**TRAIN, "epochs": 9}
    other: Document = {**LAYERS, "importance": "l2"}
    assert structure_key(Plan((TRAIN,), (LAYERS, TRAIN))) == structure_key(Plan((longer,), (other,)))
    assert structure_key(Plan((TRAIN,), (LAYERS,))) != structure_key(Plan((TRAIN,), ({**LAYERS, "sparsity": 0.25},)))
    assert structure_key(Plan((TRAIN,), (LAYERS,))) != structure_key(Plan((TRAIN,), (LAYERS, BITS)))
