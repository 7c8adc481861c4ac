"""A coded file restores exactly the packed bytes, its size is close to the entropy, and any damage is detected."""

import math
import resource
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import ModelProto, TensorProto, helper, numpy_helper
from quantized_models import chain, images, quantized, residual
from torch import nn

from paretta.pipelines.coding.ans import Integers, Reader, Writer, most_of
from paretta.pipelines.coding.codes import Way, code_codes, ways
from paretta.pipelines.coding.container import decode_model, encode_model
from paretta.pipelines.coding.integers import code_number, code_wide
from paretta.pipelines.coding.mixture import SQUASH, STRETCH
from paretta.pipelines.coding.skeleton import anonymous
from paretta.pipelines.coding.tensors import is_streamed
from paretta.pipelines.coding.text import code_text
from paretta.pipelines.coding.typical import TYPICAL
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.search_spaces.errors import DamagedArtifact


def entropy_bytes(symbols: np.ndarray) -> float:
    _, counts = np.unique(symbols, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


def coded(write: Callable[[Writer], object]) -> bytes:
    writer = Writer()
    write(writer)
    return writer.finish()[0]


@settings(deadline=None, max_examples=50)
@given(arrays(np.int64, st.integers(0, 60), elements=st.integers(-(2**61), 2**61 - 1)), st.integers(0, 40))
def test_integers_of_any_width_come_back(values: Integers, shift: int) -> None:
    values = values >> shift << shift
    stream = coded(lambda writer: (code_wide(writer, len(values), values), code_number(writer, shift)))
    reader = Reader(stream)
    assert code_wide(reader, len(values), None).tolist() == values.tolist()
    assert code_number(reader, None) == shift


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.int64, st.tuples(st.integers(1, 40), st.integers(1, 12)), elements=st.integers(-130, 130)),
    st.booleans(),
    st.sampled_from([0, 1, 3]),
)
def test_codes_come_back_whichever_way_they_are_walked(codes: Integers, by_rows: bool, lag: int) -> None:
    stream = coded(lambda writer: code_codes(writer, codes.shape, codes, Way(by_rows, lag)))
    np.testing.assert_array_equal(code_codes(Reader(stream), codes.shape, None, None), codes)


@pytest.mark.parametrize(("share", "levels"), [(0.05, 1), (0.4, 3), (1.0, 60)])
def test_codes_without_any_pattern_cost_their_entropy(share: float, levels: int) -> None:
    generator = np.random.default_rng(0)
    shape = (64, 60)
    codes = (
        generator.integers(1, levels + 1, shape) * generator.choice([-1, 1], shape) * (generator.random(shape) < share)
    )
    sizes = [len(coded(lambda writer, way=way: code_codes(writer, shape, codes, way))) for way in ways(codes)]
    assert min(sizes) < entropy_bytes(codes) + 2 * levels + 16
    assert max(sizes) < 1.1 * entropy_bytes(codes) + 4 * levels + 32


def test_what_rows_columns_and_neighbours_tell_is_saved() -> None:
    generator = np.random.default_rng(1)
    pictures = np.add.outer(np.arange(14) ** 2, np.arange(14) ** 2).reshape(-1) / 400
    there = generator.random((32, 196)) < np.outer(generator.random(32), 1 / (1 + pictures * 9))
    codes = there.astype(np.int64)
    best = min(len(coded(lambda writer, way=way: code_codes(writer, codes.shape, codes, way))) for way in ways(codes))
    assert best < 0.92 * entropy_bytes(codes)


def test_rounded_floats_cost_only_the_digits_they_have() -> None:
    scales = np.random.default_rng(2).uniform(0.01, 0.02, 500).astype(np.float32)
    whole = len(coded(lambda writer: code_wide(writer, 500, scales.view(np.int32).astype(np.int64))))
    rounded = (scales.view(np.int32) & ~0xFFFF).astype(np.int64)
    assert whole - len(coded(lambda writer: code_wide(writer, 500, rounded))) > 500 * 1.9


@given(st.binary(max_size=60), st.binary(max_size=20))
@settings(deadline=None, max_examples=25)
def test_text_comes_back(text: bytes, known: bytes) -> None:
    assert code_text(Reader(coded(lambda writer: code_text(writer, text, known=known))), None, known=known) == text


def test_known_text_costs_next_to_nothing() -> None:
    assert len(coded(lambda writer: code_text(writer, TYPICAL[-300:], known=TYPICAL[-900:]))) < 40


def test_the_tables_are_the_same_on_every_machine() -> None:
    """No entry is so close to the midpoint of two integers that another logarithm could round it differently."""
    odds = [math.log((i + 0.5) / (4095.5 - i)) * 256 for i in range(4096)]
    chances = [65536 / (1 + math.exp(-x / 256)) for x in range(-2560, 2561)]
    for value in (*odds, *chances):
        assert abs(value - math.floor(value) - 0.5) > 1e-9
    assert (zlib.crc32(STRETCH.tobytes()), zlib.crc32(SQUASH.tobytes())) == (0x2DE0C34F, 0xDABBFC84)
    assert zlib.crc32(TYPICAL) == 0x394EBB22


def test_a_quantised_model_comes_back_bit_for_bit() -> None:
    inputs = images(64)
    model = to_bytes(quantized(chain(), inputs, {"0": 8, "2": 6, "4": 5, "7": 4, "9": 3, "11": 2}), inputs[:1])
    found = encode_model(model)
    assert decode_model(found.content) == model
    assert {"codes", "floats", "integers", "graph", "header"} == set(found.parts)
    assert math.fsum(found.parts.values()) == pytest.approx(len(found.content))
    assert len(found.content) < 0.8 * len(model)


def test_a_file_of_version_1_gives_what_it_always_gave() -> None:
    """A network of convolutions and linear layers of 2 to 8 bits, packed on 2026-11-26 and never packed again."""
    content = (Path(__file__).parents[2] / "golden" / "coded-1.prt").read_bytes()
    expected = "618bcedcac95819d320a0421541b72cf43f5e53a75093878eb14749f559ccc84"
    assert sha256(decode_model(content)).hexdigest() == expected


@pytest.mark.parametrize("quantised", [False, True])
def test_residual_nets_come_back(quantised: bool) -> None:
    inputs = images(64)
    model = quantized(residual(nn.Hardswish()), inputs, 4) if quantised else residual().eval()
    exported = to_bytes(model, inputs[:1])
    found = encode_model(exported)
    assert decode_model(found.content) == exported
    assert "graph" in found.parts


def test_zeros_are_cheap() -> None:
    torch.manual_seed(0)
    inputs = images(64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 100), nn.ReLU(), nn.Linear(100, 10))
    with torch.no_grad():
        model[1].weight[torch.rand(100, 144) > 0.05] = 0
    parts = encode_model(to_bytes(quantized(model, inputs, 3), inputs[:1])).parts
    # 720 places among 14,400, each with a sign and a size
    places = 14400 * -(0.05 * math.log2(0.05) + 0.95 * math.log2(0.95)) / 8
    assert parts["codes"] < places + 720 * 2 / 8 + 1000 * 3 / 8


def test_a_graph_with_branches_comes_back() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, [1])]
    )
    condition = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [condition],
        "g",
        [helper.make_tensor_value_info("x", 1, [1]), helper.make_tensor_value_info("c", TensorProto.BOOL, [1])],
        [helper.make_tensor_value_info("y", 1, [1])],
    )
    model = helper.make_model(graph).SerializeToString()
    assert decode_model(encode_model(model).content) == model


def test_a_model_of_another_making_is_kept_whole() -> None:
    node = helper.make_node("Relu", ["input"], ["hidden"], name="the only one", doc_string="a remark")
    last = helper.make_node("Add", ["hidden", "offset"], ["output"])
    graph = helper.make_graph(
        [node, last],
        "main",
        [helper.make_tensor_value_info("input", 1, ["n", 64])],
        [helper.make_tensor_value_info("output", 1, ["n", 64])],
        [helper.make_tensor("offset", 1, [64], np.arange(64, dtype=np.float32))],
    )
    model = helper.make_model(graph).SerializeToString()
    found = encode_model(model)
    assert set(found.parts) == {"file", "header"}
    assert decode_model(found.content) == model


def test_an_operator_that_nobody_here_knows_is_no_obstacle() -> None:
    mystery = helper.make_node("Mystery", ["codes"], ["made"], domain="elsewhere")
    cast = helper.make_node("Cast", ["made"], ["output"], to=TensorProto.FLOAT)
    stored = numpy_helper.from_array(np.arange(64, dtype=np.int8), "codes")
    ends = [helper.make_tensor_value_info(name, 1, [64]) for name in ("input", "output")]
    graph = helper.make_graph([mystery, cast], "g", ends[:1], ends[1:], [stored])
    model = helper.make_model(graph).SerializeToString(deterministic=True)
    assert decode_model(encode_model(model).content) == model


@pytest.fixture(scope="module")
def sample() -> bytes:
    torch.manual_seed(0)
    return encode_model(to_bytes(nn.Sequential(nn.Flatten(), nn.Linear(144, 4)), images(2)[:1])).content


def test_damage_anywhere_is_told(sample: bytes) -> None:
    for place in range(0, len(sample), 37):
        damaged = bytearray(sample)
        damaged[place] ^= 0x10
        with pytest.raises(DamagedArtifact, match=r"^a\.prt: "):
            decode_model(bytes(damaged), where="a.prt")
    for length in (0, 3, 24, len(sample) - 1):
        with pytest.raises(DamagedArtifact):
            decode_model(sample[:length])


def test_a_stream_made_to_mislead_is_no_crash(sample: bytes) -> None:
    header, generator = sample[:21], np.random.default_rng(0)
    for _ in range(5):
        stream = generator.bytes(60)
        with pytest.raises(DamagedArtifact):
            decode_model(header + zlib.crc32(stream).to_bytes(4, "little") + stream)


def test_a_newer_version_says_so(sample: bytes) -> None:
    with pytest.raises(DamagedArtifact, match="expected version 1 to 2 of the coded format, found 3"):
        decode_model(sample[:3] + b"\3" + sample[4:])


def _sealed(content: bytes) -> bytes:
    """Return a coded file with the checksum that matches its content, as an attacker would write it."""
    return content[:21] + zlib.crc32(content[25:]).to_bytes(4, "little") + content[25:]


def _mutated(sample: bytes, generator: np.random.Generator, kind: int) -> bytes:
    content = bytearray(sample)
    if kind % 2:
        for place in generator.integers(25, len(content), generator.choice([1, 2, 8])):
            content[place] ^= 1 << int(generator.integers(8))
    else:
        del content[int(generator.integers(30, len(content))) :]
    return bytes(content) if kind % 4 < 2 else _sealed(bytes(content))


def test_mutated_files_are_told_in_bounded_memory_and_steps(sample: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 files: bits turned or the end cut off, half of them with a checksum that fits."""
    generator, model, asked = np.random.default_rng(0), decode_model(sample), Counter[str]()
    reserve = Reader.reserve

    def count(reader: Reader, what: str, amount: int) -> None:
        reserve(reader, what, amount)
        asked[what] += amount

    monkeypatch.setattr(Reader, "reserve", count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind in range(200):
        asked.clear()
        content = _mutated(sample, generator, kind)
        with suppress(DamagedArtifact):
            assert decode_model(content) == model
        assert all(amount <= most_of(what, len(content)) for what, amount in asked.items())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 2**10  # KiB


@pytest.mark.parametrize(
    "dims", [[1000, 3000], [10**5, 10**4], [10**6, 10**6], [2**40], [2**62, 2**62], [-3, -3], [1, 2**20], [2**19, 2]]
)
def test_tensors_larger_than_their_file_can_hold_are_never_allocated(sample: bytes, dims: list[int]) -> None:
    bare = anonymous(ModelProto.FromString(decode_model(sample)))
    for item in bare.graph.initializer:
        if is_streamed(item):
            item.ClearField("raw_data")
            item.dims[:] = dims
    text = bare.SerializeToString(deterministic=True)
    stream = coded(lambda writer: code_text(writer, text, known=TYPICAL))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for version, size in ((1, b""), (2, (5000).to_bytes(4, "little"))):
        content = _sealed(b"prt" + bytes([version, 0]) + bytes(20) + size + stream)
        with pytest.raises(DamagedArtifact):
            decode_model(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 2**10


def test_more_text_and_more_steps_than_a_file_can_hold_are_refused() -> None:
    long = coded(lambda writer: code_number(writer, 2**40))
    with pytest.raises(ValueError, match="more bytes of text than a stream of its size can hold"):
        code_text(Reader(long), None)
    walk = coded(lambda writer: [code_number(writer, number) for number in (0, 1, 0)])
    for shape in ((1, 8193), (2**20, 1), (1, 8000), (1, 8000), (1, 8000)):
        reader = Reader(walk)
        reader.reserve("steps", 2**14 - 4000)
        with pytest.raises(ValueError, match=r"is not in 0 \.\.|more steps than"):
            code_codes(reader, shape, None, None)


@pytest.mark.parametrize(("version", "size"), [(1, b""), (2, (2**31).to_bytes(4, "little")), (2, b"\1\0\0\0")])
def test_a_file_that_inflates_beyond_all_measure_is_refused(version: int, size: bytes) -> None:
    zeros = zlib.compressobj(9)
    stream = b"".join([*(zeros.compress(bytes(2**20)) for _ in range(300)), zeros.flush()])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedArtifact):
        decode_model(_sealed(b"prt" + bytes([version, 1]) + bytes(20) + size + stream))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10


def test_a_model_of_nothing_but_zeros_comes_back() -> None:
    stored = numpy_helper.from_array(np.zeros((1000, 2000), np.float32), "zeros")
    ends = [helper.make_tensor_value_info(name, 1, [1000, 2000]) for name in ("input", "output")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "zeros"], ["output"])], "g", ends[:1], ends[1:], [stored]
    )
    model = helper.make_model(graph).SerializeToString(deterministic=True)
    assert decode_model(encode_model(model).content) == model


def test_what_is_no_model_is_refused() -> None:
    for content in (b"", b"task: digits\n", bytes(40)):
        with pytest.raises(DamagedArtifact, match=r"^notes\.txt: expected an ONNX model"):
            encode_model(content, where="notes.txt")
