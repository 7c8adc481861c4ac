"""Run one trial: train its plan on a lane, measure the artifact, and report the outcome."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from paretta.dashboards.journal.course import MEASURING, WAITS
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.log_capture import warnings_in, with_warnings
from paretta.orchestrator.lanes.messages import JobUpdate, ProgressMessage
from paretta.orchestrator.lanes.pool import Job, LaneClient, result_of
from paretta.orchestrator.lanes.worker import JobReturned, JobStopped
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.trials.events import (
    ByProductEnded,
    RunEvent,
    TrialEnded,
    TrialProgress,
    TrialReturned,
    TrialWaits,
)
from paretta.orchestrator.trials.measuring_actor import MeasuringClient
from paretta.orchestrator.trials.request import TrialProduct, TrialRequest
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import TrialFailed, disk_full
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.trial import Role, Trial
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.plan import Plan

ARTIFACTS, CACHE, CHECKPOINTS = "artifacts", "cache", "checkpoints"
_NEWS_S = 10.0  # seconds of one wait for progress


@dataclass(frozen=True, slots=True)
class TrialContext:
    """What all trials of a sweep use; can be pickled.

    Args:
        lanes: the lanes that train.
        measuring: the measuring actor.
        task: the task.
        files: of the sweep.
        baseline: uid of the uncompressed model's trial.
        seed: of every run.
        attempts: how many times a training is started if its workers die.
        time_limit_s: of one attempt; None: no limit.
        runtimes: those that artifacts must run on beside ONNX Runtime.
        loaders: see `TrialRequest`.
        free_cores: see `TrialRequest`.
        checkpoint_s: see `TrialRequest`.
    """

    lanes: LaneClient
    measuring: MeasuringClient
    task: TaskReference
    files: SweepFiles
    baseline: str
    seed: int
    attempts: int = 2
    time_limit_s: float | None = None
    runtimes: tuple[str, ...] = ()
    loaders: int | None = None
    free_cores: int = 0
    checkpoint_s: float | None = None


def artifact_name(uid: str) -> str:
    """Return the name of a trial's artifact in the sweep's files."""
    return f"{ARTIFACTS}/{uid}"


def checkpoint_name(uid: str) -> str:
    """Return the name of a trial's checkpoints in the sweep's files; they are kept until its training ends."""
    return f"{CHECKPOINTS}/{uid}"


def new_trial(number: int, plan: Plan, *, seed: int, knobs: Mapping[str, Json], role: Role = "trial") -> Trial:
    """Return a trial that starts now. Its uid is stable: the same number and plan give the same uid."""
    uid = "baseline" if role == "baseline" else TrialKey.of(number, plan).uid
    return Trial(uid, number, plan, seed, "running", role=role, knobs=knobs, started=time.time())


def run_trial(trial: Trial, context: TrialContext, *, by_products: Sequence[Plan] = ()) -> Iterator[RunEvent]:
    """Train and measure `trial`; yield its progress, and last `TrialEnded` or `TrialReturned`.

    The plans in `by_products` continue the trial's plan; each is measured and yielded as a trial of its own before the
    trial itself ends. An error in training or measuring gives a failed trial with its reason, never an exception. If
    the disk is full the trial is returned with that reason, because it is not to blame.
    """
    more = [_by_product(trial, plan) for plan in by_products]
    request = TrialRequest(
        context.task,
        trial.plan.to_document(),
        trial.seed,
        context.files,
        artifact_name(trial.uid),
        CACHE,
        checkpoint_name(trial.uid),
        tuple((other.plan.to_document(), artifact_name(other.uid)) for other in more),
        trial.uid,
        context.runtimes,
        context.loaders,
        context.free_cores,
        context.checkpoint_s,
    )
    job = Job(trial.uid, {"request": request}, max_attempts=context.attempts, limit_s=context.time_limit_s)
    context.lanes.submit(job)
    seen = 0
    while True:
        update = context.lanes.wait(trial.uid, seen=seen, timeout_s=_NEWS_S)
        seen += len(update.progress)
        if update.outcome is None:
            yield TrialProgress(trial.uid, _latest(update)) if update.progress else TrialWaits()
            continue
        context.lanes.forget(trial.uid)
        if update.outcome.status in ("done", "stopped"):
            context.files.remove(checkpoint_name(trial.uid))
        try:
            product = cast(TrialProduct, result_of(update.outcome))
            warnings = [*warnings_in(*update.progress), *product.warnings]
            yield TrialProgress(trial.uid, with_warnings({"state": MEASURING}, warnings))
            for other, made in zip(more, product.by_products, strict=True):
                yield ByProductEnded((yield from _measured_by_product(other, made, context)))
            yield TrialEnded((yield from _measured(trial, product, context)))
        except (TrialFailed, OSError) as error:
            if full := disk_full(error):
                yield TrialReturned(full)
                return
            context.files.remove(checkpoint_name(trial.uid))
            if not isinstance(error, TrialFailed):
                raise
            yield TrialEnded(_failed(trial, error), error.by_input)
        except JobReturned:
            yield TrialReturned()
        except JobStopped as error:
            yield TrialEnded(replace(trial, status="stopped early", reason=str(error), finished=time.time()))
        return


def _latest(update: JobUpdate) -> ProgressMessage:
    """Return the last message, with the warnings of all messages."""
    return with_warnings({**update.progress[-1], "where": update.where}, warnings_in(*update.progress))


def _by_product(parent: Trial, plan: Plan) -> Trial:
    """Return the trial of a plan that continues its parent's plan, with the same seed."""
    uid = f"{parent.uid}-{plan.fingerprint[:6]}"
    return replace(parent, uid=uid, plan=plan, role="delivered", of=parent.uid, knobs={}, started=time.time())


def _measured_by_product(
    trial: Trial, made: TrialProduct | str, context: TrialContext
) -> Generator[RunEvent, None, Trial]:
    """Measure a by-product; its failure does not affect the trial that trained it."""
    try:
        if isinstance(made, str):
            raise TrialFailed(made)
        return (yield from _measured(trial, made, context))
    except TrialFailed as error:
        if disk_full(error):
            raise
        return _failed(trial, error)


def _failed(trial: Trial, error: TrialFailed) -> Trial:
    return replace(trial, status="failed", reason=error.reason, detail=error.detail, finished=time.time())


def _measured(trial: Trial, product: TrialProduct, context: TrialContext) -> Generator[RunEvent, None, Trial]:
    begun = time.time()
    artifact = artifact_name(trial.uid)
    readings = yield from _read(trial, product, context)
    keep_readings(context.files, artifact, readings)
    missing = [f"{meter}: {reading.reason}" for meter, reading in readings.items() if reading.value is None]
    if missing and disk_full(unread := TrialFailed("; ".join(missing))):
        raise unread
    if not missing:
        context.measuring.verify(artifact)
    return replace(
        trial,
        status="failed" if missing else "complete",
        reason=f"not measured: {'; '.join(missing)}" if missing else None,
        words=product.words,
        layers=product.layers,
        reused=product.reused,
        notes=product.notes,
        readings=readings,
        artifact=artifact,
        cost=_cost(product, time.time() - begun),
        finished=time.time(),
    )


def _read(
    trial: Trial, product: TrialProduct, context: TrialContext
) -> Generator[RunEvent, None, Mapping[str, Reading]]:
    """Return the readings; meanwhile tell what the trial waits for."""
    baseline, told = artifact_name(context.baseline), ""
    reading = context.measuring.reading(artifact_name(trial.uid), baseline, "validation", facts=product.cost)
    while True:
        try:
            waits = next(reading)
        except StopIteration as end:
            readings: Mapping[str, Reading] = end.value
            return readings
        yield TrialWaits() if waits == told else TrialProgress(trial.uid, {"state": MEASURING, WAITS: waits})
        told = waits


def _cost(product: TrialProduct, measure_s: float) -> dict[str, float]:
    """Add up the seconds of the trial, without its waiting time."""
    wall_s = product.paid["wall_s"] + measure_s
    return {"wall_s": wall_s, "cpu_s": product.paid["cpu_s"], "measure_wall_s": measure_s}


def keep_readings(
    files: SweepFiles,
    artifact: str,
    readings: Mapping[str, Reading],
    test_readings: Mapping[str, Reading] | None = None,
) -> None:
    """Write the readings into the artifact; names of test-split readings start with ``test_``."""
    from paretta.pipelines.artifact import record  # noqa: PLC0415 - ONNX Runtime is loaded where it is needed

    tests = {f"test_{meter}": reading for meter, reading in (test_readings or {}).items()}
    record(files.bring(artifact), {**readings, **tests})
    files.send(artifact)
