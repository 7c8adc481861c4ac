"""The parts of torch that are not its public interface, each in one function; a test names the one that is gone."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

# every attribute that torch itself gives a module
MODULE_FIELDS: Final = frozenset(nn.Module().__dict__)
PRE_HOOKS, HOOKS = "_forward_pre_hooks", "_forward_hooks"
ALWAYS_CALLED: Final = "_forward_hooks_always_called"


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the module's own parameters, those that are None included; changes reach the module."""
    return module._parameters


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the module's own buffers, those that are None included; changes reach the module."""
    return module._buffers


def passing_buffers_of(module: nn.Module) -> frozenset[str]:
    """Return the names of the module's own buffers that are not part of its state."""
    return frozenset(module._non_persistent_buffers_set)


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the module's own children, those that are None included; changes reach the module."""
    return module._modules


def order_children(module: nn.Module, names: Collection[str]) -> None:
    """Put the module's children into the order of `names`, which is all of them."""
    module._modules = {name: module._modules[name] for name in names}


def pre_hooks_of(module: nn.Module) -> Collection[Callable[..., Any]]:
    """Return what is called before the module's forward."""
    return module._forward_pre_hooks.values()


def hooks_of(module: nn.Module) -> Collection[Callable[..., Any]]:
    """Return what is called after the module's forward."""
    return module._forward_hooks.values()


def always_called_of(module: nn.Module) -> Collection[Callable[..., Any]]:
    """Return what is called after the module's forward even where that raised."""
    return [module._forward_hooks[key] for key in module._forward_hooks_always_called]


def remove_hooks(module: nn.Module, functions: Collection[Callable[..., Any]]) -> None:
    """Call none of `functions` before or after the module's forward any more."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, hook in hooks.items() if hook in functions]:
            del hooks[key]


def reset_of(module: nn.Module) -> Callable[[], object] | None:
    """Return what draws the module's own parameters anew, as on its making; None where it has none.

    Attention has but a private one.
    """
    reset: object = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return reset if callable(reset) else None


def has_bfloat16_instructions() -> bool:
    """Say whether this CPU computes in bfloat16; where it does not, torch emulates it."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def exporter_logger() -> str:
    """Return the name of the logger on which the ONNX exporter remarks on its own translations."""
    from torch.onnx._internal.exporter import _registration  # noqa: PLC0415 - loads the exporter

    return _registration.__name__


@contextmanager
def one_registry() -> Iterator[None]:
    """Let torch read its table of operator translations once per process, which was 40 % of every small export."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415 - loads the exporter

    _reader()  # before another method stands in its place
    method = ONNXRegistry.__dict__["from_torchlib"]
    ONNXRegistry.from_torchlib = staticmethod(_translations)  # type: ignore[method-assign]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = method  # type: ignore[method-assign]


@cache
def _translations(opset_version: int) -> "ONNXRegistry":
    """Read the table by the method of torch itself, which `one_registry` stands in for."""
    return _reader()(opset_version)


@cache
def _reader() -> "Callable[[int], ONNXRegistry]":
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415 - loads the exporter

    return ONNXRegistry.from_torchlib
