"""Code the numbers of stored tensors: choose the model, and convert them to integers."""

from math import prod

import numpy as np
from onnx import TensorProto

from paretta.pipelines.coding.ans import Coder, Integers, Writer
from paretta.pipelines.coding.codes import Way, code_codes, ways
from paretta.pipelines.coding.integers import code_wide
from paretta.pipelines.export.integer_packing import pack_fields

_SMALL = 8  # tensors with fewer numbers stay in the graph
_FIELDS: dict[int, tuple[int, bool]] = {
    TensorProto.INT4: (4, True),
    TensorProto.UINT4: (4, False),
    TensorProto.INT2: (2, True),
    TensorProto.UINT2: (2, False),
}
_CODES: dict[int, str] = {TensorProto.INT8: "<i1", TensorProto.UINT8: "<u1"}
_WIDE: dict[int, str] = {
    TensorProto.FLOAT: "<u4",
    TensorProto.INT32: "<i4",
    TensorProto.INT64: "<i8",
    TensorProto.INT16: "<i2",
    TensorProto.FLOAT16: "<u2",
    TensorProto.BFLOAT16: "<u2",
}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def is_streamed(item: TensorProto) -> bool:
    """Return True if the numbers of `item` are coded separately and not with the graph."""
    known = item.data_type in _FIELDS or item.data_type in _CODES or item.data_type in _WIDE
    return known and prod(item.dims) >= _SMALL


def part_of(item: TensorProto) -> str:
    """Return the kind of the numbers in `item`: ``floats``, ``codes`` (a matrix of small integers) or ``integers``."""
    if item.data_type in _FLOATS:
        return "floats"
    return "integers" if item.data_type in _WIDE or len(item.dims) < 2 else "codes"


def code_tensor(coder: Coder, item: TensorProto, raw: bytes | None) -> bytes:
    """Code the `raw` little-endian numbers of a tensor with the type and shape of `item`."""
    shape = tuple(item.dims)
    coder.reserve("numbers", prod(shape))
    if item.data_type in _WIDE:
        layout = np.dtype(_WIDE[item.data_type])
        floats = item.data_type in _FLOATS
        values = None if raw is None else np.frombuffer(raw, layout).astype(np.int64)
        turned = values if values is None or not floats else _sign_last(values, layout.itemsize * 8)
        found = code_wide(coder, prod(shape), turned)
        return (_sign_first(found, layout.itemsize * 8) if floats else found).astype(layout).tobytes()
    codes = None if raw is None else _codes(item, raw)
    if len(shape) < 2:
        return _raw(item, code_wide(coder, prod(shape), codes))
    matrix = None if codes is None else codes.reshape(shape[0], -1)
    way = None if matrix is None else _best_way(matrix)
    return _raw(item, code_codes(coder, (shape[0], prod(shape[1:])), matrix, way).reshape(-1))


def _best_way(codes: Integers) -> Way:
    def cost(way: Way) -> int:
        trial = Writer()
        code_codes(trial, codes.shape, codes, way)
        return len(trial.finish()[0])

    return min(ways(codes), key=cost)


def _sign_last(values: Integers, bits: int) -> Integers:
    """Move the sign of floats to the lowest bit, so that equal magnitudes of both signs are near each other."""
    return np.asarray((values << 1 & (1 << bits) - 1) | values >> bits - 1)


def _sign_first(values: Integers, bits: int) -> Integers:
    return np.asarray(values >> 1 | (values & 1) << bits - 1)


def _codes(item: TensorProto, raw: bytes) -> Integers:
    if item.data_type in _CODES:
        return np.frombuffer(raw, _CODES[item.data_type]).astype(np.int64)
    bits, signed = _FIELDS[item.data_type]
    shifts = np.arange(0, 8, bits)
    fields = (np.frombuffer(raw, np.uint8)[:, None] >> shifts & (1 << bits) - 1).astype(np.int64).reshape(-1)
    fields = fields[: prod(item.dims)]
    return np.where(fields >> bits - 1, fields - (1 << bits), fields) if signed else fields


def _raw(item: TensorProto, codes: Integers) -> bytes:
    if item.data_type in _CODES:
        return codes.astype(_CODES[item.data_type]).tobytes()
    return pack_fields(codes, _FIELDS[item.data_type][0])
