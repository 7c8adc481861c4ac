"""Groups of channels that must be removed together: their positions in each layer, and their removal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

MemberRole: TypeAlias = Literal["makes", "reads", "follows"]
PartPositions: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A module, or a parameter outside of known layers, with an axis that shrinks with the group.

    Args:
        name: of the module, or of the parameter's owner.
        module: the module, or the parameter's owner.
        role: whether it makes the channels, reads them, or is in between (norms, tables).
        width: of the axis.
        positions: of each part on the axis.
        prune: removes positions from the module; None for a parameter.
        parameter: its name in the owner; empty for a module.
        axis: of the parameter, or the pruning dimension of the module for `prune`.
    """

    name: str
    module: nn.Module
    role: MemberRole
    width: int
    positions: PartPositions
    prune: Callable[[nn.Module, list[int]], object] | None = None
    parameter: str = ""
    axis: int = 0

    def gone(self, parts: Sequence[int]) -> list[int]:
        """Return the positions of `parts`, in order."""
        return sorted({position for part in parts for position in self.positions[part]})

    def remove(self, gone: list[int], module: nn.Module) -> None:
        """Remove positions from `module`, which is the member's module or its counterpart in a copy of the model.

        A frozen parameter stays frozen.
        """
        trained = {name: parameter.requires_grad for name, parameter in module.named_parameters(recurse=False)}
        if self.prune is None:
            old = module.get_parameter(self.parameter)
            kept = torch.tensor([i for i in range(self.width) if i not in set(gone)], device=old.device)
            setattr(module, self.parameter, nn.Parameter(old.detach().index_select(self.axis, kept)))
            if isinstance(module, nn.RMSNorm):
                module.normalized_shape = (len(kept),)
        else:
            vars(getattr(self.prune, "__self__"))["pruning_dim"] = self.axis  # noqa: B009 - a bound method's owner
            self.prune(module, gone)
        for name, parameter in module.named_parameters(recurse=False):
            parameter.requires_grad_(trained[name])


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Layers whose widths change together, in parts that can be removed one by one.

    A part is one channel, or all channels of an attention head or of another unit that the model's forward depends on.

    Args:
        names: of the layers that make the channels, including those of tied groups.
        members: the modules and parameters that hold the channels.
        num_parts: how many parts there are.
        around: the user's own modules that contain members, the innermost first.
        counts: modules, their attributes and values that shrink in proportion, such as the number of heads.
        scores: [parts], higher is kept; empty until computed.
        tied: groups of heads whose number is proportional to these channels; they lose their weakest heads with them.
    """

    names: tuple[str, ...]
    members: tuple[Member, ...]
    num_parts: int
    around: tuple[nn.Module, ...] = ()
    counts: tuple[tuple[nn.Module, str, int], ...] = ()
    scores: Tensor = field(default_factory=lambda: torch.empty(0))
    tied: "tuple[ChannelGroup, ...]" = ()

    @property
    def unit(self) -> int:
        """The number of channels of the first layer in a part."""
        makers = [member for member in self.members if member.role == "makes"]
        return len(makers[0].positions[0])

    @property
    def step(self) -> int:
        """The number of parts that is left must be a multiple of this."""
        return lcm(*(heads.head_width for heads in self.tied))

    @property
    def head_width(self) -> int:
        """The number of read channels in a part; 0 if unknown."""
        return next((len(member.positions[0]) for member in self.members if member.role == "reads"), 0)

    def cuts(self, parts: Sequence[int]) -> "Iterator[Cut]":
        """Yield the cuts for removing these parts: the parts themselves, and the weakest parts of tied groups."""
        yield Cut(self, tuple(parts))
        for heads in self.tied:
            num_left = (self.num_parts - len(parts)) // heads.head_width
            scores = heads.scores if len(heads.scores) else torch.zeros(heads.num_parts)
            weakest = torch.argsort(scores, stable=True)[: heads.num_parts - num_left]
            yield Cut(heads, tuple(weakest.tolist()))


@dataclass(frozen=True, slots=True)
class Cut:
    """Parts of a group to remove."""

    group: ChannelGroup
    parts: tuple[int, ...]


def remove(cuts: Sequence[Cut], place: Callable[[nn.Module], nn.Module] = lambda module: module) -> None:
    """Remove the parts from the modules that `place` returns, all at once: positions refer to the unpruned modules."""
    for role in get_args(MemberRole):
        for member, gone in positions_of(cuts, role):
            member.remove(gone, place(member.module))
    for cut in cuts:
        left = cut.group.num_parts - len(cut.parts)
        for module, name, number in cut.group.counts:
            setattr(place(module), name, number // cut.group.num_parts * left)


def positions_of(cuts: Sequence[Cut], role: MemberRole) -> list[tuple[Member, list[int]]]:
    """Return for each axis of this role one of its members and all positions to remove."""
    found: dict[tuple[nn.Module, str], tuple[Member, set[int]]] = {}
    for cut in cuts:
        for member in cut.group.members:
            if member.role == role and cut.parts:
                _, gone = found.setdefault((member.module, member.parameter), (member, set()))
                gone.update(member.gone(cut.parts))
    return [(member, sorted(gone)) for member, gone in found.values() if gone]


def tied_parameters(model: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """Return the uses of each parameter that several modules share."""
    uses: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            uses.setdefault(parameter, []).append((module, name))
    return [places for places in uses.values() if len(places) > 1]


def tie_again(places: Sequence[Sequence[tuple[nn.Module, str]]]) -> None:
    """Let modules share a parameter again that they shared before the cut, if their cuts were equal."""
    for (first, name), *others in places:
        parameter = first.get_parameter(name)
        for module, other in others:
            if torch.equal(module.get_parameter(other), parameter):
                setattr(module, other, parameter)
