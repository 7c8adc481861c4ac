"""What became of each layer: its shape, the bits of its weights, and how many of them are zero."""

from dataclasses import dataclass

from torch import nn

from pipelines.fake_quantize import weight_quantizer
from pipelines.weights import Weight, weights_of


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One weight of a model.

    Args:
        shape: [out, in, ...].
        bits: of each of its numbers as the model computes with them.
        sparsity: share of exact zeros.
    """

    shape: tuple[int, ...]
    bits: int
    sparsity: float


def layer_facts(model: nn.Module) -> dict[str, LayerFacts]:
    """Return the facts of every weight by its name.

    >>> layer_facts(nn.Sequential(nn.Linear(3, 2)))["0"].shape
    (2, 3)
    """
    return {weight.name: _facts(weight) for weight in weights_of(model)}


def _facts(weight: Weight) -> LayerFacts:
    values = weight.values.detach()
    quantizer = weight_quantizer(weight.module) if weight.attribute == "weight" else None
    bits = 8 * values.element_size() if quantizer is None else quantizer.bits
    return LayerFacts(tuple(values.shape), bits, round(float((values == 0).double().mean()), 4))
