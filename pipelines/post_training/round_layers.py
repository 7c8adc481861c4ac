"""Round the weights of quantised layers in order, each for the outputs of the layers that are already rounded."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.grid import Grid
from paretta.pipelines.model.masks import Mask, mask_of
from paretta.pipelines.model.weights import stored_parameter
from paretta.pipelines.post_training.gather import batches, call_counts, gathered
from paretta.pipelines.post_training.layer_objective import LayerObjective, grouped
from paretta.pipelines.post_training.learned_rounding import learned_rounding
from paretta.pipelines.post_training.second_order import descended, second_order
from paretta.pipelines.quantization.fake_quantize import LearnedStepSize, weight_quantizer
from paretta.search_spaces.results.note import Note

Rounding: TypeAlias = Literal["nearest", "second_order", "learned"]
ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)
_ROUNDS = 4  # of codes for the steps, steps for the codes


def round_layers(
    model: nn.Module,
    reference: nn.Module,
    layers: Collection[str],
    bench: Bench,
    *,
    rounding: Rounding,
    bias_correction: bool,
    num_samples: int,
) -> None:
    """Round the weights of `layers` in the order of their calls, and correct their biases; equal on all ranks.

    A layer whose inputs do not vary on the samples, or whose weight is not free (shared values), keeps the nearest
    rounding, with a note.

    Args:
        model: in evaluation mode, on the bench's device, with weight quantisers and without activation quantisers.
        reference: the same model without quantisers.
        layers: names of its quantised convolutions and linear layers.
        bench: provides the samples, and the seed that selects them.
        rounding: how to choose between the grid points around a weight.
        bias_correction: whether to set biases so that mean outputs are as before; those that exist.
        num_samples: how many samples to use, without labels.
    """
    inputs = batches(bench, num_samples, derived_seed(bench.seed, "rounding"))
    for name, num_calls in call_counts(model, list(layers), inputs[0]).items():
        layer = model.get_submodule(name)
        objective = gathered(
            model, reference, name, inputs, num_calls=num_calls, frees_bias=bias_correction and layer.bias is not None
        )
        if objective.is_degenerate:
            bench.note(Note(bench.stage or "quantize", "keeps its nearest rounding: its inputs never vary", (name,)))
            continue
        if rounding != "nearest" and _is_free(layer, name, bench):
            _round(layer, objective, rounding, bench)
        if bias_correction and layer.bias is not None:
            bias = objective.bias_for(_grouped(objective, cast(Tensor, layer.weight).detach())).flatten()
            with torch.no_grad():
                cast(nn.Parameter, layer.bias).copy_(bench.ranks.broadcast(bias.float()))


def _is_free(layer: nn.Module, name: str, bench: Bench) -> bool:
    chain = cast(nn.ModuleDict, layer.parametrizations)["weight"]
    free = all(isinstance(step, Mask | LearnedStepSize) for step in cast(nn.ModuleList, chain))
    if not free:
        kinds = ", ".join(type(step).__name__ for step in cast(nn.ModuleList, chain))
        bench.note(
            Note(bench.stage or "quantize", f"keeps its nearest rounding: its weight is made by {kinds}", (name,))
        )
    return free


def _grouped(objective: LayerObjective, weight: Tensor) -> Tensor:
    return grouped(weight, len(objective.curvature))


@torch.no_grad()
def _round(layer: nn.Module, objective: LayerObjective, rounding: Rounding, bench: Bench) -> None:
    """Set the layer's stored weight to grid points, and its steps where they may change."""
    quantizer = weight_quantizer(layer)
    assert quantizer is not None
    source = stored_parameter(layer)
    shape = source.shape
    grid = _RowGrid.of(quantizer, objective, mask_of(layer))
    before = _grouped(objective, cast(Tensor, layer.weight))
    if rounding == "learned":
        original = _grouped(objective, source)
        found = learned_rounding(objective, *grid.around(original), grid.nearest(original, slice(None)))
    else:
        found, grid = _second_order(objective, grid, _grouped(objective, source))
    better = (objective.losses(found) < objective.losses(before))[..., None]
    steps = torch.where(better, grid.steps, _RowGrid.of(quantizer, objective, None).steps)
    found = torch.where(better, found, before)
    source.copy_(bench.ranks.broadcast(found.float().flatten(0, 1).view(shape).contiguous()))
    if quantizer.axis is not None:
        one_each = steps[..., :: quantizer.group or 1].reshape(quantizer.scale.shape)
        quantizer.scale.copy_(bench.ranks.broadcast(one_each.float().contiguous()))


@dataclass(frozen=True, slots=True)
class _RowGrid:
    """The grid of a weight in the objective's form.

    Args:
        steps: [groups, out / groups, 1], or [.., in] if groups of a row have steps of their own.
        quantizer: whose grid it is, with other steps.
        keep: which weights are not masked, [groups, out / groups, in]; None: all.
    """

    steps: Tensor
    quantizer: LearnedStepSize
    keep: Tensor | None

    @classmethod
    def of(cls, quantizer: LearnedStepSize, objective: LayerObjective, mask: Mask | None) -> "_RowGrid":
        keep = None if mask is None else mask.keep.reshape(objective.linear.shape)
        return cls(_by_row(quantizer.grid(), quantizer.grid().scale, objective), quantizer, keep)

    def nearest(self, values: Tensor, columns: slice) -> Tensor:
        """Return the grid points nearest to the values of some columns; masked ones are zero."""
        grid = self.quantizer.grid()
        steps, zero = _of(self.steps, columns), _of(self._zero(grid), columns)
        if grid.levels is None:
            codes = (values / steps).round().clamp(grid.low - zero, grid.high - zero)
        else:
            levels = grid.levels.double()
            codes = levels[torch.bucketize(values / steps, (levels[1:] + levels[:-1]) / 2)]
        return self._masked(codes * steps, columns)

    def around(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the grid points below and above the values, equal outside of the grid's range."""
        grid = self.quantizer.grid()
        zero = self._zero(grid)
        if grid.levels is None:
            low, high = (values / self.steps).floor(), (values / self.steps).ceil()
            ends = (grid.low - zero, grid.high - zero)
            low, high = low.clamp(*ends), high.clamp(*ends)
        else:
            levels = grid.levels.double()
            place = torch.bucketize(values / self.steps, levels, right=True)
            low, high = levels[(place - 1).clamp_min(0)], levels[place.clamp_max(len(levels) - 1)]
        return self._masked(low * self.steps, slice(None)), self._masked(high * self.steps, slice(None))

    def refitted(self, objective: LayerObjective, found: Tensor) -> "_RowGrid":
        """Return the grid with the steps of least error for the codes of `found`, rounded as they are stored.

        ``s = c r / (c H c^T)`` for codes c. Of groups of a row one step after the other, with the rest of the row as it
        is then: ``s = c (r - H q) / (c H c^T)`` with the weights q of the other groups.
        """
        codes = found / self.steps
        size = self.quantizer.group or codes.shape[-1]
        steps, rest = self.steps.clone(), objective.linear - found @ objective.curvature
        for start in range(0, codes.shape[-1], size):
            here = slice(start, start + size)
            own, block = codes[..., here], objective.curvature[..., here, here]
            old = _of(steps, here)[..., :1]
            curvature = ((own @ block) * own).sum(-1, keepdim=True)
            best = old + (own * rest[..., here]).sum(-1, keepdim=True) / curvature
            fits = (curvature > 0) & (best > 0.2 * old) & (best < 5 * old)
            new = torch.where(fits, best, old).float().bfloat16().double()
            rest = rest - ((new - old) * own) @ objective.curvature[..., here, :]
            steps[..., here if self.quantizer.group else slice(None)] = new
        return _RowGrid(steps, self.quantizer, self.keep)

    def _zero(self, grid: Grid) -> Tensor:
        rows = self.steps.shape[0] * self.steps.shape[1]
        return _rows(grid, grid.zero_point, rows, self.steps.shape[-1]).reshape(self.steps.shape)

    def _masked(self, values: Tensor, columns: slice) -> Tensor:
        return values if self.keep is None else torch.where(self.keep[..., columns], values, 0.0)


def _by_row(grid: Grid, per_channel: Tensor, objective: LayerObjective) -> Tensor:
    """Return steps in the objective's form, one for each row, or for each weight if a row has groups."""
    groups, rows, columns = objective.linear.shape
    return _rows(grid, per_channel, groups * rows, columns).reshape(groups, rows, -1)


def _rows(grid: Grid, per_channel: Tensor, rows: int, columns: int) -> Tensor:
    if grid.group is None:
        return per_channel.double().expand(rows)
    return per_channel.double().repeat_interleave(grid.group, 1)[:, :columns]


def _of(steps: Tensor, columns: slice) -> Tensor:
    """Return the steps of some columns."""
    return steps if steps.shape[-1] == 1 else steps[..., columns]


def _second_order(objective: LayerObjective, grid: _RowGrid, start: Tensor) -> tuple[Tensor, _RowGrid]:
    """Return rounded weights and their grid, after choosing codes and steps in turn."""
    found = second_order(objective, start, grid.nearest)
    if grid.quantizer.axis is None or grid.quantizer.dyadic:
        return found, grid
    for _ in range(_ROUNDS):
        trial = grid.refitted(objective, found)
        other = descended(objective, found / grid.steps * trial.steps, trial.nearest)
        better = (objective.losses(other) < objective.losses(found))[..., None]
        if not bool(better.any()):
            break
        found = torch.where(better, other, found)
        grid = _RowGrid(torch.where(better, trial.steps, grid.steps), grid.quantizer, grid.keep)
    return found, grid
