"""Contract tests that every stage must pass, on the digits with a tiny network."""

from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor

from paretta.pipelines.bench import Bench
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.reuse.model_snapshot import restored, snapshot
from paretta.pipelines.stage import Stage, stage_of
from paretta.pipelines.state.state_file import read_state, write_state
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.search_spaces.space.plan import Plan
from paretta.testing.two_ranks import applied, document_of, images, outputs_on_two_ranks, toy_task

# for outputs of magnitude 1: float32 sums in another order, amplified by a few optimiser steps
TOLERANCE: Final = 1e-4


class StageContract:
    """Override the fixture `stage`.

    To test several stages, also override `alone` and `two_ranks` so that they are computed once for all.
    """

    @pytest.fixture
    def stage(self) -> Stage:
        """Return the stage under test."""
        raise NotImplementedError("override the fixture `stage`")

    @pytest.fixture
    def alone(self, stage: Stage) -> Tensor:
        """Return the outputs after the stage on one process."""
        return applied(stage, Ranks.alone())[1]

    @pytest.fixture
    def two_ranks(self, stage: Stage, tmp_path: Path) -> Tensor:
        """Return the outputs after the stage on two processes."""
        return outputs_on_two_ranks({"stage": stage}, tmp_path)["stage"]

    def test_the_outputs_keep_their_shape(self, alone: Tensor) -> None:
        assert alone.shape == (32, 10)
        assert bool(torch.isfinite(alone).all())

    def test_its_document_survives_a_round_trip(self, stage: Stage) -> None:
        document = document_of(stage)
        assert stage_of(document) == stage
        assert Plan(stages=(document,)).fingerprint

    def test_a_seed_repeats_it_to_the_last_bit(self, stage: Stage, alone: Tensor) -> None:
        assert torch.equal(alone, applied(stage, Ranks.alone())[1])

    def test_what_it_made_goes_through_a_file_and_learns_on_alike(self, stage: Stage, tmp_path: Path) -> None:
        model, outputs = applied(stage, Ranks.alone())
        written = snapshot(model, toy_task().new_model())
        assert written is not None, (
            "the model has state that cannot be written to a file, so no other trial could continue from it"
        )
        write_state(tmp_path / "model.safetensors", written)
        again = restored(read_state(tmp_path / "model.safetensors"), toy_task().new_model())
        with torch.no_grad():
            assert torch.equal(again(images()), outputs)
        for one in (model, again):
            fit(one, Bench(toy_task(), Ranks.alone()), TrainSettings.model_validate({"lr": 0.01}))
        with torch.no_grad():
            assert torch.equal(again(images()), model(images()))

    def test_two_ranks_learn_what_one_does(self, alone: Tensor, two_ranks: Tensor) -> None:
        assert (alone - two_ranks).abs().max().item() <= TOLERANCE

    def test_it_says_what_it_does(self, stage: Stage) -> None:
        assert stage.words() != ""
        assert "\n" not in stage.words()

    def test_every_setting_is_described(self, stage: Stage) -> None:
        fields = type(stage).model_fields.items()
        assert [key for key, field in fields if key != "kind" and not field.description] == []
