"""Equalise the ranges of channels before quantisation: across layers, or between activations and weights."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.trees import moved
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.post_training.equalize import equalized, smoothed
from paretta.pipelines.post_training.gather import batches, too_few
from paretta.pipelines.post_training.norm_statistics import NUM_SAMPLES, refresh
from paretta.pipelines.post_training.scale_sites import scale_sites
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.stage import Norms, Shape, Stage
from paretta.pipelines.task import Task
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note


class Equalize(Stage):
    """Fold batch norms and move scales between layers; the function in floats stays the same to the last bit.

    ``cross_layer`` (Nagel et al., 2019) gives the channels between two layers weights of equal size on both sides, for
    `quantize` with ``granularity: tensor`` and for depthwise convolutions. ``smooth`` (SmoothQuant, Xiao et al., 2023)
    moves outliers of what linear layers read into their weights, for transformers with 8-bit activations. A scale moves
    where nothing but ReLU, leaky ReLU, pools and flattening stand between a layer, or for ``smooth`` a LayerNorm or
    RMSNorm, and the layers that read it.
    """

    kind: Literal["equalize"] = "equalize"
    method: Literal["cross_layer", "smooth"] = Field(
        default="cross_layer", description="cross_layer (between weights) or smooth (from activations to weights)"
    )
    strength: float = Field(
        default=0.5, ge=0, le=1, description="the share of an outlier that `smooth` moves, such as 0.5"
    )
    num_samples: int = Field(
        default=NUM_SAMPLES // 8,
        ge=1,
        description="the unlabelled samples on which `smooth` sees activations, such as 128",
    )

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with moved scales, equal on all ranks."""
        device = bench.ranks.device
        example = moved(bench.task.example_input, device)
        model.to(device).eval()
        refresh(model, bench, num_samples=NUM_SAMPLES)
        fold_batch_norms(model, example)
        unfold_attention(model)
        sites = scale_sites(model, example)
        if self.method == "cross_layer":
            changed = equalized(model, sites)
        else:
            inputs = batches(bench, self.num_samples, derived_seed(bench.seed, "samples"))
            changed = smoothed(model, sites, inputs, self.strength)
        bench.ranks.broadcast_model(model)  # a rounding difference between machines must not give different scales
        if not changed:
            reason = "no layer can take over the scale of another" if not sites else "all scales are close to 1"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
        return model

    def unmet(self, task: Task) -> str | None:
        """Report missing calibration samples."""
        return too_few(task, fits=False) if self.method == "smooth" else None

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report an `equalize` stage after quantization: it would move weights off their grids."""
        if fitted := [stage.kind for stage in earlier if stage.calibrates]:
            return f"would take weights off the grid of `{fitted[0]}`; put `equalize` before it"
        return None

    @property
    def norms(self) -> Norms:
        """Folded norms have current statistics."""
        return "fresh"

    @property
    def shape(self) -> Shape:
        """The delivered structure is the same."""
        return "settled"

    def words(self) -> str:
        """Describe the stage."""
        return "equalize weights across layers" if self.method == "cross_layer" else f"smooth by {self.strength:.2g}"
