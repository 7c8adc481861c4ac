"""Pack an ONNX file into a coded file, and unpack it bit for bit."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from google.protobuf.message import DecodeError
from onnx import ModelProto
from onnx.defs import SchemaError

from paretta.pipelines.coding.ans import Reader, Writer, most_of
from paretta.pipelines.coding.loose import loosened
from paretta.pipelines.coding.skeleton import anonymous, named
from paretta.pipelines.coding.tensors import code_tensor, is_streamed, part_of
from paretta.pipelines.coding.text import code_text
from paretta.pipelines.coding.typical import TYPICAL
from paretta.pipelines.data.refusals import REFUSALS
from paretta.pipelines.export.graph_passes import tighten
from paretta.pipelines.runtime import WeightStorage
from paretta.search_spaces.errors import DamagedArtifact

VERSION = 2
_MAGIC = b"prt"
_HEADER = struct.Struct("<3sBB16sI")  # magic, version, form, first half of the file's SHA-256, CRC-32 of what follows
_SIZE = struct.Struct("<I")  # the ONNX file's size in bytes, at most 2**31; follows the header, except in version 1
SIZE_BYTES = _SIZE.size
_GRAPH, _WHOLE, _PORTABLE = range(3)
_STORAGES: Final[Mapping[int, WeightStorage]] = {
    _GRAPH: "smallest",
    _PORTABLE: "portable",
}  # of weights in the ONNX file
# errors of an unsupported graph, or of a stream made to mislead
_UNREADABLE = (
    DecodeError,
    SchemaError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Coded:
    """A coded file, and its bytes by part.

    Args:
        content: the file.
        parts: bytes by part: ``codes``, ``floats``, ``integers``, ``graph`` and ``header``; ``file`` instead of the
            first four for a model whose graph the format does not support. They add up to the size of `content`.
    """

    content: bytes
    parts: dict[str, float]


def encode_model(model: bytes, *, where: str = "model") -> Coded:
    """Return the coded file of an ONNX file, after checking that `decode_model` restores the same bytes.

    Args:
        model: the file's bytes.
        where: its name, for messages.

    Raises:
        DamagedArtifact: the bytes are not an ONNX model.
    """
    try:
        graph = ModelProto.FromString(model)
    except DecodeError:
        graph = ModelProto()
    if not graph.graph.node:
        raise DamagedArtifact(f"{where}: expected an ONNX model, found none")
    for form, stream, parts in _streams(graph, model):
        sized = _SIZE.pack(len(model)) + stream
        content = _HEADER.pack(_MAGIC, VERSION, form, _digest(model), zlib.crc32(sized)) + sized
        if _gives_back(content, model):
            rounding = len(stream) - sum(parts.values())
            return Coded(content, {**parts, "header": _HEADER.size + SIZE_BYTES + rounding})
    raise AssertionError("a file coded as a whole is always restored")


def decode_model(content: bytes, *, where: str = "coded file") -> bytes:
    """Return the ONNX file that was packed.

    Args:
        content: of a coded file.
        where: its name, for messages.

    Raises:
        DamagedArtifact: it is not a coded file, has a later version, was altered, or claims to hold more than a file of
            its size can.
    """
    form, digest, size, stream = _opened(content, where)
    try:
        model = _inflated(stream, size) if form == _WHOLE else _read(stream, _STORAGES[form])
    except _UNREADABLE as error:
        raise DamagedArtifact(f"{where}: the stream cannot be read: {error}") from None
    if _digest(model) != digest:
        raise DamagedArtifact(
            f"{where}: expected a model with sha256 {digest.hex()}.., found {_digest(model).hex()}..; "
            "the coded file was altered, or written by another version of paretta"
        )
    return model


def _inflated(stream: bytes, size: int) -> bytes:
    """Decompress zlib data of a file of at most `size` bytes; never allocates more."""
    inflater = zlib.decompressobj()
    model = inflater.decompress(stream, size + 1)
    if len(model) > size or not inflater.eof:
        raise ValueError(f"it does not end within {size} bytes")
    return model


def _opened(content: bytes, where: str) -> tuple[int, bytes, int, bytes]:
    """Return the form, the digest, the most bytes that the ONNX file may have, and the stream."""
    if len(content) < _HEADER.size or not content.startswith(_MAGIC):
        raise DamagedArtifact(f"{where}: expected a coded file, which starts with {_MAGIC!r}, found {content[:4]!r}")
    _, version, form, digest, checksum = _HEADER.unpack_from(content)
    stream = content[_HEADER.size :]
    if not 1 <= version <= VERSION or form not in (_WHOLE, *_STORAGES):
        known = f"version 1 to {VERSION} of the coded format"
        raise DamagedArtifact(f"{where}: expected {known}, found {version}, form {form}")
    if zlib.crc32(stream) != checksum:
        raise DamagedArtifact(f"{where}: expected checksum {checksum:08x}, found {zlib.crc32(stream):08x}")
    if version == 1:
        return form, digest, most_of("bytes", len(stream)), stream
    if len(stream) < SIZE_BYTES:
        raise DamagedArtifact(f"{where}: expected the model's size, found the end of the file")
    (size,), stream = _SIZE.unpack_from(stream), stream[SIZE_BYTES:]
    if size > (most := most_of("bytes", len(stream))):
        raise DamagedArtifact(f"{where}: expected a model of at most {most} bytes in such a file, found {size} claimed")
    return form, digest, size, stream


def _streams(graph: ModelProto, model: bytes) -> Iterator[tuple[int, bytes, dict[str, float]]]:
    """Yield form, stream and parts of each candidate, the smallest first, as some may fail to restore the model."""
    for prepare in (loosened, _as_it_is):
        try:
            written = _written(prepare(graph))
        except (*_UNREADABLE, *REFUSALS):
            continue  # errors of the model itself are not reported here
        if written:
            for form in _STORAGES:
                yield form, *written
    for level in (9, 0):  # an extremely compressible model is stored as it is, or readers would reject its claimed size
        stream = zlib.compress(model, level)
        yield _WHOLE, stream, {"file": float(len(stream))}


def _as_it_is(model: ModelProto) -> ModelProto:
    return model


def _written(model: ModelProto) -> tuple[bytes, dict[str, float]] | None:
    """Return the stream and its parts; None for a model that does not store its numbers as raw bytes."""
    bare = anonymous(model)
    numbers = [(item, item.raw_data) for item in bare.graph.initializer if is_streamed(item)]
    if not all(raw for _, raw in numbers):
        return None
    for item, _ in numbers:
        item.ClearField("raw_data")
    writer = Writer()
    writer.part = "graph"
    code_text(writer, bare.SerializeToString(deterministic=True), known=TYPICAL)
    for item, raw in numbers:
        writer.part = part_of(item)
        code_tensor(writer, item, raw)
    return writer.finish()


def _read(stream: bytes, storage: WeightStorage) -> bytes:
    reader = Reader(stream)
    bare = ModelProto.FromString(code_text(reader, None, known=TYPICAL))
    for item in bare.graph.initializer:
        if is_streamed(item):
            item.raw_data = code_tensor(reader, item, None)
    model = named(bare)
    tighten(model, storage)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _gives_back(content: bytes, model: bytes) -> bool:
    try:
        return decode_model(content) == model
    except DamagedArtifact:
        return False


def _digest(model: bytes) -> bytes:
    return sha256(model).digest()[:16]
