"""Whatever encoding is chosen, ONNX Runtime reads back the codes that went in, at load and in fewer bytes."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from paretta.pipelines.export.integer_packing import Packed, encodings, pack_bias, pack_fields, pack_integers, tabled


def model_of(packed: Packed, shape: tuple[int, ...], data_type: int = TensorProto.INT8) -> bytes:
    """Wrap what was packed in a graph that returns it beside an input."""
    graph = helper.make_graph(
        [*packed.nodes, helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["codes"], ["z"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("z", data_type, shape),
        ],
        list(packed.tensors),
    )
    version = {21: 10, 25: 13}[packed.opset]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", packed.opset)], ir_version=version)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def unpacked(packed: Packed, shape: tuple[int, ...], data_type: int = TensorProto.INT8) -> np.ndarray:
    session = onnxruntime.InferenceSession(model_of(packed, shape, data_type), providers=["CPUExecutionProvider"])
    return session.run(["z"], {"x": np.zeros(1, np.float32)})[0]


def codes_of(bits: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    limit = 2 ** (bits - 1) - 1
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape)


@settings(deadline=None, max_examples=40)
@given(
    bits=st.integers(2, 8),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 999),
)
def test_every_encoding_gives_the_codes_back(bits: int, shape: tuple[int, ...], seed: int) -> None:
    codes = codes_of(bits, shape, seed)
    for packed in encodings(codes, "codes"):
        found = unpacked(packed, codes.shape)
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, codes, err_msg=packed.encoding)


@pytest.mark.parametrize(
    ("bits", "encoding", "bits_per_weight"),
    [
        (2, "radix8", 1.6),
        (3, "radix64", 64 / 22),
        (4, "int4", 4),
        (5, "planes", 5),
        (6, "split", 6),
        (7, "planes", 7),
        (8, "plain", 8),
    ],
)
def test_a_large_tensor_gets_the_densest_encoding(bits: int, encoding: str, bits_per_weight: float) -> None:
    codes = codes_of(bits, (64, 64, 3, 3))
    packed = pack_integers(codes, "codes")
    assert packed.encoding == encoding
    assert packed.num_bytes == pytest.approx(codes.size * bits_per_weight / 8, abs=700)
    np.testing.assert_array_equal(unpacked(packed, codes.shape), codes)


def test_a_tiny_tensor_stays_plain_and_the_choice_is_never_larger() -> None:
    assert pack_integers(codes_of(3, (2, 3)), "codes").encoding == "plain"
    for bits in range(2, 9):
        for count in (1, 9, 50, 90, 200, 1000):
            codes = codes_of(bits, (count,))
            assert pack_integers(codes, "ab").num_bytes == min(packed.num_bytes for packed in encodings(codes, "ab"))


def test_codes_that_use_few_levels_take_fewer_bytes_than_their_width() -> None:
    spread = np.random.default_rng(0).choice([-100, -41, 0, 7, 99], 4096)
    pruned = np.where(np.arange(4096) % 8 == 0, 1, 0)
    assert pack_integers(spread, "codes").encoding == "table"
    assert (
        pack_integers(spread, "a").num_bytes < 4096 * 64 / 27 / 8 + 720
    )  # 27 digits of base 5 in a 64-bit word, a table
    np.testing.assert_array_equal(unpacked(pack_integers(spread, "codes"), spread.shape), spread)
    assert pack_integers(pruned, "codes").num_bytes < 4096 / 8 + 300


def test_unpacking_is_folded_while_loading(tmp_path: Path) -> None:
    for packed in encodings(codes_of(2, (33, 5)), "codes"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(model_of(packed, (33, 5)), options, providers=["CPUExecutionProvider"])
        left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
        assert set(left) <= {"Identity"}, packed.encoding


def test_fields_are_laid_out_as_onnx_does() -> None:
    for bits, data_type in ((4, TensorProto.INT4), (2, TensorProto.INT2)):
        codes = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 13)
        stored = TensorProto(data_type=data_type, dims=[13], raw_data=pack_fields(codes, bits))
        np.testing.assert_array_equal(numpy_helper.to_array(stored).astype(np.int64), codes)


@pytest.mark.parametrize(("largest", "num_bytes"), [(100, 1), (30_000, 2), (2**30, 4)])
def test_a_bias_takes_the_narrowest_type(largest: int, num_bytes: int) -> None:
    codes = np.linspace(-largest, largest, 200).astype(np.int64)
    packed = pack_bias(codes, "codes")
    assert len(packed.tensors[0].raw_data) == 200 * num_bytes
    found = unpacked(packed, codes.shape, TensorProto.INT32)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, codes)


def floats_back(values: np.ndarray) -> tuple[Packed | None, np.ndarray]:
    packed = tabled(values, "codes")
    return packed, values if packed is None else unpacked(packed, values.shape, TensorProto.FLOAT)


@settings(deadline=None, max_examples=25)
@given(levels=st.integers(1, 300), size=st.integers(2, 3000), seed=st.integers(0, 99))
def test_floats_of_few_values_come_back_to_the_bit(levels: int, size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.choice(random.normal(size=levels).astype(np.float32), size)
    values[0] = -0.0
    packed, found = floats_back(values)
    assert found.tobytes() == values.tobytes()
    assert packed is None or len(np.unique(values.view(np.int32))) <= 256


def test_floats_are_stored_as_they_are_where_a_table_saves_nothing() -> None:
    assert floats_back(np.random.default_rng(0).normal(size=5000).astype(np.float32))[0] is None
    assert floats_back(np.array([1.0, 2.0], np.float32))[0] is None
    packed, _ = floats_back(np.tile(np.array([0.0, 1.5, -2.0], np.float32), 1000))
    assert packed is not None
