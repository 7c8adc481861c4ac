"""The share that is asked of a layer is the share that goes, also where its channels belong together in parts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.task import Metric, Task

_WIDE = 32


class Gated(nn.Module):
    """One half of a wide layer gates the other."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.wide, self.narrow, self.head, self.how = nn.Linear(12, _WIDE), nn.Linear(16, 16), nn.Linear(16, 3), how

    def forward(self, rows: Tensor) -> Tensor:
        wide = self.wide(rows)
        if self.how == "glu":
            joined = functional.glu(wide, 1)
        else:
            parts = wide.chunk(2, 1) if self.how == "chunk" else wide.split(wide.shape[1] // 2, 1)
            joined = parts[0] * parts[1].sigmoid()
        answer: Tensor = self.head(self.narrow(joined).relu())
        return answer


class Recurrent(nn.Module):
    """A convolution, whose channels a recurrent layer reads."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.steps, self.head = nn.Conv1d(3, 16, 3), layer, nn.Linear(5, 3)

    def forward(self, rows: Tensor) -> Tensor:
        wide = self.conv(rows.view(-1, 3, 4)).relu().transpose(1, 2)
        if isinstance(self.steps, nn.RNNCellBase):
            found = self.steps(wide[:, 0])
            state = found[0] if isinstance(found, tuple) else found
        else:
            state = self.steps(wide)[0][:, -1]
        answer: Tensor = self.head(state)
        return answer


def pruned(model: nn.Module, pattern: str, share: float, round_to: int = 1) -> nn.Module:
    inputs = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, torch.arange(16) % 3)
    metrics = {"mean": Metric(lambda outputs, _: outputs.mean(1))}
    task = Task(model, data, data, data, functional.cross_entropy, metrics, inputs[:1])
    return Prune(sparsity={pattern: share}, round_to=round_to).apply(model, Bench(task, Ranks.alone()))


@pytest.mark.parametrize("how", ["glu", "chunk", "split"])
@pytest.mark.parametrize(("share", "round_to"), [(0.25, 1), (0.5, 1), (0.75, 1), (0.4, 8)])
def test_of_channels_that_gate_each_other_the_asked_share_goes(how: str, share: float, round_to: int) -> None:
    model = pruned(Gated(how), "wide", share, round_to)
    assert isinstance(model.wide, nn.Linear)
    assert abs(model.wide.out_features - (1 - share) * _WIDE) <= max(round_to / 2, 1)
    assert model.wide.out_features % round_to == 0
    assert model.narrow.in_features == model.wide.out_features // 2


@pytest.mark.parametrize(
    "layer",
    [
        nn.GRU(16, 5, batch_first=True),
        nn.LSTM(16, 9, proj_size=5, batch_first=True),
        nn.RNN(16, 5, batch_first=True),
        nn.LSTMCell(16, 5),
    ],
)
def test_what_a_recurrent_layer_reads_is_pruned(layer: nn.Module) -> None:
    model = pruned(Recurrent(layer), "conv", 0.5)
    assert isinstance(model.conv, nn.Conv1d)
    assert (model.conv.out_channels, model.steps.input_size) == (8, 8)
    assert model(torch.randn(2, 12)).shape == (2, 3)
