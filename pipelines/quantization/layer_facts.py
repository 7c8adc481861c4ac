"""Facts about each layer: its shape, the bits of its weights, their sparsity, and why it computes in floats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from paretta.pipelines.data.trees import TensorTree, moved
from paretta.pipelines.model.quantizable import TRANSPOSED, survey
from paretta.pipelines.model.recurrent import RecurrentWeight
from paretta.pipelines.quantization.fake_quantize import is_quantized, weight_quantizer
from paretta.search_spaces.canonical import Json


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Facts about one weight of a model.

    Args:
        shape: [out, in, ...].
        bits: per value, as the model computes.
        sparsity: share of exact zeros.
        in_floats: why its layer computes in floats; None if it computes, or is looked up, in integers.
        asked: bits that a stage requested; None if none did.
        stored: bits per value in the file, including what is needed to unpack them.
        kernel: the operators of ONNX Runtime's optimised graph that read it, such as ``QLinearConv``.
        group: how many neighbours in a row share a step; None if a whole row does, or if it is not quantized.

    `stored` and `kernel` are None if the model was not exported, or if the runtime does not read the weight as it is.
    """

    shape: tuple[int, ...]
    bits: int
    sparsity: float
    in_floats: str | None
    asked: int | None = None
    stored: float | None = None
    kernel: str | None = None
    group: int | None = None

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON."""
        return {
            "shape": list(self.shape),
            "bits": self.bits,
            "sparsity": self.sparsity,
            "in_floats": self.in_floats,
            "asked": self.asked,
            "stored": None if self.stored is None else float(f"{self.stored:.4g}"),
            "kernel": self.kernel,
            "group": self.group,
        }


def layer_facts(
    model: nn.Module, example_input: TensorTree, asked: Mapping[str, int] | None = None
) -> dict[str, LayerFacts]:
    """Return facts about each layer's weight and each other parameter of two or more dimensions, by name.

    Args:
        model: in evaluation mode.
        example_input: what it is called with, a tree of [n, ...], on any device.
        asked: bits that were requested for layers that stay in floats, by name.

    >>> import torch
    >>> layer_facts(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3))["0"].in_floats
    'its weight is not quantized'
    """
    example = moved(example_input, next(model.parameters()).device)
    return {name: _facts(model, name, obstacle, (asked or {}).get(name)) for name, obstacle in survey(model, example)}


def _facts(model: nn.Module, name: str, obstacle: str | None, asked: int | None) -> LayerFacts:
    owner, values = _weight(model, name)
    quantizer = None if owner is None else weight_quantizer(owner)
    bits = 8 * values.element_size() if quantizer is None else quantizer.bits
    sparsity = round(float((values == 0).double().mean()), 4)
    asked = asked if quantizer is None else quantizer.asked or quantizer.bits
    group = None if quantizer is None else quantizer.group
    return LayerFacts(tuple(values.shape), bits, sparsity, obstacle or _reason(owner), asked, group=group)


def _weight(model: nn.Module, name: str) -> tuple[nn.Module | None, Tensor]:
    """Return the layer called `name` and its weight, or the parameter of that name that belongs to no layer."""
    parent, _, own = name.rpartition(".")
    found = getattr(model.get_submodule(parent), own) if name else model
    return (None, found.detach()) if isinstance(found, Tensor) else (found, cast(Tensor, found.weight).detach())


def _reason(layer: nn.Module | None) -> str | None:
    quantizer = None if layer is None else weight_quantizer(layer)
    if layer is None or quantizer is None:
        return "its weight is not quantized"
    if isinstance(layer, nn.Embedding) or is_quantized(layer):
        return None
    if isinstance(layer, RecurrentWeight):
        return "recurrent layers compute in floats"
    if isinstance(layer, TRANSPOSED):
        return "ONNX Runtime has no integer kernel for it"
    if quantizer.packed:
        reason = "MatMulNBits multiplies floats with it"
        return reason if quantizer.fits_packed else "MatMulNBits is slower than floats with more than 4 bits"
    return "its input is not quantized" if quantizer.group is None else "integer kernels take no steps of groups"
