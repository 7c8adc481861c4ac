"""Weights that share a few values: centroids from k-means, kept by the layer and moved by training."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.model.weights import weight_learns
from paretta.pipelines.quantization.call_graph import unseen

_ROUNDS = 50


class SharedValues(nn.Module):
    """Parametrization ``w_i = c[place_i]`` with ``c[0] = 0``; a centroid's gradient is the sum over its weights.

    Source: Han et al., "Deep compression", 2016, section 3. The original weight is ignored.

    Args:
        places: uint8, the shape of the weight, the index of each value; 0 for zeros.
        centroids: [k], the values of indices 1 .. k, at most 255; layers may share one parameter.
    """

    places: Tensor

    def __init__(self, places: Tensor, centroids: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("places", places.detach().clone())
        self.centroids = centroids

    def forward(self, _: Tensor) -> Tensor:
        """Return the weight made of centroids."""
        with unseen():
            return torch.cat([self.centroids.new_zeros(1), self.centroids])[self.places.long()]


def attach_shared_values(layer: nn.Module, places: Tensor, centroids: nn.Parameter) -> None:
    """Attach centroids to the weight of `layer`, after its existing parametrizations.

    A frozen weight gets a frozen copy of them.
    """
    if not weight_learns(layer):
        centroids = nn.Parameter(centroids.detach().clone(), requires_grad=False)
    current = shared_values(layer)
    if current is not None:
        current.places, current.centroids = places.detach().clone(), centroids
        return
    parametrize.register_parametrization(layer, "weight", SharedValues(places, centroids))
    _chain(layer).original.requires_grad_(False)


def shared_values(layer: nn.Module) -> SharedValues | None:
    """Return the shared values of the weight of `layer`, if it has any."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    return next((step for step in _chain(layer) if isinstance(step, SharedValues)), None)


def centroids_of(values: Tensor, number: int) -> Tensor:
    """Return up to `number - 1` values, ascending, that together with zero minimise the squared error, [k].

    Lloyd's algorithm on sorted values with zero as a fixed centroid, starting evenly spaced over the range. Centroids
    without values are left out.

    >>> centroids_of(torch.tensor([-1.0, -1.5, 0.0, 0.1, 2.0, 2.5]), 3).tolist()
    [-1.25, 2.25]
    """
    ordered = values.detach().flatten().double().sort().values
    ordered = ordered[ordered != 0]
    if len(ordered) == 0:
        return values.new_zeros(0)
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    start = torch.linspace(float(ordered[0]), float(ordered[-1]), number, dtype=torch.float64, device=values.device)
    zero = int(start.abs().argmin())
    centroids = start.clone()
    centroids[zero] = 0.0
    for _ in range(_ROUNDS):
        edges = _edges(ordered, centroids)
        counts = edges.diff()
        means = (sums[edges[1:]] - sums[edges[:-1]]) / counts.clamp_min(1)
        moved = torch.where(counts > 0, means, centroids)
        moved[zero] = 0.0
        if torch.equal(moved, centroids):
            break
        centroids = moved
    used = _edges(ordered, centroids).diff() > 0
    used[zero] = False
    found: Tensor = torch.unique(centroids[used].to(values.dtype))
    return found


def nearest_places(values: Tensor, centroids: Tensor) -> Tensor:
    """Return for each value the index of the nearest of zero (0) and `centroids` [k] (1 .. k); uint8.

    >>> nearest_places(torch.tensor([0.0, 0.9, -3.0]), torch.tensor([-2.0, 1.0])).tolist()
    [0, 2, 1]
    """
    table = torch.cat([centroids.new_zeros(1), centroids])
    ordered, order = table.sort()
    middles = (ordered[1:] + ordered[:-1]) / 2
    return order[torch.bucketize(values.detach(), middles)].to(torch.uint8)


def _edges(ordered: Tensor, centroids: Tensor) -> Tensor:
    """Return the start of each centroid's values in `ordered`, and the end of the last ones, [k + 1]."""
    middles = (centroids[1:] + centroids[:-1]) / 2
    inner = torch.searchsorted(ordered, middles)
    return torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(ordered))])


def _chain(layer: nn.Module) -> parametrize.ParametrizationList:
    return cast(parametrize.ParametrizationList, cast(nn.ModuleDict, layer.parametrizations)["weight"])
