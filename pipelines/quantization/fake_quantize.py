"""Fake quantisation in a trainable model: learned weight steps, activations on calibrated or on own grids."""

from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.grid import Grid, nearest_level
from paretta.pipelines.model.masks import mask_of
from paretta.pipelines.model.torch_private import hooks_of, pre_hooks_of
from paretta.pipelines.model.weights import weight_learns
from paretta.pipelines.quantization.call_graph import unseen
from paretta.pipelines.quantizers import Quantizer
from paretta.pipelines.quantizers.affine import affine_grid
from paretta.pipelines.ranks import BatchRange

GATE_STEP: Final = 6 / 255
GATE_CENTRE: Final = 128
_SMALLEST_STEP = 1e-8
_BIAS_LIMIT = 2**29  # the bias's part of the int32 range 2**31; the rest is for the sum of products


class LearnedStepSize(nn.Module):
    """Weight parametrization with learned steps, one per output channel, one per group of a channel or one for all.

    ``w_hat = s * round(clamp(w / s, low - z, high - z))``; gradients pass the rounding unchanged (straight-through) and
    the step's gradient is scaled by ``1 / sqrt(n * q)`` with n weights per step and q the largest offset from zero. The
    zero point z and the levels of a codebook stay fixed. Steps that are powers of two stay powers of two; all others
    are rounded to bfloat16, since a finer step does not help small integers and costs 2 bytes in a coded file.
    Source: Esser et al., "Learned step size quantization", 2020; with a zero point Bhalgat et al., "LSQ+", 2020.

    Args:
        grid: fitted to the weight; gives the initial steps.
        num_weights: how many weights share one step.
        asked: the bits that were asked for, if the grid has fewer.
        packed: whether the delivered layer reads its weight packed in few bits, as ONNX Runtime's MatMulNBits does.
    """

    scale: nn.Parameter
    zero_point: Tensor
    levels: Tensor | None
    floor: Tensor

    def __init__(self, grid: Grid, num_weights: int, asked: int | None = None, *, packed: bool = False) -> None:
        """Initialise the steps from the grid."""
        super().__init__()
        self.asked = asked
        self.low, self.high, self.axis, self.dyadic = grid.low, grid.high, grid.axis, grid.dyadic
        self.group, self.packed = grid.group, packed
        self.scale = nn.Parameter(grid.scale.detach().clone())
        self.register_buffer("zero_point", grid.zero_point.detach().clone())
        self.register_buffer("floor", torch.full_like(self.scale, _SMALLEST_STEP), persistent=False)
        self.register_buffer("levels", None if grid.levels is None else grid.levels.detach().clone())
        offset = int((self.high - grid.zero_point).max())
        self._gradient_scale = (num_weights * max(offset, 1)) ** -0.5

    @property
    def bits(self) -> int:
        """The bits needed for the number of levels."""
        levels = self.high - self.low + 1 if self.levels is None else len(self.levels)
        return (levels - 1).bit_length()

    @property
    def fits_packed(self) -> bool:
        """Whether the codes fit into 4 bits, which MatMulNBits multiplies fast."""
        return self.low >= -8 and self.high < 8

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight on its grid, same shape; zeros stay zero."""
        with unseen():
            return self._rounded(weight)

    def _rounded(self, weight: Tensor) -> Tensor:
        step = self._learning_steps(weight)
        ratio = self._clipped(weight / step)
        nearest = ratio.round() if self.levels is None else nearest_level(ratio, self.levels)
        rounded: Tensor = ratio + (nearest - ratio).detach()
        return rounded * step

    def ratio(self, weight: Tensor) -> Tensor:
        """Return the weight in steps before it is rounded, within its codes; gradients reach weight and steps."""
        with unseen():
            return self._clipped(weight / self._learning_steps(weight))

    def _learning_steps(self, weight: Tensor) -> Tensor:
        """Return the steps, spread over the weight, with the gradient of learned steps."""
        step = self.steps()
        slow = step * self._gradient_scale
        return self.grid().spread(slow + (step - slow).detach(), weight)

    def _clipped(self, ratio: Tensor) -> Tensor:
        zero = self.grid().spread(self.zero_point, ratio)
        return ratio.clamp((self.low - zero).to(ratio.dtype), (self.high - zero).to(ratio.dtype))

    def steps(self) -> Tensor:
        """Return the steps as stored, [out], [out, groups] or a scalar, positive and not below the minimum."""
        steps = torch.maximum(self.scale.abs(), self.floor)
        stored = torch.exp2(torch.log2(steps).round()) if self.dyadic else steps.bfloat16().float()
        return steps + (stored - steps).detach()

    def make_room_for(self, bias: Tensor, input_step: Tensor) -> None:
        """Enlarge steps so that a bias [out] in units of ``input_step * step`` leaves room for sums in 32 bits.

        This affects only channels whose weights are very small compared to their bias.
        """
        floor = (bias.detach().abs() / (input_step * _BIAS_LIMIT)).to(self.scale.dtype).clamp_min(_SMALLEST_STEP)
        self.floor = floor if self.axis is not None else floor.max()

    def grid(self) -> Grid:
        """Return the weight's current grid."""
        steps = self.steps().detach()
        return Grid(steps, self.zero_point, self.low, self.high, self.axis, self.levels, self.dyadic, self.group)


class ActivationQuantizer(nn.Module):
    """Unsigned 8-bit activations on a fixed, calibrated grid, with straight-through gradients inside its range.

    Its state is in buffers, so that data-parallel replicas share it and no parameter lacks a gradient.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid) -> None:
        """Store the grid, which must have one step for the whole tensor and codes 0 .. 255."""
        super().__init__()
        assert grid.axis is None
        assert (grid.low, grid.high) == (0, 255)
        self.register_buffer("scale", grid.scale.detach().clone())
        self.register_buffer("zero_point", grid.zero_point.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on the grid, same shape."""
        with unseen():
            return self._rounded(values)

    def _rounded(self, values: Tensor) -> Tensor:
        low, high = -self.zero_point * self.scale, (255 - self.zero_point) * self.scale
        inside = torch.minimum(torch.maximum(values, low), high)
        return inside + (self.grid().nearest(values) - inside).detach()

    def grid(self) -> Grid:
        """Return the grid as a value."""
        return Grid(self.scale, self.zero_point, 0, 255)


class DynamicQuantizer(nn.Module):
    """Unsigned 8-bit activations on the grid of their own range, which each call finds anew.

    ``s = (max(x, 0) - min(x, 0)) / 255``, ``z = round(-min(x, 0) / s)`` and ``x_hat = (clamp(round(x / s) + z, 0, 255)
    - z) * s``, with one range for the whole tensor: all samples of the batch, padding included. Gradients pass
    unchanged (straight-through). Source: ONNX operators, "DynamicQuantizeLinear".
    """

    def __init__(self) -> None:
        """Hold what finds the range."""
        super().__init__()
        self.range = BatchRange()

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on their grid, same shape."""
        with unseen():
            grid = affine_grid(*self.range(values))
            return values + (grid.nearest(values) - values).detach()


class BlockQuantizer(nn.Module):
    """Signed 8-bit activations, with a step for each block of a row that each call finds anew.

    ``x_hat = round(x * (127 / m)) * (m / 127)`` with ``m = max |x|`` of the block; the last block of a row may be
    shorter. Gradients pass unchanged (straight-through). Source: ONNX Runtime, MatMulNBits with ``accuracy_level`` 4.

    Args:
        block: how many neighbours along the last dimension share a step.
    """

    def __init__(self, block: int) -> None:
        """Take the length of a block."""
        super().__init__()
        self.block = block

    def forward(self, values: Tensor) -> Tensor:
        """Return the values on their grids, same shape."""
        with unseen():
            return values + (self.rounded(values) - values).detach()

    def rounded(self, values: Tensor) -> Tensor:
        """Return the values on their grids, without a gradient of use."""
        columns = values.shape[-1]
        blocks = nn.functional.pad(values, (0, -columns % self.block)).reshape(*values.shape[:-1], -1, self.block)
        largest = blocks.abs().amax(-1, keepdim=True)
        codes = (blocks * torch.where(largest > 0, 127 / largest, 0.0)).round()
        rounded: Tensor = codes * (largest / 127)
        return rounded.flatten(-2)[..., :columns]


class HardGate(nn.Module):
    """A hard sigmoid, ``clip(x / 6 + 1/2, 0, 1)``, whose integers are those of its argument, clipped to -3 .. 3.

    ``q = clip(round(x / s) + 128, 0, 255)`` with ``s = 6 / 255``; the gate is ``q / 255``. It is exact at both ends and
    at most one step off between them, and takes no computation but the rounding.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return the gate's value, same shape; gradients are those of the hard sigmoid."""
        with unseen():
            codes = (values / GATE_STEP).round().add(GATE_CENTRE).clamp(0, 255)
            smooth = nn.functional.hardsigmoid(values)
            return smooth + (codes / 255 - smooth).detach()


def attach_weight_quantizer(
    layer: nn.Module, quantizer: Quantizer, asked: int | None = None, *, packed: bool = False
) -> None:
    """Attach learned steps to `layer.weight`, after its existing parametrizations; an older quantiser is replaced.

    The steps of a frozen weight are also frozen. `asked` is the number of bits asked for, if the quantizer has fewer.
    See `LearnedStepSize` for `packed`.
    """
    current, is_learned = weight_quantizer(layer), weight_learns(layer)
    if current is None:
        learned = _learned(cast(Tensor, layer.weight), quantizer, asked, packed=packed).requires_grad_(is_learned)
        parametrize.register_parametrization(layer, "weight", learned)
        return
    chain = _chain(layer)
    index = [*chain].index(current)
    source = cast(Tensor, chain.original)
    for earlier in [*chain][:index]:
        source = earlier(source)
    chain[index] = _learned(source, quantizer, asked, packed=packed).requires_grad_(is_learned)


def _learned(weight: Tensor, quantizer: Quantizer, asked: int | None, *, packed: bool) -> LearnedStepSize:
    sharing = weight.numel() if quantizer.axis is None else weight[0].numel()
    if quantizer.group is not None:
        sharing = min(quantizer.group, sharing)
    return LearnedStepSize(quantizer.fit(weight.detach()), sharing, asked, packed=packed)


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


def unrounded_codes(layer: nn.Module) -> Tensor:
    """Return the weight of a quantised layer in steps from zero, before it is rounded; masked entries are 0."""
    quantizer, mask = weight_quantizer(layer), mask_of(layer)
    assert quantizer is not None
    source = cast(Tensor, _chain(layer).original)
    for earlier in [*_chain(layer)][: [*_chain(layer)].index(quantizer)]:
        source = earlier(source)
    ratio = quantizer.ratio(source)
    return ratio if mask is None else torch.where(mask.keep, ratio, 0.0)


def attach_input_quantizer(layer: nn.Module, grid: Grid) -> None:
    """Quantise the input of `layer` to `grid`; a second call replaces the grid."""
    _attach_input(layer, ActivationQuantizer(grid))
    make_room_for_bias(layer)


def attach_dynamic_quantizer(layer: nn.Module) -> None:
    """Quantise the input of `layer` to the grid of its range at each call, in place of a fixed grid."""
    _attach_input(layer, DynamicQuantizer())


def attach_block_quantizer(layer: nn.Module, block: int) -> None:
    """Quantise the input of `layer` block by block at each call, in place of a fixed grid."""
    _attach_input(layer, BlockQuantizer(block))


def _attach_input(layer: nn.Module, quantizer: nn.Module) -> None:
    layer.input_quantizer = quantizer
    if _quantize_input not in pre_hooks_of(layer):
        layer.register_forward_pre_hook(_quantize_input)


def attach_output_quantizer(layer: nn.Module, grid: Grid) -> None:
    """Quantise the output of `layer` to `grid`; a second call replaces the grid."""
    layer.output_quantizer = ActivationQuantizer(grid)
    if _quantize_output not in hooks_of(layer):
        layer.register_forward_hook(_quantize_output)


def detach_activation_quantizers(layer: nn.Module) -> None:
    """Remove all activation quantisers."""
    for name in ("input_quantizer", "output_quantizer"):
        if hasattr(layer, name):
            delattr(layer, name)


def is_quantized(layer: nn.Module) -> bool:
    """Return True if `layer` computes in integers: both its weight and its input are quantised."""
    return weight_quantizer(layer) is not None and hasattr(layer, "input_quantizer")


def is_dynamic(layer: nn.Module) -> bool:
    """Return True if the range of what `layer` reads is found at each call, of the whole or of blocks."""
    return isinstance(getattr(layer, "input_quantizer", None), DynamicQuantizer | BlockQuantizer)


def block_quantizer(layer: nn.Module) -> BlockQuantizer | None:
    """Return what quantises the input of `layer` block by block, if anything does."""
    found = getattr(layer, "input_quantizer", None)
    return found if isinstance(found, BlockQuantizer) else None


def has_own_hooks(layer: nn.Module) -> bool:
    """Return True if something besides its quantisers acts before or after the layer's forward."""
    return any(hook not in (_quantize_input, _quantize_output) for hook in (*pre_hooks_of(layer), *hooks_of(layer)))


def _chain(layer: nn.Module) -> nn.ModuleList:
    return cast(nn.ModuleList, cast(nn.ModuleDict, layer.parametrizations)["weight"])


def make_room_for_bias(layer: nn.Module) -> None:
    """Enlarge the weight's steps for the bias of a quantised `layer`, before the weight is read."""
    quantizer = weight_quantizer(layer)
    bias, entering = getattr(layer, "bias", None), getattr(layer, "input_quantizer", None)
    if quantizer is not None and isinstance(bias, Tensor) and isinstance(entering, ActivationQuantizer):
        with unseen():
            quantizer.make_room_for(bias, entering.scale)


# Hooks are functions of the module and not bound methods, so a deep copy of the layer uses its own quantiser.
def _quantize_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    quantizer = getattr(layer, "input_quantizer", None)
    make_room_for_bias(layer)
    return inputs if quantizer is None else (quantizer(inputs[0]), *inputs[1:])


def _quantize_output(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    quantizer = getattr(layer, "output_quantizer", None)
    return output if quantizer is None else cast(Tensor, quantizer(output))
