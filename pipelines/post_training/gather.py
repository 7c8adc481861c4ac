"""Gather a layer's objective on unlabelled samples: what it reads after compression, what it answered before."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import draw, num_samples
from paretta.pipelines.data.trees import TensorTree, call_model, moved
from paretta.pipelines.model.padded_convolution import CONV_LAYERS, Convolution, Framed, framed
from paretta.pipelines.post_training.layer_objective import LayerObjective, grouped
from paretta.pipelines.task import Task

LEAST_SAMPLES = 32  # fewer fit a layer to their own noise
_BATCH = 64
_MOST_POSITIONS = 2**14  # of a batch's patches, evenly spaced


class _Reached(Exception):
    """The layer has been called as often as a forward pass calls it; the rest of the pass is not needed."""


def too_few(task: Task, *, fits: bool) -> str | None:
    """Return why a task's calibration samples do not suffice; None if they do.

    Args:
        task: with the samples.
        fits: whether weights or biases are fitted to them; otherwise ranges are, for which one is enough.
    """
    count = num_samples(task.statistics_samples)
    source = "training" if task.calibration is None else "calibration"
    if count == 0:
        return f"needs calibration samples; the task's {source} split is empty: give Task(calibration=...)"
    if fits and count < LEAST_SAMPLES:
        return f"fits weights to samples, at least {LEAST_SAMPLES} of them; the task's {source} split has {count}"
    return None


def batches(bench: Bench, count: int, seed: int) -> list[TensorTree]:
    """Return random calibration inputs in batches, equal on all ranks."""
    indices = torch.split(draw(bench.task.statistics_samples, count, seed), _BATCH)
    return [moved(bench.task.calibration_inputs(part), bench.ranks.device) for part in indices]


def call_counts(model: nn.Module, names: Sequence[str], inputs: TensorTree) -> dict[str, int]:
    """Return how often a forward pass calls each of the layers `names`, in the order of the first calls."""
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        return lambda *_: counts.update({name: counts.get(name, 0) + 1})

    handles = [model.get_submodule(name).register_forward_pre_hook(count(name)) for name in names]
    try:
        with torch.no_grad():
            call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts


@torch.no_grad()
def gathered(
    model: nn.Module,
    reference: nn.Module,
    name: str,
    inputs: Sequence[TensorTree],
    *,
    num_calls: int = 1,
    frees_bias: bool = True,
    rows: Tensor | None = None,
) -> LayerObjective:
    """Return the objective of the layer `name`, with its inputs in `model` and its wanted outputs in `reference`.

    Args:
        model: the compressed model, in evaluation mode.
        reference: the uncompressed model, with a layer of the same name.
        name: of a convolution or nn.Linear.
        inputs: calibration inputs in batches, see `batches`.
        num_calls: how often a forward pass calls the layer.
        frees_bias: whether the layer's bias, or one that is added later, will be set to the best one, see
            `LayerObjective.bias_for`; otherwise it stays that of the reference.
        rows: outputs of the reference's layer that the model's layer still has, if it was pruned; None: all.
    """
    layer, source = model.get_submodule(name), reference.get_submodule(name)
    groups = layer.groups if isinstance(layer, CONV_LAYERS) else 1
    bias = cast("Tensor | None", source.bias)
    fixed = 0.0 if bias is None or frees_bias else bias.detach()
    moments = _Moments()
    for batch in inputs:
        read = _passing(model, layer, batch, num_calls, lambda values, _: patches(layer, values))
        wanted = _passing(reference, source, batch, num_calls, lambda _, outputs: answers(layer, outputs) - fixed)
        for x, y in zip(read, wanted, strict=True):
            kept = y if rows is None else y[:, rows]
            moments.add(*_thinned(x, kept.view(len(kept), groups, -1).movedim(1, 0)))
    weight = cast(Tensor, (source if source.weight.shape == layer.weight.shape else layer).weight).detach()
    return moments.objective(grouped(weight, groups), centred=frees_bias)


def patches(layer: nn.Module, values: Tensor) -> Tensor:
    """Return what each output of a convolution or linear layer is computed from, [groups, positions, in].

    >>> patches(nn.Conv2d(2, 4, 3, groups=2), torch.zeros(1, 2, 5, 5)).shape
    torch.Size([2, 9, 9])
    """
    if not isinstance(layer, CONV_LAYERS):
        return values.reshape(1, -1, values.shape[-1])
    columns, sides = _padded(layer, values), range(2, values.dim())
    for axis, size, step, stride in zip(sides, layer.kernel_size, layer.dilation, layer.stride, strict=True):
        columns = columns.unfold(axis, step * (size - 1) + 1, stride)[..., ::step]
    # [n, in, positions of each axis, values of each axis] -> [positions, groups, in / groups * values]
    rows = columns.movedim(1, values.dim() - 1).flatten(0, values.dim() - 2)
    return rows.reshape(len(rows), layer.groups, -1).movedim(1, 0)


def _padded(layer: Convolution, values: Tensor) -> Tensor:
    """Return the values with the zeros around them that the layer, or its own forward, adds."""
    found = framed(layer, values) or Framed(values, layer.padding)
    padding = found.padding
    if padding == "same":
        totals = [step * (size - 1) for step, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        both = [(total // 2, total - total // 2) for total in totals]
    else:
        both = [(0, 0)] * len(layer.kernel_size) if isinstance(padding, str) else [(side, side) for side in padding]
    return functional.pad(found.values, [side for axis in reversed(both) for side in axis])


def answers(layer: nn.Module, outputs: Tensor) -> Tensor:
    """Return the outputs of a convolution or linear layer, [positions, out], in the order of `patches`."""
    return outputs.flatten(2).movedim(2, 1).flatten(0, 1) if isinstance(layer, CONV_LAYERS) else outputs.flatten(0, -2)


def _thinned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    step = -(-x.shape[1] // _MOST_POSITIONS)
    return x[:, ::step], y[:, ::step]


def _passing(
    model: nn.Module,
    layer: nn.Module,
    inputs: TensorTree,
    num_calls: int,
    take: Callable[[Tensor, Tensor], Tensor],
) -> list[Tensor]:
    """Return what `take` gives for the layer's inputs and outputs at each call; the pass ends with the last one."""
    taken: list[Tensor] = []

    def watch(_: nn.Module, given: tuple[Tensor, ...], outputs: Tensor) -> None:
        taken.append(take(given[0], outputs))
        if len(taken) == num_calls:
            raise _Reached

    with _watched(layer, watch), suppress(_Reached):
        call_model(model, inputs)
    return taken


@contextmanager
def _watched(layer: nn.Module, watch: Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]) -> Iterator[None]:
    handle = layer.register_forward_hook(watch)
    try:
        yield
    finally:
        handle.remove()


@dataclass(slots=True)
class _Moments:
    """Sums over positions, float64."""

    count: int = 0
    x: Tensor = field(default_factory=lambda: torch.zeros(()))
    y: Tensor = field(default_factory=lambda: torch.zeros(()))
    xx: Tensor = field(default_factory=lambda: torch.zeros(()))
    yx: Tensor = field(default_factory=lambda: torch.zeros(()))
    yy: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add inputs [groups, positions, in] and outputs [groups, positions, out / groups]."""
        self.count += x.shape[1]
        self.x, self.y = self.x + x.double().sum(1), self.y + y.double().sum(1)
        self.xx, self.yx = self.xx + (x.mT @ x).double(), self.yx + (y.mT @ x).double()
        self.yy = self.yy + y.double().square().sum(1)

    def objective(self, weight: Tensor, *, centred: bool) -> LayerObjective:
        means = (self.x / self.count, self.y / self.count) if centred else None
        return LayerObjective.of(self.xx / self.count, self.yx / self.count, self.yy / self.count, weight, means)
