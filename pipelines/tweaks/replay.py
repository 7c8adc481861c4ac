"""Keep training on the source task's data, so that the model does not forget it."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.samples import Samples, num_samples
from paretta.pipelines.data.trees import call_model, moved
from paretta.pipelines.losses.global_loss import GlobalLoss, Shares
from paretta.pipelines.tweak import Tweak, TweakSettings
from paretta.search_spaces.errors import Problem, WrongInput


class Replay(TweakSettings):
    """Add ``strength * loss on a batch of source data`` at every step (Ratcliff, 1990; Robins, 1995, rehearsal).

    The batch comes from the task's `source`, pairs in the same form as its training data.
    """

    kind: Literal["replay"] = "replay"
    strength: float = Field(default=0.5, gt=0, description="the weight of the source data's loss, such as 0.5")
    batch_size: int = Field(default=32, ge=2, description="the source samples of a step over all workers, such as 32")

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Return the hook that adds the loss. Raises `WrongInput` if the task has no source data."""
        source = bench.task.source
        if source is None:
            hint = "give the task `source=...`, a dataset of (input, target)"
            raise WrongInput(Problem("replay", "the task has no source data", None, hint))
        if self.batch_size < bench.ranks.world_size:
            rule = f"must hold a sample for each of the {bench.ranks.world_size} workers"
            raise WrongInput(Problem("replay.batch_size", rule, self.batch_size))
        return _Rehearsal(self, source, bench)

    def words(self) -> str:
        """Describe the tweak: its strength."""
        return f"replay of source data by {self.strength:g}"


class _Rehearsal(Tweak):
    def __init__(self, settings: Replay, source: Samples, bench: Bench) -> None:
        self.settings, self.source, self.bench = settings, source, bench
        self.places, self.loss = torch.empty(0, dtype=torch.long), GlobalLoss(bench.task, bench.ranks)

    def before_step(self, step: int, model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(derived_seed(self.bench.seed, "replay", str(step)))
        self.places = torch.randint(num_samples(self.source), (self.settings.batch_size,), generator=generator)

    def penalty(self, model: nn.Module) -> Tensor:
        ranks, mine = self.bench.ranks, self.bench.ranks.shard(self.places)
        inputs, targets = self.bench.task.batch(self.source, mine, training=True)
        shares = Shares.of(self.bench.task, ranks, targets, len(self.places))
        outputs = call_model(model, moved(inputs, ranks.device))
        return self.settings.strength * self.loss(outputs, moved(targets, ranks.device), shares)
