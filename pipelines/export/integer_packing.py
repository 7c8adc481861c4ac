"""Pack integer tensors in an ONNX graph into the fewest bytes that standard operators unpack at load time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper

from paretta.pipelines.runtime import WeightStorage

Codes = npt.NDArray[np.int64]

_TYPES: dict[int, npt.DTypeLike] = {
    TensorProto.INT8: "<i1",
    TensorProto.UINT8: "<u1",
    TensorProto.INT16: "<i2",
    TensorProto.INT32: "<i4",
    TensorProto.INT64: "<i8",
}
# a table of more levels saves less than one bit per code
_MOST_LEVELS, _MOST_FLOATS = 64, 256
_SAMPLE = 4096  # floats that are sampled first, to detect a tensor with too many different values quickly
_WORD_VALUES: dict[int, int] = {TensorProto.UINT8: 2**8, TensorProto.INT32: 2**31, TensorProto.INT64: 2**63}
_ANY_NAME = "a"
_WORD_BITS: dict[int, int] = {TensorProto.UINT8: 8, TensorProto.INT32: 32, TensorProto.INT64: 64}


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors and nodes that compute one integer tensor; ONNX Runtime folds the nodes into a constant at load time.

    Args:
        output: name of the tensor that the nodes compute; without nodes the name of the only stored tensor.
        tensors: the stored tensors.
        nodes: in the order of their evaluation.
        opset: smallest default-domain opset that supports all types used.
        encoding: ``plain``, ``int4``, ``int2``, ``split``, ``planes``, ``radix8``, ``radix32``, ``radix64`` or
            ``table``; of a bias ``plain`` or ``narrow``; ``zeros``.
    """

    output: str
    tensors: tuple[TensorProto, ...]
    nodes: tuple[NodeProto, ...]
    encoding: str
    opset: int = 21

    @property
    def num_bytes(self) -> int:
        """Size in the file, including the tags of the surrounding messages."""
        messages: tuple[TensorProto | NodeProto, ...] = (*self.tensors, *self.nodes)
        return sum(_framed(message.ByteSize()) for message in messages)


def pack_integers(codes: Codes, output: str, storage: WeightStorage = "smallest") -> Packed:
    """Encode signed `codes` in -128 .. 127 of any shape as an INT8 tensor called `output`, in the fewest bytes.

    Encodings tried, the first of the smallest wins:
    plain INT8; INT4 or INT2 (opset 25) and a Cast; 6 bits as INT2 * 16 + UINT4; bit planes in bytes; digits of a mixed
    radix in 8- or 64-bit words, which store ternary weights in 1.6 bits and 3-bit weights in 2.91; and, for few
    different codes, their indices into a table, in the best of these.

    With `storage` ``portable`` only what OpenVINO 2026.4 also folds at load time, to the same integers: it refuses INT2
    (and with it 6 bits), divides bytes and 64-bit words wrongly, and unpacks bit planes at every call. Digits of a
    mixed radix are divided as INT32 then, in bytes or 32-bit words.
    """
    return smallest(lambda name: encodings(codes, name, storage), output)


def pack_bias(codes: Codes, output: str) -> Packed:
    """Encode `codes` as an INT32 tensor called `output`: in INT8 or INT16 with a Cast if that saves bytes."""
    return smallest(lambda name: _bias_encodings(codes, name), output)


def smallest(encodings: Callable[[str], Iterable[Packed]], output: str) -> Packed:
    """Return the smallest of `encodings`, the first of equal ones; each is a function of the tensor's name.

    They are compared under the same short name, so that the choice does not depend on the tensor's current name.
    """
    best = min(encodings(_ANY_NAME), key=lambda packed: packed.num_bytes).encoding
    return next(packed for packed in encodings(output) if packed.encoding == best)


def tensor(name: str, data_type: int, values: npt.ArrayLike) -> TensorProto:
    """Return `values` as a stored tensor, little-endian raw bytes."""
    array = np.asarray(values)
    raw = array.astype(_TYPES[data_type]).tobytes()
    return TensorProto(name=name, data_type=data_type, dims=array.shape, raw_data=raw)


def pack_fields(codes: Codes, bits: int) -> bytes:
    """Pack the low `bits` (2 or 4) of each code into bytes, first code lowest, as ONNX stores INT2 and INT4.

    >>> pack_fields(np.array([1, -1, 2]), 4).hex()
    'f102'
    """
    per_byte = 8 // bits
    fields = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    fields[: codes.size] = codes.reshape(-1) & (2**bits - 1)
    shifted = fields.reshape(-1, per_byte) << np.arange(0, 8, bits, dtype=np.uint8)
    merged: npt.NDArray[np.uint8] = np.bitwise_or.reduce(shifted, axis=1).astype(np.uint8)
    return merged.tobytes()


def encodings(codes: Codes, output: str, storage: WeightStorage = "smallest") -> Iterator[Packed]:
    """Yield `codes` in every encoding that can represent them, plain INT8 first."""
    yield from _direct(codes, output, storage)
    levels, places = np.unique(codes, return_inverse=True)
    if 1 < len(levels) <= _MOST_LEVELS and len(levels) <= (levels[-1] - levels[0]) // 2:
        table = tensor(f"{output}.0", TensorProto.INT8, levels)
        places = _from_both_ends(places.reshape(codes.shape), len(levels))
        yield _looked_up(table, pack_integers(places, f"{output}.2", storage), output)


def tabled(values: npt.NDArray[np.float32], output: str, storage: WeightStorage = "smallest") -> Packed | None:
    """Encode floats of at most 256 different bit patterns as indices into a table; None if that is not smaller.

    The indices are plain INT8, to be packed in turn.
    """
    bits = np.ascontiguousarray(values).view(np.int32).reshape(-1)
    if bits.size < 2 or len(np.unique(bits[:_SAMPLE])) > _MOST_FLOATS:
        return None
    levels, places = np.unique(bits, return_inverse=True)
    if len(levels) > _MOST_FLOATS:
        return None
    table = TensorProto(name=f"{output}.0", data_type=TensorProto.FLOAT, dims=levels.shape, raw_data=levels.tobytes())
    places = _from_both_ends(places.reshape(values.shape), len(levels))
    plain = next(_direct(places, f"{output}.2"))
    smallest = _looked_up(table, pack_integers(places, f"{output}.2", storage), output)
    return _looked_up(table, plain, output) if smallest.num_bytes < 4 * values.size else None


def _looked_up(table: TensorProto, places: Packed, output: str) -> Packed:
    """Gather from `table` by indices."""
    wide = f"{output}.1"
    nodes = (
        helper.make_node("Cast", [places.output], [wide], to=TensorProto.INT32),
        helper.make_node("Gather", [table.name, wide], [output]),
    )
    return Packed(output, (table, *places.tensors), (*places.nodes, *nodes), "table", places.opset)


def _from_both_ends(places: Codes, size: int) -> Codes:
    """Count indices in the upper half of a table back from its end, which makes them signed codes of few bits."""
    return np.where(places < (size + 1) // 2, places, places - size)


def _direct(codes: Codes, output: str, storage: WeightStorage = "smallest") -> Iterator[Packed]:
    yield Packed(output, (tensor(output, TensorProto.INT8, codes),), (), "plain")
    if codes.size == 0:
        return
    if storage == "portable":
        if _fits(codes, 4):
            yield _narrow(codes, output, 4, TensorProto.INT4, 21)
        yield from _radix(codes, output, (TensorProto.UINT8, TensorProto.INT32), divided_as=TensorProto.INT32)
        return
    for bits, data_type, opset in ((4, TensorProto.INT4, 21), (2, TensorProto.INT2, 25)):
        if _fits(codes, bits):
            yield _narrow(codes, output, bits, data_type, opset)
    if _fits(codes, 6):
        yield _split(codes, output)
    yield _planes(codes, output)
    yield from _radix(codes, output, (TensorProto.UINT8, TensorProto.INT64))


def _bias_encodings(codes: Codes, output: str) -> Iterator[Packed]:
    yield Packed(output, (tensor(output, TensorProto.INT32, codes),), (), "plain")
    narrow = TensorProto.INT8 if _fits(codes, 8) else TensorProto.INT16 if _fits(codes, 16) else TensorProto.INT32
    inner = tensor(f"{output}.0", narrow, codes)
    cast = helper.make_node("Cast", [inner.name], [output], to=TensorProto.INT32)
    yield Packed(output, (inner,), (cast,), "narrow")


def _narrow(codes: Codes, output: str, bits: int, data_type: int, opset: int) -> Packed:
    stored = _fields(f"{output}.0", data_type, codes, bits)
    cast = helper.make_node("Cast", [stored.name], [output], to=TensorProto.INT8)
    return Packed(output, (stored,), (cast,), f"int{bits}", opset)


def _split(codes: Codes, output: str) -> Packed:
    """Six bits as ``high * 16 + low`` with `high` an INT2 and `low` a UINT4."""
    name = _namer(output)
    high = _fields(name(), TensorProto.INT2, codes >> 4, 2)
    low = _fields(name(), TensorProto.UINT4, codes & 15, 4)
    sixteen = tensor(name(), TensorProto.INT8, 16)
    wide, shifted, rest = name(), name(), name()
    nodes = (
        helper.make_node("Cast", [high.name], [wide], to=TensorProto.INT8),
        helper.make_node("Mul", [wide, sixteen.name], [shifted]),
        helper.make_node("Cast", [low.name], [rest], to=TensorProto.INT8),
        helper.make_node("Add", [shifted, rest], [output]),
    )
    return Packed(output, (high, low, sixteen), nodes, "split", 25)


def _planes(codes: Codes, output: str) -> Packed:
    """Two's complement bit planes: ``code = sum_k plane_k * 2**k`` with the last plane's weight negative.

    Stored as bytes [groups of 8 codes, 1, bits]; unpacked by a shift, a mask and an integer product with the weights.
    """
    bits = next(bits for bits in range(1, 9) if _fits(codes, bits))
    groups = -(-codes.size // 8)
    padded = np.zeros(groups * 8, np.int64)
    padded[: codes.size] = codes.reshape(-1)
    planes = (padded.reshape(groups, 8, 1) >> np.arange(bits)) & 1
    stored = (planes << np.arange(8).reshape(1, 8, 1)).sum(axis=1, keepdims=True)
    weights = [2**bit for bit in range(bits - 1)] + [-(2 ** (bits - 1))]
    name = _namer(output)
    data = tensor(name(), TensorProto.UINT8, stored)
    shifts = tensor(name(), TensorProto.UINT8, np.arange(8).reshape(8, 1))
    one = tensor(name(), TensorProto.UINT8, 1)
    place = tensor(name(), TensorProto.INT8, np.array(weights).reshape(bits, 1))
    shifted, masked, total, narrow = name(), name(), name(), name()
    nodes = (
        helper.make_node("BitShift", [data.name, shifts.name], [shifted], direction="RIGHT"),
        helper.make_node("BitwiseAnd", [shifted, one.name], [masked]),
        helper.make_node("MatMulInteger", [masked, place.name], [total]),
        helper.make_node("Cast", [total], [narrow], to=TensorProto.INT8),
    )
    tensors, tail = _cut(narrow, groups * 8, codes, output, name)
    return Packed(output, (data, shifts, one, place, *tensors), (*nodes, *tail), "planes")


def _radix(codes: Codes, output: str, words: Iterable[int], divided_as: int | None = None) -> Iterator[Packed]:
    """Digits of base ``levels = max - min + 1``: ``code = word / levels**k mod levels + min``."""
    levels = int(codes.max() - codes.min()) + 1
    for word in words:
        # the largest number of digits that a word holds; zero or one digit save nothing
        num_digits = max((k for k in range(1, 64) if levels**k <= _WORD_VALUES[word]), default=0)
        if levels > 1 and num_digits > 1:
            yield _digits(codes, output, word, num_digits, divided_as or word)


def _digits(codes: Codes, output: str, word: int, num_digits: int, divided_as: int) -> Packed:
    low = int(codes.min())
    levels = int(codes.max()) - low + 1
    groups = -(-codes.size // num_digits)
    padded = np.zeros(groups * num_digits, np.int64)
    padded[: codes.size] = codes.reshape(-1) - low
    powers = np.array([levels**k for k in range(num_digits)], np.int64)
    name = _namer(output)
    data = tensor(name(), word, (padded.reshape(groups, num_digits) * powers).sum(axis=1, keepdims=True))
    divisor = tensor(name(), divided_as, powers)
    base = tensor(name(), divided_as, levels)
    offset = tensor(name(), TensorProto.INT8, -low)
    quotient, digit, narrow, signed = name(), name(), name(), name()
    whole = data.name if divided_as == word else name()
    widened = () if divided_as == word else (helper.make_node("Cast", [data.name], [whole], to=divided_as),)
    nodes = (
        *widened,
        helper.make_node("Div", [whole, divisor.name], [quotient]),
        helper.make_node("Mod", [quotient, base.name], [digit]),
        helper.make_node("Cast", [digit], [narrow], to=TensorProto.INT8),
        helper.make_node("Sub", [narrow, offset.name], [signed]),
    )
    tensors, tail = _cut(signed, groups * num_digits, codes, output, name)
    return Packed(output, (data, divisor, base, offset, *tensors), (*nodes, *tail), f"radix{_WORD_BITS[word]}")


def _cut(
    source: str, num_unpacked: int, codes: Codes, output: str, name: Callable[[], str]
) -> tuple[tuple[TensorProto, ...], tuple[NodeProto, ...]]:
    """Drop the padding of the last group and restore the shape."""
    shape = tensor(name(), TensorProto.INT64, codes.shape)
    if num_unpacked == codes.size:
        return (shape,), (helper.make_node("Reshape", [source, shape.name], [output]),)
    flat = tensor(name(), TensorProto.INT64, [-1])
    start, end = tensor(name(), TensorProto.INT64, [0]), tensor(name(), TensorProto.INT64, [codes.size])
    line, kept = name(), name()
    nodes = (
        helper.make_node("Reshape", [source, flat.name], [line]),
        helper.make_node("Slice", [line, start.name, end.name], [kept]),
        helper.make_node("Reshape", [kept, shape.name], [output]),
    )
    return (shape, flat, start, end), nodes


def _fields(name: str, data_type: int, codes: Codes, bits: int) -> TensorProto:
    return TensorProto(name=name, data_type=data_type, dims=codes.shape, raw_data=pack_fields(codes, bits))


def _fits(codes: Codes, bits: int) -> bool:
    return codes.size == 0 or bool(codes.min() >= -(2 ** (bits - 1)) and codes.max() < 2 ** (bits - 1))


def _namer(output: str) -> Callable[[], str]:
    numbers = iter(range(36))
    return lambda: f"{output}.{np.base_repr(next(numbers), 36)}"


def _framed(num_bytes: int) -> int:
    return num_bytes + 1 + max(1, -(-num_bytes.bit_length() // 7))
