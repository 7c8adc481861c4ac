"""Find the parts in which a group's channels can be removed, such as heads or pairs, by trial removals."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice
from math import gcd
from typing import TypeAlias

from torch import nn

from paretta.pipelines.pruning.channel_groups import ChannelGroup, Cut, Member, MemberRole, PartPositions
from paretta.pipelines.pruning.dependency_graph import Found
from paretta.pipelines.pruning.proof import Proof

_MAX_TRIALS, _MAX_COUNTS, _MAX_BLOCKS = 200, 4, 8
_MAX_DECLARED = 64  # divisions into a declared number of parts
_HEADS = "head"  # what a declared number of parts has in its name; whether they are parts is tested like all others
_Counts: TypeAlias = tuple[tuple[nn.Module, str, int], ...]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A division of a group's channels into parts.

    Args:
        num_parts: the number of parts.
        blocks: the number of equal blocks of channels of the makers, the readers, and in between; each block holds a
            share of every part.
        counts: attributes that shrink in proportion.
    """

    num_parts: int
    blocks: Mapping[MemberRole, int]
    counts: tuple[str, ...]


def settled(found: Found, proof: Proof, wanted: Callable[[Sequence[str]], bool]) -> Found:
    """Return the groups divided into removable parts, and why other layers keep their width (collective).

    A part is a single channel if that is valid, otherwise the smallest valid set of neighbours: an attention head, a
    group of heads that share keys, or channels that a shuffle or a gate combines. Groups that are valid only together
    are tied.

    Args:
        found: the result of DepGraph.
        proof: tests cuts.
        wanted: returns True if the layers with these names are to be pruned; other groups are not tested.
    """
    groups = dict(enumerate(found.groups))
    probes = {index: _probe(group) for index, group in groups.items() if wanted(group.names)}
    known = [index for index, cuts in probes.items() if cuts]
    accepted, refused = proof.sound([probes[index] for index in known])
    reasons = {known[place]: reason for place, reason in refused.items()}
    search = _Search(proof)
    for index in sorted({*probes} - {known[place] for place in accepted}):
        parted = search.parts(groups[index])
        if parted is not None:
            groups[index] = parted
            reasons.pop(index, None)
        else:
            reasons.setdefault(index, search.reason)
    for index in list(groups):
        together = search.together(index, groups, reasons) if index in groups else None
        if together is not None:
            groups[index], inside = together
            for other in (index, *inside):
                reasons.pop(other, None)
            for other in inside:
                del groups[other]
    kept = {groups[index].names: reason for index, reason in reasons.items()}
    return Found([group for index, group in groups.items() if index not in reasons], {**found.kept, **kept})


def _probe(group: ChannelGroup) -> list[Cut]:
    """Return a cut of one part in the middle; empty if the positions of the parts are unknown."""
    known = all(len(member.positions) == group.num_parts for member in group.members)
    return [Cut(group, (group.num_parts // 2,))] if known and group.num_parts > 1 else []


class _Search:
    """Searches for removable parts; groups of the same structure are tested once."""

    def __init__(self, proof: Proof) -> None:
        self.reason = "which of their channels belong together is not known"
        self._proof = proof
        self._known: dict[object, _Recipe | None] = {}

    def parts(self, group: ChannelGroup) -> ChannelGroup | None:
        """Return the group in its smallest removable parts; None if there are none (collective)."""
        kind = _kind(group)
        if kind in self._known:
            recipe = self._known[kind]
            same = _laid_out(group, recipe) if recipe else None
            if same is None or self._holds(_probe(same)):
                return same
        for recipe, candidate in _tried(group):
            if self._holds(_probe(candidate)):
                self._known[kind] = recipe
                return candidate
        self._known[kind] = None
        return None

    def together(
        self, index: int, groups: Mapping[int, ChannelGroup], failed: Collection[int]
    ) -> tuple[ChannelGroup, list[int]] | None:
        """Return a group with the heads tied to it that must be removed with its channels, and these groups of heads.

        The forward of such attention assumes that its input is as wide as all heads together, so neither can be removed
        alone (collective). None if no group that reads the channels has failed, or if tying does not help.
        """
        group = groups[index]
        readers = {member.module for member in group.members if member.role == "reads"}
        inside = {
            n: other
            for n, other in groups.items()
            if n != index and {member.module for member in other.members if member.role == "makes"} <= readers
        }
        if not {index, *inside} & {*failed} or not inside or not _probe(group):
            return None
        first = next(iter(inside.values()))
        for recipe, _ in islice(_candidates(first), _MAX_TRIALS):
            laid = [_laid_out(other, recipe) for other in inside.values()]
            heads = [h for h in laid if h is not None and h.num_parts * h.head_width == group.num_parts]
            if len(heads) < len(inside):
                continue
            names = (*group.names, *(name for h in heads for name in h.names))
            tied = replace(group, names=names, tied=tuple(heads))
            if self._holds(list(tied.cuts(range(tied.step)))):
                return tied, list(inside)
        return None

    def _holds(self, cuts: Sequence[Cut]) -> bool:
        reason = self._proof.obstacle(cuts)
        self.reason = reason or self.reason
        return reason is None


def _kind(group: ChannelGroup) -> object:
    """Return a key that is equal for groups of the same structure, such as those of all blocks of a transformer."""
    members = tuple(
        (type(m.module).__name__, m.name.rpartition(".")[2], m.role, m.width, m.parameter) for m in group.members
    )
    return tuple(type(module) for module in group.around[:2]), members


def _tried(group: ChannelGroup) -> list[tuple[_Recipe, ChannelGroup]]:
    """Return the divisions to try: the smallest parts first or, of too many, those into as many parts as are declared.

    A vision transformer of 192 channels has some thousand divisions, and a number of heads among its attributes.
    """
    smallest = list(islice(_candidates(group), _MAX_TRIALS + 1))
    if len(smallest) <= _MAX_TRIALS:
        return smallest
    widths = {member.width for member in group.members}
    declared = {value for _, name, value in _numbers(group) if _HEADS in name and value not in widths}
    likely = (islice(_candidates(group, (number,)), _MAX_DECLARED) for number in sorted(declared))
    return [*chain.from_iterable(likely), *smallest[:_MAX_TRIALS]]


def _candidates(group: ChannelGroup, numbers: Sequence[int] = ()) -> Iterator[tuple[_Recipe, ChannelGroup]]:
    """Yield divisions of the group into parts, the smallest parts first; with `numbers`, into so many parts only."""
    widths = [m.width for m in group.members if m.role != "follows"]
    common = gcd(*widths)
    read = [member for member in group.members if member.role == "reads"]
    if not read:
        return
    possible = (n for n in range(2, common + 1) if common % n == 0 and (not numbers or n in numbers))
    for num_parts in sorted(possible, reverse=True):
        seen: set[tuple[int, ...]] = set()
        for blocks in _blocks(group):
            plain = _laid_out(group, _Recipe(num_parts, blocks, ()))
            key = tuple(hash(member.positions) for member in plain.members) if plain else ()
            if plain is None or key in seen:
                continue
            seen.add(key)
            names = _count_names(group, num_parts)
            for size in range(len(names) + 1):
                for chosen in combinations(names, size):
                    recipe = _Recipe(num_parts, blocks, chosen)
                    candidate = _laid_out(group, recipe)
                    if candidate is not None:
                        yield recipe, candidate


def _blocks(group: ChannelGroup) -> Iterator[dict[MemberRole, int]]:
    made, read = (max((m.width for m in group.members if m.role == role), default=1) for role in ("makes", "reads"))
    if made % read == 0 and 1 < made // read <= _MAX_BLOCKS:  # a fused projection, which makes several of what is read
        yield {"makes": made // read, "reads": 1, "follows": made // read}
    for blocks in range(1, _MAX_BLOCKS + 1):
        yield {"makes": blocks, "reads": 1, "follows": blocks}
        if blocks > 1:
            yield {"makes": blocks, "reads": 1, "follows": 1}
            yield {"makes": 1, "reads": blocks, "follows": 1}
            yield {"makes": blocks, "reads": blocks, "follows": blocks}


def _laid_out(group: ChannelGroup, recipe: _Recipe) -> ChannelGroup | None:
    """Return the group divided into these parts; None if its widths do not fit."""
    members = []
    for member in group.members:
        moved = _along(member, recipe.num_parts)
        if moved is None:
            continue
        blocks = recipe.blocks[member.role]
        if member.role == "follows" and moved.width % (blocks * recipe.num_parts):
            blocks = 1
        if moved.width % (blocks * recipe.num_parts):
            return None
        members.append(replace(moved, positions=_positions(moved.width, blocks, recipe.num_parts)))
    counts = tuple(count for count in _counts(group, recipe.num_parts) if count[1] in recipe.counts)
    return replace(group, members=tuple(members), num_parts=recipe.num_parts, counts=counts)


def _along(member: Member, num_parts: int) -> Member | None:
    """Return the member; a parameter along the axis with an entry for each part, or None without such an axis."""
    if not member.parameter:
        return member if member.width % num_parts == 0 or member.role != "follows" else None
    shape = member.module.get_parameter(member.parameter).shape
    axes = [axis for axis, size in enumerate(shape) if size == num_parts]
    if axes and member.width != num_parts:
        return replace(member, axis=axes[0], width=num_parts)
    return member if member.width % num_parts == 0 else None


def _positions(width: int, blocks: int, num_parts: int) -> PartPositions:
    unit, block = width // (blocks * num_parts), width // blocks
    return tuple(
        tuple(start + part * unit + offset for start in range(0, width, block) for offset in range(unit))
        for part in range(num_parts)
    )


def _counts(group: ChannelGroup, num_parts: int) -> _Counts:
    """Return the integer attributes of the modules around the group that may have to shrink with it."""
    widths = {member.width for member in group.members if member.role != "follows"}
    heads = {width // other * num_parts for width in widths for other in widths if width % other == 0}
    known = widths | heads | {num_parts}
    return tuple(number for number in _numbers(group) if number[2] in known and number[2] % num_parts == 0)


def _count_names(group: ChannelGroup, num_parts: int) -> list[str]:
    return list(dict.fromkeys(name for _, name, _ in _counts(group, num_parts)))[:_MAX_COUNTS]


def _numbers(group: ChannelGroup) -> _Counts:
    """Return the integer attributes of modules that contain members of the group, the innermost first."""
    return tuple(
        (module, name, value)
        for module in group.around
        for name, value in vars(module).items()
        if type(value) is int and not name.startswith("_")
    )
