"""Quantise results computed between layers, such as the sum of a residual block."""

from collections.abc import Callable, Mapping
from threading import local
from typing import Final, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from paretta.pipelines.grid import Grid
from paretta.pipelines.model.torch_private import remove_hooks
from paretta.pipelines.quantization.call_graph import CountingMode, Joint
from paretta.pipelines.quantization.fake_quantize import ActivationQuantizer, HardGate

JOINT_QUANTIZERS: Final = "joint_quantizers"


class _Open(local):
    """The modes of the running modules of this thread, innermost last."""

    def __init__(self) -> None:
        self.modes: list[CountingMode] = []


_open = _Open()


def attach_joint_quantizer(model: nn.Module, joint: Joint, grid: Grid) -> None:
    """Quantise the result of a call to `grid`, in the module that makes it; a second call replaces the grid."""
    _attach(model, joint, ActivationQuantizer(grid))


def attach_gate(model: nn.Module, joint: Joint) -> None:
    """Compute a hard sigmoid in integers, in the module that calls it."""
    _attach(model, joint, HardGate())


def _attach(model: nn.Module, joint: Joint, quantizer: nn.Module) -> None:
    owner = model.get_submodule(joint.owner)
    if not hasattr(owner, JOINT_QUANTIZERS):
        owner.add_module(JOINT_QUANTIZERS, nn.ModuleDict())
        owner.register_forward_pre_hook(_enter)
        owner.register_forward_hook(leave_joints, always_call=True)
    cast(nn.ModuleDict, getattr(owner, JOINT_QUANTIZERS))[joint.key] = quantizer


def watch_joints(owner: nn.Module, watchers: Mapping[str, Callable[[Tensor], None]]) -> list[RemovableHandle]:
    """Pass the results of calls of `owner` to watchers, by `Joint.key`, until the handles are removed."""

    def shown(key: str, result: Tensor) -> Tensor:
        if key in watchers:
            watchers[key](result)
        return result

    return [
        owner.register_forward_pre_hook(lambda *_: _begin(CountingMode(shown))),
        owner.register_forward_hook(leave_joints, always_call=True),
    ]


def detach_joint_quantizers(model: nn.Module) -> None:
    """Remove the quantisers between the layers of `model`."""
    for module in model.modules():
        if hasattr(module, JOINT_QUANTIZERS):
            delattr(module, JOINT_QUANTIZERS)
            remove_hooks(module, (_enter, leave_joints))


# Hooks are functions of the module and not bound methods, so a deep copy of the module uses its own quantisers.
def _enter(module: nn.Module, _: object) -> None:
    quantizers = cast(nn.ModuleDict, getattr(module, JOINT_QUANTIZERS))

    def quantized(key: str, result: Tensor) -> Tensor:
        return cast(Tensor, quantizers[key](result)) if key in quantizers else result

    _begin(CountingMode(quantized))


def _begin(mode: CountingMode) -> None:
    _open.modes.append(mode)
    mode.__enter__()  # type: ignore[no-untyped-call]


def leave_joints(_module: nn.Module, _inputs: object, _output: object) -> None:
    """End the mode started before the module's forward; also called if the forward fails."""
    _open.modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]
