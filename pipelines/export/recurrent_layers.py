"""Recurrent layers as single operators whose number of steps is free; torch.export fixes it."""

from copy import deepcopy
from typing import Final, cast

import torch
from torch import Tensor, nn

from paretta.pipelines.export.stored_layers import StoredWeight
from paretta.pipelines.model.recurrent import UnfoldedGRU, UnfoldedLSTM, can_unfold_recurrent

# the gates as ONNX orders them, by their place in torch's order: z, r, h of r, z, n and i, o, f, c of i, f, g, o
_GATES: Final = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
_NUM_OUTPUTS: Final = {"GRU": 2, "LSTM": 3}  # all states, the last ones, and the last cells


def with_free_steps(model: nn.Module, *, plain: bool) -> nn.Module:
    """Return the model with its GRU and LSTM layers in a form that torch.export leaves whole; a copy if it has any.

    In eager mode that form answers zeros of the right shapes. Layers with projections stay as they are.

    Args:
        model: in the form that is stored.
        plain: whether also torch's own layers get it, beside those of `unfold_recurrent`.
    """
    if not any(_is_free(layer, plain=plain) for layer in model.modules()):
        return model
    ready = deepcopy(model)
    for layer in list(ready.modules()):
        if isinstance(layer, nn.GRU | nn.LSTM) and _is_free(layer, plain=plain):
            _set_weights(layer)
            layer.__class__ = FreeGRU if isinstance(layer, nn.GRU) else FreeLSTM
    return ready


def _is_free(layer: nn.Module, *, plain: bool) -> bool:
    return isinstance(layer, UnfoldedGRU | UnfoldedLSTM) or (plain and can_unfold_recurrent(layer))


def _set_weights(layer: nn.GRU | nn.LSTM) -> None:
    """Order the rows of weights and biases as ONNX does; parameters become buffers [directions, gates * n, ...]."""
    for level in range(layer.num_layers):
        for part in ("weight_ih", "weight_hh"):
            if not isinstance(layer, UnfoldedGRU | UnfoldedLSTM):
                layer.register_buffer(f"onnx_{part}_l{level}", _stacked(layer, part, level))
                continue
            for name in _names(layer, part, level):
                _reorder(layer.get_submodule(name), _rows(layer))
        if layer.bias:
            biases = [_stacked(layer, part, level) for part in ("bias_ih", "bias_hh")]
            layer.register_buffer(f"onnx_bias_l{level}", torch.cat(biases, dim=1))


def _reorder(held: nn.Module, rows: Tensor) -> None:
    if isinstance(held, StoredWeight):
        held.reorder(rows)
    else:
        held.weight = nn.Parameter(cast(Tensor, held.weight).detach()[rows])


def _names(layer: nn.RNNBase, part: str, level: int) -> list[str]:
    """Return the names of a part of a level, for each direction."""
    return [f"{part}_l{level}{suffix}" for suffix in ("", "_reverse")[: 2 if layer.bidirectional else 1]]


def _rows(layer: nn.RNNBase) -> Tensor:
    """Return the place in torch's order of each row of the gates in ONNX's order."""
    places = torch.arange(len(_GATES[layer.mode]) * layer.hidden_size).view(-1, layer.hidden_size)
    return places[list(_GATES[layer.mode])].flatten()


def _stacked(layer: nn.RNNBase, part: str, level: int) -> Tensor:
    return torch.stack([getattr(layer, name).detach()[_rows(layer)] for name in _names(layer, part, level)])


class FreeGRU(nn.GRU):
    """A GRU as one operator of ONNX for each of its levels."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the states of all steps and the last states, as torch's layer does for batches."""
        states, last = _run(self, input, () if hx is None else (hx,))
        return states, last[0]


class FreeLSTM(nn.LSTM):
    """An LSTM as one operator of ONNX for each of its levels."""

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the states of all steps, the last states and the last cells, as torch's layer does for batches."""
        states, last = _run(self, input, hx or ())
        return states, (last[0], last[1])


def _run(layer: nn.GRU | nn.LSTM, values: Tensor, initial: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    steps, directions = values.transpose(0, 1) if layer.batch_first else values, 2 if layer.bidirectional else 1
    ends: list[tuple[Tensor, ...]] = []
    for level in range(layer.num_layers):
        rows = slice(level * directions, (level + 1) * directions)
        steps, *last = _level(layer, steps, level, tuple(part[rows] for part in initial))
        ends.append(tuple(last))
    states = steps.transpose(0, 1) if layer.batch_first else steps
    return states, tuple(torch.cat(parts) for parts in zip(*ends, strict=True))


def _level(layer: nn.GRU | nn.LSTM, steps: Tensor, level: int, initial: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the states [steps, n, directions * hidden] of one level, and its last states."""
    count, batch = steps.shape[:2]
    directions = 2 if layer.bidirectional else 1
    bias = layer.get_buffer(f"onnx_bias_l{level}") if layer.bias else None
    weights = [_weight(layer, f"weight_{part}", level) for part in ("ih", "hh")]
    is_gru, num_outputs = layer.mode == "GRU", _NUM_OUTPUTS[layer.mode]
    last = (directions, batch, layer.hidden_size)
    states, *ends = torch.onnx.ops.symbolic_multi_out(
        layer.mode,
        (steps, *weights, bias, None, *initial) if initial else (steps, *weights, *([] if bias is None else [bias])),
        {
            "hidden_size": layer.hidden_size,
            "direction": "forward" if directions == 1 else "bidirectional",
            **({"linear_before_reset": 1} if is_gru else {}),
        },
        dtypes=(steps.dtype,) * num_outputs,
        shapes=((count, directions, batch, layer.hidden_size), *[last] * (num_outputs - 1)),
    )
    return states.transpose(1, 2).flatten(2), *ends


def _weight(layer: nn.RNNBase, part: str, level: int) -> Tensor:
    """Return a weight as ONNX orders it, [directions, gates * hidden, inputs]; from integers where it is stored so."""
    held = [getattr(layer, name) for name in _names(layer, part, level)]
    if not isinstance(held[0], nn.Module):
        return layer.get_buffer(f"onnx_{part}_l{level}")
    rows = [stored.restored() if isinstance(stored, StoredWeight) else stored() for stored in held]
    return torch.stack(rows) if len(rows) > 1 else rows[0].unsqueeze(0)
