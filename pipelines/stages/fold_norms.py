"""Merge batch norms into the layers before them."""

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import moved
from paretta.pipelines.post_training.norm_statistics import NUM_SAMPLES, refresh
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.stage import Norms, Shape, Stage
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note, notes_by_reason


class FoldNorms(Stage):
    """``w' = w gamma / sqrt(var + eps)``, ``b' = (b - mean) gamma / sqrt(var + eps) + beta`` (Jacob et al., 2018).

    Norms that have seen no batch since `prune` removed channels are recalibrated first. Delivered models are always
    folded. As a separate stage it lets later training, and the scores of `prune` and `sparsify`, use the weights that
    will be delivered.
    """

    kind: Literal["fold_norms"] = "fold_norms"

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with folded norms; a norm that does not follow a single layer is left in place."""
        model.to(bench.ranks.device).eval()
        before = _num_norms(model)
        refresh(model, bench, num_samples=NUM_SAMPLES)
        kept = fold_batch_norms(model, moved(bench.task.example_input, bench.ranks.device))
        for note in notes_by_reason(self.kind, kept):
            bench.note(note)
        if len(kept) == before:
            reason = "no batch norm can be folded" if kept else "the model has no batch norm"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
        return model

    @property
    def shape(self) -> Shape:
        """The delivered structure is the same."""
        return "settled"

    @property
    def norms(self) -> Norms:
        """Folded norms have current statistics."""
        return "fresh"

    def words(self) -> str:
        """Describe the stage."""
        return "fold batch norms"


def _num_norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())
