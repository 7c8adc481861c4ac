"""Writes the journal of a synthetic sweep: no model is trained, all numbers come from a formula and a seed."""

import argparse
import hashlib
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from onnx import TensorProto, helper

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.canonical import Document, Json, canonical_json
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.results.trial import Status, Trial
from paretta.search_spaces.space.plan import Plan

OBJECTIVES = (
    Objective("size", "min", "B"),
    Objective("latency", "min", "ratio"),
    Objective("accuracy", "max", "share"),
)
START = 1_790_000_000.0
BASELINE_BYTES = 312_400
_SAMPLES = 360
_MANIFEST = {"format": 1, "seed": 0, "data": "tensors:" + "ab" * 32, "versions": {}}
_BASELINE_STAGES = ({"kind": "train", "epochs": 12, "lr": 0.002},)
_ENDINGS: tuple[tuple[Status, str], ...] = (
    ("failed", "diverged: loss is nan at epoch 2"),
    ("failed", "worker lost: node 10.0.0.7 went away during quantize"),
    (
        "stopped early",
        "stopped after distill epoch 3 of 8, loss 0.069285, accuracy 0.944444 (11 % waiting for the data)",
    ),
)
_CONFIG: dict[str, Json] = {
    "story": "An invented sweep: every number is drawn from a formula, none was measured.",
    "task": {"use": "digits"},
    "objectives": [objective.meter for objective in OBJECTIVES],
    "workers": {"per_trial": 2},
    "space": [
        {"kind": "prune", "sparsity": {"float": [0, 0.95]}},
        {"kind": "quantize", "bits": {"conv*": {"int": [2, 8]}, "head*": {"int": [2, 8]}}},
    ],
}


def write_sweep(
    folder: Path,
    *,
    trials: int,
    seed: int = 0,
    finished: bool = True,
    artifacts: bool = True,
    wishes: Document | None = None,
    limits: list[Json] | None = None,
    started: float = START,
) -> SweepRecord:
    """Write the journal of a baseline and `trials` trials into `folder`, and a folder of files per front member."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    made = [_baseline(), *(_trial(number, rng) for number in range(1, trials + 1))]
    later = started - START
    made = [replace(trial, started=trial.started + later, finished=trial.finished + later) for trial in made]
    with patch("time.time") as clock, Journal(folder) as journal:
        clock.return_value = started
        config = {**_CONFIG, "search": {"sampler": "tpe", "trials": trials, "seed": seed}, "wishes": dict(wishes or {})}
        config["limits"] = limits or []
        facts: dict[str, Json] = {"synthetic": True, "data_digest": "tensors:" + "ab" * 32}
        journal.sweep(name=folder.name, config=config, objectives=OBJECTIVES, facts=facts)
        for trial in made:
            clock.return_value = trial.started
            journal.trial(replace(trial, status="running", readings={}, reason=None, detail="", cost={}, finished=0.0))
            for epoch in range(1, 4):
                clock.return_value = trial.started + epoch
                journal.progress(trial.uid, _message(trial, epoch))
            if trial.is_measured:
                clock.return_value = max(trial.finished - 1, trial.started + 3)
                journal.progress(trial.uid, {"state": "measuring"})
            if finished or trial.number <= trials - 2:
                clock.return_value = trial.finished
                journal.trial(trial)
        record = SweepRecord.read(folder)
        if finished:
            _end(journal, record, rng)
    for member in record.front().members if artifacts else ():
        _write_artifact(folder / str(member.artifact), member)
    return SweepRecord.read(folder)


def _message(trial: Trial, epoch: int) -> Document:
    reached = trial.value("accuracy") or 0.5
    place = {"where": f"lane {trial.number % 2} on 10.0.0.{trial.number % 2 + 1}"}
    scores: Document = {"accuracy": round(reached - 0.3 / epoch**2, 4)}
    return {"stage": "train", "epoch": epoch, "num_epochs": 4, "loss": 1.5 / epoch, "scores": scores, **place}


def _baseline() -> Trial:
    readings = {
        "size": Reading(float(BASELINE_BYTES), "B"),
        "latency": Reading(1.0, "ratio", 0.99, 1.01, 20, details={"seconds": 0.00042}),
        "accuracy": _share(0.9861),
    }
    return Trial(
        uid="baseline",
        number=0,
        plan=Plan(_BASELINE_STAGES),
        seed=0,
        status="complete",
        role="baseline",
        words="train 12 epochs",
        readings=readings,
        artifact="artifacts/baseline",
        layers=_layers(0.0, 32, 32),
        cost={"wall_s": 21.5, "cpu_s": 20.1},
        started=START,
        finished=START + 21.5,
    )


def _trial(number: int, rng: random.Random) -> Trial:
    sparsity, temperature = round(rng.uniform(0, 0.95), 3), round(math.exp(rng.uniform(0, 2.5)), 2)
    bits: dict[str, Json] = {"conv*": (conv := rng.randint(2, 8)), "head*": (head := rng.randint(2, 8))}
    importance, distilled = rng.choice(["l2", "taylor"]), rng.random() < 0.7
    knobs: dict[str, Json] = {"prune.sparsity": sparsity, "prune.importance": importance}
    knobs |= {f"quantize.bits.{layers}": width for layers, width in bits.items()}
    knobs |= {"step2": "distill", "distill.temperature": temperature} if distilled else {"step2": None}
    stages: list[dict[str, Json]] = [{"kind": "prune", "sparsity": sparsity, "importance": importance}]
    stages += [{"kind": "distill", "temperature": temperature, "weight": 0.7}] if distilled else []
    stages += [{"kind": "quantize", "bits": bits}]
    words = f"prune {sparsity:.0%} by {importance}, quantize conv* {conv} bit, head* {head} bit"
    words += f", distill at {temperature:g}" if distilled else ""
    plan = Plan(_BASELINE_STAGES, tuple(stages))
    status, reason = rng.choice(_ENDINGS) if rng.random() < 0.08 else ("complete", None)
    started, wall, uid = START + 25 + 6.5 * number, rng.uniform(5, 12), f"{number:04d}-{plan.fingerprint[:8]}"
    return Trial(
        uid=uid,
        number=number,
        plan=plan,
        seed=number,
        status=status,
        knobs=knobs,
        words=words,
        readings=_readings(sparsity, conv, head, distilled, rng) if status == "complete" else {},
        artifact=f"artifacts/{uid}" if status == "complete" else None,
        layers=_layers(sparsity, conv, head) if status == "complete" else {},
        reused=({"stages": ["train"], "trial": "baseline"},) if status == "complete" else (),
        notes=_notes(sparsity, conv) if status == "complete" else (),
        reason=reason,
        detail="Traceback (most recent call last):\n  ...\nTrialFailed: loss is nan" if status == "failed" else "",
        cost={"wall_s": wall, "cpu_s": 0.9 * wall},
        started=started,
        finished=started + wall,
    )


def _notes(sparsity: float, bits: int) -> tuple[Note, ...]:
    width = (Note("prune", "keep their width: the forward depends on their number", ("stem", "skip")),)
    floats = Note("quantize", "stays in float: GRU layers have no integer form here", ("gru",), bits=bits)
    return (*(width if sparsity > 0 else ()), floats)


def _layers(sparsity: float, conv: int, head: int) -> dict[str, Json]:
    kept = max(round(64 * (1 - sparsity)), 1)
    return {
        "conv1": {"shape": [kept, 1, 3, 3], "bits": conv, "sparsity": round(0.1 / conv, 4), "in_floats": None},
        "head": {"shape": [10, kept], "bits": head, "sparsity": round(0.2 / head, 4), "in_floats": None},
    }


def _readings(sparsity: float, conv: int, head: int, distilled: bool, rng: random.Random) -> dict[str, Reading]:
    kept = (1 - sparsity) ** 1.4
    size = 2_150 + BASELINE_BYTES * kept * (0.6 * conv + 0.4 * head) / 32 * rng.uniform(0.97, 1.05)
    latency = max(0.06 + 0.55 * kept * (1 if conv == 8 else 0.92), 0.07) * rng.uniform(0.96, 1.04)
    loss = 0.004 + 0.09 * sparsity**6 + 1.4 * math.exp(-1.3 * conv) + 0.12 * math.exp(-1.1 * head) - 0.004 * distilled
    details = {"seconds": 0.00042 * latency, "contended": latency < 0.1}
    return {
        "size": Reading(float(int(size)), "B"),
        "latency": Reading(latency, "ratio", latency * 0.985, latency * 1.016, 20, details=details),
        "accuracy": _share(min(max(0.99 - loss + rng.gauss(0, 0.003), 0.1), 0.997)),
    }


def _share(value: float) -> Reading:
    """Round to a count of samples, as a real metric would be, with Wilson's interval."""
    value = round(value * _SAMPLES) / _SAMPLES
    z2 = 1.96**2 / _SAMPLES
    middle, half = (value + z2 / 2) / (1 + z2), math.sqrt(z2 * (value * (1 - value) + z2 / 4)) / (1 + z2)
    return Reading(value, "share", max(middle - half, 0.0), min(middle + half, 1.0), _SAMPLES)


def _end(journal: Journal, record: SweepRecord, rng: random.Random) -> None:
    members = record.front().members
    journal.front(tuple(trial.uid for trial in members))
    for trial in members:
        value = min(max((trial.value("accuracy") or 0.0) + rng.gauss(-0.002, 0.004), 0.0), 1.0)
        journal.trial(trial.with_test_readings({"accuracy": _share(value)}))
    journal.end("done")


def doubling_model(name: str) -> bytes:
    """Return an ONNX model that doubles rows of three numbers; `name` makes its bytes its own."""
    rows, doc = helper.make_tensor_type_proto(TensorProto.FLOAT, ["batch", 3]), f"doubles, as trial {name}"
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_value_info("x", rows)],
        [helper.make_value_info("y", rows)],
    )
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10, doc_string=doc).SerializeToString()


def _write_artifact(folder: Path, trial: Trial) -> None:
    write_files(folder, trial.uid, canonical_json(trial.plan.to_document()).encode())


def write_files(folder: Path, uid: str, plan: bytes) -> None:
    """Write a delivered folder whose model doubles its input."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"model.onnx": doubling_model(uid), "plan.yaml": plan, "readings.json": b"{}"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": hashes, **_MANIFEST}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--running", action="store_true", help="leave the sweep unfinished")
    arguments = parser.parse_args()
    write_sweep(arguments.folder, trials=arguments.trials, finished=not arguments.running)
