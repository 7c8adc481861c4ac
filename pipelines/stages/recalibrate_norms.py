"""Recompute the running statistics of batch norms for the current model."""

from typing import Literal

from pydantic import Field
from torch import nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.post_training.norm_statistics import NUM_SAMPLES, recalibrate, tracking_norms
from paretta.pipelines.stage import Shape, Stage
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note


class RecalibrateNorms(Stage):
    """Replace running means and variances by averages over training samples; no weight changes.

    After pruning, the outputs of layers no longer match the statistics of their norms, which costs accuracy until
    training corrects it (Li et al., 2020, "EagleEye": adaptive batch normalisation). Takes a forward pass, no gradient.
    """

    kind: Literal["recalibrate_norms"] = "recalibrate_norms"
    num_samples: int = Field(
        default=NUM_SAMPLES, ge=2, description="the training samples to average over, such as 1024"
    )

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with new statistics, equal on all ranks; a model without batch norms is unchanged."""
        model.to(bench.ranks.device).eval()
        if not tracking_norms(model):
            reason = "the model has no batch norm with running statistics"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
            return model
        recalibrate(model, bench, num_samples=self.num_samples, seed=derived_seed(bench.seed, "samples"))
        return model

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def words(self) -> str:
        """Describe the stage: the number of samples."""
        return f"recalibrate batch norms on {self.num_samples} samples"
