"""Every use of torch's private interfaces, one function each; a test names any that a new version has removed."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

_aten: Final = torch.ops.aten
# every attribute that torch itself sets on a module
MODULE_FIELDS: Final = frozenset(nn.Module().__dict__)
PRE_HOOKS, HOOKS = "_forward_pre_hooks", "_forward_hooks"
ALWAYS_CALLED: Final = "_forward_hooks_always_called"


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the module's own parameters, including those that are None; changing the dict changes the module."""
    return module._parameters


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the module's own buffers, including those that are None; changing the dict changes the module."""
    return module._buffers


def passing_buffers_of(module: nn.Module) -> frozenset[str]:
    """Return the names of the module's own non-persistent buffers."""
    return frozenset(module._non_persistent_buffers_set)


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the module's own children, including those that are None; changing the dict changes the module."""
    return module._modules


def order_children(module: nn.Module, names: Collection[str]) -> None:
    """Reorder the module's children by `names`, which must contain all of them."""
    module._modules = {name: module._modules[name] for name in names}


def pre_hooks_of(module: nn.Module) -> Collection[Callable[..., Any]]:
    """Return the module's forward pre-hooks."""
    return module._forward_pre_hooks.values()


def hooks_of(module: nn.Module) -> Collection[Callable[..., Any]]:
    """Return the module's forward hooks."""
    return module._forward_hooks.values()


def always_called_of(module: nn.Module) -> Collection[Callable[..., Any]]:
    """Return the module's forward hooks that are also called if the forward raises."""
    return [module._forward_hooks[key] for key in module._forward_hooks_always_called]


def remove_hooks(module: nn.Module, functions: Collection[Callable[..., Any]]) -> None:
    """Remove `functions` from the module's forward hooks and pre-hooks."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, hook in hooks.items() if hook in functions]:
            del hooks[key]


def take_hooks(module: nn.Module, source: nn.Module) -> None:
    """Give `module`, which has none yet, all forward hooks and pre-hooks of `source`."""
    fields = [name for name in MODULE_FIELDS if name.startswith(("_forward_pre_hooks", "_forward_hooks"))]
    vars(module).update({name: copy(vars(source)[name]) for name in fields})


def reset_of(module: nn.Module) -> Callable[[], object] | None:
    """Return the function that re-initialises the module's own parameters; None if it has none.

    Attention only has a private one.
    """
    reset: object = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return reset if callable(reset) else None


def has_bfloat16_instructions() -> bool:
    """Return True if this CPU has bfloat16 instructions; otherwise torch emulates bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def exporter_logger() -> str:
    """Return the name of the logger that the ONNX exporter uses for its own translations."""
    from torch.onnx._internal.exporter import _registration  # noqa: PLC0415 - loads the exporter

    return _registration.__name__


def exporter_is_loaded() -> bool:
    """Return whether the ONNX exporter has been imported, which takes a second."""
    return "torch.onnx._internal.exporter" in sys.modules


@contextmanager
def lean_exporter() -> Iterator[None]:
    """Let the ONNX exporter do nothing twice and nothing in vain.

    Its table of translations is loaded once a process, and a program that needs no decomposition is not traced again
    for one: each was two fifths of a small export.
    """
    from torch.onnx._internal.exporter import _fx_passes  # noqa: PLC0415 - loads the exporter
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415

    _reader(), _decomposer()  # saved before they are replaced
    method, function = ONNXRegistry.__dict__["from_torchlib"], _fx_passes.decompose_with_registry
    ONNXRegistry.from_torchlib = staticmethod(_translations)  # type: ignore[method-assign]
    _fx_passes.decompose_with_registry = _decomposed  # type: ignore[assignment]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = method  # type: ignore[method-assign]
        _fx_passes.decompose_with_registry = function


@cache
def _translations(opset_version: int) -> "ONNXRegistry":
    """Load the table with torch's own method, which `lean_exporter` replaces."""
    return _reader()(opset_version)


@cache
def _reader() -> "Callable[[int], ONNXRegistry]":
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415 - loads the exporter

    return ONNXRegistry.from_torchlib


def _decomposed(program: torch.export.ExportedProgram, registry: "ONNXRegistry") -> torch.export.ExportedProgram:
    """Return `program` itself if the exporter translates each of its operators as it is, else decomposed."""
    translated, nodes = _translated(registry), program.graph.find_nodes
    for node in nodes(op="call_function", target=_aten.adaptive_avg_pool2d.default):
        if list(node.args[1]) == [1, 1]:
            node.target, node.args = _aten.mean.dim, (node.args[0], [-1, -2], True)
    for node in nodes(op="call_function", target=_aten.flatten.using_ints):
        shape = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
        if len(shape) == node.args[0].meta["val"].ndim:
            node.target, node.args = _aten.alias.default, (node.args[0],)
        elif shape.count(-1) <= 1:
            node.target, node.args = _aten.reshape.default, (node.args[0], shape)
    if all(node.op != "call_function" or node.target in translated for node in program.graph.nodes):
        return program
    return _decomposer()(program, registry)


@cache
def _translated(registry: "ONNXRegistry") -> frozenset[object]:
    """Return the operators without a subgraph and without an effect that need no decomposition.

    Assertions, which the exporter leaves out, are among them. Flatten is not: two of one tensor get one name.
    """
    from torch.onnx._internal.exporter._decomp import get_onnx_implemented_overloads  # noqa: PLC0415

    plain = {
        target
        for target in get_onnx_implemented_overloads(registry)
        if not isinstance(target, torch._ops.HigherOrderOperator)
        and not (isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable)
    }
    asserts = {_aten._assert_tensor_metadata.default, _aten._assert_scalar.default}
    return frozenset((plain | asserts) - {_aten.flatten.using_ints})


@cache
def _decomposer() -> "Callable[[torch.export.ExportedProgram, ONNXRegistry], torch.export.ExportedProgram]":
    from torch.onnx._internal.exporter import _fx_passes  # noqa: PLC0415 - loads the exporter

    return _fx_passes.decompose_with_registry
