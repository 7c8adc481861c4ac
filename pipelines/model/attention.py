"""Multi-head attention with plain linear layers as projections, which stages can compress one by one."""

import math
from types import EllipsisType
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretta.pipelines.model.masks import attach_mask, mask_of
from paretta.pipelines.model.torch_private import take_hooks
from paretta.pipelines.model.weights import stored_parameter

RowIndex: TypeAlias = slice | EllipsisType


class Attention(nn.Module):
    """A replacement for nn.MultiheadAttention with the same interface, whose projections are separate layers.

    ``out_proj(softmax(q k^T / sqrt(width) + mask) v)`` per head (Vaswani et al., 2017). The width of a head follows
    from the layers and the number of heads may be changed, so that heads or parts of all of them can be removed.

    Args:
        attention: the module whose weights are used; without ``bias_k``, ``bias_v`` and ``add_zero_attn``.
    """

    # nn.TransformerEncoderLayer checks these before it takes its fast path around the layers; a missing bias disables
    # it
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Create the separate projections."""
        super().__init__()
        assert can_unfold(attention)
        self.num_heads = attention.num_heads
        self.batch_first = attention.batch_first
        self.dropout = attention.dropout
        names = _projections(attention)
        biases = [None] * 3 if attention.in_proj_bias is None else [*attention.in_proj_bias.detach().chunk(3)]
        self.q_proj, self.k_proj, self.v_proj = (
            _linear(attention, name, part, bias) for (name, part), bias in zip(names, biases, strict=True)
        )
        output = attention.out_proj
        self.out_proj = _linear(output, "weight", ..., None if output.bias is None else output.bias.detach())
        self.train(attention.training)
        take_hooks(self, attention)

    def forward(  # noqa: PLR0917 - called as nn.MultiheadAttention is
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs, shaped like `query`, and the attention weights if requested.

        Arguments are those of nn.MultiheadAttention; `is_causal` only describes `attn_mask` and has no effect.
        """
        batched = query.dim() == 3
        rows = [x if self.batch_first or not batched else x.transpose(0, 1) for x in (query, key, value)]
        rows = rows if batched else [x.unsqueeze(0) for x in rows]
        q, k, v = (
            self._heads(layer(x)) for layer, x in zip((self.q_proj, self.k_proj, self.v_proj), rows, strict=True)
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = functional.dropout(weights, dropout)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        outputs = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return outputs.squeeze(0), None if weights is None else weights.squeeze(0)
        return outputs if self.batch_first else outputs.transpose(0, 1), weights

    def _heads(self, rows: Tensor) -> Tensor:
        """Split [n, tokens, heads * width] into [n, heads, tokens, width]."""
        return rows.view(*rows.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _mask(self, attention: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Combine both masks into one that is added to the scores, broadcastable to [n, heads, queries, keys]."""
        mask = None if attention is None else _additive(attention, q.dtype)
        if mask is not None and mask.dim() == 3:
            mask = mask.view(-1, self.num_heads, *mask.shape[1:])
        if padding is None:
            return mask
        hidden = _additive(padding if padding.dim() == 2 else padding.unsqueeze(0), q.dtype)[:, None, None, :]
        return hidden if mask is None else mask + hidden


def can_unfold(attention: nn.MultiheadAttention) -> bool:
    """Return True if `Attention` computes the same; it does not support extra keys, nor forwards of other classes."""
    plain = type(attention).forward is nn.MultiheadAttention.forward
    return plain and attention.bias_k is None and attention.bias_v is None and not attention.add_zero_attn


def unfold_attention(model: nn.Module) -> nn.Module:
    """Replace every nn.MultiheadAttention in `model` by `Attention` where possible, in place, and return the model.

    Layers are called ``<name>.q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # its fast path reads the packed projections
        if isinstance(module, nn.MultiheadAttention) and name and can_unfold(module):
            model.set_submodule(name, Attention(module))
    return model


def _projections(attention: nn.MultiheadAttention) -> list[tuple[str, RowIndex]]:
    """Return for query, key and value the attribute that holds the weight, and its rows in it."""
    if attention.in_proj_weight is None:
        return [(f"{letter}_proj_weight", ...) for letter in "qkv"]
    width = attention.embed_dim
    return [("in_proj_weight", slice(part * width, (part + 1) * width)) for part in range(3)]


def _linear(owner: nn.Module, name: str, rows: RowIndex, bias: Tensor | None) -> nn.Linear:
    """Make a layer from rows of a weight, and of its mask if it has one; frozen if the weight was."""
    source = stored_parameter(owner, name)
    weight = source.detach()[rows]
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    layer.requires_grad_(source.requires_grad)
    mask = mask_of(owner, name)
    if mask is not None:
        attach_mask(layer, mask.keep[rows])
    return layer


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a mask that is True at hidden positions to numbers to add."""
    if mask.dtype is not torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -torch.inf)
