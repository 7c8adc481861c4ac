"""Quantised layers as they are stored: integers with their steps, in the patterns that integer kernels recognise."""

from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.export.restored_weights import RESTORE_DOMAIN
from paretta.pipelines.grid import Grid
from paretta.pipelines.model.padded_convolution import CONV_LAYERS, Convolution
from paretta.pipelines.model.quantizable import TRANSPOSED
from paretta.pipelines.quantization.fake_quantize import (
    GATE_CENTRE,
    GATE_STEP,
    ActivationQuantizer,
    BlockQuantizer,
    DynamicQuantizer,
    block_quantizer,
    has_own_hooks,
    make_room_for_bias,
    weight_codes,
    weight_quantizer,
)
from paretta.pipelines.quantization.layer_graph import bake_parametrizations

OPSET = 21
_INT32_LIMIT = 2**31 - 1
ConvSettings: TypeAlias = tuple[tuple[int, ...], str | tuple[int, ...], tuple[int, ...], int]


class StoredWeight(nn.Module):
    """A weight as stored: integers with steps and zero points."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, layer: nn.Module) -> None:
        """Read them from the trained layer."""
        super().__init__()
        make_room_for_bias(layer)
        quantizer = weight_quantizer(layer)
        assert quantizer is not None
        grid, codes = quantizer.grid(), weight_codes(layer)
        self.axis, self.group = grid.axis, grid.group
        self.register_buffer("codes", codes)
        self.register_buffer("scale", _steps(grid, codes, quantizer.floor))
        self.register_buffer("zero_point", grid.zero_point.to(torch.int8))
        self.is_centred = not bool(self.zero_point.any())

    def forward(self) -> Tensor:
        """Return the dequantised weight, in a form that an integer kernel recognises."""
        return _dequantize(self.codes, self.scale, self.zero_point, self.axis)

    def reorder(self, rows: Tensor) -> None:
        """Take rows in another order, by their present places."""
        self.codes = self.codes[rows]
        if self.axis is not None:
            self.scale, self.zero_point = self.scale[rows], self.zero_point[rows]

    def restored(self) -> Tensor:
        """Return the dequantised weight as floats that are computed once at load time."""
        return torch.onnx.ops.symbolic(
            f"{RESTORE_DOMAIN}::Restore",
            (self.codes, self.scale, self.zero_point),
            {} if self.group is None else {"group": self.group},
            dtype=torch.float32,
            shape=self.codes.shape,
            version=1,
        )


class StoredLayer(nn.Module):
    """A layer in the form that is stored. What the model reads of it beside calling it is as before.

    Models read a layer's weight to tie another product to it, its type to convert to, or its width to reshape by.
    """

    def __init__(self, layer: nn.Module) -> None:
        """Take over the weight, and what the layer says of itself, such as `out_features`."""
        super().__init__()
        self.stored = StoredWeight(layer)
        for name, value in vars(layer).items():
            if not name.startswith("_") and name not in vars(self):
                setattr(self, name, value)

    @property
    def weight(self) -> Tensor:
        """What the integers stand for, in floats."""
        return self.stored.restored()


class RestoredLayer(StoredLayer):
    """A layer that computes in floats with its quantised weight, or an embedding that looks up rows of integers."""

    def __init__(self, layer: Convolution | nn.Linear | nn.Embedding) -> None:
        """Read the weight from the trained layer."""
        super().__init__(layer)
        self.bias = None if isinstance(layer, nn.Embedding) else layer.bias
        rounding = block_quantizer(layer)
        self.rounding = None if rounding is None else StoredBlocks(rounding)
        self.looks_up = isinstance(layer, nn.Embedding)
        self.settings = _settings(layer)

    def forward(self, values: Tensor) -> Tensor:
        """Compute the layer with its dequantised weight; an embedding dequantises only the rows that are read."""
        if self.looks_up:
            return self._rows(values)
        values = values if self.rounding is None else self.rounding(values)
        if self.settings is None:
            return F.linear(values, self.weight, self.bias)
        return _convolved(values, self.weight, self.bias, self.settings)

    def _rows(self, places: Tensor) -> Tensor:
        """Look up codes and steps and multiply them; DequantizeLinear supports steps along a fixed axis only."""
        places = places.long()  # the type of indices
        rows, scale, zero = self.stored.codes[places].float(), self.stored.scale, self.stored.zero_point.float()
        if self.stored.group is not None:
            scale, zero = (_by_column(part[places], self.stored.group, rows.shape[-1]) for part in (scale, zero))
        elif self.stored.axis is not None:
            scale, zero = scale[places].unsqueeze(-1), zero[places].unsqueeze(-1)
        return (rows if self.stored.is_centred else rows - zero) * scale


class GivenWeight(nn.Module):
    """Stands for the parameter that a layer had: a parametrization that returns its weight from stored integers."""

    def __init__(self, stored: StoredWeight, *, at_load: bool) -> None:
        """Take the integers; `at_load` lets the runtime make floats of them once, otherwise at each call."""
        super().__init__()
        self.stored, self.at_load = stored, at_load

    def forward(self, _: Tensor) -> Tensor:
        """Return the dequantised weight."""
        return self.stored.restored() if self.at_load else self.stored()


class GivenBias(nn.Module):
    """Stands for the parameter that an integer layer's bias was."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, axis: int | None) -> None:
        """Store the bias in steps of `scale`."""
        super().__init__()
        self.axis = axis
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=torch.int32))

    def forward(self, _: Tensor) -> Tensor:
        """Return the dequantised bias."""
        return _dequantize(self.codes, self.scale, self.zero_point, self.axis)


def keeps_forward(layer: nn.Module) -> bool:
    """Return True for a layer that is exported by its own call: transposed, a padding convolution, or with hooks."""
    own = isinstance(layer, CONV_LAYERS) and type(layer).forward not in [kind.forward for kind in CONV_LAYERS]
    return own or isinstance(layer, TRANSPOSED) or has_own_hooks(layer)


def store_in_place(layer: nn.Module, *, at_load: bool) -> None:
    """Let a layer that `keeps_forward` read its weight, bias and grids from integers, in place.

    Between quantised tensors the weight must be dequantised at each call: ONNX Runtime would otherwise round the floats
    of a transposed convolution once more, with one step for the whole tensor.
    """
    stored, entering = StoredWeight(layer), getattr(layer, "input_quantizer", None)
    grids = {name: getattr(layer, name, None) for name in ("input_quantizer", "output_quantizer")}
    bias = None
    if isinstance(entering, ActivationQuantizer) and layer.bias is not None:
        bias_scale = entering.scale.detach() * stored.scale
        codes = _bias_codes(cast("Convolution", layer), bias_scale)
        bias = GivenBias(cast(Tensor, codes), bias_scale, stored.axis)
    bake_parametrizations(layer)
    parametrize.register_parametrization(layer, "weight", GivenWeight(stored, at_load=at_load), unsafe=True)
    if bias is not None:
        parametrize.register_parametrization(layer, "bias", bias, unsafe=True)
    for name, grid in grids.items():
        if isinstance(grid, ActivationQuantizer):
            setattr(layer, name, StoredGrid(grid))
        elif isinstance(grid, DynamicQuantizer):
            setattr(layer, name, OwnGrid())
        elif isinstance(grid, BlockQuantizer):
            setattr(layer, name, StoredBlocks(grid))


class IntegerLayer(StoredLayer):
    """A quantised convolution or linear layer with its parameters as stored integers.

    ``y = s_x * s_w * (sum (q_x - z_x) * (q_w - z_w) + q_b)`` with the bias in steps of ``s_x * s_w``; with an output
    quantiser ``y`` is quantised again.
    """

    bias_codes: Tensor | None
    bias_scale: Tensor
    bias_zeros: Tensor

    def __init__(self, layer: Convolution | nn.Linear) -> None:
        """Read weight, bias and grids from the trained layer."""
        super().__init__(layer)
        self.input = StoredGrid(cast(ActivationQuantizer, layer.input_quantizer))
        output = cast("ActivationQuantizer | None", getattr(layer, "output_quantizer", None))
        self.output = None if output is None else StoredGrid(output)
        self.settings = _settings(layer)
        bias_scale = self.input.scale * self.stored.scale
        self.register_buffer("bias_scale", bias_scale)
        self.register_buffer("bias_zeros", torch.zeros_like(bias_scale, dtype=torch.int32))
        self.register_buffer("bias_codes", _bias_codes(layer, bias_scale))

    @property
    def bias(self) -> Tensor | None:
        """What the bias's integers stand for, in floats."""
        if self.bias_codes is None:
            return None
        return _dequantize(self.bias_codes, self.bias_scale, self.bias_zeros, self.stored.axis)

    def forward(self, values: Tensor) -> Tensor:
        """Compute the layer on dequantised integers."""
        values = self.input(values)
        if self.settings is None:
            outputs = _gemm(values, self.stored(), cast(Tensor, self.bias))
        else:
            outputs = _convolved(values, self.stored(), self.bias, self.settings)
        return outputs if self.output is None else cast(Tensor, self.output(outputs))


class DynamicLayer(StoredLayer):
    """A linear layer that quantises what it reads by its range at each call, and multiplies integers.

    ``y = s_x * s_w * sum (q_x - z_x) * (q_w - z_w) + b`` with the bias in floats. The operators are those that ONNX
    Runtime's `quantize_dynamic` writes, which it fuses into DynamicQuantizeMatMul, or into MatMulIntegerToFloat where
    several layers read the same integers.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Read weight and bias from the trained layer."""
        super().__init__(layer)
        self.bias = layer.bias

    def forward(self, values: Tensor) -> Tensor:
        """Compute the layer."""
        codes, scale, zero_point = _on_own_grid(values)
        weight = self.stored
        centre = () if weight.is_centred else (weight.zero_point,)
        sums = torch.onnx.ops.symbolic(
            "MatMulInteger",
            (codes, weight.codes.t(), zero_point, *centre),
            dtype=torch.int32,
            shape=(*values.shape[:-1], len(weight.codes)),
            version=OPSET,
        )
        results = sums.float() * (scale * weight.scale)
        return results if self.bias is None else results + self.bias


class OwnGrid(nn.Module):
    """A DynamicQuantizeLinear and DequantizeLinear pair, for what computes with the values in floats."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on the grid of their range."""
        return _dequantize(*_on_own_grid(values))


class StoredBlocks(nn.Module):
    """The rounding of a `BlockQuantizer` in standard operators, for what computes with the values in floats."""

    def __init__(self, quantizer: BlockQuantizer) -> None:
        """Take the quantiser."""
        super().__init__()
        self.quantizer = quantizer

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on the grids of their blocks."""
        return self.quantizer.rounded(values)


class StoredGrid(nn.Module):
    """A QuantizeLinear and DequantizeLinear pair with uint8 codes."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        """Store the grid."""
        super().__init__()
        self.register_buffer("scale", quantizer.scale.detach().clone())
        self.register_buffer("zero_point", quantizer.zero_point.detach().to(torch.uint8))

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on the grid."""
        return _dequantize(_quantize(values, self.scale, self.zero_point), self.scale, self.zero_point)


class StoredGate(nn.Module):
    """A hard sigmoid in integers: quantised as its argument, dequantised as its value."""

    scale: Tensor
    zero_point: Tensor
    value_scale: Tensor
    value_zero: Tensor

    def __init__(self) -> None:
        """Store both grids."""
        super().__init__()
        self.register_buffer("scale", torch.tensor(GATE_STEP))
        self.register_buffer("zero_point", torch.tensor(GATE_CENTRE, dtype=torch.uint8))
        self.register_buffer("value_scale", torch.tensor(1 / 255))
        self.register_buffer("value_zero", torch.tensor(0, dtype=torch.uint8))

    def forward(self, values: Tensor) -> Tensor:
        """Return the gate's value."""
        return _dequantize(_quantize(values, self.scale, self.zero_point), self.value_scale, self.value_zero)


def _by_column(part: Tensor, group: int, columns: int) -> Tensor:
    """Repeat what groups have over their columns: [.., groups] -> [.., columns]."""
    each = part.unsqueeze(-1).expand(*part.shape, group)
    return each.flatten(-2)[..., :columns]


def _settings(layer: Convolution | nn.Linear | nn.Embedding) -> ConvSettings | None:
    """Return stride, padding, dilation and groups of a convolution."""
    return (layer.stride, layer.padding, layer.dilation, layer.groups) if isinstance(layer, CONV_LAYERS) else None


def _convolved(values: Tensor, weight: Tensor, bias: Tensor | None, settings: ConvSettings) -> Tensor:
    stride, padding, dilation, groups = settings
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.dim()]
    return convolve(values, weight, bias, stride, padding, dilation, groups)


def _steps(grid: Grid, codes: Tensor, floor: Tensor) -> Tensor:
    """Give all-zero channels the finest step in use: theirs is arbitrary, and the bias is rounded to it.

    In a layer without any other weights, as behind a batch norm whose gains are zero, it is the finest power of two in
    which the bias fits.
    """
    if grid.group is not None:
        return grid.scale
    empty = (codes == grid.spread(grid.zero_point, codes)).flatten(1).all(dim=1)
    if bool(empty.all()):
        return torch.exp2(torch.log2(floor).ceil())
    if grid.axis is None:
        return grid.scale
    return torch.where(empty, torch.maximum(grid.scale[~empty].min(), floor), grid.scale)


def _bias_codes(layer: Convolution | nn.Linear, bias_scale: Tensor) -> Tensor | None:
    """Return the bias in steps of `bias_scale`, int32; a Linear layer always has one, as QGemm is fused only then."""
    if layer.bias is None:
        return torch.zeros(len(layer.weight), dtype=torch.int32) if isinstance(layer, nn.Linear) else None
    steps = (layer.bias.detach().double() / bias_scale.double()).round()
    return steps.clamp(-_INT32_LIMIT, _INT32_LIMIT).to(torch.int32)


def _quantize(values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.onnx.ops.symbolic(
        "QuantizeLinear", (values, scale, zero_point), dtype=torch.uint8, shape=values.shape, version=OPSET
    )


def _on_own_grid(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, scale and zero point of values on the grid of their range, see `DynamicQuantizer`."""
    codes, scale, zero_point = torch.onnx.ops.symbolic_multi_out(
        "DynamicQuantizeLinear",
        (values,),
        dtypes=(torch.uint8, torch.float32, torch.uint8),
        shapes=(values.shape, (), ()),
        version=OPSET,
    )
    return codes, scale, zero_point


def _dequantize(codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None = None) -> Tensor:
    attributes: dict[str, int | float | str | bool] = {} if axis is None else {"axis": axis}
    return torch.onnx.ops.symbolic(
        "DequantizeLinear",
        (codes, scale, zero_point),
        attributes,  # type: ignore[arg-type]
        dtype=torch.float32,
        shape=codes.shape,
        version=OPSET,
    )


def _gemm(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute ``x W^T + b`` as one Gemm, also for inputs of more than two dimensions."""
    if values.dim() == 2:
        return F.linear(values, weight, bias)
    return F.linear(values.flatten(0, -2), weight, bias).view(*values.shape[:-1], -1)
