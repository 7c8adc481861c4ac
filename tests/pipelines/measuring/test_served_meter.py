"""A serving process reports the same numbers about itself as the kernel does, and settings take effect."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from paretta.pipelines.data.feeds import save_feeds
from paretta.pipelines.kernels.ort_session import bound_call, open_call
from paretta.pipelines.measuring.cold_start import memory_bytes
from paretta.pipelines.measuring.served_meter import ServedMeter, machine
from paretta.pipelines.meter import Meter, MeterBench
from paretta.pipelines.meters import energy, peak_memory
from paretta.pipelines.meters.energy import Energy
from paretta.pipelines.meters.latency import Latency
from paretta.pipelines.meters.load_time import LoadTime
from paretta.pipelines.meters.peak_memory import PeakMemory
from paretta.pipelines.meters.throughput import Throughput
from paretta.pipelines.meters.train_cost import TrainCost

SMALL, LARGE = 64, 4096
LARGE_BYTES = 4 * LARGE * LARGE


def product(folder: Path, width: int) -> Path:
    """Write a model that multiplies rows [n, width] by a matrix of width x width floats."""
    weight = numpy_helper.from_array(np.eye(width, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def bench(width: int = SMALL, **facts: float) -> MeterBench:
    return MeterBench(None, {"x": np.ones((3, width), np.float32)}, facts=facts)


def test_peak_memory_is_the_process_s_own_high_water_mark(tmp_path: Path) -> None:
    save_feeds(tmp_path / "x.npz", bench().inputs)
    command = [sys.executable, "-m", "paretta.pipelines.measuring.cold_start", product(tmp_path, SMALL) / "model.onnx"]
    with subprocess.Popen(
        [*command, tmp_path / "x.npz", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        process.communicate()
    (kernel,) = (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    assert told["peak_rss_bytes"] <= kernel <= told["peak_rss_bytes"] + 2e6, "it printed after it looked"
    assert 0 < told["rss_before_bytes"] < told["peak_rss_bytes"]
    assert told["seconds"] > 0
    assert told["imports_seconds"] > 0


def test_the_bytes_of_a_large_matrix_are_in_the_peak(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    small = PeakMemory().read(product(tmp_path / "small", SMALL), bench())
    large = PeakMemory().read(product(tmp_path / "large", LARGE), bench(LARGE))
    assert small.value is not None
    assert large.value is not None
    # the file is read and its weights are copied, so that up to three of them are held at once
    assert LARGE_BYTES * 0.99 < large.value - small.value < LARGE_BYTES * 3.5
    assert large.details["model_bytes"] > LARGE_BYTES * 0.99
    assert small.details["before_model_bytes"] == pytest.approx(large.details["before_model_bytes"], rel=0.05)


def test_where_the_kernel_tells_nothing_memory_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "PROC_STATUS", tmp_path / "status")
    reading = PeakMemory().read(product(tmp_path, SMALL), bench())
    assert reading.value is None
    assert "VmHWM" in str(reading.reason)
    (tmp_path / "status").write_text("Name:\tserver\nVmHWM:\t  12 kB\n", encoding="utf-8")
    assert memory_bytes(tmp_path / "status", "VmHWM") == 12 * 1024
    assert memory_bytes(tmp_path / "status", "VmRSS") is None


def test_the_load_is_told_apart_from_the_imports(tmp_path: Path) -> None:
    reading = LoadTime().read(product(tmp_path, SMALL), bench())
    assert reading.value is not None
    assert reading.num_samples == 6
    assert 0 < reading.value < float(reading.details["interpreter_and_imports_seconds"])


@pytest.mark.parametrize("meter", [Latency, Throughput, Energy, LoadTime, PeakMemory])
def test_without_the_device_nothing_is_measured(meter: type[ServedMeter], tmp_path: Path) -> None:
    folder = product(tmp_path, SMALL)
    reading = meter(device="cuda").read(folder, MeterBench(folder, bench().inputs))
    assert reading.value is None
    assert "cuda" in str(reading.reason).lower()


def test_a_bound_call_computes_what_a_plain_one_does(tmp_path: Path) -> None:
    session = InferenceSession(product(tmp_path, SMALL) / "model.onnx", providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).normal(size=(3, SMALL)).astype(np.float32)
    bound = bound_call(session, {"x": batch}, "cpu")()
    assert np.array_equal(bound.copy_outputs_to_cpu()[0], batch)  # type: ignore[attr-defined]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_answers_the_batch(threads: int, tmp_path: Path) -> None:
    batch = np.ones((5, SMALL), np.float32)
    (answer,) = open_call(product(tmp_path, SMALL) / "model.onnx", {"x": batch}, threads=threads)()  # type: ignore[misc]
    assert np.array_equal(answer, batch)


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread CPU"), (2, "process CPU")])
def test_the_clock_and_the_settings_are_told(threads: int, clock: str, tmp_path: Path) -> None:
    folder = product(tmp_path, SMALL)
    meter = Latency(threads=threads, batch_size=7, budget_seconds=0.1)
    details = meter.read(folder, MeterBench(folder, bench().inputs)).details
    assert {name: details[name] for name in ("threads", "batch_size", "device", "clock")} == {
        "threads": threads,
        "batch_size": 7,
        "device": "cpu",
        "clock": clock,
    }
    assert details["wall_p50_seconds"] <= details["wall_p90_seconds"] <= details["wall_p99_seconds"]
    assert details["contended"] == (float(details["contention"]) > 1.2 or float(details["slowness"]) > 1.0)
    assert float(details["slowness"]) >= 1.0


class Simulated:
    """A model that takes 2 ms and 3 J for each call."""

    def __init__(self) -> None:
        self.seconds = self.joules = 0.0

    def __call__(self) -> None:
        self.seconds += 0.002
        self.joules += 3.0

    def open(self, *_: object, **__: object) -> Callable[[], None]:
        return self


def simulated(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    model = Simulated()
    monkeypatch.setattr(ServedMeter, "opener", lambda *_: model.open)
    monkeypatch.setattr(ServedMeter, "clock", lambda meter: ("simulated", lambda: model.seconds))
    monkeypatch.setattr(energy, "SIDE_SECONDS", dict.fromkeys(energy.SIDE_SECONDS, 0.0))
    return model


def test_throughput_is_samples_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch)
    reading = Throughput(batch_size=64).read(Path(), bench())
    assert reading.value == pytest.approx(64 / 0.002)
    assert (reading.low, reading.high) == pytest.approx((reading.value, reading.value))


def test_energy_is_the_counter_s_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = simulated(monkeypatch)
    monkeypatch.setattr(energy, "rapl", lambda: lambda: model.joules)
    reading = Energy(batch_size=4, watts_per_core=1.0).read(Path(), bench())
    assert reading.value == pytest.approx(3.0 / 4)
    assert reading.details["source"] == "rapl"


def test_energy_without_a_counter_is_cpu_seconds_times_watts(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch)
    monkeypatch.setattr(energy, "rapl", lambda: None)
    reading = Energy(watts_per_core=6.0).read(Path(), bench())
    assert reading.value == pytest.approx(6.0 * 0.002)
    assert (reading.details["source"], reading.details["watts_per_core"]) == ("cpu_seconds x W", 6.0)
    untold = Energy().read(Path(), bench())
    assert untold.value is None
    assert "set watts_per_core" in str(untold.reason)


def test_training_costs_what_the_run_told() -> None:
    reading = TrainCost().read(Path(), bench(train_cpu_s=12.5, train_wall_s=7.0))
    assert (reading.value, reading.details["wall_seconds"]) == (12.5, 7.0)
    assert TrainCost(resource="gpu").read(Path(), bench(train_gpu_s=3.0)).value == 3.0


@pytest.mark.parametrize(("meter", "told"), [(TrainCost(), "train_cpu_s"), (TrainCost(resource="gpu"), "train_gpu_s")])
def test_training_of_which_nothing_was_told_is_not_measured(meter: Meter, told: str) -> None:
    reading = meter.read(Path(), bench())
    assert reading.value is None
    assert told in str(reading.reason)


def test_the_machine_is_described() -> None:
    facts = machine()
    assert set(facts) == {"machine", "cpu", "cpu_flags"}
    assert facts["machine"] == platform.node()
    assert Latency().facts()["runtime"] == f"onnxruntime {onnxruntime.__version__}"


def test_a_board_is_called_by_its_own_name(tmp_path: Path) -> None:
    """As on a Raspberry Pi 5, whose processor has no model name."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n")
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\x00")
    facts = machine(tmp_path)
    assert (facts["cpu"], facts["cpu_flags"]) == ("Raspberry Pi 5 Model B Rev 1.0", "asimddp")
    (tmp_path / "cpuinfo").write_text("model name\t: AMD EPYC\nflags\t: avx2 avx512f\n")
    assert (machine(tmp_path)["cpu"], machine(tmp_path)["cpu_flags"]) == ("AMD EPYC", "avx2 avx512f")
