"""Calibrate activation grids on training data."""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import draw
from paretta.pipelines.data.trees import call_model, moved
from paretta.pipelines.grid import Grid
from paretta.pipelines.quantization.call_graph import Joint
from paretta.pipelines.quantization.fake_quantize import (
    attach_input_quantizer,
    attach_output_quantizer,
    is_dynamic,
    is_quantized,
)
from paretta.pipelines.quantization.joint_quantizers import (
    attach_gate,
    attach_joint_quantizer,
    detach_joint_quantizers,
    watch_joints,
)
from paretta.pipelines.quantization.placement import Bounds, Site, placement_of
from paretta.pipelines.quantizers import RangeRule
from paretta.pipelines.quantizers.affine import Affine

_BATCH = 64
_VALUES_PER_BATCH = 2**15


def calibrate(
    model: nn.Module, layers: Collection[str], bench: Bench, *, num_samples: int, range_rule: RangeRule
) -> None:
    """Put an 8-bit grid on the input of each of `layers`, and one on each tensor between them, see `placement_of`.

    Every rank uses the same samples.

    Args:
        model: in evaluation mode, on the bench's device, with quantised weights.
        layers: names of convolutions and linear layers without activation grids.
        bench: provides the data, and the seed that selects samples.
        num_samples: of the training split.
        range_rule: how outliers are treated, see `paretta.pipelines.quantizers.Quantizer`.
    """
    detach_joint_quantizers(model)
    others = {name for name, layer in model.named_modules() if is_quantized(layer) and not is_dynamic(layer)}
    quantized = {*layers, *others}
    placement = placement_of(model, moved(bench.task.example_input, bench.ranks.device), quantized)
    seen = _seen(model, {*layers, *placement.results}, bench, num_samples)
    rule = Affine(axis=None, range=range_rule, signed=False)
    grids: dict[Site, Grid] = {}
    for site, bounds in placement.results.items():
        before = None if isinstance(site, Joint) else getattr(model.get_submodule(site), "output_quantizer", None)
        grids[site] = rule.fit(_bounded(seen[site].left, bounds)) if before is None else before.grid()
        if isinstance(site, Joint):
            attach_joint_quantizer(model, site, grids[site])
        else:
            attach_output_quantizer(model.get_submodule(site), grids[site])
    for gate in placement.gates:
        attach_gate(model, gate)
    for name in layers:
        source = placement.shared.get(name)
        grid = rule.fit(torch.cat(seen[name].entered)) if source is None else grids[source]
        attach_input_quantizer(model.get_submodule(name), grid)


def _seen(model: nn.Module, sites: Collection[Site], bench: Bench, num_samples: int) -> "dict[Site, _Seen]":
    """Return the activations of layers, and of calls between them, on samples of the training split."""
    seen = {site: _Seen() for site in sites}
    with ExitStack() as watching:
        for site, passed in seen.items():
            if isinstance(site, str):
                watching.callback(model.get_submodule(site).register_forward_hook(passed.watch).remove)
        for owner in {site.owner for site in sites if isinstance(site, Joint)}:
            watched = {site.key: seen[site] for site in sites if isinstance(site, Joint) and site.owner == owner}
            for handle in watch_joints(model.get_submodule(owner), {key: item.note for key, item in watched.items()}):
                watching.callback(handle.remove)
        with torch.no_grad():
            for indices in torch.split(draw(bench.task.statistics_samples, num_samples, bench.seed), _BATCH):
                call_model(model, moved(bench.task.calibration_inputs(indices), bench.ranks.device))
    return seen


@dataclass(slots=True)
class _Seen:
    """Evenly sampled activations, together with the exact extremes of every batch."""

    entered: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)

    def watch(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.entered.append(_thinned(inputs[0]))
        self.left.append(_thinned(output))

    def note(self, result: Tensor) -> None:
        self.left.append(_thinned(result))


def _bounded(results: list[Tensor], bounds: Bounds | None) -> Tensor:
    """Return the values, clipped to the range of the activation function that follows, if there is one."""
    together = torch.cat(results)
    return together if bounds is None else together.clamp(*bounds)


def _thinned(values: Tensor) -> Tensor:
    flat = values.detach().flatten()
    step = -(-flat.numel() // _VALUES_PER_BATCH)
    return torch.cat([flat[::step], flat.min()[None], flat.max()[None]])
