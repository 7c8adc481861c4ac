"""What each method does to the digits model.

    python -m benchmarks.compression.methods --json docs/generate/effects.json

Every plan is run with three seeds from the same three baselines; accuracy is of the delivered file on the test split,
which nothing here is chosen by. Latency is read once, with its interval. `make docs` puts the figures where the methods
are described.
"""

import argparse
import datetime
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.measuring.served_meter import machine
from paretta.pipelines.meter import meter_of
from paretta.pipelines.outcome import RunOutcome
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.stage import stage_of
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document, Json, canonical_json
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

SEEDS = (0, 1, 2)
BASELINE: Document = {"kind": "train", "epochs": 12, "lr": 0.003, "batch_size": 64}
TRAIN: Document = {**BASELINE, "epochs": 6}
SCORES_OF_CHANNELS = (
    *("activity", "cosine", "gradient", "huber", "l1", "l2", "magnitude"),
    *("mean_abs_gradient", "norm_scale", "random", "taylor"),
)
SCORES_OF_WEIGHTS = ("lamp", "magnitude", "mean_abs_gradient")


def prune(sparsity: float = 0.5, importance: str = "l2") -> Document:
    """Return a stage that removes channels."""
    return {"kind": "prune", "sparsity": sparsity, "importance": importance, "round_to": 8}


def sparsify(importance: str = "magnitude") -> Document:
    """Return a stage that holds nine weights in ten at zero."""
    return {"kind": "sparsify", "sparsity": 0.9, "importance": importance, "scope": "global"}


def quantize(bits: Json, weights: str = "symmetric") -> Document:
    """Return a stage that quantises."""
    return {"kind": "quantize", "bits": bits, "weights": weights}


def train_with(tweak: Document) -> Document:
    """Return a training with a tweak."""
    return {**TRAIN, "tweaks": [tweak]}


def plans() -> Iterator[tuple[str, list[Document]]]:
    """Yield each method, as ``noun/name``, with the stages that show it; the first are what others compare with."""
    yield "stages/train", [TRAIN]
    yield "stages/prune", [prune(), TRAIN]
    retrain = {**TRAIN, "epochs": 2}
    yield "stages/iterate", [{"kind": "iterate", "prune": prune(), "retrain": retrain, "steps": 3}]
    yield "stages/sparsify", [sparsify(), TRAIN]
    yield "stages/quantize", [quantize(8)]
    yield "stages/quantize", [quantize(4), TRAIN]
    yield "stages/quantize", [quantize(2), TRAIN]
    by_tensor: Document = {**quantize(4), "granularity": "tensor"}
    yield "stages/equalize", [by_tensor]
    yield "stages/equalize", [{"kind": "equalize"}, by_tensor]
    yield "stages/cluster", [{"kind": "cluster", "values": 8}]
    yield "stages/cluster", [{"kind": "cluster", "values": 8}, TRAIN]
    yield "stages/distill", [prune(0.75), TRAIN]
    yield "stages/distill", [prune(0.75), {**TRAIN, "kind": "distill", "temperature": 4, "weight": 0.5}]
    perceptron = {"kind": "student", "variant": "perceptron", "options": {"width": 32}}
    yield "stages/student", [perceptron, BASELINE]
    yield "stages/student", [perceptron, {**BASELINE, "kind": "distill", "temperature": 4, "weight": 0.5}]
    yield "stages/transfer", [{"kind": "transfer", "parameters": "none"}, TRAIN]
    yield "stages/transfer", [{"kind": "transfer", "layers": "conv*"}, TRAIN]
    yield "stages/swap_activation", [{"kind": "swap_activation", "to": "hardswish"}, TRAIN]
    yield "stages/fold_norms", [{"kind": "fold_norms"}]
    yield "stages/recalibrate_norms", [prune()]
    yield "stages/recalibrate_norms", [prune(), {"kind": "recalibrate_norms"}]
    for name in SCORES_OF_CHANNELS:
        yield f"importances/{name}", [prune(importance=name)]
        yield f"importances/{name}", [prune(importance=name), TRAIN]
    for name in SCORES_OF_WEIGHTS:
        yield f"importances/{name}", [sparsify(name)]
        yield f"importances/{name}", [sparsify(name), TRAIN]
    for name in ("affine", "codebook", "power_of_two", "symmetric"):
        yield f"quantizers/{name}", [quantize(3, name)]
        yield f"quantizers/{name}", [quantize(3, name), TRAIN]
    for name in ("error", "fisher", "hessian", "kl"):
        yield f"sensitivities/{name}", [quantize({"average": 3, "sensitivity": name})]
    yield "tweaks/bit_penalty", [by_tensor, TRAIN]
    yield "tweaks/bit_penalty", [by_tensor, train_with({"kind": "bit_penalty", "strength": 0.03})]
    yield "tweaks/gradual_sparsity", [train_with({"kind": "gradual_sparsity", "sparsity": 0.9, "scope": "global"})]
    for tweak in ({"kind": "l1_penalty"}, {"kind": "l2_penalty"}, {"kind": "targeted_dropout", "target": 0.9}):
        yield f"tweaks/{tweak['kind']}", [TRAIN, sparsify()]
        yield f"tweaks/{tweak['kind']}", [train_with(tweak), sparsify()]
    yield "tweaks/l2_sp", [{"kind": "transfer"}, train_with({"kind": "l2_sp"})]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one plan did.

    Args:
        words: the plan after its baseline.
        accuracies: percent on the test split, by seed.
        size, coded_size: of the first seed's files, as ratios to its baseline's.
        latency, low, high: ratio to the baseline, with the ends of its 95 % interval; of the first seed.
        cpu_seconds: of the stages, mean over seeds.
        date: of the measurement.
        cpu: the model of the processor, which sizes, latencies and integer arithmetic depend on.
    """

    words: str
    accuracies: list[float]
    size: float
    coded_size: float
    latency: float
    low: float
    high: float
    cpu_seconds: float
    date: str
    cpu: str

    def row(self) -> str:
        """Return it as the end of a table's row."""
        mean, spread = statistics.mean(self.accuracies), statistics.stdev(self.accuracies)
        return (
            f"{mean:9.2f} ±{spread:5.2f} % {self.size:6.3f}x {self.coded_size:6.3f}x "
            f"{self.latency:6.3f} ±{(self.high - self.low) / 2:5.3f}x {self.cpu_seconds:6.1f}   {self.words}"
        )


class Laboratory:
    """Runs plans after three baselines, each made once."""

    def __init__(self, home: Path) -> None:
        self.home, self.task, self.cache, self.count = home, make(), Cache(), 0
        self.known: dict[str, Effect] = {}
        self.baselines = [self._run([], seed).folder for seed in SEEDS]

    def effect(self, stages: list[Document]) -> Effect:
        """Run a plan with every seed and read its files, once for all methods that are shown by it."""
        if (key := canonical_json(stages)) not in self.known:
            self.known[key] = self._effect(stages)
        return self.known[key]

    def _effect(self, stages: list[Document]) -> Effect:
        outcomes = [self._run(stages, seed) for seed in SEEDS]
        accuracies = [self._read(outcome.folder, ["accuracy"])["accuracy"] for outcome in outcomes]
        sizes = ["size", "coded_size"]
        own, origin = (self._read(folder, sizes) for folder in (outcomes[0].folder, self.baselines[0]))
        timed = {"kind": "latency", "budget_seconds": 2}
        latency = self._read(outcomes[0].folder, [timed])["latency"]
        return Effect(
            ", ".join(stage_of(stage).words() for stage in stages),
            [round(100 * number(reading), 2) for reading in accuracies],
            *(round(number(own[meter]) / number(origin[meter]), 4) for meter in sizes),
            *(round(value or math.nan, 3) for value in (latency.value, latency.low, latency.high)),
            round(statistics.mean(outcome.facts["train_cpu_s"] for outcome in outcomes), 1),
            datetime.date.today().isoformat(),
            str(machine()["cpu"]),
        )

    def _run(self, stages: list[Document], seed: int) -> RunOutcome:
        self.count += 1
        plan, folder = Plan((BASELINE,), tuple(stages)), self.home / str(self.count)
        return run(plan, self.task, seed=seed, ranks=Ranks.alone(), folder=folder, cache=self.cache)

    def _read(self, folder: Path, meters: list[str | Document]) -> Mapping[str, Reading]:
        made = [meter_of(meter, self.task.metrics) for meter in meters]
        return measure(folder, self.baselines[0], self.task, split="test", meters=made)


def number(reading: Reading) -> float:
    """Return the value of a reading that must have one."""
    assert reading.value is not None, reading
    return reading.value


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="methods; the file keeps the others' figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    effects: dict[str, list[Json]] = {}
    if options.json is not None and options.json.exists():
        effects = json.loads(options.json.read_text(encoding="utf-8"))["effects"]
    chosen = [row for row in [("baseline", []), *plans()] if fnmatch(row[0], options.only)]
    effects |= {method: [] for method, _ in chosen}
    print(f"{'method':30} {'accuracy, test':>18} {'size':>7} {'coded':>7} {'latency':>15} {'CPU s':>6}   plan")
    with TemporaryDirectory(prefix="paretta-") as home:
        laboratory = Laboratory(Path(home))
        for method, stages in chosen:
            found = laboratory.effect(stages)
            effects[method].append(asdict(found))
            print(f"{method:30} {found.row()}", flush=True)
    if options.json is not None:
        document = {"command": "python -m benchmarks.compression.methods", "seeds": list(SEEDS), "effects": effects}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
