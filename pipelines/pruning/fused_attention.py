"""Attention with one layer for queries, keys and values; that heads can leave it is proven by taking one away."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch_pruning
from torch import Tensor, nn

HEADS = ("num_heads", "n_heads", "n_head", "num_attention_heads", "heads")
# how a forward refuses that insists on the width it was made with
_REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError)

_Call: TypeAlias = tuple[tuple[object, ...], Mapping[str, object]]


@dataclass(frozen=True, slots=True, eq=False)
class FusedAttention:
    """A module that splits what one layer makes into the queries, keys and values of its heads.

    Args:
        module: holds the number of heads.
        heads: the attribute that says it.
        qkv: makes [3, heads, width of a head].
        output: reads [heads, width of a head].
        widths: attributes of `module` that say heads x width of a head.
        tied: the forward takes the width of its input for heads x width of a head: both must shrink together.
    """

    module: nn.Module
    heads: str
    qkv: nn.Linear
    output: nn.Linear
    widths: tuple[str, ...] = ()
    tied: bool = False

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.output.in_features // int(getattr(self.module, self.heads))

    def prune(self, rows: Sequence[int]) -> None:
        """Take rows out of `qkv`, the same ones of queries, keys and values, and what `output` reads of them."""
        width = self.output.in_features
        torch_pruning.prune_linear_out_channels(self.qkv, list(rows))
        torch_pruning.prune_linear_in_channels(self.output, [row for row in rows if row < width])
        for name in self.widths:
            setattr(self.module, name, self.output.in_features)


def fused_attention(
    model: nn.Module, makers: Sequence[nn.Module], readers: Sequence[nn.Module]
) -> FusedAttention | None:
    """Return the attention whose channels these layers make and read, judged by shapes alone; None if it is none."""
    if len(makers) != 1 or len(readers) != 1:
        return None
    qkv, output = makers[0], readers[0]
    if not (isinstance(qkv, nn.Linear) and isinstance(output, nn.Linear)):
        return None
    for module in reversed(list(model.modules())):  # those inside come before those around them
        heads = next((name for name in HEADS if isinstance(getattr(module, name, None), int)), None)
        if heads is not None and {qkv, output} <= set(module.modules()):
            fits = qkv.out_features == 3 * output.in_features and output.in_features % getattr(module, heads) == 0
            return FusedAttention(module, heads, qkv, output) if fits else None
    return None


@torch.no_grad()
def proven(model: nn.Module, example: Tensor, found: Sequence[FusedAttention]) -> Iterator[FusedAttention]:
    """Yield those that compute the same of the other heads without their first, with what has to follow.

    Each module is tried by itself, on noise of the shapes that the model calls it with.

    Args:
        model: in evaluation mode.
        example: [n, ...], an input of the model.
        found: see `fused_attention`.
    """
    calls: dict[nn.Module, _Call] = {}

    def note(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        calls[module] = args, kwargs

    with ExitStack() as hooks:
        for attention in found:
            hooks.enter_context(attention.module.register_forward_pre_hook(note, with_kwargs=True))
        model(example)
    for attention in found:
        if attention.module in calls and getattr(attention.module, attention.heads) > 1:
            ways = (way for way in _ways(attention) if _holds(way, calls[attention.module]))
            yield from list(ways)[:1]


def _ways(attention: FusedAttention) -> Iterator[FusedAttention]:
    """Yield what may have to follow the number of heads, the least first."""
    inner = attention.output.in_features
    named = tuple(n for n, value in vars(attention.module).items() if type(value) is int and value == inner)
    for tied in (False, True) if attention.qkv.in_features == inner else (False,):
        yield replace(attention, tied=tied)
        if named:
            yield replace(attention, tied=tied, widths=named)


def _holds(way: FusedAttention, call: _Call) -> bool:
    """Say whether the output layer is handed what it was, less the first head, when that head is gone.

    Where the input must shrink too, the whole module sees zeros in what goes.
    """
    whole, part, width, channels = _copy(way), _copy(way), way.head_width, way.qkv.in_features
    part.prune([block * way.output.in_features + row for block in range(3) for row in range(width)])
    setattr(part.module, part.heads, getattr(way.module, way.heads) - 1)
    kept = channels - width if way.tied else channels
    torch_pruning.prune_linear_in_channels(part.qkv, list(range(kept, channels)))
    zeroed, narrowed = (_noise(call, channels, kept, narrow=narrow) for narrow in (False, True))
    try:
        found = _heads_of(part, narrowed)
    except _REFUSALS:
        return False
    expected = _heads_of(whole, zeroed)[..., width:]
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def _copy(attention: FusedAttention) -> FusedAttention:
    module, qkv, output = deepcopy((attention.module, attention.qkv, attention.output))
    return replace(attention, module=module, qkv=qkv, output=output)


def _noise(call: _Call, channels: int, kept: int, *, narrow: bool) -> _Call:
    """Return the call with other numbers, with zeros or nothing in the last of `channels`."""
    generator = torch.Generator().manual_seed(0)

    def noise(value: object) -> object:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        drawn = torch.randn(value.shape, generator=generator).to(value)
        if value.dim() == 0 or value.shape[-1] != channels:
            return drawn
        drawn[..., kept:] = 0
        return drawn[..., :kept].contiguous() if narrow else drawn

    args, kwargs = call
    return tuple(noise(value) for value in args), {name: noise(value) for name, value in kwargs.items()}


def _heads_of(attention: FusedAttention, call: _Call) -> Tensor:
    """Return what the output layer reads when the module is called."""
    read: list[Tensor] = []
    with attention.output.register_forward_pre_hook(lambda _, args: read.append(args[0])):
        attention.module(*call[0], **call[1])
    return read[0]
