"""Small models with attention, and a bench for them."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct

Split = Literal["module", "layer", "input", "heads first", "fixed"]


class FusedAttention(nn.Module):
    """Four heads of width 4; one layer makes queries, keys and values, which are told apart by what `split` says."""

    def __init__(self, split: Split) -> None:
        super().__init__()
        self.split, self.num_heads, self.head_width, self.width = split, 4, 4, 16
        self.qkv, self.output = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        (n, t, channels), rows, heads, width = tokens.shape, self.qkv(tokens), self.num_heads, -1
        match self.split:
            case "module":
                parts, width = rows.view(n, t, 3, heads, self.head_width).unbind(2), self.width
            case "layer":
                parts = [part.view(n, t, heads, -1) for part in rows.chunk(3, dim=-1)]
            case "input":
                parts, width = rows.view(n, t, 3, heads, channels // heads).unbind(2), channels
            case "heads first":
                parts = rows.view(n, t, heads, 3, -1).unbind(3)
            case "fixed":
                parts, width = rows.view(n, t, 3, 4, 4).unbind(2), 16
        mixed = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts))
        return self.output(mixed.transpose(1, 2).reshape(n, t, width))


class Residual(nn.Module):
    """A fused attention beside its input, over the rows of an image."""

    def __init__(self, split: Split) -> None:
        super().__init__()
        self.embedding, self.attention, self.head = nn.Linear(6, 16), FusedAttention(split), nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embedding(images[:, 0])
        return self.head((tokens + self.attention(tokens)).mean(1))


def bench(make: Callable[[], nn.Module], ranks: Ranks | None = None) -> Bench:
    data = TensorDataset(torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3)
    task = Task(
        make, data, data, data, functional.cross_entropy, {"accuracy": Metric(correct)}, torch.zeros(1, 1, 6, 6)
    )
    return Bench(task, ranks or Ranks.alone())
