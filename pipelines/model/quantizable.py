"""Find the layers of a model that can be quantised, and why the others cannot."""

from collections.abc import Collection, Iterator
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.data.trees import TensorTree, call_model
from paretta.pipelines.model.padded_convolution import CONV_LAYERS, framed
from paretta.pipelines.model.recurrent import RecurrentWeight, can_unfold_recurrent
from paretta.pipelines.model.weights import stored_parameter

COMPUTING: Final = (*CONV_LAYERS, nn.Linear)  # they have integer kernels
TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # they are stored in integers only
_INTEGER: Final = (*COMPUTING, nn.Embedding)
_TORCHS: Final = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)  # with several weights; users subclass them
QUANTIZABLE: Final = (*_INTEGER, *TRANSPOSED, RecurrentWeight)


def survey(model: nn.Module, example_input: TensorTree) -> Iterator[tuple[str, str | None]]:
    """Yield whatever owns a parameter of two or more dimensions, and why it cannot be quantised (None: it can).

    The weights of GRU and LSTM layers can be once they are modules of their own, see `unfold_recurrent`.
    """
    own = {name: module for name, module in model.named_modules() if ".parametrizations." not in f".{name}"}
    owners = {name: list(_matrices(module)) for name, module in own.items()}
    owners = {name: matrices for name, matrices in owners.items() if matrices}
    called = _called(model, example_input, owners)
    uses = [id(matrix) for matrices in owners.values() for _, matrix in matrices]
    for name, matrices in owners.items():
        module = model.get_submodule(name)
        if isinstance(module, QUANTIZABLE):
            shared = uses.count(id(stored_parameter(module))) > 1
            yield name, _obstacle(module, called=name in called, given=called.get(name), shared=shared)
            continue
        for attribute, _ in matrices:
            yield (
                name if name and attribute == "weight" else f"{name}.{attribute}".lstrip("."),
                None if can_unfold_recurrent(module) else _kind_obstacle(module, attribute),
            )


def is_depthwise(layer: nn.Module) -> bool:
    """Return True for a convolution that computes each channel of its result from one channel."""
    return isinstance(layer, CONV_LAYERS) and layer.groups == layer.in_channels == layer.out_channels > 1


def _matrices(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of two or more dimensions that belong to `module` itself, parametrized ones included."""
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        if parameter.dim() >= 2:
            yield name, parameter
    if parametrize.is_parametrized(module):
        chains = module.parametrizations
        assert isinstance(chains, nn.ModuleDict)
        for name, chain in chains.items():
            original = getattr(chain, "original", None)  # weights computed from several parameters have none
            if isinstance(original, nn.Parameter) and original.dim() >= 2:
                yield name, original


def _kind_obstacle(module: nn.Module, attribute: str) -> str:
    if isinstance(module, _TORCHS) or type(module).__module__.startswith("torch.nn") or attribute == "weight":
        known = ", ".join(kind.__name__ for kind in _INTEGER)
        return f"{type(module).__name__} layers have no integer form here; {known} do"
    return f"a parameter of {type(module).__name__} itself and no layer's"


def _obstacle(module: nn.Module, *, called: bool, given: Tensor | None, shared: bool) -> str | None:
    padding = module.padding_mode if isinstance(module, CONV_LAYERS) else "zeros"
    weight = cast(Tensor, module.weight)
    obstacles = {
        "it computes in its own way": called and not _is_known(module, given),
        f"only zero padding has an integer form, not {padding!r}": padding != "zeros",
        "its rows are scaled while they are read": isinstance(module, nn.Embedding) and module.max_norm is not None,
        "its weight is shared with another layer": shared,
        "the model uses its weight without calling the layer": not called,
        "its sums could overflow 32 bits": isinstance(module, COMPUTING) and weight[0].numel() * 255 * 255 >= 2**31,
    }
    return next((words for words, applies in obstacles.items() if applies), None)


def _is_known(module: nn.Module, given: Tensor | None) -> bool:
    """Return True if the layer computes as torch's does, or pads what it is `given` with zeros first."""
    if type(module).forward in [kind.forward for kind in QUANTIZABLE]:
        return True
    return isinstance(module, CONV_LAYERS) and given is not None and framed(module, given) is not None


def _called(model: nn.Module, example_input: TensorTree, names: Collection[str]) -> dict[str, Tensor | None]:
    """Return what each of the modules that are called in evaluation mode reads; None if that is no tensor."""
    called: dict[str, Tensor | None] = {}

    def note(name: str, given: tuple[object, ...]) -> None:
        called[name] = given[0] if given and isinstance(given[0], Tensor) else None

    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: note(name, given))
        for name in names
    ]
    training = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        call_model(model, example_input)
    for module, mode in training.items():
        module.training = mode
    for handle in handles:
        handle.remove()
    return called
