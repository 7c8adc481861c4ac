"""What pruning and integers give on models of ten million parameters: size and latency in ONNX Runtime, one thread.

A ResNet-18 on 224 x 224 pixels and a transformer encoder on 128 tokens, with random weights: nothing is said about
accuracy. Each row is delivered and measured as a trial's artifact is; latency is CPU time against the float model in
the same runtime and process, in interleaved blocks.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.networks import resnet_18
from paretta.pipelines import artifact
from paretta.pipelines.bench import Bench
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.measuring.served_meter import machine
from paretta.pipelines.meter import meter_of
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan

PRUNE: Document = {"kind": "prune", "sparsity": 0.5, "importance": "l2", "round_to": 8}
INT8: Document = {"kind": "quantize", "bits": 8, "calibration_samples": 16}
ROWS: Mapping[str, tuple[Document, ...]] = {
    "structured 50 %": (PRUNE,),
    "int8": (INT8,),
    "structured 50 % + int8": (PRUNE, INT8),
}
LAST = "structured 50 % + int8"
# chosen before the measurement: times less CPU time, times smaller
EXPECTED = {"resnet": (6.0, 10.0), "transformer": (4.0, 10.0)}


class Encoder(nn.Module):
    """Six transformer layers of width 384 over tokens, 11.5 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2000, 384)
        layer = nn.TransformerEncoderLayer(384, 8, 1536, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(384)
        self.head = nn.Linear(384, 100)

    def forward(self, places: Tensor) -> Tensor:
        """Return scores [n, 100] for places [n, tokens]."""
        return self.head(self.norm(self.layers(self.table(places))).mean(1))  # type: ignore[no-any-return]


def tasks() -> dict[str, Task]:
    """Return both models with a handful of random inputs."""
    torch.manual_seed(0)
    inputs = {"resnet": torch.randn(16, 3, 224, 224), "transformer": torch.randint(0, 2000, (16, 128))}
    models = {"resnet": resnet_18(), "transformer": Encoder()}
    return {name: _task(models[name], batch) for name, batch in inputs.items()}


def _task(model: nn.Module, inputs: Tensor) -> Task:
    data = TensorDataset(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    accuracy = Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())
    return Task(model, data, data, data, nn.CrossEntropyLoss(), {"accuracy": accuracy}, inputs[:1])  # type: ignore[arg-type]


def rows(name: str, task: Task, folder: Path, seconds: float) -> list[dict[str, object]]:
    """Deliver and measure every row of one model."""
    baseline = deliver(task, (), folder / "float")
    found = []
    for words, stages in ROWS.items():
        print(f"{name}: {words} ...", file=sys.stderr, flush=True)
        candidate = deliver(task, stages, folder / words)
        meters = [meter_of("size", {}), meter_of({"kind": "latency", "budget_seconds": seconds}, {})]
        readings = measure(candidate, baseline, task, split="validation", meters=meters)
        size, latency = readings["size"], readings["latency"]
        kernels = integer_kernels(candidate / artifact.MODEL)
        assert None not in (size.value, latency.value, latency.low, latency.high)
        found.append(
            {
                "model": name,
                "row": words,
                "times_smaller": size.details["times_smaller"],
                "bytes": size.value,
                "times_faster": 1 / latency.value,
                "low": 1 / latency.high,
                "high": 1 / latency.low,
                "cpu_ms": 1e3 * float(latency.details["seconds"]),
                "float_cpu_ms": 1e3 * float(latency.details["baseline_seconds"]),
                **kernels.details(),
            }
        )
    return found


def deliver(task: Task, documents: tuple[Document, ...], folder: Path) -> Path:
    """Apply the stages to a copy of the task's model and write what they leave."""
    model, bench = deepcopy(task.new_model()).eval(), Bench(task, Ranks.alone())
    for document in documents:
        model = stage_of(document).apply(model, bench)
    exported = to_bytes(model.eval(), task.example_input)
    artifact.write(folder, exported, plan=Plan(stages=documents), seed=0, data_digest="random")
    return folder


def table(found: list[dict[str, object]]) -> str:
    """Return the rows for people."""
    lines = [
        "| model | row | smaller | faster [95 %] | CPU ms | integer MACs | integer weights | expected | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        faster, smaller = EXPECTED[str(row["model"])]
        judged = row["row"] == LAST
        verdict = "hit" if row["times_faster"] >= faster and row["times_smaller"] >= smaller else "**miss**"  # type: ignore[operator]
        lines.append(
            f"| {row['model']} | {row['row']} | {row['times_smaller']:.1f}x | {row['times_faster']:.2f}x "
            f"[{row['low']:.2f}-{row['high']:.2f}] | {row['float_cpu_ms']:.2f} -> {row['cpu_ms']:.2f} | "
            f"{row['integer_macs_share']:.1%} | {row['integer_weights_share']:.1%} | "
            f"{f'>= {smaller:g}x, >= {faster:g}x' if judged else ''} | {verdict if judged else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(EXPECTED), choices=list(EXPECTED))
    parser.add_argument("--seconds", type=float, default=20.0, help="the longest time of one latency reading")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, object]] = []
    with TemporaryDirectory(prefix="paretta-") as folder:
        for name, task in tasks().items():
            if name in options.models:
                found += rows(name, task, Path(folder) / name, options.seconds)
    document = {"machine": machine(), "rows": found}
    print(json.dumps(document, indent=2) if options.json else table(found))


if __name__ == "__main__":
    main()
