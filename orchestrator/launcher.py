"""Run a sweep from its file to its front."""

import json
import math
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

from ray import tune
from ray.tune import Callback as TuneCallback
from ray.tune.experiment import Trial as TuneTrial
from rich.console import Console

from dashboards.front_page import write_report
from dashboards.journal import Journal, SweepRecord
from dashboards.publisher import Publisher
from dashboards.standing import read_standing
from dashboards.store import probe, without_password
from dashboards.table import write_tables
from orchestrator.candidate import Workshop, carry_out, keep_readings, new_trial
from orchestrator.check import Checked, check
from orchestrator.cluster import Cluster, capacity, connect, require_capacity
from orchestrator.confirm import News, confirm, repeats
from orchestrator.gauge import Gauge
from orchestrator.home import Home
from orchestrator.lane import Lanes
from orchestrator.logbook import Display, Logbook
from orchestrator.order import TaskReference
from orchestrator.progress import display, ending, print_front
from orchestrator.result import SweepFront
from orchestrator.searcher import STATUS, TuneSearcher
from orchestrator.slot import Slot, choose_slot
from orchestrator.suggest import Search, Strategy, Suggester
from orchestrator.sweep import SAMPLERS, Sweep, WorkersConfig
from orchestrator.trial import TRIAL, CandidateTrial, trial_of
from search_spaces.documents import write_yaml
from search_spaces.errors import ParettaError
from search_spaces.plan import Json
from search_spaces.trial import Trial

REPORT_FILE, SWEEP_FILE = "report.html", "sweep.yaml"


class SweepFailed(ParettaError):
    """The sweep cannot go on, such as when its baseline fails; what was recorded stays."""


def launch(
    sweep: str | Path | Sweep,
    *,
    home: str | Path | None = None,
    name: str | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    confirm: int | None = None,
) -> SweepFront:
    """Run a sweep and return its front.

    Args:
        sweep: a preset's name, a sweep file, or a sweep already read.
        home: folder of the sweeps; ``$PARETTA_HOME`` or ``./sweeps`` by default.
        name: of this sweep; by default the file's, numbered where it is taken.
        address: of a running Ray cluster, or ``auto``; by default a cluster is started for the sweep.
        tracking_uri: of an MLflow store; by default a SQLite file in `home`.
        trials: their number, instead of the file's.
        seed: instead of the file's.
        sampler: instead of the file's.
        confirm: with how many fresh seeds the front is trained again after the search, instead of the file's.

    Raises:
        WrongInput: something about the input is wrong; nothing was computed or written.
        SweepFailed: the sweep could not go on.
    """
    read = sweep if isinstance(sweep, Sweep) else Sweep.read(str(sweep))
    read = read.changed(trials=trials, seed=seed, sampler=sampler, confirm=confirm)
    place = Home.at(home)
    place.check_writable()
    chosen = name or place.free_name(read.name)
    place.check_name(chosen)
    store = tracking_uri or place.tracking_uri()
    probe(store)
    checked = check(read)
    workers = read.config.workers
    with connect(address) as cluster:
        lanes = _num_lanes(workers, read.config.search.trials)
        require_capacity(lanes, workers.per_trial, _resources(workers))
        measuring = read.config.measuring
        slot = choose_slot(measuring.resource, measuring.resources, where=read.source.where("measuring.resources"))
        run = _Run(read, checked, place.path / chosen, lanes, cluster, slot)
        return run.to_the_front(store)


@dataclass(frozen=True, slots=True)
class _Run:
    """A sweep that may begin: everything is checked, the cluster is there, the folder is free."""

    sweep: Sweep
    checked: Checked
    folder: Path
    num_lanes: int
    cluster: Cluster
    slot: Slot

    def to_the_front(self, tracking_uri: str) -> SweepFront:
        self.folder.mkdir(parents=True)
        (self.folder / SWEEP_FILE).write_text(write_yaml(self.sweep.document()), encoding="utf-8")
        with (
            Journal(self.folder) as journal,
            display(self.sweep.config.search.trials) as shown,
            Publisher(self.folder, tracking_uri),
            self._closing(Logbook(journal, shown, SweepRecord(self.folder.name, self.folder))) as log,
        ):
            log.sweep(
                name=self.folder.name,
                config=self.sweep.document(),
                objectives=self.checked.objectives,
                facts=self._facts(tracking_uri),
            )
            with self._workshop(shown) as workshop:
                self._baseline(workshop, log)
                self._search(workshop, log)
                self._read_tests(workshop, log)
                self._confirm(workshop, log)
        self._write_results()
        return SweepFront.read(self.folder)

    @contextmanager
    def _closing(self, log: Logbook) -> Iterator[Logbook]:
        """Write how the sweep ended, whatever ended it."""
        try:
            yield log
        except KeyboardInterrupt:
            log.end("stopped", "interrupted")
            raise
        except BaseException as error:
            log.end("failed", str(error).partition("\n")[0] or type(error).__name__)
            raise
        log.end("done")

    @contextmanager
    def _workshop(self, shown: Display) -> Iterator[Workshop]:
        workers = self.sweep.config.workers
        task = TaskReference.of(self.sweep.config.task.use, self.sweep.config.task.options, self.sweep.folder)
        shown.note(f"{self.folder.name}: starting {self.num_lanes} lane(s) of {workers.per_trial} worker(s)")
        with Lanes(
            "orchestrator.work:fulfil",
            storage=self.folder / "ray",
            num_lanes=self.num_lanes,
            workers_per_lane=workers.per_trial,
            cpus_per_worker=workers.cpus,
            gpus_per_worker=workers.gpus,
            threads_per_worker=workers.threads,
        ) as lanes:
            gauge = Gauge.start(task, self.sweep.config.objectives, self.slot)
            try:
                yield Workshop(lanes.client, gauge, task, self.folder, "baseline", self.sweep.config.search.seed)
            finally:
                gauge.stop()

    def _baseline(self, workshop: Workshop, log: Logbook) -> None:
        """Train and measure the uncompressed model, which every relative number refers to."""
        plan = next(self.sweep.space.corners()).baseline_plan()
        begun = new_trial(0, plan, seed=workshop.seed, knobs={}, role="baseline")
        log.trial(begun)
        for news in carry_out(begun, workshop):
            if isinstance(news, Trial):
                log.trial(news)
                if news.status != "complete":
                    raise SweepFailed(f"the baseline failed: {news.reason}\n{news.detail}".rstrip())
                self._require_limits(news)
            elif news:
                log.progress(begun.uid, news)

    def _search(self, workshop: Workshop, log: Logbook) -> None:
        config = self.sweep.config.search
        search = Search(self.sweep.space, self.checked.objectives, config.trials, config.seed)
        make = cast(Callable[[Search], Strategy], SAMPLERS.load(config.sampler))
        suggester = Suggester(search, make(search))
        body = tune.with_parameters(CandidateTrial, workshop=workshop)
        tune.Tuner(
            tune.with_resources(body, self.cluster.trial_resources()),
            tune_config=tune.TuneConfig(
                search_alg=TuneSearcher(suggester, max_running=self.num_lanes + 1),
                num_samples=config.trials,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self.folder / "ray"),
                callbacks=[_Scribe(log, workshop.seed)],
                # a candidate is done when it is measured: there is nothing to save of the actor that waited for it
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()

    def _read_tests(self, workshop: Workshop, log: Logbook) -> None:
        """Freeze the front, and only then read the test split, once a member; it steers nothing any more."""
        members = log.record.front().members
        log.front(tuple(trial.uid for trial in members))
        baseline = workshop.artifact(workshop.baseline)
        for trial in members:
            readings = workshop.gauge.read(workshop.artifact(trial.uid), baseline, "test", answers_only=True)
            keep_readings(workshop.artifact(trial.uid), trial.readings, readings)
            log.trial(trial.with_test_readings(readings))

    def _require_limits(self, baseline: Trial) -> None:
        """Fail at the baseline, which shows what a meter tells, where a limit can never be evaluated."""
        for limit in self.sweep.limits:
            reading = baseline.readings[limit.meter]
            if math.isinf(limit.excess(reading, reading)):
                raise SweepFailed(f"limit {limit}: {limit.meter} was measured without a value in {limit.unit!r}")

    def _confirm(self, workshop: Workshop, log: Logbook) -> None:
        """Train the frozen front again with fresh seeds; this says how sure its numbers are, and changes nothing."""
        search = self.sweep.config.search
        members = [log.record.trials[uid] for uid in log.record.frozen or ()]
        for news in confirm(repeats(members, search.confirm, search.seed), workshop, at_once=self.num_lanes + 1):
            if isinstance(news, News):
                log.progress(news.uid, news.progress)
            else:
                log.trial(news)

    def _write_results(self) -> None:
        record = SweepRecord.read(self.folder)
        write_tables(record.front(), self.folder)
        write_report(record, self.folder / REPORT_FILE)

    def _facts(self, tracking_uri: str) -> dict[str, Json]:
        names = ("paretta", "torch", "ray", "optuna", "onnx", "onnxruntime", "torch-pruning", "mlflow")
        return {
            "data_digest": self.checked.data_digest,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
            "story": self.sweep.story,
            "tracking_uri": without_password(tracking_uri),
            "lanes": self.num_lanes,
            "own_cluster": self.cluster.own,
        }


def print_result(front: SweepFront) -> None:
    """Print the front, where to look, and how to pull its knee."""
    console, home = Console(), front.folder.parent
    print_front(front)
    for trial in front.trials:
        if trial.status == "failed":
            console.print(ending(trial), markup=False, soft_wrap=True)
    at = "" if home == Home.at().path else f" --home {shlex.quote(str(home))}"
    console.print(f"report: {front.folder / REPORT_FILE}", markup=False, soft_wrap=True)
    console.print(f"{read_standing(front.folder)}", markup=False, soft_wrap=True)
    paretta = _program()
    console.print(f"browse: {paretta} board{at}", markup=False, soft_wrap=True)
    console.print(f"pull:   {paretta} pull {front.sweep} --prefer knee --to ./best{at}", markup=False, soft_wrap=True)


def _program() -> str:
    """Return how this program is called here: by its path where its environment is not active."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "paretta" and shutil.which("paretta") is None else "paretta"


class _Scribe(TuneCallback):
    """Writes down what Tune says of each trial."""

    def __init__(self, log: Logbook, seed: int) -> None:
        self.log, self.seed = log, seed

    def __reduce__(self) -> tuple[type[TuneCallback], tuple[()]]:
        """Be saved with the experiment as nothing: open files stay here, and a restored sweep brings its own."""
        return TuneCallback, ()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """A candidate begins."""
        self.log.trial(trial_of(trial.config, self.seed))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, object], **_: object
    ) -> None:
        """A candidate has news, or has ended."""
        if TRIAL in result:
            self.log.trial(Trial.from_document(json.loads(str(result[TRIAL]))))
        elif result.get(STATUS) == "running" and (message := json.loads(str(result["progress"]))):
            self.log.progress(trial_of(trial.config, self.seed).uid, message)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: object) -> None:
        """The actor behind a candidate died."""
        begun = trial_of(trial.config, self.seed)
        started = self.log.record.trials.get(begun.uid, begun).started
        reason = "the trial's actor died"
        self.log.trial(replace(begun, status="failed", reason=reason, started=started, finished=time.time()))


def _num_lanes(workers: WorkersConfig, trials: int) -> int:
    if workers.lanes != "auto":
        return workers.lanes
    return max(1, min(capacity(_resources(workers)) // workers.per_trial, trials))


def _resources(workers: WorkersConfig) -> dict[str, float]:
    return {name: amount for name, amount in (("CPU", workers.cpus), ("GPU", workers.gpus)) if amount}
