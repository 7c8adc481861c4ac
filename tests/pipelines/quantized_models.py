"""Small models and benches that the tests of quantisation share."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import Samples
from paretta.pipelines.quantization.fake_quantize import weight_quantizer
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Metric, Task


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def images(count: int, channels: int = 1, size: int = 12, seed: int = 7) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def bench_of(model: nn.Module, inputs: Tensor, *, seed: int = 3) -> Bench:
    data = cast(Samples, TensorDataset(inputs, torch.arange(len(inputs)) % 10))
    task = Task(model, data, data, data, nn.CrossEntropyLoss(), {"accuracy": Metric(accuracy)}, inputs[:1])
    return Bench(task=task, ranks=Ranks.alone(), seed=seed)


def quantized(model: nn.Module, inputs: Tensor, bits: int | Mapping[str, int], **settings: object) -> nn.Module:
    stage = Quantize.model_validate({"bits": bits, "calibration_samples": 64, **settings})
    return stage.apply(model, bench_of(model, inputs)).eval()


def widths(model: nn.Module) -> dict[str, int]:
    """Return the bits of every quantised layer."""
    found = {name: weight_quantizer(module) for name, module in model.named_modules()}
    return {name: quantizer.bits for name, quantizer in found.items() if quantizer is not None}


def chain() -> nn.Sequential:
    """Plain, strided, depthwise, grouped and pointwise convolutions, then linear layers."""
    torch.manual_seed(11)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 1),
        nn.Flatten(),
        nn.Linear(144, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


class Beside(nn.Module):
    """Branches that read the same input, their outputs side by side."""

    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([branch(images).flatten(1) for branch in self.branches], 1)


class Residual(nn.Module):
    """A skip connection, batch norms, a depthwise convolution, global pooling and a chosen activation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm0 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.activation = activation
        self.pointwise = nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.norm0(self.stem(images)))
        features = torch.relu(features + self.norm1(self.conv1(features)))
        features = self.activation(self.depthwise(features))
        features = self.activation(self.pointwise(features))
        return cast(Tensor, self.head(features.mean((2, 3))))


def residual(activation: nn.Module | None = None) -> Residual:
    """A residual model whose batch norms have seen data."""
    torch.manual_seed(5)
    model = Residual(activation or nn.ReLU())
    with torch.no_grad():
        for norm in (model.norm0, model.norm1):
            norm.weight.uniform_(0.5, 2.0)
            norm.bias.normal_()
        for _ in range(4):
            model(images(64))
    return model


def task_of(inputs: Tensor) -> Task:
    """A task with these inputs [n, ...], for what looks at a task's samples and example alone."""
    data = TensorDataset(inputs, torch.zeros(len(inputs)))
    return Task(nn.Identity, data, data, data, nn.functional.mse_loss, {}, example_input=inputs[:1])
