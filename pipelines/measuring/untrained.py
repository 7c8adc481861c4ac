"""Predict a plan's size, work and latency before training, by measuring its structure with untrained weights."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

import torch
from torch import nn

from paretta.pipelines import artifact
from paretta.pipelines.bench import Bench, derived_seed, seeded
from paretta.pipelines.export.agreement import checked_export
from paretta.pipelines.kernels.layer_kernels import facts_that_ran
from paretta.pipelines.kernels.ort_kernels import kernels_digest
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.measuring.measure import Probe, measure
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import Meter
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.runtime import WeightStorage
from paretta.pipelines.stage import Shape, Stage, noted, stages_of
from paretta.pipelines.task import Task
from paretta.search_spaces.bounded_files import sha256_of
from paretta.search_spaces.canonical import digest
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.space.plan import Plan

Certainty: TypeAlias = Literal["exact", "estimate"]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One reading before training.

    Args:
        reading: of the untrained structure, with its interval; not measured where training decides.
        certainty: ``exact``: the trained artifact gives the same, up to the interval; ``estimate``: about the same.
    """

    reading: Reading
    certainty: Certainty


def foresee(
    plan: Plan,
    task: Task,
    meters: Sequence[Meter],
    *,
    seed: int = 0,
    baseline: Path | None = None,
    timed: MutableMapping[str, Reading] | None = None,
    facts: Mapping[str, float] | None = None,
    storage: WeightStorage = "smallest",
    elsewhere: Probe | None = None,
) -> Mapping[str, Foreseen]:
    """Apply only the stages of `plan` that change the structure, without training, then export and measure the model.

    Training changes values only, so a reading that depends on the structure alone is exact: ``macs``, and, up to their
    intervals, ``latency`` and ``throughput``, unless the weights choose the structure (`prune` with scope ``global``);
    ``size`` and ``bops`` if every value takes the same bits (no `quantize`). ``coded_size`` depends on the values and
    is an estimate, and so is the reading of any meter, or after any stage, that does not state what it depends on.
    Meters that judge answers are not read.

    Args:
        plan: the plan; its baseline need not be trained.
        task: its model and samples.
        meters: what to read, by label in the result.
        seed: of the untrained weights.
        baseline: the uncompressed model's artifact; if None, an untrained one is made.
        timed: readings of earlier calls with the same task, meters and baseline; new ones are added. A plan that runs
            the same kernels on the same shapes, for example with other bit-widths, is not timed again.
        facts: as in `measure`, such as the baseline's time at full speed.
        storage: of the weights, see `paretta.pipelines.runtime.Runtime`.
        elsewhere: as in `measure`.

    Raises:
        WrongInput, TrialFailed: the plan cannot be carried out on this model.
    """
    stages = stages_of(plan)
    readable = [meter for meter in meters if not meter.judges_answers]
    with TemporaryDirectory(prefix="paretta-") as scratch:
        candidate = Path(scratch) / "candidate"
        _export(candidate, stages, plan, task, seed=seed, storage=storage)
        if baseline is None:
            baseline = Path(scratch) / "baseline"
            _export(baseline, stages[: len(plan.baseline)], plan.baseline_plan(), task, seed=seed, storage=storage)
        times = {} if timed is None else timed
        readings = _read(candidate, baseline, task, readable, timed=times, facts=facts or {}, elsewhere=elsewhere)
    shapes = {stage.shape for stage in stages}
    known = {meter.label: Foreseen(readings[meter.label], certainty(meter, shapes)) for meter in readable}
    unknown = "it is known once the model is trained"
    return {
        meter.label: known.get(meter.label, Foreseen(Reading.not_measured(meter.unit, unknown), "estimate"))
        for meter in meters
    }


def _read(
    candidate: Path,
    baseline: Path,
    task: Task,
    meters: Sequence[Meter],
    *,
    timed: MutableMapping[str, Reading],
    facts: Mapping[str, float],
    elsewhere: Probe | None,
) -> Mapping[str, Reading]:
    """Measure what is not in `timed` already, and add to it."""
    model, here = candidate / artifact.MODEL, elsewhere is None
    ran = {meter.label: _ran(meter, model, here=here) for meter in meters if meter.is_timed}
    again = {label: timed[key] for label, digest in ran.items() if (key := f"{label} {digest}") in timed}
    rest = [meter for meter in meters if meter.label not in again]
    fresh: Mapping[str, Reading] = {}
    if rest:
        fresh = measure(candidate, baseline, task, split="validation", meters=rest, facts=facts, elsewhere=elsewhere)
    read = {label: reading for label, reading in fresh.items() if here or reading.value is not None}
    timed.update({f"{label} {digest}": read[label] for label, digest in ran.items() if label in read})
    return {**again, **fresh}


def _ran(meter: Meter, model: Path, *, here: bool) -> str:
    """Return a digest of what a meter times; a runtime that only another machine has is not asked for its kernels."""
    runtime = meter.runs if isinstance(meter, ServedMeter) else None
    if runtime is not None and runtime.missing() and not here:
        return sha256_of(model)
    return kernels_digest(model) if runtime is None or runtime.missing() else runtime.digest(model)


def sketch(folder: Path, plan: Plan, task: Task, *, seed: int = 0, storage: WeightStorage = "smallest") -> None:
    """Write the artifact of a plan's structure with untrained weights, such as of a baseline for `foresee`."""
    _export(folder, stages_of(plan), plan, task, seed=seed, storage=storage)


def structure_key(plan: Plan) -> str:
    """Return a key of the structure that `foresee` measures; plans with equal keys have equal structures."""
    kept = [stage.sketch().model_dump(mode="json") for stage in stages_of(plan) if stage.shape != "kept"]
    return digest(kept)


def _export(
    folder: Path, stages: Iterable[Stage], plan: Plan, task: Task, *, seed: int, storage: WeightStorage
) -> None:
    with seeded(derived_seed(seed, "model")):
        model = task.new_model()
        _blur(model)
        notes: list[Note] = []
        for stage in stages:
            if stage.shape != "kept":
                bench = Bench(task, Ranks.alone(), seed=seed, is_trial=False)
                model = noted(stage.sketch(), model, bench)
                notes += bench.notes
    exported = checked_export(model, task, storage=storage)
    asked = {layer: note.bits for note in notes if note.bits for layer in note.layers}
    layers = facts_that_ran(exported, layer_facts(model, task.example_input, asked))
    artifact.write(
        folder,
        exported.content,
        plan=plan,
        seed=seed,
        data_digest=data_digest(task),
        layers={name: facts.to_document() for name, facts in layers.items()},
        notes=[note.to_document() for note in notes],
    )


@torch.no_grad()
def _blur(model: nn.Module) -> None:
    """Make values differ that are equal before training but not after it, since equal tensors are stored only once."""
    running = ((name, value) for name, value in model.named_buffers() if value.is_floating_point())
    for name, value in (*model.named_parameters(), *running):
        noise = torch.rand_like(value) * 1e-3
        value.add_(noise if name.endswith("running_var") else noise - 5e-4)


def certainty(meter: Meter, shapes: Iterable[Shape]) -> Certainty:
    """Return how certain a meter's reading of a plan with stages of these `shapes` is, see `Meter.changed_by`.

    >>> from paretta.pipelines.meter import meter_of
    >>> shapes: list[Shape] = ["kept", "stored by value"]
    >>> certainty(meter_of("macs", {}), shapes), certainty(meter_of("size", {}), shapes)
    ('exact', 'estimate')
    """
    return "exact" if meter.changed_by is not None and meter.changed_by.isdisjoint(shapes) else "estimate"
