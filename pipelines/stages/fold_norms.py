"""Merge batch norms into the layers before them."""

from typing import Literal

from torch import nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.stage import Shape, Stage


class FoldNorms(Stage):
    """``w' = w gamma / sqrt(var + eps)``, ``b' = (b - mean) gamma / sqrt(var + eps) + beta`` (Jacob et al., 2018).

    What is delivered is always folded. As a stage of its own it lets the training that follows, and the scores of
    `prune` and `sparsify`, see the weights that will be shipped.
    """

    kind: Literal["fold_norms"] = "fold_norms"

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with folded norms; those that follow no single layer stay."""
        model.to(bench.ranks.device).eval()
        return fold_batch_norms(model, bench.task.example_input.to(bench.ranks.device))

    @property
    def shape(self) -> Shape:
        """The delivered structure is the same."""
        return "settled"

    def words(self) -> str:
        """Say it."""
        return "fold batch norms"
