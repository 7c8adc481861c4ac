"""An independent model of integer inference: exact sums of codes in float64, rescaled in float32 as at run time."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

Array = npt.NDArray[np.generic]


def simulate(model: nn.Sequential, inputs: torch.Tensor) -> Array:
    """Return what the integer form of a quantised chain computes, float32; it reads the trained layers, not the export.

    Every accumulation is an exact integer (below 2**53), an output code is
    ``clamp(round_half_even(float32(sum) * float32(float32(s_x * s_w) / s_y)) + z_y, 0, 255)``. A looked-up row is
    ``float32(code - zero point) * step``.
    """
    layers = list(model)
    values: Array = inputs.numpy()
    grid: tuple[np.float32, int] | None = None
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Embedding):
            values = looked_up(layer, values)
        elif hasattr(layer, "input_quantizer"):
            step, zero = _grid(layer.input_quantizer)
            codes = values if grid is not None else _quantize(values, step, zero)
            total, scale = _accumulate(layer, codes, step, zero)
            grid = _output_grid(layer, layers[index + 1 :])
            values = total.astype(np.float32) * scale if grid is None else _requantize(total, scale, grid)
            if hasattr(layer, "output_quantizer"):
                assert grid is not None
                values, grid = (values.astype(np.float32) - np.float32(grid[1])) * grid[0], None
        elif isinstance(layer, nn.ReLU):
            values = np.maximum(values, 0 if grid is None else grid[1])
        else:
            values = layer(torch.from_numpy(values.astype(np.float64))).numpy()
            values = values.astype(np.float32) if grid is None else values
    return values


def looked_up(layer: nn.Embedding, places: Array) -> Array:
    """Return the rows of a quantised embedding."""
    offsets, steps = _weight(layer)
    rows = offsets.numpy().astype(np.float32)[places]
    return rows * (steps if steps.ndim == 0 else steps[places][..., None])


def _weight(layer: nn.Module) -> tuple[torch.Tensor, npt.NDArray[np.float32]]:
    """Return the weight's codes less their zero points, as exact float64, and the steps."""
    weight = layer.weight.detach()
    quantizer = next(step for step in layer.parametrizations.weight if hasattr(step, "steps"))
    steps = quantizer.steps().detach()
    shape = (-1, *[1] * (weight.dim() - 1)) if steps.dim() else ()
    return (weight.double() / steps.double().view(shape)).round(), steps.numpy()


def _accumulate(layer: nn.Module, codes: Array, step: np.float32, zero: int) -> tuple[Array, Array]:
    offsets, steps = _weight(layer)
    scale = np.broadcast_to(np.float32(step) * steps, len(offsets)).astype(np.float32)
    centred = torch.from_numpy(codes.astype(np.float64) - zero)
    if offsets.dim() > 2:
        convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[offsets.dim()]
        centred = F.pad(centred, layer.frame(centred)) if hasattr(layer, "frame") else centred
        total = convolve(centred, offsets, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        scale = scale.reshape(-1, *[1] * (offsets.dim() - 2))
    else:
        total = F.linear(centred, offsets)
    if layer.bias is not None:
        bias = np.rint(layer.bias.detach().double().numpy() / scale.reshape(-1).astype(np.float64))
        total = total + torch.from_numpy(bias.reshape(scale.shape))
    assert float(total.abs().max()) < 2**31
    return total.numpy(), scale


def _output_grid(layer: nn.Module, rest: list[nn.Module]) -> tuple[np.float32, int] | None:
    if hasattr(layer, "output_quantizer"):
        return _grid(layer.output_quantizer)
    following = next((later for later in rest if hasattr(later, "input_quantizer")), None)
    return None if following is None else _grid(following.input_quantizer)


def _grid(quantizer: nn.Module) -> tuple[np.float32, int]:
    return np.float32(quantizer.scale.item()), int(quantizer.zero_point)


def _quantize(values: Array, step: np.float32, zero: int) -> Array:
    return np.clip(np.rint(values / step) + zero, 0, 255)


def _requantize(total: Array, scale: Array, grid: tuple[np.float32, int]) -> Array:
    factor = (scale / grid[0]).astype(np.float32)
    return np.clip(np.rint(total.astype(np.float32) * factor) + grid[1], 0, 255)
