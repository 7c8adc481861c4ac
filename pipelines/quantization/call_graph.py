"""Record the torch functions that a model calls and their data flow, to find where quantisers can be placed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from paretta.pipelines.data.trees import TensorTree, call_model
from paretta.pipelines.model.padded_convolution import CONV_LAYERS, pads_with_zeros

# functions by what they compute; in-place and method forms are called alike
ADD, MULTIPLY, CONCATENATE, POOL, CURVE, GATE, FLOAT = "add", "mul", "cat", "pool", "curve", "gate", "float"
_KINDS: Final = {
    "add": ADD,
    "add_": ADD,
    "mul": MULTIPLY,
    "mul_": MULTIPLY,
    "multiply": MULTIPLY,
    "sigmoid": CURVE,
    "sigmoid_": CURVE,
    "leaky_relu": CURVE,
    "leaky_relu_": CURVE,
    "hardsigmoid": GATE,
    "cat": CONCATENATE,
    "concat": CONCATENATE,
    "concatenate": CONCATENATE,
    "avg_pool2d": POOL,
    "adaptive_avg_pool2d": POOL,
    "mean": POOL,
    # computed in floats, with results that may be quantised
    "conv_transpose1d": FLOAT,
    "conv_transpose2d": FLOAT,
    "conv_transpose3d": FLOAT,
    "interpolate": FLOAT,
    "gelu": FLOAT,
    "elu": FLOAT,
}
# x * gate(x)
_GATED: Final[Mapping[str, tuple[str, Callable[[Tensor], Tensor]]]] = {
    "hardswish": (GATE, functional.hardsigmoid),
    "silu": (CURVE, torch.sigmoid),
}
# activations that run in floats where what they read is not quantised; their results may then be
ACTIVATIONS: Final = frozenset({*_GATED, "leaky_relu", "leaky_relu_"})
_RELU, _RELU6 = ("relu", "relu_"), ("relu6", "hardtanh", "hardtanh_")
# of the functions that return some of their input values, those that the runtime moves no quantiser through
MOVING: Final = ("__getitem__", "chunk", "split", "narrow", "expand", "pixel_shuffle", "channel_shuffle", "interpolate")
# these return some of their input values, so the result keeps the input's grid
_PASSING: Final = (
    *MOVING[:-1],
    *_RELU,
    *_RELU6,
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "flatten",
    "view",
    "reshape",
    "dropout",
    "transpose",
    "permute",
    "squeeze",
    "unsqueeze",
    "contiguous",
)
# ONNX Runtime fuses a linear layer with one of these, in floats, unless the layer's result is quantised
FUSED: Final = (*_RELU, "leaky_relu", "leaky_relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "elu", "selu", "softplus")
_LAYERS: Final = ("conv1d", "conv2d", "conv3d", "linear")
_IMAGE_AXES: Final = ({2, 3}, {-1, -2})
_IMAGE_DIMS: Final = 4
_SIGMOID_BOUNDS: Final = (-8.0, 8.0)  # beyond them a sigmoid changes by less than a tenth of a step of 8 bits


@dataclass(frozen=True, slots=True)
class Joint:
    """A call outside of layers, identified by the module whose ``forward`` makes it and its index among its kind.

    Args:
        owner: name of the innermost running module.
        kind: ``add``, ``mul``, ``cat`` or ``pool``; ``curve`` for a function of single values with an integer kernel;
            ``gate`` for a hard sigmoid, whose integers are its argument's; ``float`` if there is no such kernel.
        place: its index among the calls of this kind in the module.
    """

    owner: str
    kind: str
    place: int

    @property
    def key(self) -> str:
        """Its name in the owner."""
        return f"{self.kind}_{self.place}"


@dataclass(slots=True)
class Call:
    """One call whose result is a tensor.

    Args:
        function: torch's name of the function.
        layer: the running module, if the call is its convolution or matrix product.
        joint: its identity, if it is of a kind whose results are quantised.
        sources: calls whose results it reads; None for other inputs, such as the model's input.
        passes: True if it returns some of the values of its first source, clipped or not.
        bounds: the lower and upper value that it clips its source to, or beyond which its result hardly changes; None
            if there are none.
        uses: calls that read its result.
    """

    function: str
    layer: str | None
    joint: Joint | None
    sources: "list[Call | None]"
    passes: bool
    bounds: tuple[float, float | None] | None
    uses: "list[Call]" = field(default_factory=list)


def calls_of(model: nn.Module, example_input: TensorTree) -> list[Call]:
    """Return the calls of one forward pass of `model`, which must have no quantisers, in evaluation mode."""
    recorder = _Recorder(model)
    with recorder.following(), torch.no_grad(), recorder:
        call_model(model, example_input)
    return recorder.calls


@contextmanager
def unseen() -> Iterator[None]:
    """Exclude calls inside the block from the record, such as the arithmetic of a quantiser."""
    with torch._C.DisableTorchFunction():
        yield


class CountingMode(TorchFunctionMode):
    """Passes the result of every call of a known kind to a function, which may replace it."""

    def __init__(self, replace: Callable[[str, Tensor], Tensor]) -> None:
        """Take a function that is called with ``<kind>_<place>`` and the result, and returns the result to use.

        Of a hard sigmoid it gets the argument instead, and returns the same object if it leaves the call as it is.
        """
        super().__init__()
        self._replace = replace
        self._counts: dict[str, int] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function and pass its result on; torch disables the mode meanwhile."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in _GATED or name == "hardsigmoid":
            return self._gated(func, name, args, kwargs)
        result = func(*args, **kwargs)
        if name not in _KINDS or not isinstance(result, Tensor):
            return result
        key = self._key(_KINDS[name])
        if not _is_in_place(name, kwargs):
            return self._replace(key, result)
        replaced = self._replace(key, result.clone())
        return result.copy_(replaced)  # other calls hold the same tensor

    def _gated(self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        """Compute ``x * gate(x)``, or a hard sigmoid alone, with what replaces its gate."""
        in_place, given = _is_in_place(name, kwargs), cast(Tensor, args[0] if args else kwargs["input"])
        values = given.clone() if in_place else given
        result = cast(Tensor, func(*args, **kwargs))  # modes of outer modules count it too
        kind, curve = _GATED.get(name, (GATE, functional.hardsigmoid))
        with unseen():
            plain = values if kind == GATE else curve(values)
        gate = self._replace(self._key(kind), plain)
        if gate is not plain:
            with unseen():
                result = gate if name not in _GATED else values * gate
        if name in _GATED:
            result = self._replace(self._key(MULTIPLY), result)
        return given.copy_(result) if in_place else result

    def _key(self, kind: str) -> str:
        place = self._counts.get(kind, 0)
        self._counts[kind] = place + 1
        return f"{kind}_{place}"


def _is_in_place(function: str, kwargs: Mapping[str, Any]) -> bool:
    return (function.endswith("_") and not function.endswith("__")) or bool(kwargs.get("inplace"))


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._model = model
        self._makers: dict[int, Call] = {}
        self._kept: list[object] = []  # kept alive, so that no other tensor gets the same id
        self._at_work: list[tuple[str, dict[str, int]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [item for item in _flat([result]) if isinstance(item, Tensor)]
        if tensors:
            given = [item for item in _flat((*args, *kwargs.values())) if isinstance(item, Tensor)]
            call = self._called(getattr(func, "__name__", ""), args, kwargs, given)
            for tensor in tensors:
                self._makers[id(tensor)] = call
            self._kept += [*given, *tensors]
        return result

    def following(self) -> "_Following":
        return _Following(self._model, self._at_work)

    def _called(self, function: str, args: Sequence[Any], kwargs: dict[str, Any], given: list[Tensor]) -> Call:
        """Note a call; of ``x * gate(x)`` the gate and the product, as `CountingMode` computes them."""
        data = given[:1] if function in _LAYERS else given
        sources = [self._makers.get(id(item)) for item in data]
        kind = _GATED[function][0] if function in _GATED else _KINDS.get(function)
        plain = kind is not None and (function in _GATED or _is_plain(function, args, kwargs, given))
        joint = None if kind is None else self._joint(kind)
        if function in _GATED:
            gate = self._call("sigmoid" if kind == CURVE else "hardsigmoid", joint, sources, bounds=None)
            return self._call(function, self._joint(MULTIPLY), [*sources, gate], bounds=None)
        passes = _passes(function, args, kwargs) or self._is_own_padding(function, args, kwargs)
        bounds = _bounds(function, args, kwargs)
        return self._call(function, joint if plain else None, sources, bounds=bounds, passes=passes)

    def _is_own_padding(self, function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Return True for a convolution that adds zeros itself, which the runtime merges with it."""
        inside = (self._model.get_submodule(name) for name, _ in self._at_work)
        return pads_with_zeros(function, args, kwargs) and any(isinstance(module, CONV_LAYERS) for module in inside)

    def _joint(self, kind: str) -> Joint:
        for _, counts in self._at_work:
            counts[kind] = counts.get(kind, 0) + 1
        owner, counts = self._at_work[-1]
        return Joint(owner, kind, counts[kind] - 1)

    def _call(
        self,
        function: str,
        joint: Joint | None,
        sources: "list[Call | None]",
        *,
        bounds: tuple[float, float | None] | None,
        passes: bool = False,
    ) -> Call:
        layer = self._at_work[-1][0] if function in _LAYERS else None
        call = Call(function, layer, joint, sources, passes, bounds)
        for source in sources:
            if source is not None:
                source.uses.append(call)
        self.calls.append(call)
        return call


class _Following:
    """Tells the recorder which modules are running, inside the block."""

    def __init__(self, model: nn.Module, at_work: list[tuple[str, dict[str, int]]]) -> None:
        self._model, self._at_work = model, at_work

    def __enter__(self) -> None:
        self._handles = [
            handle
            for name, module in self._model.named_modules()
            for handle in (
                module.register_forward_pre_hook(lambda *_, name=name: self._at_work.append((name, {}))),
                module.register_forward_hook(lambda *_: self._leave()),
            )
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _leave(self) -> None:
        self._at_work.pop()


def _flat(values: Sequence[Any]) -> Iterator[object]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value


def _bounds(function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[float, float | None] | None:
    if function in _RELU:
        return 0.0, None
    if function == "relu6":
        return 0.0, 6.0
    if function.startswith("sigmoid"):
        return _SIGMOID_BOUNDS
    limits = (*args[1:3], *(kwargs[name] for name in ("min_val", "max_val") if name in kwargs))
    return (0.0, 6.0) if function in _RELU6 and limits == (0.0, 6.0) else None


def _passes(function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return True if the call returns some of the values of its first source, clipped or not."""
    if function == "interpolate":
        return _repeats_pixels(args, kwargs)
    return function in _PASSING and (function not in _RELU6 or _bounds(function, args, kwargs) is not None)


def _repeats_pixels(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    mode = args[3] if len(args) > 3 else kwargs.get("mode", "nearest")
    return mode in ("nearest", "nearest-exact")


def _is_plain(function: str, args: Sequence[Any], kwargs: dict[str, Any], given: list[Tensor]) -> bool:
    """Return True if an integer kernel can compute this call of a known kind."""
    kind = _KINDS[function]
    if kind == FLOAT:
        return function != "interpolate" or not _repeats_pixels(args, kwargs)
    if any(item.dtype != torch.float32 for item in given):
        return False
    if kind == POOL:
        return given[0].dim() == _IMAGE_DIMS and _is_average_of_images(function, args, kwargs)
    if kind in (CURVE, GATE):
        return len(given) == 1
    if kind == MULTIPLY:  # of features, [n, tokens, width], the integer kernel has no advantage
        return len(given) == 2 and max(item.dim() for item in given) == _IMAGE_DIMS
    return len(given) >= 2 if kind == CONCATENATE else len(given) == 2 and kwargs.get("alpha", 1) == 1


def _is_average_of_images(function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    second = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("output_size"))
    if function == "mean":
        return isinstance(second, tuple | list) and set(second) in _IMAGE_AXES
    return function == "avg_pool2d" or second in (1, (1, 1), [1, 1])
