"""A file is timed on a runtime only if it answers there as in ONNX Runtime; what is refused or wrong is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from paretta.pipelines import artifact
from paretta.pipelines.data.feeds import save_feeds
from paretta.pipelines.export.integer_packing import Packed, encodings, pack_integers
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.measuring.runtime_agreement import agreement
from paretta.pipelines.measuring.served_meter import ServedMeter, runtimes_of
from paretta.pipelines.meter import MeterBench, meter_of
from paretta.pipelines.meters.latency import Latency
from paretta.pipelines.runtime import ModelRefused, runtime_of, storage_for
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.verification.verify import verify_claims
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.user_code import look_in
from paretta.testing.runtimes import digits_feeds, written

INPUT = {"x": np.abs(np.random.default_rng(0).normal(size=(3, 16, 8, 8))).astype(np.float32)}
LEVELS = (3, 4, 8, 15, 30, 60, 120)
NEEDS_OPENVINO = pytest.mark.skipif(
    runtime_of("openvino").missing() is not None, reason=str(runtime_of("openvino").missing())
)

MINE = '''
"""ONNX Runtime under another name, and one that answers wrongly."""

from paretta.pipelines.runtimes.onnxruntime import Onnxruntime


class Mine(Onnxruntime):
    title = "Mine"
    devices = ("cpu",)


class Opposite(Mine):
    title = "Opposite"

    def open(self, model_path, *, threads, device):
        opened = super().open(model_path, threads=threads, device=device)
        right = opened.answers
        opened.answers = lambda feeds: [-array for array in right(feeds)]
        return opened
'''


def codes_of(levels: int) -> NDArray[np.int64]:
    return np.random.default_rng(levels).integers(-(levels // 2), levels - levels // 2, (16, 16, 3, 3))


def convolution(packed: Packed, folder: Path) -> Path:
    """Write a convolution of bytes by the packed weights [16, 16, 3, 3]."""
    stored = {"sx": np.float32(0.02), "zx": np.uint8(0), "s": np.full(16, 0.01, np.float32), "z": np.zeros(16, np.int8)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 16, None, None]) for name in "xy")
    nodes = [
        *packed.nodes,
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], axis=0),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]
    tensors = [*packed.tensors, *(numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items())]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    version = {21: 10, 25: 13}[packed.opset]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", packed.opset)], ir_version=version)
    path = folder / f"{packed.encoding}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@NEEDS_OPENVINO
@pytest.mark.parametrize("levels", LEVELS)
def test_openvino_computes_portable_weights_in_integers_and_rightly(levels: int, tmp_path: Path) -> None:
    openvino = runtime_of("openvino")
    for packed in encodings(codes_of(levels), "w", "portable"):
        path = convolution(packed, tmp_path)
        assert agreement(path, openvino, INPUT).gap < 1e-5, packed.encoding
        assert openvino.kernels(path, INPUT)["integer_layers"] == 1, packed.encoding


@NEEDS_OPENVINO
def test_what_openvino_cannot_do_is_refused_or_seen(tmp_path: Path) -> None:
    """If this fails, OpenVINO has learned to read these encodings, and portable files may become smaller."""
    openvino = runtime_of("openvino")
    smallest = {packed.encoding: convolution(packed, tmp_path) for packed in encodings(codes_of(4), "w")}
    for encoding in ("int2", "split"):
        with pytest.raises(ModelRefused, match="OpenVINO cannot load the file: Unsupported type"):
            openvino.open(smallest[encoding], threads=1, device="cpu")
    for encoding in ("radix8", "radix64"):
        assert not agreement(smallest[encoding], openvino, INPUT).holds
    assert openvino.kernels(smallest["planes"], INPUT)["integer_layers"] == 0


@NEEDS_OPENVINO
def test_a_two_bit_file_is_measured_on_openvino_only_if_it_is_portable(tmp_path: Path) -> None:
    readings = {}
    for storage in ("smallest", "portable"):
        (tmp_path / storage).mkdir()
        written(tmp_path / storage, 2, storage, 16)
        bench = MeterBench(tmp_path / storage, digits_feeds(16))
        readings[storage] = (
            meter_of("latency@openvino", {}).model_copy(update={"budget_seconds": 0.1}).read(tmp_path / storage, bench)
        )
    told = readings["smallest"].reason
    assert told is not None
    assert "OpenVINO" in told
    details = readings["portable"].details
    assert readings["portable"].value == pytest.approx(1.0, rel=0.5), "against itself"
    assert (details["integer_layers"], details["layers"]) == (2, 2), "the products are part of a subgraph"
    assert float(details["answers_gap"]) < 16 / 255
    assert details["runtime"] == runtime_of("openvino").version()


@NEEDS_OPENVINO
def test_two_runtimes_are_objectives_of_one_measurement(tmp_path: Path) -> None:
    task = make(width=8, hidden=8)
    for name, width in (("small", 4), ("wide", 8)):
        torch.manual_seed(0)
        content = to_bytes(make(width=width, hidden=8).new_model(), task.example_input)
        artifact.write(tmp_path / name, content, plan=Plan(()), seed=0, data_digest="")
    meters = [
        meter_of({"kind": kind, "budget_seconds": 0.1}, task.metrics)
        for kind in ("latency@onnxruntime", "latency@openvino")
    ]
    found = measure(tmp_path / "small", tmp_path / "wide", task, split="validation", meters=meters)
    assert [reading.details["runtime"].split()[0] for reading in found.values()] == ["onnxruntime", "openvino"]
    assert list(found) == ["latency", "latency@openvino"]
    assert "answers_gap" not in found["latency"].details
    assert "Convolution" in str(found["latency@openvino"].details["kernels"])
    assert runtimes_of(meters) == ("openvino",)


@NEEDS_OPENVINO
def test_verifying_a_folder_compares_the_answers_on_the_claimed_runtime(tmp_path: Path) -> None:
    torch.manual_seed(0)
    content = to_bytes(make(width=4, hidden=8).new_model(), make().example_input)
    save_feeds(tmp_path / "sample.npz", digits_feeds(1))
    sample = (tmp_path / "sample.npz").read_bytes()
    claims = {"latency@openvino": Reading(0.5, "ratio")}
    artifact.write(tmp_path / "a", content, plan=Plan(()), seed=0, data_digest="", readings=claims, sample=sample)
    outcomes = {finding.name: finding.outcome for finding in verify_claims(tmp_path / "a", None)}
    assert outcomes == {"manifest": "confirmed", "latency@openvino": "not checked", "answers@openvino": "confirmed"}


def test_a_runtime_of_the_user_s_is_measured_in_the_measuring_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    look_in(Path())
    (tmp_path / "mine.py").write_text(MINE)
    task = make(width=4, hidden=8)
    artifact.write(
        tmp_path / "a", to_bytes(task.new_model(), task.example_input), plan=Plan(()), seed=0, data_digest=""
    )
    meters = [
        meter_of({"kind": f"latency@./mine.py:{name}", "budget_seconds": 0.1}, task.metrics)
        for name in ("Mine", "Opposite")
    ]
    found = measure(tmp_path / "a", tmp_path / "a", task, split="validation", meters=meters)
    assert found["latency@Mine"].value == pytest.approx(1.0, rel=0.5)
    assert found["latency@Mine"].details["answers_gap"] == 0.0
    assert "answers in Opposite differ from those in ONNX Runtime by 2 of" in str(found["latency@Opposite"].reason)


def test_what_one_model_lacks_does_not_keep_others_from_being_timed(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, None, "smallest")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "bad" / "model.onnx").write_bytes(b"")
    meter = Latency(runtime=f"{tmp_path}/mine.py:Mine", budget_seconds=0.1)
    bad, good = meter.read_together(
        [tmp_path / "bad", tmp_path / "good"], MeterBench(tmp_path / "good", digits_feeds(4))
    )
    assert good.value == pytest.approx(1.0, rel=0.5)
    assert str(bad.reason).startswith("ONNX Runtime cannot load the file: ") or "cannot load" in str(bad.reason)


def test_portable_integers_come_back_in_onnx_runtime_without_types_that_others_refuse(tmp_path: Path) -> None:
    plain = runtime_of("onnxruntime")
    for levels in LEVELS:
        expected = plain.open(
            convolution(next(encodings(codes_of(levels), "w")), tmp_path), threads=1, device="cpu"
        ).answers(INPUT)
        for packed in encodings(codes_of(levels), "w", "portable"):
            found = plain.open(convolution(packed, tmp_path), threads=1, device="cpu").answers(INPUT)
            assert np.array_equal(found[0], expected[0]), packed.encoding
            types = {item.data_type for item in packed.tensors if item.dims and np.prod(item.dims) > 200}
            assert types <= {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.INT32}
            assert packed.opset == 21


@pytest.mark.parametrize(
    ("levels", "encoding", "bits"), [(3, "radix8", 1.6), (4, "radix8", 2), (8, "radix32", 3.2), (30, "radix32", 32 / 6)]
)
def test_portable_weights_take_about_their_bits(levels: int, encoding: str, bits: float) -> None:
    codes = np.random.default_rng(0).integers(-(levels // 2), levels - levels // 2, 100_000)
    packed = pack_integers(codes, "w", "portable")
    assert packed.encoding == encoding
    assert packed.num_bytes == pytest.approx(codes.size * bits / 8, rel=0.01, abs=300)


def test_a_label_names_the_runtime_unless_it_is_the_reference() -> None:
    assert meter_of("latency@onnxruntime", {}).label == meter_of("latency", {}).label == "latency"
    assert meter_of("throughput@openvino", {}).label == "throughput@openvino"
    assert Limit.parse({"meter": "latency@onnxruntime", "at_most": 0.5}).meter == "latency"
    assert storage_for(("openvino",)) == "portable"


def test_a_runtime_that_does_not_exist_or_fit_is_told() -> None:
    for objective, told in (
        ("latency@openvio", "did you mean 'openvino'"),
        ("size@openvino", "no setting is called 'runtime'"),
        ({"kind": "latency", "runtime": "openvino", "device": "cuda"}, "openvino computes on cpu only, not on cuda"),
    ):
        with pytest.raises(WrongInput, match=told):
            meter_of(objective, {})


def test_where_the_library_is_missing_the_reading_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(type(runtime_of("openvino")), "distribution", "no-such-distribution")
    written(tmp_path, None, "smallest")
    meter = meter_of("latency@openvino", {})
    reading = meter.read(tmp_path, MeterBench(tmp_path, digits_feeds(4)))
    assert reading.reason == "OpenVINO is not installed here: pip install 'paretta[openvino]'"


def test_a_gpu_runtime_is_not_measured_without_its_provider(tmp_path: Path) -> None:
    written(tmp_path, None, "smallest")
    for name in ("onnxruntime_cuda", "onnxruntime_tensorrt"):
        meter = meter_of(f"latency@{name}", {})
        assert isinstance(meter, ServedMeter)
        assert (meter.place, meter.clock()[0]) == ("cuda", "wall, synchronised")
        if meter.runs.missing():
            assert "onnxruntime-gpu" in str(meter.read(tmp_path, MeterBench(tmp_path, digits_feeds(4))).reason)
