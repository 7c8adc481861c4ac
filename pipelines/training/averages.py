"""Weights averaged over the steps of a training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """An exponential moving average of parameters (Polyak and Juditsky, 1992), as torch's AveragedModel takes it.

    Buffers such as the moments of batch norms are not averaged.

    Args:
        parameters: those to average.
        decay: ``average = decay * average + (1 - decay) * parameter`` after each step; the first step sets it.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = [*parameters]
        self.values: list[Tensor] = []
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Take in the parameters after a step."""
        with torch.no_grad():
            current = [parameter.detach() for parameter in self._parameters]
            if self.values:
                self._average(self.values, current, 0)
            else:
                self.values = [tensor.clone() for tensor in current]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters have their averages inside the block."""
        current = [parameter.detach().clone() for parameter in self._parameters]
        self.copy()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, tensor in zip(self._parameters, current, strict=True):
                    parameter.copy_(tensor)

    @torch.no_grad()
    def copy(self) -> None:
        """Give the parameters their averages."""
        for parameter, average in zip(self._parameters, self.values, strict=True):
            parameter.copy_(average)
