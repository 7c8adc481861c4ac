"""How far a training is, as it is kept in its checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor

from paretta.pipelines.data.generators import GeneratorStates
from paretta.pipelines.state.state_file import State


@dataclass(frozen=True, slots=True)
class BestEpoch:
    """The epoch with the smallest validation loss so far."""

    loss: float
    epoch: int
    model: Mapping[str, State]


@dataclass(frozen=True, slots=True)
class WithinEpoch:
    """Where a training was interrupted within an epoch: the next step, and each rank's sums and generators."""

    step: int
    sums: Tensor  # [ranks, 2]
    generators: Tensor  # [ranks, n]


@dataclass(slots=True)
class EpochsDone:
    """The progress of a training."""

    losses: list[float] = field(default_factory=list)
    first_loss: float = math.nan
    best: BestEpoch | None = None
    within: WithinEpoch | None = None

    def state(self, within: WithinEpoch | None) -> dict[str, State]:
        """Return the entries of a checkpoint that is saved at a place within the next epoch, or before it."""
        entries: dict[str, State] = {"losses": self.losses, "first_loss": self.first_loss}
        if within is not None:
            entries["within"] = {"step": within.step, "sums": within.sums, "generators": within.generators}
        if self.best is not None:
            entries["best"] = {"loss": self.best.loss, "epoch": self.best.epoch, "model": self.best.model}
        return entries

    @classmethod
    def restored(cls, entries: Mapping[str, State]) -> Self:
        """Return what `state` was called on."""
        within, best = (cast(Mapping[str, Any] | None, entries.get(name)) for name in ("within", "best"))
        return cls(
            list(cast(list[float], entries["losses"])),
            cast(float, entries["first_loss"]),
            BestEpoch(best["loss"], best["epoch"], best["model"]) if best is not None else None,
            WithinEpoch(within["step"], within["sums"], within["generators"]) if within is not None else None,
        )


def packed_generators(device: torch.device) -> Tensor:
    """Return the states of all generators that a step draws from, as whole numbers [n]; a GPU's own comes last."""
    packed = GeneratorStates.now().packed()
    return torch.cat([packed, torch.cuda.get_rng_state(device).long()]) if device.type == "cuda" else packed


def restore_generators(packed: Tensor, device: torch.device) -> None:
    """Go back to the states that `packed_generators` returned on an equal device."""
    size = len(GeneratorStates.now().packed())
    GeneratorStates.unpacked(packed[:size]).restore()
    if device.type == "cuda":
        torch.cuda.set_rng_state(packed[size:].to(torch.uint8), device)
