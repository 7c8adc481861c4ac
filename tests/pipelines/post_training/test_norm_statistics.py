"""Statistics of batch norms follow the structure: what is folded after pruning has been calibrated for it."""

from copy import deepcopy
from typing import cast

import pytest
import torch
from quantized_models import bench_of, images, residual
from torch import Tensor, nn

from paretta.pipelines.post_training.norm_statistics import mark_stale, recalibrate, stale_norms
from paretta.pipelines.reuse.model_snapshot import restored, snapshot
from paretta.pipelines.stage import Stage, stage_of
from paretta.search_spaces.canonical import Document

INPUTS = images(96)
PRUNE: Document = {"kind": "prune", "sparsity": 0.5, "importance": "l1"}
TRAIN: Document = {"kind": "train", "epochs": 1, "lr": 0.001}
QUANTIZE: Document = {"kind": "quantize", "bits": 8, "activation_bits": 32, "calibration_samples": 96}


def after(*documents: Document) -> nn.Module:
    model: nn.Module = residual()
    for document in documents:
        model = stage_of(document).apply(model, bench_of(model, INPUTS)).eval()
    return model


def of_stem(model: nn.Module) -> Tensor:
    """Return the outputs of the first layer, and of its norm if it has one, [channels, values]."""
    norm, stem = model.get_submodule("norm0"), model.get_submodule("stem")
    with torch.no_grad():
        return cast(Tensor, norm(stem(INPUTS))).movedim(1, 0).flatten(1)


def test_norms_are_stale_after_pruning_until_they_see_a_batch_or_are_recalibrated() -> None:
    pruned = after(PRUNE)
    assert stale_norms(pruned) == ("norm0", "norm1")
    assert stale_norms(after(PRUNE, TRAIN)) == ()
    assert stale_norms(after(PRUNE, {"kind": "recalibrate_norms"})) == ()
    assert stale_norms(after({**PRUNE, "sparsity": 0.0})) == ()
    pruned.train()(INPUTS[:8])
    assert stale_norms(pruned) == ()


def test_recalibrated_norms_are_current_whatever_number_of_batches_they_saw() -> None:
    model = residual()
    recalibrate(model, bench_of(model, INPUTS), num_samples=96, seed=0)
    mark_stale(model)
    recalibrate(model, bench_of(model, INPUTS), num_samples=96, seed=0)
    assert stale_norms(model) == ()


def test_a_stored_prefix_still_knows_that_its_norms_are_stale() -> None:
    written = snapshot(after(PRUNE), residual())
    assert written is not None
    assert stale_norms(restored(written, residual())) == ("norm0", "norm1")


@pytest.mark.parametrize("fold", [QUANTIZE, {"kind": "fold_norms"}, {"kind": "cluster", "values": 256}])
def test_what_is_folded_after_pruning_has_the_statistics_of_the_pruned_model(fold: Document) -> None:
    """A norm makes mean and spread of every channel those of its own bias and scale, on the data that it saw."""
    model = after(PRUNE)
    norm = deepcopy(model.get_submodule("norm0"))
    folded = stage_of(fold).apply(model, bench_of(model, INPUTS)).eval()
    assert isinstance(folded.get_submodule("norm0"), nn.Identity)
    values = of_stem(folded)
    assert torch.allclose(values.mean(1), cast(Tensor, norm.bias), atol=0.02)
    assert torch.allclose(values.std(1), cast(Tensor, norm.weight).abs(), rtol=0.03)


def test_a_trained_models_statistics_are_left_alone() -> None:
    model = after(PRUNE, TRAIN)
    before = deepcopy(of_stem(model))
    folded = stage_of(QUANTIZE).apply(model, bench_of(model, INPUTS)).eval()
    assert (of_stem(folded) - before).abs().max() < 0.03 * before.abs().max()


def stages(*documents: Document) -> list[Stage]:
    return [stage_of(document) for document in documents]


def advice(*documents: Document) -> list[str]:
    plan = stages(*documents)
    found = (stage.advice(plan[:index], plan[index + 1 :]) for index, stage in enumerate(plan))
    return [text for text in found if text is not None]


DISTILL: Document = {"kind": "distill"}
STEPS: Document = {"kind": "iterate", "prune": {"kind": "prune", "sparsity": 0.5}}


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ([PRUNE], "`prune` leaves batch norms the statistics"),
        ([PRUNE, {"kind": "sparsify", "sparsity": 0.5}], "put `recalibrate_norms`, or a training, after it"),
        ([STEPS], "`prune` leaves batch norms"),
        ([PRUNE, QUANTIZE, DISTILL], "give part of the epochs of `distill` to a stage in between"),
        ([PRUNE, {"kind": "recalibrate_norms"}, QUANTIZE, TRAIN], "give part of the epochs of `train`"),
        ([STEPS, QUANTIZE, DISTILL], "before the model has recovered from `iterate`"),
    ],
)
def test_orders_that_lose_are_named_with_the_one_that_wins(plan: list[Document], told: str) -> None:
    (text,) = advice(*plan)
    assert told in text


@pytest.mark.parametrize(
    "plan",
    [
        [PRUNE, DISTILL],
        [PRUNE, {"kind": "recalibrate_norms"}],
        [PRUNE, QUANTIZE],
        [PRUNE, DISTILL, QUANTIZE, DISTILL],
        [QUANTIZE, DISTILL],
        [{**PRUNE, "sparsity": 0.0}, QUANTIZE, DISTILL],
        [{**STEPS, "retrain": TRAIN}, QUANTIZE, DISTILL],
    ],
)
def test_other_orders_pass(plan: list[Document]) -> None:
    assert advice(*plan) == []
