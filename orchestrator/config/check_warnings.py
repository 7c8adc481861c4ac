"""Warn of settings that are valid, and still unlikely to be meant."""

import os
from collections.abc import Iterable, Iterator, Sequence

from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.batches.request import is_in_memory
from paretta.pipelines.bench import seeded
from paretta.pipelines.loading.digests import equal_splits
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import Meter
from paretta.pipelines.post_training.norm_statistics import tracking_norms
from paretta.pipelines.stage import stages_of
from paretta.pipelines.task import SPLITS, Task
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.space.plan import Plan


def sweep_warnings(sweep: Sweep, task: Task, meters: Sequence[Meter], corners: Sequence[Plan]) -> Iterator[str]:
    """Yield warnings about the data, the loaders, the cores and the order of stages.

    Args:
        sweep: the parsed sweep file.
        task: the checked task.
        meters: those of its objectives.
        corners: valid plans at the corners of its space.
    """
    yield from _split_warnings(task)
    yield from loader_warnings(sweep, task)
    yield from core_warnings(sweep, meters)
    yield from _advice(corners, task)


def _split_warnings(task: Task) -> Iterator[str]:
    for one, other in equal_splits(task):
        yield f"{one} and {other} hold the same samples, so readings on {other} say nothing about new data"


def _advice(corners: Sequence[Plan], task: Task) -> Iterable[str]:
    """Return what stages advise about the order of their plans, each once.

    A stage that leaves batch norms stale advises about them, which means nothing for a model without any.
    """
    with seeded(0):
        has_norms = bool(tracking_norms(task.new_model()))
    found: dict[str, None] = {}
    for plan in corners:
        stages = stages_of(plan)
        for index in range(len(plan.baseline), len(stages)):
            if stages[index].norms == "stale" and not has_norms:
                continue
            with blaming(f"stages ({stages[index].kind})", "asking about the order of stages"):
                advice = stages[index].advice(stages[:index], stages[index + 1 :])
            if advice is not None:
                found[advice] = None
    return found


def loader_warnings(sweep: Sweep, task: Task) -> Iterator[str]:
    """Warn of loaders that would have nothing to do, or no core to do it on."""
    workers, place = sweep.config.workers, sweep.source.where("workers.loaders")
    if isinstance(workers.loaders, str) or not workers.loaders:
        return
    if all(is_in_memory(task, split) for split in SPLITS):
        yield f"{place}: every split is held in tensors, which no loader reads faster; leave it at auto, or set 0"
    elif workers.cpus < workers.threads + workers.loaders:
        needs, cores = workers.threads + workers.loaders, num_cores()
        least = max(cores - workers.threads, 0)
        mend = f"set cpus: {needs}" if needs <= cores else f"set loaders: {least}, since this machine has {cores} cores"
        yield (
            f"{place}: {workers.loaders} loaders and {workers.threads} thread(s) of a worker share {workers.cpus:g} "
            f"CPU, which is right only where reading waits for a disk or a network; otherwise {mend}"
        )


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def core_warnings(sweep: Sweep, meters: Sequence[Meter]) -> Iterator[str]:
    """Warn of threads and workers for which a worker, or this machine, has no cores."""
    workers, cores = sweep.config.workers, num_cores()
    here, cluster = f"this machine has {cores} cores", "launch it on a cluster with --address, or set less"
    if workers.threads > max(workers.cpus, 1):
        rule = f"{workers.threads} threads of a worker share the {workers.cpus:g} CPU that it reserves"
        yield f"{sweep.source.where('workers.threads')}: {rule}; set cpus: {workers.threads}, or fewer threads"
    lanes = 1 if workers.lanes == "auto" else workers.lanes
    if (needs := lanes * workers.per_trial * workers.cpus) > cores:
        rule = f"{lanes} lane(s) of {workers.per_trial} worker(s) with {workers.cpus:g} CPU need {needs:g} CPU"
        yield f"{sweep.source.where('workers')}: {rule}, and {here}; {cluster}"
    if not sweep.config.measuring.is_elsewhere:
        for index, meter in enumerate(meters):
            if isinstance(meter, ServedMeter) and meter.threads > cores:
                place = sweep.source.where(f"objectives[{index}]")
                yield f"{place}: {meter.label} computes on {meter.threads} threads, and {here}; set fewer threads"
