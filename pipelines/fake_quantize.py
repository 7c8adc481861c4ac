"""Quantisation inside a trainable model: learned weight steps and calibrated activation grids."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipelines.grid import Grid
from pipelines.quantizers.symmetric import symmetric_scale

_SMALLEST_STEP = 1e-8


class LearnedStepSize(nn.Module):
    """Weight parametrization with one learned step per output channel.

    ``w_hat = s * round(clamp(w / s, -q, q))`` with ``q = 2**(bits-1) - 1``; gradients pass the rounding unchanged
    (straight-through) and the step's gradient is scaled by ``1 / sqrt(n * q)`` with n weights per channel.
    Source: Esser et al., "Learned step size quantization", 2020.

    Args:
        weight: [out, ...], from which the steps start.
        bits: 2 to 8.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        """Start at the steps of least squared error."""
        super().__init__()
        self.bits = bits
        self.limit = 2 ** (bits - 1) - 1
        self.scale = nn.Parameter(symmetric_scale(weight, bits).to(weight.device))
        self._gradient_scale = (weight[0].numel() * self.limit) ** -0.5

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight on its grid, same shape; zeros stay zero."""
        step = self.steps()
        slow = step * self._gradient_scale
        step = cast(Tensor, slow + (step - slow).detach()).view(-1, *[1] * (weight.dim() - 1))
        ratio = (weight / step).clamp(-self.limit, self.limit)
        rounded: Tensor = ratio + (ratio.round() - ratio).detach()
        return rounded * step

    def steps(self) -> Tensor:
        """Return the step of each output channel, positive, [out]."""
        return self.scale.abs().clamp_min(_SMALLEST_STEP)

    def grid(self) -> Grid:
        """Return the grid the weight stands on now."""
        scale = self.steps().detach()
        return Grid(scale, torch.zeros_like(scale, dtype=torch.int32), -self.limit, self.limit, axis=0)


class ActivationQuantizer(nn.Module):
    """Unsigned 8-bit activations on a fixed, calibrated grid, with straight-through gradients inside its range.

    Its state are buffers, so data-parallel replicas share it and no parameter is left without a gradient.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid) -> None:
        """Keep the grid; it must have one step for the whole tensor and codes 0 .. 255."""
        super().__init__()
        assert grid.axis is None
        assert (grid.low, grid.high) == (0, 255)
        self.register_buffer("scale", grid.scale.detach().clone())
        self.register_buffer("zero_point", grid.zero_point.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on the grid, same shape."""
        low, high = -self.zero_point * self.scale, (255 - self.zero_point) * self.scale
        inside = torch.minimum(torch.maximum(values, low), high)
        return inside + (self.grid().nearest(values) - inside).detach()

    def grid(self) -> Grid:
        """Return the grid as a value."""
        return Grid(self.scale, self.zero_point, 0, 255)


def attach_weight_quantizer(layer: nn.Module, bits: int) -> None:
    """Put a learned-step quantiser on `layer.weight`, after masks that are already there; an older one is replaced."""
    weight = cast(Tensor, layer.weight)
    if (current := weight_quantizer(layer)) is None:
        parametrize.register_parametrization(layer, "weight", LearnedStepSize(weight, bits))
        return
    chain = _chain(layer)
    index = [*chain].index(current)
    source = cast(Tensor, chain.original)
    for earlier in [*chain][:index]:
        source = earlier(source)
    chain[index] = LearnedStepSize(source.detach(), bits)


def weight_quantizer(layer: nn.Module) -> LearnedStepSize | None:
    """Return the learned-step quantiser on `layer.weight`, if there is one."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    return next((step for step in _chain(layer) if isinstance(step, LearnedStepSize)), None)


def weight_codes(layer: nn.Module) -> Tensor:
    """Return the integer codes of a quantised layer's weight, int8, shape of the weight."""
    quantizer = weight_quantizer(layer)
    assert quantizer is not None
    return quantizer.grid().codes(cast(Tensor, layer.weight).detach()).to(torch.int8)


def attach_input_quantizer(layer: nn.Module, grid: Grid) -> None:
    """Quantise what enters `layer` to `grid`; a second call replaces the grid."""
    layer.input_quantizer = ActivationQuantizer(grid)
    if _quantize_input not in layer._forward_pre_hooks.values():
        layer.register_forward_pre_hook(_quantize_input)


def attach_output_quantizer(layer: nn.Module, grid: Grid) -> None:
    """Quantise what leaves `layer` to `grid`; a second call replaces the grid."""
    layer.output_quantizer = ActivationQuantizer(grid)
    if _quantize_output not in layer._forward_hooks.values():
        layer.register_forward_hook(_quantize_output)


def detach_activation_quantizers(layer: nn.Module) -> None:
    """Let activations pass unquantised again."""
    for name in ("input_quantizer", "output_quantizer"):
        if hasattr(layer, name):
            delattr(layer, name)


def is_quantized(layer: nn.Module) -> bool:
    """Say whether both the weight and the input of `layer` are quantised."""
    return weight_quantizer(layer) is not None and hasattr(layer, "input_quantizer")


def _chain(layer: nn.Module) -> nn.ModuleList:
    return cast(nn.ModuleList, cast(nn.ModuleDict, layer.parametrizations)["weight"])


# Hooks are functions of the module and not bound methods, so a deep copy of the layer uses its own quantiser.
def _quantize_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    quantizer = getattr(layer, "input_quantizer", None)
    return inputs if quantizer is None else (quantizer(inputs[0]), *inputs[1:])


def _quantize_output(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    quantizer = getattr(layer, "output_quantizer", None)
    return output if quantizer is None else cast(Tensor, quantizer(output))
