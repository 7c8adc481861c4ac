"""Run a prepared sweep: baseline, search, test readings and confirmations, each continued from the journal."""

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from paretta.dashboards.journal.activity import asked
from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.html_report import write_report
from paretta.dashboards.report.table import write_tables
from paretta.dashboards.tracking.publisher import Publisher
from paretta.dashboards.tracking.store import without_password
from paretta.orchestrator.cluster.capacity import free_cores, lane_bundles, lanes_that_fit
from paretta.orchestrator.cluster.lane_broker import unique_name
from paretta.orchestrator.cluster.ray_calls import DEATHS
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.elastic import ElasticLanes
from paretta.orchestrator.lanes.pool import LanePool
from paretta.orchestrator.lanes.stream_shards import cpus_beside, source_of
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.monitor.home_table import keep_summary
from paretta.orchestrator.monitor.prometheus import SweepMetrics
from paretta.orchestrator.monitor.terminal import display
from paretta.orchestrator.storage.driver_file import write_driver
from paretta.orchestrator.storage.mirror import mirrored
from paretta.orchestrator.storage.object_store import below
from paretta.orchestrator.sweeps.baseline_phase import train_baseline
from paretta.orchestrator.sweeps.confirmation_phase import confirm_front
from paretta.orchestrator.sweeps.context import PreparedSweep, SweepContext, SweepFailed
from paretta.orchestrator.sweeps.holdout_phase import freeze_front, read_test_split
from paretta.orchestrator.sweeps.last_reading_phase import read_side_by_side
from paretta.orchestrator.sweeps.result import REPORT_FILE, SweepFront, how_to_resume
from paretta.orchestrator.sweeps.search_phase import search_candidates
from paretta.orchestrator.sweeps.signals import StopRequest, SweepStopped
from paretta.orchestrator.trials.measuring_actor import MeasuringClient
from paretta.orchestrator.trials.run_trial import CACHE, TrialContext
from paretta.pipelines.measuring.served_meter import runtimes_of
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import disk_full, first_line, os_problem, out_of_memory

HANDLER = "paretta.orchestrator.trials.handler:handle"  # the handler that the ranks of a lane run on a job


def run_sweep(prepared: PreparedSweep, stopping: StopRequest, tracking_uri: str) -> SweepFront:
    """Run the remaining phases, and return the front.

    Args:
        prepared: the sweep.
        stopping: tells whether a stop was requested.
        tracking_uri: of the MLflow store.

    Raises:
        SweepFailed: the sweep cannot go on.
        SweepStopped: a stop was requested.
    """
    folder, files = prepared.folder, prepared.files
    with (
        Journal(folder) as journal,
        display(prepared.sweep.config.search.trials) as shown,
        mirrored(files, shown.show_line),
    ):
        record = SweepRecord.read(folder)  # read under the lock, so it includes all that the previous process wrote
        if record.status == "done" and asked(record) == prepared.sweep.config.search.trials:
            return SweepFront.read(folder)
        with (
            Publisher(folder, tracking_uri),
            _ending_written(EventLog(journal, shown, files, record, SweepMetrics()), folder) as log,
        ):
            _begin(log, prepared, tracking_uri)
            with _workers(prepared, log, stopping) as context:
                _run_phases(context)
        _write_results(folder)
        if prepared.storage is not None:
            files.remove(CACHE)  # useful only to this sweep's trials
    return SweepFront.read(folder)


def _run_phases(context: SweepContext) -> None:
    baseline = train_baseline(context)
    context.require_going_on()
    if context.record.frozen is None:
        search_candidates(context, baseline)
        context.require_going_on()
        read_side_by_side(context)
        context.require_going_on()
    members = freeze_front(context)
    read_test_split(context, members)
    context.require_going_on()
    confirm_front(context, members)
    context.require_going_on()


def _begin(log: EventLog, prepared: PreparedSweep, tracking_uri: str) -> None:
    """Record in the journal that the sweep starts, or that it resumes and what has changed."""
    write_driver(prepared.folder)
    facts, before = _facts(prepared, tracking_uri), log.record
    if before.started:
        log.resumed({name: fact for name, fact in facts.items() if before.facts.get(name) != fact})
        if asked(before) != prepared.sweep.config.search.trials:
            log.extended(prepared.sweep.config.search.trials)
        return
    goals, learned = prepared.checked.objectives, prepared.experience
    lessons = None if learned is None else learned.to_document()
    log.sweep(
        name=prepared.folder.name, config=prepared.sweep.document(), objectives=goals, facts=facts, lessons=lessons
    )
    if learned is not None:
        log.display.show_line(f"{prepared.folder.name}: {learned}")


@contextmanager
def _ending_written(log: EventLog, folder: Path) -> Iterator[EventLog]:
    """Record how the sweep ended, whatever the reason."""
    try:
        yield log
    except (KeyboardInterrupt, SweepStopped):
        with suppress(OSError):  # what cannot be written to a full disk is written when the sweep is resumed
            log.end("stopped", "interrupted")
            _write_results(folder)
        raise SweepStopped(how_to_resume(folder, log.record)) from None
    except DEATHS as error:
        why = out_of_memory(error) or "an actor that all trials need died"
        log.end("failed", why)
        raise SweepFailed(f"{why}\n{how_to_resume(folder, log.record)}") from error
    except OSError as error:
        why = disk_full(error) or os_problem(error)
        with suppress(OSError):
            log.end("failed", why)
        raise SweepFailed(f"{why}\n{how_to_resume(folder, log.record)}") from error
    except SweepFailed as error:
        with suppress(OSError):
            log.end("failed", first_line(error))
        raise
    except BaseException as error:
        with suppress(OSError):
            log.end("failed", str(error).partition("\n")[0] or type(error).__name__)
        raise
    log.end("done")


@contextmanager
def _workers(prepared: PreparedSweep, log: EventLog, stopping: StopRequest) -> Iterator[SweepContext]:
    """Start the lanes and the measuring actor, and end them on exit."""
    workers, task = prepared.sweep.config.workers, _task(prepared)
    shared = not prepared.cluster.own
    most = "up to " if shared else ""
    log.display.show_line(
        f"{prepared.folder.name}: starting {most}{prepared.num_lanes} lane(s) of {workers.per_trial} worker(s)"
    )
    with ExitStack() as stack:
        lanes = stack.enter_context(_lanes(prepared, task))
        elastic = stack.enter_context(_elastic(prepared, lanes, log.display.show_line)) if shared else None
        minutes = prepared.sweep.config.checkpoint.every_minutes
        objectives = prepared.sweep.config.objectives
        measuring = MeasuringClient.start(task, objectives, prepared.slot, prepared.files, prepared.agent)
        trials = TrialContext(
            lanes.client,
            measuring,
            task,
            prepared.files,
            "baseline",
            prepared.sweep.config.search.seed,
            attempts=workers.attempts,
            time_limit_s=workers.time_limit_s,
            runtimes=runtimes_of(prepared.checked.meters),
            loaders=None if workers.loaders == "auto" else workers.loaders,
            checkpoint_s=None if minutes is None else 60 * minutes,
            free_cores=free_cores(prepared.num_lanes, workers.per_trial, workers.cpus, workers.threads),
        )
        try:
            yield SweepContext(prepared, trials, lanes, log, stopping, elastic)
        finally:
            measuring.stop()


def _task(prepared: PreparedSweep) -> TaskReference:
    """Return the task reference for the workers; on a joined cluster the user's folder is the working directory."""
    task = prepared.sweep.config.task
    return TaskReference.of(task.use, task.options, prepared.sweep.code_folder if prepared.cluster.own else Path())


def _lanes(prepared: PreparedSweep, task: TaskReference) -> LanePool:
    workers, storage = prepared.sweep.config.workers, prepared.storage
    return LanePool(
        HANDLER,
        storage=below(storage, "ray") if storage is not None else prepared.folder / "ray",
        num_lanes=prepared.num_lanes if prepared.cluster.own else 0,
        workers_per_lane=workers.per_trial,
        cpus_per_worker=workers.cpus,
        gpus_per_worker=workers.gpus,
        threads_per_worker=workers.threads,
        start_timeout_s=workers.start_timeout_s,
        hung_after_s=workers.hung_after_s,
        dataset=None if prepared.checked.task.stream is None else source_of(task),
    )


def _elastic(prepared: PreparedSweep, lanes: LanePool, show: Callable[[str], None]) -> ElasticLanes:
    """Return what keeps the lanes at the sweep's share of a running cluster, as nodes and other sweeps come and go."""
    workers, trials = prepared.sweep.config.workers, prepared.sweep.config.search.trials
    beside = cpus_beside(streams=prepared.checked.task.stream is not None)

    def fitting() -> int:
        if workers.lanes != "auto":
            return workers.lanes
        return lanes_that_fit(workers.per_trial, workers.resources(), trials, beside=beside)

    return ElasticLanes(
        lanes,
        unique_name(prepared.folder.name),
        lane_bundles(workers.per_trial, workers.resources(), beside=beside),
        fitting=fitting,
        useful=workers.useful_lanes(trials),
        priority=workers.priority,
        show=show,
    )


def _write_results(folder: Path) -> None:
    record = SweepRecord.read(folder)
    write_tables(record.front(), folder)
    write_report(record, folder / REPORT_FILE)
    keep_summary(folder)


def _facts(prepared: PreparedSweep, tracking_uri: str) -> dict[str, Json]:
    names = ("paretta", "torch", "ray", "optuna", "onnx", "onnxruntime", "torch-pruning", "mlflow")
    return {
        "folder": str(prepared.sweep.folder),
        "data_digest": prepared.checked.data_digest,
        "code": dict(prepared.checked.code),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        "story": prepared.sweep.story,
        "tracking_uri": without_password(tracking_uri),
        "lanes": prepared.num_lanes,
        "own_cluster": prepared.cluster.own,
        "storage": prepared.storage,
        **({} if prepared.experience is None else {"experience": str(prepared.experience)}),
    }
