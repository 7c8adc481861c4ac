"""Serialize a model whose structure has changed as plain data and tensors, so that another process can use it.

The changes that stages made are written module by module: class, plain attributes, tensors, parametrizations and
hooks. Anything else, such as a function that the user's model holds, is taken from an untrained model of the same task,
provided that both models agree there. A model that cannot be represented in this way is not written.
"""

import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.model.torch_private import (
    ALWAYS_CALLED,
    HOOKS,
    MODULE_FIELDS,
    PRE_HOOKS,
    always_called_of,
    buffers_of,
    children_of,
    order_children,
    parameters_of,
    passing_buffers_of,
)
from paretta.pipelines.quantization.joint_quantizers import leave_joints
from paretta.pipelines.state.state_file import State

ModelDocument = Mapping[str, State]

_NEVER: Final = tuple(name for name in MODULE_FIELDS if name.endswith(("hooks", "kwargs", "called")))
_HOOKS: Final = (PRE_HOOKS, HOOKS)
_FROM_FRESH: Final[ModelDocument] = {"fresh": True}


class NotWritable(Exception):
    """The model holds something that plain data and tensors cannot represent."""


def snapshot(model: nn.Module, fresh: nn.Module) -> ModelDocument | None:
    """Return `model` as plain data and copies of its tensors; None if that is not complete.

    Args:
        model: the result of stages.
        fresh: the task's untrained model; it is modified and must not be used afterwards.
    """
    try:
        written = _Writer(fresh).module("", model)
        again = _Writer(fresh).module("", restored(written, fresh))
    except (NotWritable, AttributeError, TypeError, RuntimeError):
        return None
    return written if _same(written, again) else None


def restored(written: ModelDocument, fresh: nn.Module) -> nn.Module:
    """Return the model that `snapshot` wrote, on the CPU.

    Args:
        written: the return value of `snapshot`.
        fresh: an untrained model of the same task; it is modified and must not be used afterwards.

    Raises:
        NotWritable: a module's class is neither torch's nor ours, nor from a package of the model's own classes.
    """
    reader = _Reader(fresh)
    model = reader.module("", written)
    for module, training in reader.training:  # set last, since registering a parametrization changes it
        module.training = training
    return model


class _Writer:
    def __init__(self, fresh: nn.Module) -> None:
        self.fresh = dict(fresh.named_modules())
        self.modules: dict[int, str] = {}
        self.tensors: dict[int, str] = {}

    def module(self, path: str, module: nn.Module) -> ModelDocument:
        known = self.modules.setdefault(id(module), path)
        if known != path:
            return {"module": known}
        if any(module.__dict__[name] for name in _NEVER if name not in (*_HOOKS, ALWAYS_CALLED)) or set(
            always_called_of(module)
        ) - {leave_joints}:
            raise NotWritable(path)
        held = parametrize.is_parametrized(module)
        children = {
            name: child for name, child in children_of(module).items() if not (held and name == "parametrizations")
        }
        return {
            "class": _class_name(parametrize.type_before_parametrizations(module)),
            "training": module.training,
            "attributes": {
                name: self._attribute(path, name, value)
                for name, value in module.__dict__.items()
                if name not in MODULE_FIELDS
            },
            "parameters": {name: self._tensor(path, name, tensor) for name, tensor in parameters_of(module).items()},
            "buffers": {name: self._tensor(path, name, tensor) for name, tensor in buffers_of(module).items()},
            "passing": sorted(passing_buffers_of(module)),
            "children": {
                name: None if child is None else self.module(f"{path}.{name}".lstrip("."), child)
                for name, child in children.items()
            },
            "held": self._held(path, module) if held else {},
            "order": list(children_of(module)),
            **{kind: [_function_name(hook) for hook in module.__dict__[kind].values()] for kind in _HOOKS},
        }

    def _held(self, path: str, module: nn.Module) -> ModelDocument:
        lists = cast(Mapping[str, parametrize.ParametrizationList], module.parametrizations)
        written: dict[str, State] = {}
        for name, chain in lists.items():
            if not chain.is_tensor:
                raise NotWritable(path)
            place = f"{path}.parametrizations.{name}".lstrip(".")
            written[name] = {
                "original": self._tensor(place, "original", chain.original),
                "steps": [self.module(f"{place}.{index}", step) for index, step in enumerate(chain)],
            }
        return written

    def _attribute(self, path: str, name: str, value: object) -> State:
        try:
            return {"value": _plain(value)}
        except NotWritable:
            fresh = self.fresh.get(path)
            if fresh is None or name not in fresh.__dict__ or not _same(value, fresh.__dict__[name]):
                raise
            return _FROM_FRESH

    def _tensor(self, path: str, name: str, tensor: Tensor | None) -> State:
        if tensor is None:
            return None
        place = f"{path}.{name}".lstrip(".")
        known = self.tensors.setdefault(id(tensor), place)
        if known != place:
            return {"tied": known}
        if type(tensor) not in (Tensor, nn.Parameter):
            raise NotWritable(place)
        copy = tensor.detach().to("cpu", copy=True).contiguous()
        facts: ModelDocument = {
            "tensor": copy,
            "learned": isinstance(tensor, nn.Parameter),
            "trained": tensor.requires_grad,
        }
        return facts


class _Reader:
    def __init__(self, fresh: nn.Module) -> None:
        self.fresh = dict(fresh.named_modules())
        self.homes = {type(module).__module__ for module in self.fresh.values()}
        self.modules: dict[str, nn.Module] = {}
        self.tensors: dict[str, Tensor] = {}
        self.training: list[tuple[nn.Module, bool]] = []

    def module(self, path: str, written: ModelDocument) -> nn.Module:
        if "module" in written:
            return self.modules[str(written["module"])]
        kind = self._class(str(written["class"]))
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        self.modules[path] = module
        for name, value in _items(written["attributes"]):
            from_fresh = cast(ModelDocument, value) == _FROM_FRESH
            module.__dict__[name] = self.fresh[path].__dict__[name] if from_fresh else _unplain(value["value"])
        for name, tensor in _items(written["parameters"]):
            module.register_parameter(name, cast("nn.Parameter | None", self._tensor(path, name, tensor)))
        passing = cast(Sequence[str], written["passing"])
        for name, tensor in _items(written["buffers"]):
            module.register_buffer(name, self._tensor(path, name, tensor), persistent=name not in passing)
        for name, child in _items(written["children"]):
            children_of(module)[name] = None if child is None else self.module(f"{path}.{name}".lstrip("."), child)
        for name, held in _items(written["held"]):
            self._hold(path, module, name, held)
        order = cast(Sequence[str], written["order"])
        order_children(module, order)
        for kind_of_hook in _HOOKS:
            for hook in cast(Sequence[str], written[kind_of_hook]):
                function = _function(hook)
                if "pre" in kind_of_hook:
                    module.register_forward_pre_hook(function)
                else:
                    module.register_forward_hook(function, always_call=function is leave_joints)
        lists = children_of(module).get("parametrizations") if written["held"] else None
        for part in (module, *([] if lists is None else [lists, *lists.children()])):
            self.training.append((part, bool(written["training"])))
        return module

    def _hold(self, path: str, module: nn.Module, name: str, written: Mapping[str, Any]) -> None:
        place = f"{path}.parametrizations.{name}".lstrip(".")
        original = self._tensor(place, "original", written["original"])
        if isinstance(original, nn.Parameter):
            module.register_parameter(name, original)
        else:
            module.register_buffer(name, original)
        for index, step in enumerate(written["steps"]):
            parametrize.register_parametrization(module, name, self.module(f"{place}.{index}", step), unsafe=True)
        chain = module.get_submodule(f"parametrizations.{name}")
        own = parameters_of(chain) if "original" in parameters_of(chain) else buffers_of(chain)
        own["original"] = original  # type: ignore[assignment]

    def _tensor(self, path: str, name: str, written: State) -> Tensor | None:
        if written is None:
            return None
        facts = cast(Mapping[str, Any], written)
        if "tied" in facts:
            return self.tensors[facts["tied"]]
        tensor: Tensor = facts["tensor"].clone()
        if facts["learned"]:
            tensor = nn.Parameter(tensor, requires_grad=facts["trained"])
        self.tensors[f"{path}.{name}".lstrip(".")] = tensor
        return tensor

    def _class(self, name: str) -> type[nn.Module]:
        """Return a loaded class of torch's layers, our package or the packages of the model's own classes."""
        home, _, path = name.partition(":")
        if not (home.startswith(("torch.nn.", "paretta.pipelines.")) or home in self.homes):
            raise NotWritable(name)
        found: object = sys.modules.get(home)
        for part in path.split("."):
            found = getattr(found, part, None)
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise NotWritable(name)
        return found


def _items(written: State) -> Sequence[tuple[str, Any]]:
    return list(cast(Mapping[str, Any], written).items())


def _class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _function_name(hook: object) -> str:
    """Return the name of a hook added by our stages; a user's hook may have state that its name does not capture."""
    if not isinstance(hook, FunctionType) or not hook.__module__.startswith("paretta.pipelines.") or hook.__closure__:
        raise NotWritable(repr(hook))
    return f"{hook.__module__}:{hook.__qualname__}"


def _function(name: str) -> Callable[..., Any]:
    home, _, path = name.partition(":")
    found = getattr(sys.modules[home], path) if home.startswith("paretta.pipelines.") else None
    if not isinstance(found, FunctionType):
        raise NotWritable(name)
    return found


def _plain(value: object) -> State:
    """Serialize numbers, text and containers of them, so that `_unplain` restores equal values of equal types."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return cast(State, value)
    if kind in (tuple, list):
        return {kind.__name__: [_plain(item) for item in cast(Sequence[object], value)]}
    if kind is dict and all(type(key) is str for key in cast(Mapping[object, object], value)):
        return {"dict": {key: _plain(item) for key, item in cast(Mapping[str, object], value).items()}}
    raise NotWritable(repr(kind))


def _unplain(written: State) -> object:
    if not isinstance(written, Mapping):
        return written
    ((kind, inside),) = cast(Mapping[str, State], written).items()
    if kind == "dict":
        return {key: _unplain(item) for key, item in cast(Mapping[str, State], inside).items()}
    items = [_unplain(item) for item in cast(Sequence[State], inside)]
    return tuple(items) if kind == "tuple" else items


def _same(one: object, other: object) -> bool:  # noqa: PLR0911 - one line a type
    """Return True if two values of equal structure are bitwise equal."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    match one:
        case Tensor():
            assert isinstance(other, Tensor)
            return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))
        case Mapping():
            assert isinstance(other, Mapping)
            return [*one] == [*other] and all(_same(one[key], other[key]) for key in one)
        case list() | tuple():
            assert isinstance(other, list | tuple)
            return len(one) == len(other) and all(map(_same, one, other))
        case FunctionType():
            assert isinstance(other, FunctionType)
            cells = [[cell.cell_contents for cell in function.__closure__ or ()] for function in (one, other)]
            return (one.__code__, one.__module__) == (other.__code__, other.__module__) and _same(
                [cells[0], one.__defaults__, one.__kwdefaults__], [cells[1], other.__defaults__, other.__kwdefaults__]
            )
        case _:
            return _dumped(one) is not None and _dumped(one) == _dumped(other)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().flatten().contiguous().view(torch.uint8)


def _dumped(value: object) -> bytes | None:
    """Return the value's pickle, which is only compared and never loaded; None if it cannot be pickled."""
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
