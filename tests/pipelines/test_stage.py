"""A plan's documents are parsed into stages, or all their problems are reported at once."""

import pytest

from paretta.pipelines.stage import stage_of, stages_of
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.stages.train import Train
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


def test_a_plan_becomes_its_stages_in_order() -> None:
    plan = Plan(({"kind": "train", "epochs": 2},), ({"kind": "prune", "sparsity": 0.5},))
    assert stages_of(plan) == (Train(epochs=2), Prune(sparsity=0.5))


def test_a_stage_of_another_package_is_named_by_its_path() -> None:
    assert stage_of({"kind": "paretta.pipelines.stages.train:Train", "epochs": 3}) == Train(epochs=3)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"kind": "prun"}, "did you mean 'prune'"),
        ({"sparsity": 0.5}, "needs a `kind`"),
        ({"kind": "train", "epoch": 3}, "train).epoch: no setting is called 'epoch'; did you mean 'epochs'"),
        ({"kind": "train", "epochs": 0}, "must be greater than or equal to 1; got 0; give a number of passes"),
        ({"kind": "train", "epochs": "2"}, "must be a valid integer; got '2'"),
        ({"kind": "train", "epochs": True}, "must be a valid integer; got True"),
        ({"kind": "train", "lr": "1e-3"}, "must be a valid number; got '1e-3'"),
        ({"kind": "train", "tweaks": [{"kind": "l1_penalty", "strength": "1"}]}, "must be a valid number; got '1'"),
        ({"kind": "train", "lr": float("nan")}, "must be a finite number"),
        ({"kind": "prune"}, "sparsity: this setting is required; give the share"),
        ({"kind": "prune", "sparsity": 1.2}, "must be less than 1; got 1.2; give the share of channels to remove"),
        ({"kind": "prune", "sparsity": 0.5, "importance": "tailor"}, "did you mean 'taylor'"),
        ({"kind": "distill", "temperature": 0}, "must be greater than 0; got 0; give the softening"),
        ({"kind": "paretta.search_spaces.space.plan:Plan"}, "must name a subclass of paretta.pipelines.stage.Stage"),
    ],
)
def test_what_is_wrong_is_told(document: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        stage_of(document, where="stages[0]")
    assert told in str(caught.value)
    assert str(caught.value).startswith("stages[0]")


def test_all_problems_of_a_plan_are_told_with_their_place() -> None:
    plan = Plan(({"kind": "train", "epochs": 0},), ({"kind": "prune", "sparsity": 1.2, "round_to": 0},))
    with pytest.raises(WrongInput) as caught:
        stages_of(plan)
    assert [problem.where for problem in caught.value.problems] == [
        "baseline[0] (train).epochs",
        "stages[0] (prune).sparsity",
        "stages[0] (prune).round_to",
    ]


def test_quantizing_twice_needs_a_training_in_between() -> None:
    first, second, train = {"kind": "quantize", "bits": 8}, {"kind": "quantize", "bits": 4}, {"kind": "train"}
    with pytest.raises(WrongInput, match="quantizes anew what was just quantized"):
        stages_of(Plan(stages=(first, second)))
    assert len(stages_of(Plan(stages=(first, train, second)))) == 3
    parts = [{"kind": "quantize", "bits": {name: 4}} for name in ("conv*", "fc*")]
    assert len(stages_of(Plan(stages=tuple(parts)))) == 2
