"""Remove whole channels and neurons: the layers that remain are smaller, not masked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Literal, Self, cast

import torch
import torch_pruning
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipelines.bench import Bench, derived_seed
from pipelines.data_pass import Gradients, gradients
from pipelines.importance import Importance, Rows, importance_of, known_importance
from pipelines.masks import num_dropped
from pipelines.stage import Shape, Stage
from pipelines.weights import LAYERS
from search_spaces.errors import Problem, TrialFailed, WrongInput

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class Prune(Stage):
    """Remove the least important output channels of convolutions and neurons of linear layers.

    Layers that must keep equal widths (residual sums, depthwise convolutions) are pruned together, by DepGraph (Fang
    et al., 2023). The layers that make the model's output keep their width, and so do attention blocks.
    """

    kind: Literal["prune"] = "prune"
    sparsity: float = Field(
        ge=0, lt=1, examples=[0.5], description="the share of channels to remove, from 0 to below 1, such as 0.5"
    )
    importance: str = Field("l1", description="the name of a score, such as l1")
    scope: Literal["layer", "global"] = Field("layer", description="layer (the same share of each) or global")
    round_to: int = Field(1, ge=1, description="the divisor that remaining widths shall have, such as 8")
    num_samples: int = Field(256, ge=1, description="the training samples for scores that need gradients, such as 256")

    @field_validator("importance")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_importance(name)

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model`, pruned in place and equally on all ranks."""
        if self.sparsity == 0:
            return model
        if any(parametrize.is_parametrized(module) for module in model.modules()):
            mend = "put `prune` before stages that quantize"
            raise WrongInput(Problem("prune", "cannot remove channels of parametrized layers", None, mend))
        model.to(bench.ranks.device).eval()
        example = bench.task.example_input.to(bench.ranks.device)
        groups = tuple(self._scored_groups(model, example, bench))
        for group, positions in zip(groups, self._doomed(groups), strict=True):
            group.remove(positions)
        _check_output(model, example, bench)
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Channels go before anything is held by the layers."""
        holders = [stage.kind for stage in earlier if stage.holds_values]
        if self.sparsity > 0 and holders:
            return f"cannot remove channels after `{holders[0]}`, which works on single weights; put `prune` before it"
        return None

    @property
    def shape(self) -> Shape:
        """The share of each layer is given; that of the whole model falls where the weights are low."""
        return "settled" if self.scope == "layer" else "chosen by value"

    def sketch(self) -> Self:
        """Ask for no gradients."""
        return self.model_copy(update={"importance": "l1"})

    def words(self) -> str:
        """Say how much, by which score."""
        return f"prune {self.sparsity:.0%} of channels by {self.importance}"

    def _scored_groups(self, model: nn.Module, example: Tensor, bench: Bench) -> Iterator["_Group"]:
        importance = importance_of(self.importance, "prune.importance")
        found = gradients(model, bench, self.num_samples) if importance.needs_gradient else Gradients()
        graph = torch_pruning.DependencyGraph().build_dependency(model, example)
        generator = torch.Generator().manual_seed(derived_seed(bench.seed, "importance"))
        for group in graph.get_all_groups(ignored_layers=_output_layers(graph), root_module_types=LAYERS):
            blocks = _blocks(group)
            if blocks is None:
                continue
            scores = _group_scores(group, importance, found, generator).view(blocks, -1).mean(0)
            # rank 0 decides: an ulp's difference between machines must not prune different channels
            yield _Group(graph, group, blocks, bench.ranks.broadcast(scores).cpu())

    def _doomed(self, groups: Sequence["_Group"]) -> list[Tensor]:
        """Choose the positions to remove from each group."""
        shares = [self.sparsity] * len(groups) if self.scope == "layer" else _global_shares(groups, self.sparsity)
        return [
            _lowest(group.scores, _num_removed(len(group.scores), share, self._step(group)))
            for group, share in zip(groups, shares, strict=True)
        ]

    def _step(self, group: "_Group") -> int:
        """Return the divisor of a block's width that makes the layer's width a multiple of `round_to`."""
        return self.round_to // gcd(self.round_to, group.blocks)


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers whose widths change together, and a score for each position that may go."""

    graph: "torch_pruning.DependencyGraph"
    group: "torch_pruning.Group"
    blocks: int
    scores: Tensor

    def remove(self, positions: Tensor) -> None:
        if len(positions) == 0:
            return
        size = len(self.scores)
        indices = sorted(int(position) + block * size for position in positions for block in range(self.blocks))
        self.group.prune(indices)


def _num_removed(width: int, share: float, step: int) -> int:
    """Return how many of `width` go: what remains is the nearest multiple of `step`, and never nothing."""
    kept = width - num_dropped(width, share)
    return max(width - max(step * round(kept / step), step), 0)


def _global_shares(groups: Sequence[_Group], sparsity: float) -> list[float]:
    """Return the share of each group that is among the lowest scores of all."""
    everything = torch.cat([group.scores for group in groups]) if groups else torch.empty(0)
    doomed = torch.zeros(len(everything))
    doomed[_lowest(everything, num_dropped(len(everything), sparsity))] = 1.0
    return [float(part.mean()) for part in torch.split(doomed, [len(group.scores) for group in groups])]


def _lowest(scores: Tensor, count: int) -> Tensor:
    return torch.argsort(scores, stable=True)[:count]


def _output_layers(graph: "torch_pruning.DependencyGraph") -> list[nn.Module]:
    """Find the layers from which no other layer follows: their channels are the model's outputs."""
    return [
        module
        for module, node in cast(Mapping[nn.Module, "torch_pruning.dependency.Node"], graph.module2node).items()
        if isinstance(module, LAYERS) and not _reaches_layer(node)
    ]


def _reaches_layer(start: "torch_pruning.dependency.Node") -> bool:
    seen, waiting = {start}, list(start.outputs)
    while waiting:
        node = waiting.pop()
        if isinstance(node.module, (*LAYERS, nn.MultiheadAttention, nn.RNNBase)):
            return True
        waiting += [follower for follower in node.outputs if follower not in seen]
        seen.add(node)
    return False


def _blocks(group: "torch_pruning.Group") -> int | None:
    """Return into how many equal blocks the channels fall (grouped convolutions, group norm); None to leave them."""
    blocks = 1
    for dependency, _ in group:
        module = dependency.target.module
        if isinstance(module, nn.MultiheadAttention):
            return None
        if isinstance(module, nn.GroupNorm):
            blocks = max(blocks, module.num_groups)
        if isinstance(module, LAYERS[:3]) and 1 < module.groups < max(module.in_channels, module.out_channels):
            blocks = max(blocks, module.groups)
    return blocks


def _group_scores(
    group: "torch_pruning.Group", importance: Importance, found: Gradients, generator: torch.Generator
) -> Tensor:
    """Return the mean over the group's layers of each layer's scores, which are divided by their own mean.

    The division makes layers of different size and scale comparable, within a group and over the whole model.
    """
    width = len(group[0].idxs)
    totals, counts = torch.zeros(width), torch.zeros(width)
    for item in group:
        layer = item.dep.target.module
        if not isinstance(layer, LAYERS) or not _makes_outputs(item.dep.handler):
            continue
        scores = importance.scores(_rows(layer, found, generator))[item.idxs].float().cpu()
        roots = torch.as_tensor(item.root_idxs)
        totals.index_add_(0, roots, scores / (scores.mean() + 1e-12))
        counts.index_add_(0, roots, torch.ones(len(roots)))
    return totals / counts.clamp_min(1)


def _makes_outputs(pruning_function: object) -> bool:
    return pruning_function in (
        torch_pruning.prune_conv_out_channels,
        torch_pruning.prune_linear_out_channels,
        torch_pruning.prune_depthwise_conv_out_channels,
    )


def _rows(layer: Layer, found: Gradients, generator: torch.Generator) -> Rows:
    signed, absolute = found.of(cast(nn.Parameter, layer.weight))
    return Rows(layer.weight.detach().flatten(1), signed.flatten(1), generator, absolute.flatten(1))


@torch.no_grad()
def _check_output(model: nn.Module, example: Tensor, bench: Bench) -> None:
    """Prove that the pruned model still runs; its forward may hide widths that no graph shows."""
    expected = bench.task.new_model().to(example.device).eval()(example).shape
    try:
        shape = model(example).shape
    except RuntimeError as error:
        raise TrialFailed(f"prune: the model's forward depends on a width that was pruned: {error}") from error
    if shape != expected:
        raise TrialFailed(f"prune: the output became {list(shape)} instead of {list(expected)}")
