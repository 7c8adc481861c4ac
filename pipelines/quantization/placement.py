"""Place activation quantisers: one grid for each tensor that integer kernels read or write."""

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.quantization.call_graph import ACTIVATIONS, FLOAT, FUSED, GATE, MOVING, Call, Joint, calls_of
from paretta.pipelines.quantization.fake_quantize import detach_activation_quantizers
from paretta.pipelines.quantization.joint_quantizers import detach_joint_quantizers

Site: TypeAlias = str | Joint  # a layer's name, or a call between layers
Bounds: TypeAlias = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Placement:
    """The quantised results, beside the inputs of layers.

    Args:
        results: layers and calls whose results get a grid, with the bounds of an activation that is their only reader.
        shared: for a layer's input, the result whose grid it takes.
        gates: hard sigmoids that are computed in integers.
    """

    results: dict[Site, Bounds | None]
    shared: dict[str, Site]
    gates: tuple[Joint, ...] = ()


def placement_of(model: nn.Module, example_input: TensorTree, quantized: Collection[str]) -> Placement:
    """Return where grids go so that everything between two of the layers `quantized` is computed in integers.

    Sums, products and concatenations of images, average pools and activations with an integer kernel are computed in
    integers if they read from quantised layers and a quantised layer reads their result. The result of a convolution or
    of such a call needs no grid if a quantised layer is its only reader, since that layer's input has one. A linear
    layer may return floats.
    """
    copy = deepcopy(model).eval()
    detach_joint_quantizers(copy)
    for module in copy.modules():
        detach_activation_quantizers(module)
    calls = calls_of(copy, example_input)
    joints = _integer_joints(calls, quantized)
    results: dict[Site, Bounds | None] = {}
    gates = tuple(call.joint for call in calls if call.joint is not None and _is_gate(call, joints))
    for call in calls:
        site = _site(call, quantized, joints)
        if site is not None and _needs_grid(call, quantized, joints):
            bounds = _only_activation(call)
            results[site] = bounds if results.get(site, bounds) == bounds else None
    return Placement(results, dict(_shared(calls, quantized, joints, results)), gates)


def _site(call: Call, quantized: Collection[str], joints: Collection[int]) -> Site | None:
    if call.layer in quantized:
        return call.layer
    joins = id(call) in joints or (_is_float_joint(call, joints) and not call.passes)
    return call.joint if joins else None


def _is_gate(call: Call, joints: Collection[int]) -> bool:
    return id(call) in joints and call.joint is not None and call.joint.kind == GATE


def _integer_joints(calls: list[Call], quantized: Collection[str]) -> set[int]:
    """Return the identities of the calls between layers that are computed in integers."""
    integer: set[int] = set()  # calls whose results can be integers
    for call in calls:
        sources = [source is not None and id(source) in integer for source in call.sources]
        joins = call.joint is not None and call.joint.kind != FLOAT and any(sources)
        joins = joins and all(
            is_integer or _is_float_joint(source, integer)
            for is_integer, source in zip(sources, call.sources, strict=True)
        )
        if call.layer in quantized or joins or (call.passes and sources[:1] == [True]):
            integer.add(id(call))
    wanted: set[int] = set()  # of these, the calls that reach a quantised layer through nothing else
    for call in reversed(calls):
        if any(use.layer in quantized or id(use) in integer & wanted for use in call.uses):
            wanted.add(id(call))
    return {id(call) for call in calls if call.joint is not None and id(call) in integer & wanted}


def _is_float_joint(call: Call | None, integer: Collection[int]) -> bool:
    """Return True for a float result that may get a grid, including an activation or reordering after it."""
    while call is not None and call.passes:
        call = call.sources[0]
    if call is None or call.joint is None or id(call) in integer:
        return False
    return call.joint.kind == FLOAT or call.function in ACTIVATIONS


def _needs_grid(call: Call, quantized: Collection[str], joints: Collection[int]) -> bool:
    if _is_gate(call, joints) or _feeds_one_input(call, quantized, joints):
        return False
    if call.function == "linear" or _is_float_joint(call, joints):
        return _is_fused(call) or any(id(use) in joints for use in _readers(call))
    return True


def _feeds_one_input(call: Call, quantized: Collection[str], joints: Collection[int]) -> bool:
    """Return True if the result reaches only the input of a single quantised layer, or of a gate, which rounds it."""
    while len(call.uses) == 1:
        call = call.uses[0]
        if call.layer in quantized or _is_gate(call, joints):
            return True
        if not call.passes or call.function in MOVING:
            return False
    return False


def _is_fused(call: Call) -> bool:
    return call.function == "linear" and len(call.uses) == 1 and call.uses[0].function in FUSED


def _readers(call: Call) -> Iterator[Call]:
    """Yield the readers of the result, looking through calls that keep its grid."""
    for use in call.uses:
        yield from _readers(use) if use.passes else (use,)


def _only_activation(call: Call) -> Bounds | None:
    """Return the bounds of the activation that is the only reader of the result, looking through what moves values."""
    while len(call.uses) == 1:
        call = call.uses[0]
        if call.bounds is not None or not call.passes:
            return call.bounds
    return None


def _shared(
    calls: list[Call], quantized: Collection[str], joints: Collection[int], results: dict[Site, Bounds | None]
) -> Iterator[tuple[str, Site]]:
    found: dict[str, set[Site | None]] = {}
    for call in calls:
        if call.layer in quantized and call.layer is not None:
            source = call.sources[0]
            while source is not None and source.passes:
                source = source.sources[0]
            site = None if source is None else _site(source, quantized, joints)
            found.setdefault(call.layer, set()).add(site if site in results else None)
    for layer, sites in found.items():
        site = next(iter(sites))
        if len(sites) == 1 and site is not None:
            yield layer, site
