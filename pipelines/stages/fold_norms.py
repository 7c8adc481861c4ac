"""Merge batch norms into the layers before them."""

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.stage import Shape, Stage
from paretta.pipelines.trees import moved
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note


class FoldNorms(Stage):
    """``w' = w gamma / sqrt(var + eps)``, ``b' = (b - mean) gamma / sqrt(var + eps) + beta`` (Jacob et al., 2018).

    What is delivered is always folded. As a stage of its own it lets the training that follows, and the scores of
    `prune` and `sparsify`, see the weights that will be shipped.
    """

    kind: Literal["fold_norms"] = "fold_norms"

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with folded norms; those that follow no single layer stay."""
        model.to(bench.ranks.device).eval()
        before = _norms(model)
        fold_batch_norms(model, moved(bench.task.example_input, bench.ranks.device))
        if left := _norms(model):
            bench.note(Note(self.kind, "are not folded: no single layer that runs once stands right before", left))
        if left == before:
            reason = "no batch norm can be folded" if left else "the model has no batch norm"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
        return model

    @property
    def shape(self) -> Shape:
        """The delivered structure is the same."""
        return "settled"

    def words(self) -> str:
        """Say it."""
        return "fold batch norms"


def _norms(model: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, module in model.named_modules() if isinstance(module, _BatchNorm))
