"""The job handler of a lane: run a plan on every rank, and write the artifact on rank 0."""

import time
from dataclasses import asdict, replace
from functools import cache, lru_cache
from itertools import groupby
from typing import cast

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.log_capture import WarningCapture, captured_warnings, with_warnings
from paretta.orchestrator.lanes.stream_shards import passes_of
from paretta.orchestrator.lanes.worker import Payload, RankContext
from paretta.orchestrator.storage.shared_state import cache_of, checkpoint_of
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.trials.request import TrialProduct, TrialRequest
from paretta.pipelines.batches.loaders import Loaders
from paretta.pipelines.bench import TrainingProgress
from paretta.pipelines.outcome import RunOutcome
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.state.cache import Cache
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.space.plan import Plan


def handle(payload: Payload, rank: RankContext) -> TrialProduct:
    """Run the request in ``payload["request"]`` on this rank; the handler of the sweep's lanes."""
    with captured_warnings() as heard:
        product = _run(cast(TrialRequest, payload["request"]), rank, heard)
        return replace(product, warnings=tuple(heard.take()))


def _run(request: TrialRequest, rank: RankContext, heard: WarningCapture) -> TrialProduct:
    plan = Plan.from_document(request.plan)
    begun = time.perf_counter()

    def tell(progress: TrainingProgress) -> None:
        seconds = round(time.perf_counter() - begun, 3)  # CPU and wall time of the whole job
        told = {
            **asdict(progress),
            "loss": round(progress.loss, 6),
            "seconds": seconds,
            "scores": {name: round(score, 6) for name, score in progress.scores.items()},
            "samples_per_second": round(progress.samples_per_second, 1),
            "gradient_norm": float(f"{progress.gradient_norm:.6g}"),
            "shares": {name: round(share, 3) for name, share in progress.shares.items()},
        }
        rank.progress(with_warnings(told, heard.take()))

    task = request.task.load()
    files, ranks = request.files, Ranks.joined(rank.device)
    more = [(Plan.from_document(document), files.path(folder)) for document, folder in request.by_products]
    outcome = run(
        plan,
        task,
        seed=request.seed,
        ranks=ranks,
        folder=files.path(request.folder),
        cache=_cache(files, request.cache),
        checkpoint=None
        if request.checkpoint is None
        else checkpoint_of(files, request.checkpoint, request.checkpoint_s),
        report=tell,
        scored=True,
        passes=None if task.stream is None else passes_of(task.stream),
        loaders=_loaders(request.task, request.loaders, request.free_cores, pinned=rank.device.startswith("cuda")),
        origin={"task": request.task.document()},
        by_products=more,
        name=request.trial,
        runtimes=request.runtimes,
    )
    made, others = [request.folder], list[TrialProduct | str]()
    for (_, folder), other in zip(request.by_products, outcome.by_products, strict=True):
        if isinstance(other, str):
            others.append(other)
            continue
        made.append(folder)
        others.append(_product(other))

    def send() -> None:
        for artifact in made:
            files.send(artifact)

    ranks.first_does(send, "storage: rank 0 could not upload the artifact")
    return _product(outcome, tuple(others))


def _product(outcome: RunOutcome, by_products: tuple[TrialProduct | str, ...] = ()) -> TrialProduct:
    layers: dict[str, Json] = {name: facts.to_document() for name, facts in outcome.layers.items()}
    paid = {"wall_s": outcome.seconds, "cpu_s": outcome.cpu_seconds}
    return TrialProduct(
        words=outcome.words,
        cost=outcome.facts,
        paid=paid,
        num_parameters=outcome.num_parameters,
        by_products=by_products,
        layers=layers,
        reused=_reused(outcome),
        notes=outcome.notes,
    )


def _reused(outcome: RunOutcome) -> tuple[Document, ...]:
    """Return the reused stages, grouped by the trial that made them."""
    runs = groupby(outcome.reused, lambda stage: stage.trial)
    return tuple({"stages": [stage.cost.kind for stage in stages], "trial": trial} for trial, stages in runs)


@cache
def _cache(files: SweepFiles, name: str) -> Cache:
    return cache_of(files, name)


@lru_cache(maxsize=1)
def _loaders(task: TaskReference, count: int | None, free: int, *, pinned: bool) -> Loaders:
    """Return the loaders of a worker, which serve all its trials of one task."""
    return Loaders(task.load, count, free=free, pinned=pinned, preload=("ray",))
