"""Training states on disk, one file a training, so that an interrupted run continues instead of starting again."""

import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, Union, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

State: TypeAlias = Union[
    Tensor, bool, int, float, str, "Sequence[State]", "Mapping[str, State]", "Mapping[int, State]", None
]

_log = logging.getLogger("paretta")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder of states, each the newest of one training; there is no pickle in it.

    Args:
        folder: readable by all ranks; made when the first state is saved. Who hands it out removes it.
    """

    folder: Path

    def save(self, key: str, state: Mapping[str, State]) -> None:
        """Keep `state` under `key`, for one rank of a group; readers see the former file or the whole new one.

        Where the disk is full, the former file stays and the training goes on.
        """
        tensors: dict[str, Tensor] = {}
        structure = json.dumps(_written(state, tensors))
        partial = self.folder / f"{key}.{random.SystemRandom().getrandbits(48):012x}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata={"state": structure})
            partial.replace(self._path(key))
        except (SafetensorError, OSError) as error:
            _log.warning("the checkpoint %s cannot be written (%s)", partial.name, error)
            partial.unlink(missing_ok=True)

    def load(self, key: str) -> Mapping[str, State] | None:
        """Return what was saved under `key`; None where there is nothing, or nothing that can be read."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                # copies lie where torch lays tensors; sums over a file's own pages round differently
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
                state = _read(json.loads(file.metadata()["state"]), tensors)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the checkpoint %s cannot be read (%s); its training starts again", path.name, error)
            return None
        return cast(Mapping[str, State], state) if isinstance(state, Mapping) else None

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def _written(state: State, tensors: dict[str, Tensor]) -> object:
    """Return `state` as JSON in which a tensor is a name; dictionaries keep whole numbers as keys."""
    match state:
        case Tensor():
            name = str(len(tensors))
            tensors[name] = state.detach().to("cpu", copy=True).contiguous()
            return {"tensor": name}
        case Mapping():
            return {"items": [[key, _written(value, tensors)] for key, value in state.items()]}
        case str() | bool() | int() | float() | None:
            return state
        case _:
            return [_written(value, tensors) for value in state]


def _read(written: object, tensors: Mapping[str, Tensor]) -> State:
    match written:
        case {"tensor": str(name)}:
            return tensors[name]
        case {"items": list(items)}:
            return {key: _read(value, tensors) for key, value in items}
        case list():
            return [_read(value, tensors) for value in written]
        case bool() | int() | float() | str() | None:
            return written
        case _:
            raise ValueError(f"not a part of a state: {written!r}")


def same_structure(one: Mapping[str, Tensor], other: State) -> bool:
    """Say whether both hold tensors of equal names and shapes."""
    return isinstance(other, Mapping) and {name: tensor.shape for name, tensor in one.items()} == {
        name: tensor.shape for name, tensor in other.items() if isinstance(tensor, torch.Tensor)
    }
