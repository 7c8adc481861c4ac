"""The checks: precisions against the CPU, speed against a plain loop, NCCL, lanes that share a GPU, and the export."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.backward import autocast
from paretta.pipelines.training.settings import Precision, TrainSettings
from paretta.pipelines.training.train import fit

PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16", "float16")
# largest difference of class probabilities to the CPU's float32 after an epoch; expected before any run
NEAR: Final = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}
SPEED: Final = 0.9  # least share of a plain loop's samples a second
SAMPLES, BATCH, SIDE, WIDTH = 2048, 64, 32, 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table; `ok` is None for what was not run, and `told` says why."""

    name: str
    ok: bool | None
    told: str


def needed() -> None:
    """Import all that a run needs, so that `pack` can see it."""
    import onnx  # noqa: F401, PLC0415 - for pack
    import onnxruntime  # noqa: F401, PLC0415
    import onnxscript  # noqa: F401, PLC0415

    from paretta.pipelines import artifact, run  # noqa: F401, PLC0415
    from paretta.pipelines.export import agreement, to_onnx  # noqa: F401, PLC0415


def network(width: int) -> nn.Module:
    """Return a small convolutional network with batch norms."""

    def block(into: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    layers = [*block(3, width), *block(width, 2 * width), *block(2 * width, 4 * width)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


def task_of(samples: int, width: int) -> Task:
    """Return a task of images whose class can be learned: each class has a pattern of its own under noise."""
    generator = torch.Generator().manual_seed(0)
    patterns, labels = torch.randn(10, 3, SIDE, SIDE, generator=generator), torch.arange(samples) % 10
    data = TensorDataset(patterns[labels] + torch.randn(samples, 3, SIDE, SIDE, generator=generator), labels)
    few = TensorDataset(*(tensor[:256] for tensor in data.tensors))
    metrics = {"accuracy": Metric(lambda scores, labels: (scores.argmax(1) == labels).double())}
    example = torch.zeros(1, 3, SIDE, SIDE)
    return Task(lambda: network(width), data, few, few, functional.cross_entropy, metrics, example)


def trained(task: Task, device: str, precision: Precision, epochs: int = 1) -> tuple[nn.Module, float]:
    """Train the seeded network; return it and the last epoch's samples a second."""
    with seeded(0):
        model = task.new_model()
    rates: list[float] = []
    bench = Bench(task, Ranks.alone(device), seed=1, report=lambda progress: rates.append(progress.samples_per_second))
    settings = TrainSettings(epochs=epochs, batch_size=BATCH, optimizer="sgd", lr=0.01, precision=precision)
    fit(model, bench, settings)
    return model, rates[-1]


@torch.no_grad()
def answers(model: nn.Module, task: Task) -> Tensor:
    """Return class probabilities on the validation split, computed on the CPU."""
    inputs, _ = task.batch(task.validation, torch.arange(256))
    scores: Tensor = model.cpu().eval()(inputs)
    return scores.softmax(1)


def check_precisions(device: str, task: Task) -> Iterator[Finding]:
    """Train in each precision and compare with the CPU's float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    expected = answers(trained(task, "cpu", "float32")[0], task)
    for precision in PRECISIONS:
        found = answers(trained(task, device, precision)[0], task)
        apart = float((found - expected).abs().max())
        told = f"probabilities {apart:.2g} from the CPU's, expected at most {NEAR[precision]:g}"
        yield Finding(f"{precision} on {device}", apart <= NEAR[precision], told)


def plain_rate(task: Task, device: str, precision: Precision) -> float:
    """Return the samples a second of a plain loop over tensors, in its second epoch."""
    model = task.new_model().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=precision == "float16")
    inputs, targets = task.train.tensors  # type: ignore[attr-defined]
    for epoch in range(2):
        begun = time.perf_counter()
        for places in torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch)).split(BATCH):
            here, wanted = inputs[places].to(device), targets[places].to(device)
            with autocast(torch.device(device), precision):
                outputs = model(here)
            loss = functional.cross_entropy(outputs.float(), wanted)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        loss.item()  # waits for the device
    return float(len(inputs) / (time.perf_counter() - begun))


def check_speed(device: str, task: Task) -> Iterator[Finding]:
    """Compare samples a second with a plain loop, in turn."""
    for precision in PRECISIONS:
        pairs = [(trained(task, device, precision, 2)[1], plain_rate(task, device, precision)) for _ in range(3)]
        ours, theirs = sorted(pairs, key=lambda pair: pair[0] / pair[1])[1]
        told = f"{ours:.0f} of {theirs:.0f} samples a second, {ours / theirs:.2f}, expected at least {SPEED:g}"
        yield Finding(f"speed in {precision}", ours / theirs >= SPEED, told)


@contextmanager
def one_rank(device: str) -> Iterator[None]:
    """Be the only rank of a process group, by NCCL on a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        kind = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(kind, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def check_ranks(device: str, task: Task) -> Iterator[Finding]:
    """Reduce, and take one step through DistributedDataParallel, in a group of one rank."""
    with one_rank(device):
        values = torch.arange(4.0, device=device)
        dist.all_reduce(values)
        model = task.new_model().to(device)
        inputs, targets = (tensor.to(device) for tensor in task.batch(task.train, torch.arange(BATCH)))
        wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        functional.cross_entropy(wrapped(inputs), targets).backward()
        alone = task.new_model().to(device)
        alone.load_state_dict(model.state_dict())
        functional.cross_entropy(alone(inputs), targets).backward()
        pairs = zip(model.parameters(), alone.parameters(), strict=True)
        apart = max(float((a.grad - b.grad).abs().max()) for a, b in pairs if a.grad is not None and b.grad is not None)
        ok = values.tolist() == [0.0, 1.0, 2.0, 3.0] and apart < 1e-4
        yield Finding(f"{dist.get_backend()} with one rank", ok, f"gradients {apart:.2g} from those without a group")


def check_memory(device: str, task: Task) -> Iterator[Finding]:
    """Recompute activations and compute batches in parts; on a GPU the peak of memory must fall."""
    peaks: list[float] = []
    for more in ({}, {"recompute": ["0", "3", "6"]}, {"accumulate": 4, "recompute": ["0", "3", "6"]}):
        with seeded(0):
            model = task.new_model()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        settings = {"epochs": 1, "batch_size": 256, "channels_last": True, "deterministic": False, **more}
        fit(model, Bench(task, Ranks.alone(device)), TrainSettings.model_validate(settings))
        peaks.append(torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0)
    falls = peaks[0] > peaks[1] > peaks[2] if device == "cuda" else None
    told = " > ".join(f"{peak:.0f} MB" for peak in peaks) if device == "cuda" else "ran; memory is read on a GPU only"
    yield Finding("recompute, then accumulate", falls, told)


def check_export(device: str, task: Task) -> Iterator[Finding]:
    """Export what was trained on the device; ONNX Runtime must answer as torch does."""
    from paretta.pipelines.export.agreement import checked_export  # noqa: PLC0415 - not carried by every run

    model, _ = trained(task, device, "float32")
    exported = checked_export(model.cpu().eval(), task)
    yield Finding("export", True, f"{len(exported.content) / 1e3:.0f} kB, and ONNX Runtime answers as torch")


def _device_of(payload: Mapping[str, object], rank: object) -> str:
    return str(getattr(rank, "device", ""))


def check_lanes(device: str, task: Task) -> Iterator[Finding]:
    """Let two lanes share a GPU by halves."""
    from paretta.orchestrator.cluster.connect import connect  # noqa: PLC0415 - Ray may not be carried
    from paretta.orchestrator.lanes.pool import Job, LanePool  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory() as folder,
        connect(num_cpus=2),
        LanePool(
            _device_of,
            storage=Path(folder),
            num_lanes=2,
            workers_per_lane=1,
            gpus_per_worker=0.5 if device == "cuda" else 0.0,
            start_timeout_s=120.0,
        ) as lanes,
    ):
        for number in range(2):
            lanes.submit(Job(str(number), {}))
        found = [str(lanes.result(str(number), timeout_s=150.0)) for number in range(2)]
    yield Finding("two lanes, half a GPU each", all(name.startswith(device) for name in found), ", ".join(found))


CHECKS: Final[tuple[Callable[[str, Task], Iterator[Finding]], ...]] = (
    check_precisions,
    check_memory,
    check_ranks,
    check_export,
    check_speed,
    check_lanes,
)


def findings(device: str, *, limit_s: float, quick: bool = False) -> Iterator[Finding]:
    """Run every check; what fails or lacks a package is a line of the table, and what would be too late is left out."""
    begun, task = time.perf_counter(), task_of(512 if quick else SAMPLES, 8 if quick else WIDTH)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        if time.perf_counter() - begun > limit_s:
            yield Finding(name, None, f"not run: {limit_s:g} s are over")
            continue
        try:
            yield from check(device, task)
        except ImportError as error:
            yield Finding(name, None, f"not run: {error}")
        except Exception as error:  # noqa: BLE001 - a run on a rented machine must tell all that it can
            yield Finding(name, False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
