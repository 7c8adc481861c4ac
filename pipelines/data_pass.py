"""What a pass over training data tells of a model's weights: their gradients, signed and absolute."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipelines.bench import Bench, derived_seed
from pipelines.task import draw, take

BATCH = 64


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of the task's loss by parameter, none where no pass was made.

    Args:
        mean: ``E[g]`` over batches.
        mean_abs: ``E[|g|]`` over batches: it does not cancel where batches pull in opposite directions.
    """

    mean: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    mean_abs: dict[nn.Parameter, Tensor] = field(default_factory=dict)

    def of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Return both for `parameter`, zeros where none are known."""
        zeros = torch.zeros_like(parameter)
        return self.mean.get(parameter, zeros), self.mean_abs.get(parameter, zeros)


def gradients(model: nn.Module, bench: Bench, count: int) -> Gradients:
    """Measure the gradients on `count` training samples in batches of 64, equal on all ranks (collective).

    The model is left in the mode it is in, without gradients.
    """
    found = Gradients()
    chosen = draw(bench.task.train, count, derived_seed(bench.seed, "samples"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for batch in torch.split(chosen, BATCH):
        model.zero_grad(set_to_none=True)
        mine = bench.ranks.shard(batch)
        if len(mine) > 0:
            inputs, targets = (part.to(bench.ranks.device) for part in take(bench.task.train, mine))
            loss = bench.task.loss(model(inputs), targets) * (len(mine) * bench.ranks.world_size / len(batch))
            loss.backward()  # type: ignore[no-untyped-call]
        bench.ranks.average_gradients(model)
        for parameter in trained:
            if parameter.grad is not None:
                gradient = parameter.grad * (len(batch) / len(chosen))
                found.mean[parameter] = found.mean.get(parameter, 0.0) + gradient
                found.mean_abs[parameter] = found.mean_abs.get(parameter, 0.0) + gradient.abs()
    model.zero_grad(set_to_none=True)
    return found
