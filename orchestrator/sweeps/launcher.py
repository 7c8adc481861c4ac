"""Run a sweep from its file to its front, or resume an interrupted one."""

import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from paretta.dashboards.journal.home_names import is_archived
from paretta.dashboards.journal.journal import written_elsewhere
from paretta.dashboards.journal.liveness import is_written
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.store import probe
from paretta.orchestrator.cluster.capacity import has_room, lane_bundles, lanes_that_fit, require_capacity
from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.cluster.fair_share import LaneRequest, total
from paretta.orchestrator.cluster.lane_broker import await_room, unique_name
from paretta.orchestrator.cluster.measuring_slot import choose_slot, driver_node
from paretta.orchestrator.config.carried_task import CARRIED_FILE, TASK_FOLDER
from paretta.orchestrator.config.check import Checked, agent_of, check
from paretta.orchestrator.config.sections import BudgetConfig
from paretta.orchestrator.config.settled_compute import settled_compute, settled_range
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.lanes.stream_shards import cpus_beside
from paretta.orchestrator.search.experience import Experience
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.storage.mirror import taken_home
from paretta.orchestrator.storage.object_store import Storage, below, check_storage, is_uri
from paretta.orchestrator.storage.preflight import require_reached
from paretta.orchestrator.sweeps.context import PreparedSweep, SweepFailed
from paretta.orchestrator.sweeps.earlier import Earlier, earlier_sweeps
from paretta.orchestrator.sweeps.learning import experience_for, recorded_experience
from paretta.orchestrator.sweeps.result import SweepFront
from paretta.orchestrator.sweeps.signals import SweepStopped, stop_signals
from paretta.orchestrator.sweeps.sweep_run import run_sweep
from paretta.pipelines.reuse.code_digest import changed_files
from paretta.search_spaces.errors import Problem, WrongInput, in_error_tree
from paretta.search_spaces.yaml_io import parse_yaml, write_yaml

__all__ = ["SweepFailed", "SweepStopped", "extend", "launch", "resume"]

SWEEP_FILE = "sweep.yaml"
_log = logging.getLogger("paretta")


@in_error_tree
def launch(
    sweep: str | Path | Sweep,
    *,
    home: str | Path | None = None,
    name: str | None = None,
    address: str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    stopper: str | None = None,
    confirm: int | None = None,
) -> SweepFront:
    """Run a sweep and return its front.

    Args:
        sweep: a preset's name, a sweep file, or a sweep from Python.
        home: folder of the sweeps; ``$PARETTA_HOME`` or ``./sweeps`` by default.
        name: of this sweep; by default the file's name, with a number appended if it is taken.
        address: of a running Ray cluster, or ``auto``; by default a cluster is started for the sweep.
        storage: URI of any file system that pyarrow supports, such as ``s3://bucket/sweeps``. It carries artifacts and
            checkpoints between nodes without a shared disk, and the sweep can be read from it elsewhere. By default
            every node must see `home`.
        tracking_uri: of an MLflow store; by default a SQLite file in `home`.
        trials: the number of trials; overrides the file's.
        seed: overrides the file's.
        sampler: overrides the file's.
        stopper: overrides the file's.
        confirm: with how many new seeds the front is trained again after the search; overrides the file's.

    Raises:
        WrongInput: the input is wrong; nothing was computed or written.
        SweepFailed: the sweep could not go on.
        SweepStopped: it was stopped by a signal; `resume` continues it.
        StorageError: the operating system refuses, such as to write to `home`.
    """
    read = sweep if isinstance(sweep, Sweep) else Sweep.read(str(sweep))
    read = read.changed(trials=trials, seed=seed, sampler=sampler, stopper=stopper, confirm=confirm)
    place = Home.at(home)
    place.check_writable()
    with place.claimed(name, read.name) as folder:
        store = tracking_uri or place.tracking_uri()
        probe(store)
        placed = None if storage is None else _free_place(storage, folder.name)
        read = read.placed(folder)
        checked = check(read)
        for settle in (settled_range, settled_compute):
            read, decided = settle(read, checked)
            if decided is not None:
                _log.warning(decided)
        earlier, learned = earlier_sweeps(read, checked, place), experience_for(read, checked, place)
        with (
            _prepared(read, checked, folder, address, earlier, storage=placed, learned=learned) as prepared,
            stop_signals() as stopping,
        ):
            (folder / SWEEP_FILE).write_text(write_yaml(read.document()), encoding="utf-8")
            return run_sweep(prepared, stopping, store)


@in_error_tree
def resume(
    sweep: str,
    *,
    home: str | Path | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    changed_code: bool = False,
) -> SweepFront:
    """Continue an interrupted sweep, whatever ended it, and return its front.

    No trial that ended is trained again; a running one is started again and continues from its last checkpoint. The
    search continues as if it had not been interrupted, see `paretta.orchestrator.tune.resume`.

    Args:
        sweep: its name, its folder, or the URI of its files in a storage, which are first copied to `home`.
        home: folder of the sweeps; ``$PARETTA_HOME`` or ``./sweeps`` by default.
        address: of a running Ray cluster, or ``auto``; by default a cluster is started for the sweep.
        tracking_uri: of an MLflow store; by default a SQLite file in `home`. Existing runs are continued.
        changed_code: accept that the task's code has changed; the caller asserts that this affects no reading.

    Raises:
        WrongInput: the sweep does not exist, another process runs it, or its data or code has changed.
        SweepFailed: the sweep could not go on.
        SweepStopped: it was stopped again.
    """
    return _go_on(sweep, home, address, tracking_uri, changed_code=changed_code)


@in_error_tree
def extend(
    sweep: str,
    trials: int,
    *,
    home: str | Path | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    changed_code: bool = False,
) -> SweepFront:
    """Add `trials` trials to a sweep that ended, in whatever way, and return its new front.

    The search goes on from all results so far. Then the times of the front are read side by side again, and the test
    split is read for members that are new. The other arguments are those of `resume`.

    Raises:
        WrongInput: as `resume`; or the number is below 1, or the sweep has a budget, which counts from its beginning.
        SweepFailed: the sweep could not go on.
        SweepStopped: it was stopped; `resume` goes on with it.
    """
    if trials < 1:
        raise WrongInput(Problem("--trials", "at least one trial must be added", trials))
    return _go_on(sweep, home, address, tracking_uri, changed_code=changed_code, more=trials)


def _go_on(
    sweep: str,
    home: str | Path | None,
    address: str | None,
    tracking_uri: str | None,
    *,
    changed_code: bool,
    more: int = 0,
) -> SweepFront:
    place = Home.at(home)
    folder = taken_home(place, sweep) if is_uri(sweep) else place.find(sweep)
    if is_archived(folder):
        hint = f"bring it back with `paretta archive --undo {shlex.quote(folder.name)}`"
        raise WrongInput(Problem(str(folder), "this sweep is archived", hint=hint))
    record = SweepRecord.read(folder)
    if record.status == "done" and not more:
        return SweepFront.read(folder)
    if is_written(folder):
        raise written_elsewhere(folder)
    if "folder" not in record.facts:
        raise WrongInput(Problem(str(folder), "the sweep ended before it had started", hint="launch it again"))
    store = tracking_uri or place.tracking_uri()
    probe(store)
    read = _recorded(record)
    if more and read.config.budget != BudgetConfig():
        rule = "the budget of a sweep counts from its beginning, so trials cannot be added"
        hint = f"launch a new sweep with search: {{warm_start: [{record.name}]}}"
        raise WrongInput(Problem(f"sweep {record.name}", rule, hint=hint))
    if more:
        read = read.changed(trials=read.config.search.trials + more)
    checked = check(read)
    if checked.data_digest != record.facts["data_digest"]:
        rule = f"the task's data has changed since the sweep started ({record.facts['data_digest']})"
        hint = "restore the data, or launch a new sweep"
        raise WrongInput(Problem(f"sweep {record.name}", rule, checked.data_digest, hint))
    if not changed_code:
        _require_same_code(record, checked)
    placed = cast("str | None", record.facts.get("storage"))
    if placed is not None:
        check_storage(placed, f"sweep {record.name}: its storage")
    earlier, learned = earlier_sweeps(read, checked, place), recorded_experience(record)
    with (
        _prepared(read, checked, folder, address, earlier, storage=placed, learned=learned) as prepared,
        stop_signals() as stopping,
    ):
        return run_sweep(prepared, stopping, store)


def _require_same_code(record: SweepRecord, checked: Checked) -> None:
    """Refuse to mix readings of different code; journals of earlier versions do not record the code."""
    changed = changed_files(cast("Mapping[str, str]", record.facts.get("code") or {}), checked.code)
    if changed:
        rule = "the task's code has changed since the sweep started, so its trials cannot be compared with new ones"
        hint = "restore the code; or launch a new sweep; or add --changed-code if the change cannot affect any reading"
        raise WrongInput(Problem(f"sweep {record.name}", rule, f"{', '.join(changed)} changed", hint))


def _free_place(storage: str, name: str) -> str:
    """Return the URI of the sweep's files. Raises `WrongInput` if it cannot be written or already holds a sweep."""
    check_storage(storage)
    placed = below(storage, name)
    if SWEEP_FILE in Storage(placed).names():
        rule = f"the storage already has a sweep called {name}"
        raise WrongInput(Problem("--storage", rule, placed, "choose another name with --name"))
    return placed


def _recorded(record: SweepRecord) -> Sweep:
    """Read the sweep file from the journal; the file on disk may have been edited since.

    A cluster job's folder is removed with the job, so a resumed job looks for the task in its own working directory.
    """
    source = parse_yaml(write_yaml(record.config), f"the journal of {record.name}")
    folder = Path(str(record.facts["folder"]))
    if (record.folder / TASK_FOLDER / CARRIED_FILE).is_file():
        folder = record.folder / TASK_FOLDER  # the sweep may have been moved since
    return Sweep.parse(source, record.name, folder if folder.is_dir() else Path.cwd())


def _await_nodes(sweep: Sweep, name: str, beside: float) -> None:
    """Ask the autoscaler of a running cluster for the nodes of the first lanes, and wait for them for a while."""
    workers = sweep.config.workers
    lanes = 1 if workers.lanes == "auto" else workers.lanes

    def room() -> bool:
        return has_room(lanes, workers.per_trial, workers.resources(), beside=beside)

    if room():
        return
    limit = workers.start_timeout_s
    _log.warning("the cluster has no room yet for %d lane(s); waiting up to %g s for nodes", lanes, limit)
    bundles = tuple(lane_bundles(workers.per_trial, workers.resources(), beside=beside))
    useful = workers.useful_lanes(sweep.config.search.trials)
    request = LaneRequest(total(bundles), 0, 0, workers.priority, useful=useful, bundles=bundles)
    await_room(unique_name(name), request, room, timeout_s=limit)


@contextmanager
def _prepared(
    sweep: Sweep,
    checked: Checked,
    folder: Path,
    address: str | None,
    earlier: tuple[Earlier, ...],
    *,
    storage: str | None,
    learned: Experience | None,
) -> Iterator[PreparedSweep]:
    """Connect to the cluster and check that it has what the sweep needs; writes nothing."""
    workers, measuring = sweep.config.workers, sweep.config.measuring
    travels = None if address is None or sweep.is_preset else sweep.folder
    with connect(address, working_dir=travels) as cluster:
        beside = cpus_beside(streams=checked.task.stream is not None)
        if not cluster.own:
            _await_nodes(sweep, folder.name, beside)
        fitting = lanes_that_fit(workers.per_trial, workers.resources(), sweep.config.search.trials, beside=beside)
        lanes = fitting if workers.lanes == "auto" else workers.lanes
        require_capacity(lanes, workers.per_trial, workers.resources(), beside=beside)
        where = sweep.source.where("measuring")
        if not cluster.own:
            require_reached(folder.parent, storage)
        agent = agent_of(sweep)
        if agent is None:
            slot = choose_slot(measuring.resource, measuring.resources, measuring.labels, where=where)
        else:
            slot = driver_node()
        yield PreparedSweep(sweep, checked, folder, lanes, cluster, slot, earlier, storage, learned, agent)
