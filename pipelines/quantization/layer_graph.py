"""The data flow between a model's layers, read from its exported graph."""

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.nn.utils import parametrize

from paretta.pipelines.data.trees import FlatModel, TensorTree, tensors
from paretta.pipelines.model.equivalence import compare_answers
from paretta.pipelines.model.quiet_export import quiet_export
from paretta.pipelines.model.weights import stored_parameter
from paretta.pipelines.quantization.fake_quantize import detach_activation_quantizers
from paretta.pipelines.quantization.joint_quantizers import detach_joint_quantizers

aten = torch.ops.aten
_CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default)
_LAYERS = (*_CONVOLUTIONS, aten.linear.default)


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """The convolutions and linear layers of a model by module name, and the operations that read their outputs."""

    nodes: dict[str, list[Node]]
    norms: dict[str, list[Node]]

    @classmethod
    def of(cls, model: nn.Module, example_input: TensorTree) -> "LayerGraph":
        """Trace `model` in evaluation mode on `example_input`, a tree of [n, ...]; the model is not changed."""
        program = plain_program(model, example_input)
        states = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
        nodes: dict[str, list[Node]] = {}
        norms: dict[str, list[Node]] = {}
        for node in program.graph.nodes:
            if node.target in _LAYERS:
                nodes.setdefault(_owner(node.args[1], states), []).append(node)
            elif node.target is aten.batch_norm.default:
                norms.setdefault(_owner(node.args[3], states), []).append(node)
        return cls(nodes, norms)

    def batch_norm_after(self, layer: str) -> str | None:
        """Return the batch norm that scales the channels of `layer`'s output as its only reader, or None.

        For a linear layer on tokens, [n, tokens, features], there is none: a batch norm then scales the tokens.
        """
        uses = self.nodes.get(layer, [])
        follower = _only_user(uses[0]) if len(uses) == 1 else None
        if follower is None or not _is_called(layer, uses[0]):
            return None
        if uses[0].target is aten.linear.default and uses[0].meta["val"].dim() != 2:
            return None
        found = next((name for name, norms in self.norms.items() if norms == [follower]), None)
        return found if found is not None and _is_called(found, follower) else None


def fold_batch_norms(model: nn.Module, example_input: TensorTree) -> dict[str, str]:
    """Merge every batch norm into the convolution or linear layer right before it, in place.

    ``w' = w * gamma / sqrt(var + eps)``, ``b' = (b - mean) * gamma / sqrt(var + eps) + beta``. A merged norm becomes
    nn.Identity; one that holds further modules, as timm's BatchNormAct2d holds an activation, leaves these. Each pair
    must answer the same afterwards as before. Norms for which that is not so, such as one whose class or hooks compute
    something else too, that follow something else, or a layer used twice, are kept. Masks on the weight keep working. A
    frozen weight or bias stays frozen; a bias that only the norm had is frozen if the norm's was.

    Returns:
        Why each norm that is kept is kept, by its name.
    """
    follow = {}
    for layer_name, norm_name, rest in _norms_after_layers(model, example_input):
        if rest is not None and _fold(model.get_submodule(layer_name), model.get_submodule(norm_name)):
            model.set_submodule(norm_name, rest)
        else:
            follow[norm_name] = f"not folded: merged into {layer_name!r} it would answer differently"
    kept = {name: module for name, module in model.named_modules() if _is_batch_norm(module)}
    return {name: follow.get(name) or _why_alone(module) for name, module in kept.items()}


def _why_alone(norm: nn.Module) -> str:
    if getattr(norm, "running_mean", None) is None:
        return "not folded: it takes the mean and variance of each batch"
    return "not folded: no layer that runs once, and whose result it alone reads, stands right before"


def folded_layers(model: nn.Module, example_input: TensorTree) -> set[str]:
    """Name the layers that `fold_batch_norms` would change."""
    return {layer for layer, _, rest in _norms_after_layers(model, example_input) if rest is not None}


def _norms_after_layers(model: nn.Module, example_input: TensorTree) -> list[tuple[str, str, nn.Module | None]]:
    """Return layers, the norm after each, and what takes its place once it is merged, None if it has to stay."""
    if not any(_is_batch_norm(module) for module in model.modules()):
        return []
    graph, found = LayerGraph.of(model, example_input), []
    for layer_name in graph.nodes:
        norm_name = graph.batch_norm_after(layer_name)
        if norm_name is not None:
            layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
            found.append((layer_name, norm_name, _rest_of(layer, norm, graph.nodes[layer_name][0].args[0])))
    return found


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _rest_of(layer: nn.Module, norm: nn.Module, source: object) -> nn.Module | None:
    """Return what a merged norm leaves to be computed; None if nothing tried gives the answers of before.

    Args:
        layer: the convolution or linear layer, which is not changed.
        norm: the batch norm after it, likewise.
        source: the graph's node whose result `layer` reads, for its shape.
    """
    if not isinstance(source, Node):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        device = next(layer.parameters()).device
        values = torch.randn(source.meta["val"].shape).to(device)
    merged, follower = deepcopy(layer).eval(), deepcopy(norm).eval()
    inner = nn.Sequential(OrderedDict(norm.named_children()))
    try:
        with torch.no_grad():
            expected = follower(merged(values.clone()))
            if not _fold(merged, follower):
                return None
            for rest in (nn.Identity(), inner):
                answer = rest(merged(values.clone()))
                if compare_answers(lambda _: expected, lambda found: found, [answer]).alike:
                    return rest
    except (RuntimeError, TypeError, ValueError, AttributeError):  # a forward that needs more than this one tensor
        return None
    return None


def _fold(layer: nn.Module, norm: nn.Module) -> bool:
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return False
    weight = cast(Tensor, layer.weight).detach()
    bias = cast("nn.Parameter | None", layer.bias)
    gain, folded_bias = _gain_and_bias(norm, None if bias is None else bias.detach())
    if not _set_weight(layer, weight, weight * gain.view(-1, *[1] * (weight.dim() - 1))):
        return False
    source = bias if bias is not None else norm.bias if norm.affine else stored_parameter(layer)
    layer.bias = nn.Parameter(folded_bias, requires_grad=source.requires_grad)
    return True


def _gain_and_bias(norm: nn.modules.batchnorm._BatchNorm, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a norm's factor for each channel, and the bias of the preceding layer with the norm merged."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain, shift = torch.rsqrt(norm.running_var + norm.eps), norm.running_mean
    if norm.affine:
        gain = gain * norm.weight.detach()
    folded = (-shift if bias is None else bias - shift) * gain
    return gain, folded + norm.bias.detach() if norm.affine else folded


def _set_weight(layer: nn.Module, weight: Tensor, folded: Tensor) -> bool:
    """Set the folded weight; for a parametrized weight scale the original tensor, if that gives the same weight."""
    if not parametrize.is_parametrized(layer, "weight"):
        layer.weight = nn.Parameter(folded, requires_grad=stored_parameter(layer).requires_grad)
        return True
    source = cast(nn.Parameter, cast(nn.ModuleDict, layer.parametrizations)["weight"].original)
    rows, wanted = weight.flatten(1), folded.flatten(1)
    factor = (wanted * rows).sum(1) / rows.square().sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    before = source.detach().clone()
    with torch.no_grad():
        source.mul_(factor.view(-1, *[1] * (source.dim() - 1)))
        same = torch.allclose(cast(Tensor, layer.weight), folded, rtol=1e-5, atol=1e-7)
        if not same:
            source.copy_(before)
    return same


def plain_program(model: nn.Module, example_input: TensorTree) -> ExportedProgram:
    """Return the exported graph of a `plain_copy`, whose parameters are called ``model.<name>``; the model is kept."""
    flat = FlatModel(plain_copy(model), example_input)
    with quiet_export():
        return torch.export.export(flat, tuple(tensors(example_input)), strict=False)


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy without parametrizations and quantisers, whose weights are plain parameters."""
    copy = deepcopy(model).eval()
    detach_joint_quantizers(copy)
    for module in list(copy.modules()):
        detach_activation_quantizers(module)
        bake_parametrizations(module)
    return copy


def bake_parametrizations(module: nn.Module) -> None:
    """Replace the parametrizations of `module` itself by the tensors that they compute.

    torch's remove_parametrizations deletes the property from a class that deep copies share, which breaks the original.
    """
    if not parametrize.is_parametrized(module):
        return
    chains = cast(nn.ModuleDict, module.parametrizations)
    baked = {name: cast(Tensor, getattr(module, name)).detach().clone() for name in chains}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, values in baked.items():
        module.register_parameter(name, nn.Parameter(values))


def _owner(argument: object, states: dict[str, str]) -> str:
    name = states.get(argument.name, "") if isinstance(argument, Node) else ""
    return name.removeprefix("model.").rpartition(".")[0]  # `FlatModel` holds the model under this name


def _is_called(name: str, node: Node) -> bool:
    """Return whether the module computes `node` itself, rather than its parameters being used by another."""
    calls = cast("dict[str, tuple[str, str]]", node.meta.get("nn_module_stack") or {})
    return any(path == f"model.{name}" for path, _ in calls.values())


def _only_user(node: Node) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None
