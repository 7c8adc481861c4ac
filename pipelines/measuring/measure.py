"""Read all meters of an artifact: those of the runtime in a fresh process, those that judge answers here."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from paretta.pipelines.measuring.probe_process import ProbeRequest
from paretta.pipelines.meter import Meter, MeterBench
from paretta.pipelines.samples import batches
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.user_code import reference_to

TIMEOUT_SECONDS = 600.0


def measure(
    artifact: Path,
    baseline: Path | None,
    task: Task,
    *,
    split: Split,
    meters: Sequence[Meter],
    facts: Mapping[str, float] | None = None,
    scratch: Path | None = None,
) -> dict[str, Reading]:
    """Return the reading of each meter, by label.

    Nothing is asked of the model in torch: answers and times are those of the delivered file in ONNX Runtime, in a
    process of its own that training has left no threads and no warm caches in.

    Args:
        artifact: the folder to measure.
        baseline: the uncompressed model's artifact, which latency is compared with.
        task: its split and metrics.
        split: which split to run.
        meters: what to read.
        facts: what only the run that made the artifact knows, such as ``train_cpu_s`` and ``train_wall_s``.
        scratch: where temporary files go; the system's place by default.

    Raises:
        TrialFailed: the artifact does not run, or an input of the split is not finite.
    """
    with TemporaryDirectory(dir=scratch) as temporary:
        folder = Path(temporary)
        inputs, targets = _samples(task, split, folder)
        bench = MeterBench(baseline, inputs, targets=targets, metrics=task.metrics, facts=facts or {})
        judging = [meter for meter in meters if meter.judges_answers]
        timing = [meter for meter in meters if not meter.judges_answers]
        found = dict(zip(timing, _probed([artifact], bench, folder, timing, answer=bool(judging))[0], strict=True))
        if judging:
            bench = replace(bench, outputs=np.load(folder / "outputs.npy", allow_pickle=False))
            found |= {meter: meter.read(artifact, bench) for meter in judging}
        return {meter.label: found[meter] for meter in meters}


def measure_together(
    artifacts: Sequence[Path], baseline: Path, task: Task, *, meters: Sequence[Meter], facts: Mapping[str, float]
) -> list[dict[str, Reading]]:
    """Return the readings of each artifact by label, all taken side by side in one process, on the validation split.

    Args:
        artifacts: the folders to measure.
        baseline: the uncompressed model's artifact.
        task: its split.
        meters: what to read; none that judges answers.
        facts: as in `measure`.

    Raises:
        TrialFailed: an artifact does not run.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs, _ = _samples(task, "validation", folder)
        rows = _probed(artifacts, MeterBench(baseline, inputs, facts=facts), folder, meters, answer=False)
        return [dict(zip((meter.label for meter in meters), row, strict=True)) for row in rows]


def _samples(task: Task, split: Split, folder: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return inputs and targets of a split, and leave the inputs in `folder` for the measuring process."""
    pairs = batches(task.split(split), name=f"task.{split}")
    inputs, targets = (torch.cat(parts).numpy() for parts in zip(*pairs, strict=True))
    _require_finite(inputs, split)
    np.save(folder / "inputs.npy", inputs, allow_pickle=False)
    return inputs, targets


def _require_finite(inputs: NDArray[np.generic], split: Split) -> None:
    if np.issubdtype(inputs.dtype, np.floating) and not (finite := np.isfinite(inputs)).all():
        wrong = np.flatnonzero(~finite.reshape(len(inputs), -1).all(axis=1))
        told = f"{len(wrong)} of {len(inputs)} inputs of the {split} split are not finite, the first at {wrong[0]}"
        raise TrialFailed(f"measure: {told}; clean the data")


def _probed(
    artifacts: Sequence[Path], bench: MeterBench, folder: Path, meters: Sequence[Meter], *, answer: bool
) -> list[list[Reading]]:
    request = ProbeRequest(
        artifact=artifacts[0].absolute(),
        beside=tuple(artifact.absolute() for artifact in artifacts[1:]),
        baseline=None if bench.baseline is None else bench.baseline.absolute(),
        inputs=folder / "inputs.npy",
        outputs=folder / "outputs.npy" if answer else None,
        # by class: a user's own meter is not found by the `kind` that it gives itself
        meters=tuple({**meter.model_dump(), "kind": reference_to(type(meter))} for meter in meters),
        readings=folder / "readings.json",
        facts=dict(bench.facts),
    )
    (folder / "request.json").write_text(request.model_dump_json(), encoding="utf-8")
    _run_probe(folder / "request.json")
    documents = json.loads((folder / "readings.json").read_text(encoding="utf-8"))
    return [[Reading.from_document(document) for document in row] for row in documents]


def _run_probe(request: Path) -> None:
    # the same modules must be found there as here, a user's own meters among them
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "paretta.pipelines.measuring.probe_process", str(request)]
    try:
        # our own interpreter and module; nothing of the command comes from outside
        subprocess.run(  # noqa: S603
            command, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise TrialFailed(f"measure: the artifact does not run: {lines[-1]}", error.stderr) from None
    except subprocess.TimeoutExpired:
        raise TrialFailed(f"measure: no reading within {TIMEOUT_SECONDS:g} s") from None
