"""Recompute the running statistics of batch norms for the current model."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.samples import draw
from paretta.pipelines.stage import Shape, Stage
from paretta.pipelines.trees import call_model, moved
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note

BATCH = 128


class RecalibrateNorms(Stage):
    """Replace running means and variances by averages over training samples; no weight changes.

    After pruning, the outputs of layers no longer match the statistics of their norms, which costs accuracy until
    training corrects it (Li et al., 2020, "EagleEye": adaptive batch normalisation). Takes a forward pass, no gradient.
    """

    kind: Literal["recalibrate_norms"] = "recalibrate_norms"
    num_samples: int = Field(1024, ge=2, description="the training samples to average over, such as 1024")

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with new statistics, equal on all ranks; a model without batch norms is unchanged."""
        model.to(bench.ranks.device).eval()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        if not norms:
            reason = "the model has no batch norm with running statistics"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
            return model
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch weights all batches equally
            norm.train()
        chosen = draw(bench.task.statistics_samples, self.num_samples, derived_seed(bench.seed, "samples"))
        whole = chosen[: len(chosen) - len(chosen) % BATCH] if len(chosen) >= BATCH else chosen
        with torch.no_grad(), bench.ranks.wrap(model):
            for batch in torch.split(whole, BATCH):
                inputs = bench.task.calibration_inputs(bench.ranks.shard(batch))
                call_model(model, moved(inputs, bench.ranks.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return model.eval()

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def words(self) -> str:
        """Describe the stage: the number of samples."""
        return f"recalibrate batch norms on {self.num_samples} samples"
