"""Checkpoints, one file per training, so that an interrupted run continues instead of starting again."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from paretta.pipelines.state.state_file import FILE_ERRORS, State, read_state, write_state
from paretta.search_spaces.errors import first_line

_log = logging.getLogger("paretta")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with the latest state of each training, stored without pickle.

    Args:
        folder: readable by all ranks; created when the first state is saved, and removed by whoever chose it.
        every_s: seconds after which a training's state is saved within an epoch too; None: after each epoch only.
    """

    folder: Path
    every_s: float | None = None

    def save(self, key: str, state: Mapping[str, State]) -> None:
        """Save `state` under `key`, on one rank of a group; readers see either the old file or the complete new one.

        If the disk is full, the old file stays and the training goes on.
        """
        try:
            write_state(self._path(key), state)
        except FILE_ERRORS as error:
            _log.warning("the training goes on without saving its state (%s)", first_line(error))

    def load(self, key: str) -> Mapping[str, State] | None:
        """Return the state saved under `key`; None if there is none or it cannot be read."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return read_state(path)
        except FILE_ERRORS as error:
            _log.warning("a saved state cannot be read (%s); its training starts again", first_line(error))
            return None

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def same_structure(one: Mapping[str, Tensor], other: State) -> bool:
    """Return True if both have tensors of equal names and shapes."""
    return isinstance(other, Mapping) and {name: tensor.shape for name, tensor in one.items()} == {
        name: tensor.shape for name, tensor in other.items() if isinstance(tensor, torch.Tensor)
    }
