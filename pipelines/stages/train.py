"""Train the model on the task's own loss."""

from typing import Literal

from torch import nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.stage import Shape, Stage
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit


class Train(TrainSettings, Stage):
    """Train every parameter; after `prune` or `quantize` this is fine-tuning."""

    kind: Literal["train"] = "train"

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model`, trained in place."""
        fit(model, bench, self)
        return model

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def words(self) -> str:
        """Describe the stage: epochs, optimizer and learning rate."""
        return f"train {self.epochs_in_words()}, {self.optimizer} lr {self.lr:g}{self.tweaks_in_words()}"
