"""GRU and LSTM layers whose weight matrices are layers of their own, which stages can compress one by one."""

from collections.abc import Mapping
from typing import Any, Final, cast

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from paretta.pipelines.model.torch_private import children_of, parameters_of


class RecurrentWeight(nn.Module):
    """One weight matrix of a recurrent layer.

    Args:
        weight: [gates * hidden, inputs or hidden].
    """

    def __init__(self, weight: nn.Parameter) -> None:
        """Take over the parameter."""
        super().__init__()
        self.weight = weight

    def forward(self) -> Tensor:
        """Return the weight as the layer computes with it."""
        return self.weight


class _Unfolded(nn.RNNBase):
    """Collects its weights at each call; torch's own layers keep a list of parameters instead."""

    def _init_flat_weights(self) -> None:
        self._flat_weights, self._flat_weight_refs = [], []

    def _update_flat_weights(self) -> None:
        parts = [getattr(self, name) for name in self._flat_weights_names]
        self._flat_weights = [part() if isinstance(part, RecurrentWeight) else part for part in parts]

    def __setattr__(self, attr: str, value: Any) -> None:
        nn.Module.__setattr__(self, attr, value)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_flat_weight_refs"}


class UnfoldedGRU(_Unfolded, nn.GRU):
    """An nn.GRU of `RecurrentWeight` modules, with the same interface."""

    def forward(  # type: ignore[override]
        self, input: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Return what nn.GRU does."""
        try:
            answer: tuple[Tensor | PackedSequence, Tensor] = super().forward(input, hx)
        finally:
            self._init_flat_weights()
        return answer


class UnfoldedLSTM(_Unfolded, nn.LSTM):
    """An nn.LSTM of `RecurrentWeight` modules, with the same interface."""

    def forward(  # type: ignore[override]
        self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Return what nn.LSTM does."""
        try:
            answer: tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]] = super().forward(input, hx)
        finally:
            self._init_flat_weights()
        return answer


_UNFOLDED: Final[Mapping[type[nn.Module], type[_Unfolded]]] = {nn.GRU: UnfoldedGRU, nn.LSTM: UnfoldedLSTM}


def can_unfold_recurrent(module: nn.Module) -> bool:
    """Return True for GRU and LSTM layers without projections that compute as torch's do."""
    return _unfolded_kind(module) is not None and cast(nn.RNNBase, module).proj_size == 0


def unfold_recurrent(model: nn.Module) -> nn.Module:
    """Make the weight matrices of GRU and LSTM layers modules of their own, in place, and return the model.

    A matrix keeps its name, such as ``gru.weight_ih_l0``.
    """
    for module in list(model.modules()):
        if can_unfold_recurrent(module):
            for name in [name for name in parameters_of(module) if name.startswith("weight_")]:
                weight = cast(nn.Parameter, parameters_of(module).pop(name))
                children_of(module)[name] = RecurrentWeight(weight)
            kind = _unfolded_kind(module)
            assert kind is not None
            module.__class__ = kind
            cast(_Unfolded, module)._init_flat_weights()
    return model


def _unfolded_kind(module: nn.Module) -> type[_Unfolded] | None:
    """Return the class that takes the place of a layer's own; None if its own adds more than how it is made."""
    for kind, unfolded in _UNFOLDED.items():
        if isinstance(module, kind):
            own = type(module).__mro__[: type(module).__mro__.index(kind)]
            return unfolded if all(_only_makes(name, value) for c in own for name, value in vars(c).items()) else None
    return None


def _only_makes(name: str, value: object) -> bool:
    return name == "__init__" or (name.startswith("__") and not callable(value))
