"""The random generators that samples, models and tweaks draw from: torch's on the CPU, numpy's and Python's."""

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorStates:
    """The states of the three global generators at one time."""

    torch: Tensor
    python: tuple[Any, ...]
    numpy: dict[str, Any]

    @classmethod
    def now(cls) -> Self:
        """Return the current states."""
        return cls(torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False))

    def restore(self) -> None:
        """Go back to these states."""
        torch.set_rng_state(self.torch)
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def packed(self) -> Tensor:
        """Return the states as whole numbers, [n], the same n each time."""
        version, words, gauss = self.python
        key = self.numpy["state"]
        flat = [version, *words, gauss is not None, _bits(gauss or 0.0)]
        flat += [*key["key"].tolist(), key["pos"], self.numpy["has_gauss"], _bits(self.numpy["gauss"])]
        return torch.cat([self.torch.long(), torch.tensor([int(number) for number in flat])])

    @classmethod
    def unpacked(cls, packed: Tensor) -> Self:
        """Return what `packed` was made of."""
        size = len(torch.get_rng_state())
        python, rest = packed[size : size + 628].tolist(), packed[size + 628 :].tolist()
        gauss = _float(python[627]) if python[626] else None
        key = {"key": np.array(rest[:624], dtype=np.uint32), "pos": rest[624]}
        numpy = {"bit_generator": "MT19937", "state": key, "has_gauss": rest[625], "gauss": _float(rest[626])}
        return cls(packed[:size].to(torch.uint8), (python[0], tuple(python[1:626]), gauss), numpy)

    def is_now(self) -> bool:
        """Return whether nothing has been drawn since."""
        current = GeneratorStates.now()
        mine, theirs = self.numpy["state"], current.numpy["state"]
        return (
            torch.equal(self.torch, current.torch)
            and self.python == current.python
            and mine["pos"] == theirs["pos"]
            and np.array_equal(mine["key"], theirs["key"])
        )


def seed_generators(seed: int) -> None:
    """Seed the three generators; those of GPUs keep their states, unlike with ``torch.manual_seed``."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the three generators as they were before the block."""
    states = GeneratorStates.now()
    try:
        yield
    finally:
        states.restore()


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])
