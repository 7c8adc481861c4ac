"""Recognise convolutions whose own forward adds zeros around its input and then convolves, as TensorFlow pads."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONV_LAYERS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FUNCTIONS: Final = ("conv1d", "conv2d", "conv3d")
_ARGUMENTS: Final = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_PAD_ARGUMENTS: Final = ("input", "pad", "mode", "value")


@dataclass(frozen=True, slots=True)
class Framed:
    """What a convolution is computed from.

    Args:
        values: [n, in, ...], with the zeros that the layer's own forward adds.
        padding: of the convolution itself, on each side of each axis.
    """

    values: Tensor
    padding: str | tuple[int, ...]


def framed(layer: Convolution, values: Tensor) -> Framed | None:
    """Return what `layer` convolves for its input `values`; None if its forward does more than pad with zeros first."""
    if type(layer).forward in [kind.forward for kind in CONV_LAYERS]:
        return Framed(values, layer.padding) if layer.padding_mode == "zeros" else None
    if not _takes_values_alone(layer):
        return None
    recorder = _Recorder(values)
    with torch.no_grad(), recorder:
        answer = layer.forward(values)
    return recorder.found(layer, answer)


def _takes_values_alone(layer: Convolution) -> bool:
    given = signature(layer.forward).parameters.values()
    return sum(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in given) == 1


def pads_with_zeros(function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return True for a call of torch's ``pad`` that adds zeros around all channels alike."""
    if function != "pad":
        return False
    given = dict(zip(_PAD_ARGUMENTS, args, strict=False)) | kwargs
    is_zero = given.get("mode", "constant") == "constant" and not given.get("value")
    return is_zero and len(given["pad"]) <= 2 * (given["input"].dim() - 2)


class _Recorder(TorchFunctionMode):
    """Follows the values through pads to a convolution."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self._framed = values
        self._calls: list[tuple[dict[str, Any], Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if pads_with_zeros(name, args, kwargs) and (args[0] if args else kwargs["input"]) is self._framed:
            self._framed = result
        elif name in _FUNCTIONS:
            self._calls.append((dict(zip(_ARGUMENTS, args, strict=False)) | kwargs, result))
        return result

    def found(self, layer: Convolution, answer: object) -> Framed | None:
        if len(self._calls) != 1:
            return None
        given, result = self._calls[0]
        settings = {"stride": layer.stride, "dilation": layer.dilation}
        same = (
            answer is result
            and given["input"] is self._framed
            and torch.equal(given["weight"], layer.weight)
            and _equal(given.get("bias"), layer.bias)
            and all(_each(given.get(name, 1), layer) == tuple(value) for name, value in settings.items())
            and given.get("groups", 1) == layer.groups
        )
        padding = given.get("padding", 0)
        return Framed(self._framed, padding if isinstance(padding, str) else _each(padding, layer)) if same else None


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _each(value: int | Sequence[int], layer: Convolution) -> tuple[int, ...]:
    """Return a setting for each axis."""
    given = (value,) if isinstance(value, int) else tuple(value)
    return given * len(layer.kernel_size) if len(given) == 1 else given
