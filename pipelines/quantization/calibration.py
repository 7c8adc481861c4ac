"""Activation grids from what a model's layers see on training data."""

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from paretta.pipelines.bench import Bench
from paretta.pipelines.quantization.fake_quantize import attach_input_quantizer, attach_output_quantizer, is_quantized
from paretta.pipelines.quantization.layer_graph import Activation, LayerGraph
from paretta.pipelines.quantizers import RangeRule
from paretta.pipelines.quantizers.affine import Affine
from paretta.pipelines.samples import draw, take

_BATCH = 64
_VALUES_PER_BATCH = 2**15


def calibrate(
    model: nn.Module, layers: Collection[str], bench: Bench, *, num_samples: int, range_rule: RangeRule
) -> None:
    """Put an 8-bit grid on the input of each of `layers`, and on an output that no other quantised layer reads.

    Every rank looks at the same samples. Linear layers may end in floats, convolutions may not.

    Args:
        model: in evaluation mode, on the bench's device, its weights quantised already.
        layers: names of convolutions and linear layers without activation grids.
        bench: gives the data and the seed that chooses from it.
        num_samples: of the training split.
        range_rule: how outliers are treated, see `paretta.pipelines.quantizers.Quantizer`.
    """
    graph = LayerGraph.of(model, bench.task.example_input.to(bench.ranks.device))
    quantized = {*layers, *(name for name, layer in model.named_modules() if is_quantized(layer))}
    watchers = {name: _Watcher(model.get_submodule(name)) for name in layers}
    with torch.no_grad():
        for indices in torch.split(draw(bench.task.train, num_samples, bench.seed), _BATCH):
            model(take(bench.task.train, indices)[0].to(bench.ranks.device))
    rule = Affine(axis=None, range=range_rule, signed=False)
    for name, watcher in watchers.items():
        watcher.stop()
        attach_input_quantizer(watcher.layer, rule.fit(watcher.inputs()))
        if isinstance(watcher.layer, nn.Conv2d) and not graph.feeds_a_quantizer(name, quantized):
            attach_output_quantizer(watcher.layer, rule.fit(watcher.outputs(graph.activation_after(name))))


@dataclass(slots=True)
class _Watcher:
    """An even sample of what passes through one layer, with the exact extremes of every batch."""

    layer: nn.Module
    entered: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)
    handle: RemovableHandle = field(init=False)

    def __post_init__(self) -> None:
        self.handle = self.layer.register_forward_hook(self._watch)

    def _watch(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.entered.append(_thinned(inputs[0]))
        self.left.append(_thinned(output))

    def stop(self) -> None:
        self.handle.remove()

    def inputs(self) -> Tensor:
        return torch.cat(self.entered)

    def outputs(self, activation: Activation) -> Tensor:
        """Return the outputs; where an activation follows, what it lets through, as the rest is never needed."""
        outputs = torch.cat(self.left)
        return outputs if activation == "none" else outputs.clamp(0.0, 6.0 if activation == "relu6" else None)


def _thinned(values: Tensor) -> Tensor:
    flat = values.detach().flatten()
    step = -(-flat.numel() // _VALUES_PER_BATCH)
    return torch.cat([flat[::step], flat.min()[None], flat.max()[None]])
