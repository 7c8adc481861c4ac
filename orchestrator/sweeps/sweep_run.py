"""A sweep that runs: baseline, search, test readings and confirmations, each from wherever the journal left it."""

import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.html_report import write_report
from paretta.dashboards.report.table import write_tables
from paretta.dashboards.tracking.publisher import Publisher
from paretta.dashboards.tracking.store import without_password
from paretta.orchestrator.cluster.capacity import lanes_that_fit
from paretta.orchestrator.cluster.connect import Cluster
from paretta.orchestrator.cluster.measuring_slot import MeasuringSlot
from paretta.orchestrator.cluster.ray_calls import DEATHS
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.pool import LanePool
from paretta.orchestrator.lanes.stream_shards import cpus_beside, source_of
from paretta.orchestrator.monitor.event_log import Display, EventLog
from paretta.orchestrator.monitor.prometheus import SweepMetrics
from paretta.orchestrator.monitor.terminal import display
from paretta.orchestrator.search.build import budget_of, suggester_of
from paretta.orchestrator.search.by_products import by_products
from paretta.orchestrator.storage.driver_file import write_driver
from paretta.orchestrator.storage.mirror import mirrored
from paretta.orchestrator.storage.object_store import below
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.earlier import Earlier, remember, taken_over
from paretta.orchestrator.sweeps.result import REPORT_FILE, SweepFront, how_to_resume
from paretta.orchestrator.sweeps.signals import StopRequest, SweepStopped
from paretta.orchestrator.trials.confirmation import ConfirmationUpdate, confirm, repeats
from paretta.orchestrator.trials.measuring_actor import MeasuringClient
from paretta.orchestrator.trials.run_trial import (
    CACHE,
    TrialContext,
    artifact_name,
    keep_readings,
    new_trial,
    run_trial,
)
from paretta.orchestrator.tune.callback import JournalCallback, Throttle
from paretta.orchestrator.tune.resume import history, replay_history
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.orchestrator.tune.tuner import tuned
from paretta.pipelines.artifact import verify_files
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import MEMORY_MEND, DamagedArtifact, ParettaError, out_of_memory
from paretta.search_spaces.results.trial import Trial

NODES_S = 10.0  # between two looks at the cluster's nodes
NO_MEMORY = "out of memory: Ray has ended processes of the sweep"


class SweepFailed(ParettaError):
    """The sweep cannot go on, such as when its baseline fails; what was recorded stays."""


@dataclass(frozen=True, slots=True)
class RunningSweep:
    """A sweep that may begin or go on: everything is checked, the cluster is there.

    Args:
        record: what the journal tells of it; empty for a new one.
        stopping: whether somebody asked to stop.
        earlier: sweeps whose points are taken over.
        storage: URI of this sweep's files, for nodes that share no disk with the driver; None where all see `folder`.
    """

    sweep: Sweep
    checked: Checked
    record: SweepRecord
    num_lanes: int
    cluster: Cluster
    slot: MeasuringSlot
    stopping: StopRequest
    earlier: tuple[Earlier, ...] = ()
    storage: str | None = None

    @property
    def files(self) -> SweepFiles:
        """The sweep's files, as its driver sees them."""
        return SweepFiles(self.folder, self.storage)

    @property
    def folder(self) -> Path:
        """The sweep's own, which exists."""
        return self.record.folder

    def to_the_front(self, tracking_uri: str) -> SweepFront:
        """Do what is left to do, and return the front.

        Raises:
            SweepFailed: the sweep cannot go on.
            SweepStopped: somebody asked to stop.
        """
        with (
            Journal(self.folder) as journal,
            display(self.sweep.config.search.trials) as shown,
            mirrored(self.files, shown.note),
        ):
            with (
                Publisher(self.folder, tracking_uri),
                self._closing(EventLog(journal, shown, self.files, self.record, SweepMetrics())) as log,
            ):
                self._open(log, tracking_uri)
                with self._workshop(shown) as (context, lanes):
                    search = partial(self._search, lanes=lanes)
                    for step in (self._baseline, search, self._read_tests, self._confirm):
                        step(context, log)
                        self._require_going_on(lanes)
            self._write_results()
            if self.storage is not None:
                self.files.remove(CACHE)  # of use to this sweep's trials alone
        return SweepFront.read(self.folder)

    def _open(self, log: EventLog, tracking_uri: str) -> None:
        write_driver(self.folder)
        facts = self._facts(tracking_uri)
        if self.record.started:
            log.resumed({name: fact for name, fact in facts.items() if self.record.facts.get(name) != fact})
            return
        goals = self.checked.objectives
        log.sweep(name=self.folder.name, config=self.sweep.document(), objectives=goals, facts=facts)

    def _require_going_on(self, lanes: LanePool) -> None:
        """Let a sweep that somebody stopped, or that lost its last lane, end here; its trials are not to blame."""
        if self.stopping.asked:
            raise SweepStopped(how_to_resume(self.folder, self.record))
        if why := lanes.lost():
            raise SweepFailed(f"{why}\n{how_to_resume(self.folder, self.record)}")

    def _heed(self, context: TrialContext, log: EventLog) -> bool:
        """Return whether a stop was asked for; the first time it is, let what runs end and begin nothing more."""

        def wind_down() -> None:
            log.display.note(f"{self.stopping.asked}: what runs is finished first; once more stops at once")
            context.lanes.wind_down()

        return self.stopping.heed(wind_down)

    @contextmanager
    def _closing(self, log: EventLog) -> Iterator[EventLog]:
        """Write how the sweep ended, whatever ended it."""
        try:
            yield log
        except (KeyboardInterrupt, SweepStopped):
            log.end("stopped", "interrupted")
            self._write_results()
            raise SweepStopped(how_to_resume(self.folder, self.record)) from None
        except DEATHS as error:
            why = out_of_memory(error) or "an actor that all trials need died"
            log.end("failed", why)
            raise SweepFailed(f"{why}\n{how_to_resume(self.folder, self.record)}") from error
        except BaseException as error:
            log.end("failed", str(error).partition("\n")[0] or type(error).__name__)
            raise
        log.end("done")

    @contextmanager
    def _workshop(self, shown: Display) -> Iterator[tuple[TrialContext, LanePool]]:
        workers = self.sweep.config.workers
        # a cluster that we joined has the user's folder on every node, as the one its processes start in
        folder = self.sweep.folder if self.cluster.own else Path()
        task = TaskReference.of(self.sweep.config.task.use, self.sweep.config.task.options, folder)
        shown.note(f"{self.folder.name}: starting {self.num_lanes} lane(s) of {workers.per_trial} worker(s)")
        with LanePool(
            "paretta.orchestrator.trials.handler:handle",
            storage=below(self.storage, "ray") if self.storage is not None else self.folder / "ray",
            num_lanes=self.num_lanes,
            workers_per_lane=workers.per_trial,
            cpus_per_worker=workers.cpus,
            gpus_per_worker=workers.gpus,
            threads_per_worker=workers.threads,
            start_timeout_s=workers.start_timeout_s,
            hung_after_s=workers.hung_after_s,
            dataset=None if self.checked.task.stream is None else source_of(task),
        ) as lanes:
            measuring = MeasuringClient.start(task, self.sweep.config.objectives, self.slot, self.files)
            context = TrialContext(
                lanes.client,
                measuring,
                task,
                self.files,
                "baseline",
                self.sweep.config.search.seed,
                attempts=workers.attempts,
                time_limit_s=workers.time_limit_s,
            )
            try:
                yield context, lanes
            finally:
                measuring.stop()

    def _baseline(self, context: TrialContext, log: EventLog) -> None:
        """Train and measure the uncompressed model, which every relative number refers to."""
        if self._has_baseline(context):
            return
        plan = next(self.sweep.space.corners()).baseline_plan()
        begun = new_trial(0, plan, seed=context.seed, knobs={}, role="baseline")
        log.trial(begun)
        for news in run_trial(begun, context):
            self._heed(context, log)
            if isinstance(news, Trial):
                if news.status == "running":
                    return
                log.trial(news)
                if news.status != "complete":
                    raise SweepFailed(f"the baseline failed: {news.reason}\n{news.detail}".rstrip())
                self._require_limits(news)
            elif news:
                log.progress(begun.uid, news)

    def _has_baseline(self, context: TrialContext) -> bool:
        known = self.record.trials.get(context.baseline)
        try:
            return (
                known is not None
                and known.status == "complete"
                and bool(verify_files(self.folder / artifact_name(known.uid)))
            )
        except DamagedArtifact:
            return False

    def _searcher(self, context: TrialContext, callback: JournalCallback, log: EventLog) -> TuneSearcher:
        """Return the search as far as the journal tells of it, from its very beginning where it tells nothing."""
        baseline, deliver = self.record.trials[context.baseline], self.sweep.config.deliver
        look = partial(context.measuring.foresee, baseline=artifact_name(context.baseline))
        searched = [trial.started for trial in self.record.trials.values() if trial.role == "trial"]
        began = min(searched, default=time.time())

        def make() -> TuneSearcher:
            suggester = suggester_of(self.sweep, self.checked, baseline.readings, look)
            for sweep in self.earlier:
                remember(suggester, sweep)
            return TuneSearcher(
                suggester,
                max_running=self.num_lanes + 1,
                asked=callback.asked,
                budget=budget_of(self.sweep, self.num_lanes, began),
                by_products=by_products(deliver.variants, deliver.at_most),
            )

        searcher, same = replay_history(make, tuple(history(self.folder)))
        if not same:
            log.display.note("the sampler would ask otherwise today; it goes on from the same results")
        for trial in [trial for trial in self.record.trials.values() if trial.role == "delivered"]:
            searcher.attain(trial)
        return searcher

    def _take_over(self, log: EventLog) -> None:
        """Let the fronts of earlier sweeps join this one."""
        for sweep in self.earlier:
            for trial in taken_over(sweep, self.folder, known=self.record.trials):
                log.trial(trial)

    def _grow(self, lanes: LanePool) -> bool:
        """Add a lane where nodes have joined a cluster that is not ours alone."""
        workers = self.sweep.config.workers
        if self.cluster.own or workers.lanes != "auto":
            return False
        beside = cpus_beside(streams=self.checked.task.stream is not None)
        trials = self.sweep.config.search.trials
        fitting = lanes_that_fit(workers.per_trial, workers.resources(), trials, beside=beside)
        return lanes.grow(fitting)

    def _search(self, context: TrialContext, log: EventLog, *, lanes: LanePool) -> None:
        if self.record.frozen is not None:
            return
        self._take_over(log)
        look, ended, in_vain = Throttle(NODES_S), len(self.record.endings), 0
        while not self._searched(context, log, lanes, look):
            in_vain = in_vain + 1 if len(self.record.endings) == ended else 0
            if in_vain > context.attempts:
                raise SweepFailed(f"{NO_MEMORY}; {MEMORY_MEND}\n{how_to_resume(self.folder, self.record)}")
            ended = len(self.record.endings)
            log.display.note(f"{NO_MEMORY}; the search goes on with what was running")

    def _searched(self, context: TrialContext, log: EventLog, lanes: LanePool, look: Throttle) -> bool:
        """Search from where the journal is to the end; False where memory ran out before, see `tune.tuner`."""
        callback = JournalCallback(log, context.seed)
        searcher = self._searcher(context, callback, log)

        def each_step() -> None:
            if self._heed(context, log) or callback.returned:
                searcher.close()
            elif look.due() and self._grow(lanes):
                searcher.max_running += 1
                log.display.note("a node has joined: one more lane is starting")

        callback.each_step = each_step
        trials, reserved = self.sweep.config.search.trials, self.cluster.trial_resources()
        if not tuned(searcher, callback, context, folder=self.folder / "ray", num_trials=trials, resources=reserved):
            return False
        self._require_going_on(lanes)
        if callback.returned:
            raise SweepFailed(f"the job queue or the measuring actor died\n{how_to_resume(self.folder, self.record)}")
        if searcher.suggester.over is not None:
            log.display.note(f"the search ended early: {searcher.suggester.over}")
        return True

    def _read_tests(self, context: TrialContext, log: EventLog) -> None:
        """Freeze the front, and only then read the test split, once a member; it steers nothing any more."""
        if self.record.frozen is None:
            log.front(tuple(trial.uid for trial in self.record.front().members))
        baseline = artifact_name(context.baseline)
        for trial in self._members():
            if trial.test_readings or self._heed(context, log):
                continue
            artifact = artifact_name(trial.uid)
            readings = context.measuring.read(artifact, baseline, "test", answers_only=True)
            keep_readings(context.files, artifact, trial.readings, readings)
            log.trial(trial.with_test_readings(readings))

    def _require_limits(self, baseline: Trial) -> None:
        """Fail at the baseline, which shows what a meter tells, where a limit can never be evaluated."""
        for limit in self.sweep.limits:
            reading = baseline.readings[limit.meter]
            if math.isinf(limit.excess(reading, reading)):
                raise SweepFailed(f"limit {limit}: {limit.meter} was measured without a value in {limit.unit!r}")

    def _confirm(self, context: TrialContext, log: EventLog) -> None:
        """Train the frozen front again with fresh seeds; this says how sure its numbers are, and changes nothing."""
        search = self.sweep.config.search
        ended = {uid for uid, trial in self.record.trials.items() if trial.status != "running"}
        left = [trial for trial in repeats(self._members(), search.confirm, search.seed) if trial.uid not in ended]
        stopped = partial(self._heed, context, log)
        for news in confirm(left, context, at_once=self.num_lanes + 1, stopped=stopped):
            if isinstance(news, ConfirmationUpdate):
                log.progress(news.uid, news.progress)
            else:
                log.trial(news)

    def _members(self) -> list[Trial]:
        return [self.record.trials[uid] for uid in self.record.frozen or ()]

    def _write_results(self) -> None:
        record = SweepRecord.read(self.folder)
        write_tables(record.front(), self.folder)
        write_report(record, self.folder / REPORT_FILE)

    def _facts(self, tracking_uri: str) -> dict[str, Json]:
        names = ("paretta", "torch", "ray", "optuna", "onnx", "onnxruntime", "torch-pruning", "mlflow")
        return {
            "folder": str(self.sweep.folder),
            "data_digest": self.checked.data_digest,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
            "story": self.sweep.story,
            "tracking_uri": without_password(tracking_uri),
            "lanes": self.num_lanes,
            "own_cluster": self.cluster.own,
            "storage": self.storage,
        }
