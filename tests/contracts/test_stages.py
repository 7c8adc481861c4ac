"""What every stage must hold to, tested on whatever is registered."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from two_ranks import be_a_rank, run_on_two_ranks

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.reuse.model_snapshot import restored, snapshot
from paretta.pipelines.stage import Stage, stage_of
from paretta.pipelines.state.state_file import read_state, write_state
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.train import TrainSettings, fit
from paretta.pipelines.tweak import TweakSettings
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.registry import STAGES, TWEAKS
from paretta.search_spaces.space.plan import Plan

NAMES = (*STAGES.names(), *(f"train with {name}" for name in TWEAKS.names()))
# of outputs of size 1: float32 sums in another order, amplified by a few optimiser steps
TOLERANCE = 1e-4


def document(name: str) -> Document:
    """Make a document of a stage, or of a training with a tweak, from the examples of its required settings."""
    kind, _, tweak = name.partition(" with ")
    if tweak:
        return {"kind": kind, "lr": 0.01, "tweaks": [required(TWEAKS.load(tweak), tweak)]}
    return required(STAGES.load(kind), kind)


def required(settings: object, kind: str) -> Document:
    assert isinstance(settings, type)
    assert issubclass(settings, Stage | TweakSettings)
    fields = settings.model_fields.items()
    return {"kind": kind, **{key: (field.examples or [None])[0] for key, field in fields if field.is_required()}}


def toy_task() -> Task:
    task = make(width=4, hidden=16)
    return replace(task, train=Subset(task.train, list(range(256))), source=task.validation)


def applied(name: str, ranks: Ranks) -> tuple[nn.Module, Tensor]:
    """Apply a stage to a seeded tiny model; return the model and its outputs on 32 images."""
    task = toy_task()
    with seeded(0):
        model = task.new_model()
    teacher = deepcopy(model).eval()
    bench = Bench(task, ranks, seed=5, teacher=teacher, teacher_key="toy", stage=name)
    with seeded(5):
        model = stage_of(document(name)).apply(model, bench).eval()
    with torch.no_grad():
        return model, model(task.validation.tensors[0][:32])


@cache
def one_rank(name: str) -> Tensor:
    return applied(name, Ranks.alone())[1]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Tensor]:
    """Outputs after each stage on two processes, which are started once for all stages."""
    folder = tmp_path_factory.mktemp("ranks")
    run_on_two_ranks(__file__, folder)
    return torch.load(folder / "outputs.pt", weights_only=True)


def work(ranks: Ranks, folder: Path) -> None:
    """Apply every stage as one of the two ranks."""
    outputs = {name: applied(name, ranks)[1] for name in NAMES}
    for output in outputs.values():
        assert torch.equal(output, ranks.broadcast(output)), "ranks must end with equal models"
    if ranks.is_first:
        torch.save(outputs, folder / "outputs.pt")


@pytest.mark.parametrize("name", NAMES)
class TestStage:
    def test_the_outputs_keep_their_shape(self, name: str) -> None:
        outputs = one_rank(name)
        assert outputs.shape == (32, 10)
        assert bool(torch.isfinite(outputs).all())

    def test_its_document_survives_a_round_trip(self, name: str) -> None:
        stage = stage_of(document(name))
        assert stage_of(stage.model_dump(mode="json")) == stage
        assert Plan(stages=(stage.model_dump(mode="json"),)).fingerprint

    def test_a_seed_repeats_it_to_the_last_bit(self, name: str) -> None:
        assert torch.equal(one_rank(name), applied(name, Ranks.alone())[1])

    def test_what_it_made_goes_through_a_file_and_learns_on_alike(self, name: str, tmp_path: Path) -> None:
        model, outputs = applied(name, Ranks.alone())
        written = snapshot(model, toy_task().new_model())
        assert written is not None
        write_state(tmp_path / "model.safetensors", written)
        again = restored(read_state(tmp_path / "model.safetensors"), toy_task().new_model())
        images = toy_task().validation.tensors[0][:32]
        with torch.no_grad():
            assert torch.equal(again(images), outputs)
        for one in (model, again):
            fit(one, Bench(toy_task(), Ranks.alone()), TrainSettings(lr=0.01))
        with torch.no_grad():
            assert torch.equal(again(images), model(images))

    def test_two_ranks_learn_what_one_does(self, name: str, two_ranks: Mapping[str, Tensor]) -> None:
        difference = (one_rank(name) - two_ranks[name]).abs().max().item()
        assert difference <= TOLERANCE

    def test_it_says_what_it_does(self, name: str) -> None:
        stage = stage_of(document(name))
        assert stage.words() != ""
        assert "\n" not in stage.words()
        kind, _, tweak = name.partition(" with ")
        assert len(TWEAKS.describe(tweak) if tweak else STAGES.describe(kind)) > 10

    def test_every_setting_is_described(self, name: str) -> None:
        stage = stage_of(document(name))
        fields = {**type(stage).model_fields}
        for tweak in getattr(stage, "tweaks", ()):
            fields |= type(tweak).model_fields
        assert [key for key, field in fields.items() if key != "kind" and not field.description] == []


if __name__ == "__main__":
    be_a_rank(work)
