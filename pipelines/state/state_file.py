"""Read and write nested values with tensors as one .safetensors file, atomically and without pickle."""

import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, Union, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

State: TypeAlias = Union[
    Tensor, bool, int, float, str, "Sequence[State]", "Mapping[str, State]", "Mapping[int, State]", None
]
# errors of reading and writing such a file: damage, a full disk, a file removed by another process
FILE_ERRORS = (SafetensorError, OSError, ValueError, KeyError, TypeError)


def write_state(path: Path, state: Mapping[str, State]) -> None:
    """Write `state` to `path`; readers see either the old file or the complete new one. Raises `FILE_ERRORS`."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_written(state, tensors))
    partial = path.with_suffix(f".{random.SystemRandom().getrandbits(48):012x}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata={"state": structure, "crc32": _checksum(structure, tensors)})
        partial.replace(path)
    except FILE_ERRORS:
        partial.unlink(missing_ok=True)
        raise


def read_state(path: Path) -> Mapping[str, State]:
    """Return what `write_state` wrote to `path`, with sequences as lists; any damaged byte raises `FILE_ERRORS`."""
    with safe_open(path, framework="pt") as file:
        # copies have torch's memory alignment; sums over the file's memory-mapped pages round differently
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = file.metadata() or {}
    if metadata["crc32"] != _checksum(metadata["state"], tensors):
        raise ValueError("it is damaged: its checksum does not match its content")
    state = _read(json.loads(metadata["state"]), tensors)
    if not isinstance(state, Mapping):
        raise ValueError("not a state")
    return cast(Mapping[str, State], state)


def tensors_in(state: State) -> Iterator[Tensor]:
    """Yield every tensor of `state`."""
    match state:
        case Tensor():
            yield state
        case Mapping():
            for value in state.values():
                yield from tensors_in(value)
        case str() | bool() | int() | float() | None:
            return
        case _:
            for value in state:
                yield from tensors_in(value)


def copied(state: Mapping[str, State]) -> Mapping[str, State]:
    """Return `state` with copies of its tensors, on the CPU and contiguous, as if read from a file."""
    tensors: dict[str, Tensor] = {}
    return cast(Mapping[str, State], _read(_written(state, tensors), tensors))


def _checksum(structure: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of a file's content; safetensors itself checks only the sizes."""
    seen = zlib.crc32(structure.encode())
    for name, tensor in sorted(tensors.items()):
        seen = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), seen)
        seen = zlib.crc32(tensor.reshape(-1).view(uint8).numpy().data, seen)
    return f"{seen:08x}"


def _written(state: State, tensors: dict[str, Tensor]) -> object:
    """Return `state` as JSON in which names stand for tensors; integer keys of dictionaries are preserved."""
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
