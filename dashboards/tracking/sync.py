"""Synchronizing an MLflow store with the journal of one sweep; repeating it changes nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from paretta.dashboards.journal.annotation import Annotation
from paretta.dashboards.journal.front_growth import GrowthStep
from paretta.dashboards.report.html_report import write_report
from paretta.dashboards.report.table import write_tables
from paretta.dashboards.tracking.journal_tail import Tail
from paretta.dashboards.tracking.registered_models import Models
from paretta.dashboards.tracking.schema import (
    CONTENT_TAG,
    INPUT_TAG,
    REPORT_PATH,
    REPORT_TAG,
    STEP_TAG,
    RunContent,
    dataset_digest,
    experiment_name,
    front_marks,
    metrics_of,
    step_points,
    sweep_id,
    sweep_run,
    task_name,
    trial_run,
)
from paretta.dashboards.tracking.store import is_server, search_runs, store_errors
from paretta.dashboards.tracking.views import landing_note, write_views
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run

EXPERIMENT_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}
_SWEEP: Final = ""  # the parent run's key among runs that are keyed by trial uid
_METRICS: Final = 700  # a request may have at most 1,000 metrics, params and tags together
_PARAMS: Final = 100
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Known:
    """A run in the store: its id, and what it is known to contain."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]


def _known(run: "Run") -> _Known:
    return _Known(run.info.run_id, run.info.status, dict(run.data.tags), dict(run.data.params))


class Publication:
    """The runs of one sweep in the store, and how to update them from the journal.

    The store itself records how far it is: each run has the digest of its content, which is written last. So a
    publisher that was killed, or that finds the work of an earlier one, only writes what is missing. All writes but the
    creation of a run are idempotent; before a creation is retried, the run is looked up by its tag.

    Args:
        tail: the journal; read by the caller.
        client: client of the store.
        experiment: name of the experiment; by default derived from the task.
        artifacts: URI below which a new experiment stores its files; None leaves it to the store.

    Attributes:
        experiment_id: id of the experiment; empty before the first update.
        writes: number of requests that changed the store and whose response arrived.
    """

    def __init__(
        self, tail: Tail, client: "MlflowClient", *, experiment: str | None = None, artifacts: str | None = None
    ) -> None:
        """Remember the arguments; the store is first used by `update`."""
        self._tail = tail
        self._client = client
        self._experiment = experiment
        self._artifacts = artifacts
        self.experiment_id = ""
        self.writes = 0
        self._experiment_tags: dict[str, str] = {}
        self._known: dict[str, _Known] = {}
        self._doubtful: set[str] = set()
        self._written: dict[str, tuple[Trial, Annotation]] = {}
        self._refused: dict[str, str] = {}
        self._models = Models(client, self._write, served=is_server(client.tracking_uri))

    @property
    def run_id(self) -> str:
        """Id of the sweep's parent run; empty before there is one."""
        return self._known[_SWEEP].run_id if _SWEEP in self._known else ""

    @property
    def refused(self) -> tuple[str, ...]:
        """Runs that the store rejected, as ``name: reason``."""
        return tuple(f"{name}: {reason}" for name, reason in self._refused.items())

    def update(self) -> None:
        """Write what the store lacks. Raises `StoreUnavailable` if it does not respond; then call again later."""
        record = self._tail.record
        if not record.started:
            return
        with store_errors():
            self._find_existing()
            front = record.front()
            marks = front_marks(front)
            if _SWEEP not in self._known:
                self._create(_SWEEP, opening := sweep_run(record, ""), opening.tags)
            for trial in record.trials.values():
                self._sync_trial(trial, marks[trial.uid])
            self._sync_steps(front)
            runs = {uid: run.run_id for uid, run in self._known.items()}
            self._rename()
            self._models.sync(record, front, self.experiment_id, runs)
            self._sync_sweep(front)

    def _find_existing(self) -> None:
        """Look up the experiment and the sweep's runs, once; of duplicates, keep the oldest."""
        if self.experiment_id:
            return
        experiment_id, known = self._find_experiment(), dict[str, _Known]()
        for run in search_runs(self._client, [experiment_id], f"tags.`sweep.id` = '{sweep_id(self._tail.record)}'"):
            uid = run.data.tags.get("trial.uid", _SWEEP)
            if uid in known:
                self._write(self._client.delete_run, run.info.run_id)
            else:
                known[uid] = _known(run)
        self._models.find_existing(self._tail.record, experiment_id)
        self._known, self.experiment_id = known, experiment_id

    def _rename(self) -> None:
        """Give the parent run and the registered model the name of a sweep that was renamed.

        The parent's tag with the former name is replaced last, with its content, so that a broken attempt is repeated.
        A registered model with a name of its own keeps it.
        """
        parent, name = self._known[_SWEEP], self._tail.record.name
        before = parent.tags.get("sweep.name", name)
        if before != name:
            self._write(self._client.update_run, parent.run_id, name=name)
            self._models.rename(before, name)

    def _find_experiment(self) -> str:
        name = self._experiment or experiment_name(self._tail.record)
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, self._artifacts, EXPERIMENT_TAGS))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        self._experiment_tags = dict(found.tags)
        return str(found.experiment_id)

    def _create(self, uid: str, content: RunContent, tags: Mapping[str, str]) -> _Known:
        """Create the run of `uid`, or reuse the one that an earlier attempt created although its response was lost."""
        sweep = f"tags.`sweep.id` = '{sweep_id(self._tail.record)}'"
        wanted = f"tags.`trial.uid` = '{uid}'" if uid else "tags.`sweep.kind` = 'sweep'"
        left: Run | None = None
        if uid in self._doubtful:
            left = next(search_runs(self._client, [self.experiment_id], f"{sweep} and {wanted}"), None)
        self._doubtful.add(uid)
        run = left or self._write(self._client.create_run, self.experiment_id, content.start, dict(tags), content.name)
        self._doubtful.discard(uid)
        self._known[uid] = _known(run)
        return self._known[uid]

    def _write(self, call: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs) -> _Result:
        """Make one request that changes the store, and count it once the response has arrived."""
        result = call(*given, **named)
        self.writes += 1
        return result

    def _sync_trial(self, trial: Trial, marks: Mapping[str, str]) -> None:
        run, about = self._known.get(trial.uid), self._tail.record.annotation(trial.uid)
        before = self._written.get(trial.uid)
        if run is not None and before is not None and before[0] is trial and before[1] == about:
            self._tag(run, marks)
            return
        content = trial_run(self._tail.record, trial, self._tail.curves.get(trial.uid, ()))
        tags = {**content.tags, **marks, "mlflow.parentRunId": self._known[_SWEEP].run_id}
        run = run or self._create(trial.uid, content, tags)
        self._sync_run(run, content, tags)
        self._untag(run, about)
        self._written[trial.uid] = trial, about

    def _sync_run(self, run: _Known, content: RunContent, tags: Mapping[str, str]) -> None:
        """Write a run's content unless the store has it; the last request contains the digest."""
        from mlflow.entities import Param  # noqa: PLC0415
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        if run.tags.get(CONTENT_TAG) == content.digest:
            self._tag(run, tags)
            return
        try:
            self._set_status(run, content)
            new = {key: value for key, value in content.params.items() if key not in run.params}  # params are immutable
            params, metrics = [Param(key, value) for key, value in new.items()], metrics_of(content.points)
            while len(params) > _PARAMS or len(metrics) > _METRICS:
                self._write(self._client.log_batch, run.run_id, metrics[:_METRICS], params[:_PARAMS])
                params, metrics = params[_PARAMS:], metrics[_METRICS:]
            self._tag(run, {**tags, CONTENT_TAG: content.digest}, metrics, params)
            run.params |= new
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self._refused[content.name] = str(error)  # a retry would not help; the journal still has it

    def _set_status(self, run: _Known, content: RunContent) -> None:
        if content.end is not None:
            self._write(self._client.set_terminated, run.run_id, content.status, content.end)
        elif run.status != content.status:
            self._write(self._client.update_run, run.run_id, content.status)
        run.status = content.status

    def _tag(
        self, run: _Known, tags: Mapping[str, str], metrics: Sequence["Metric"] = (), params: Sequence["Param"] = ()
    ) -> None:
        """Log metrics and params together with the tags that have changed, in one request."""
        from mlflow.entities import RunTag  # noqa: PLC0415

        new = {key: value for key, value in tags.items() if run.tags.get(key) != value}
        if new or metrics or params:
            tags_of_run = [RunTag(key, value) for key, value in new.items()]
            self._write(self._client.log_batch, run.run_id, metrics, params, tags_of_run)
            run.tags |= new

    def _untag(self, run: _Known, about: Annotation) -> None:
        """Delete the tags that a user has removed; those that were set in MLflow by hand stay."""
        for key in about.removed & run.tags.keys():
            self._write(self._client.delete_tag, run.run_id, key)
            del run.tags[key]

    def _sync_steps(self, front: Front) -> None:
        """Write the growth of the front trial by trial; the last step of an ended sweep is the whole front again.

        Trials are compared with those that are there, so the two differ where a later reading drops a member.
        """
        record, parent = self._tail.record, self._known[_SWEEP]
        steps = record.history()
        new = steps[int(parent.tags.get(STEP_TAG, 0)) :]
        if steps and record.status != "running" and (new or parent.tags.get("sweep.status") != record.status):
            new = [*new, GrowthStep.of(front, len(steps), record.updated, steps[-1].uid)]
        points = [point for step in new for point in step_points(step)]
        for start in range(0, len(points), _METRICS):
            self._write(self._client.log_batch, parent.run_id, metrics_of(points[start : start + _METRICS]))
        self._tag(parent, {STEP_TAG: str(len(steps))})

    def _sync_input(self, run: _Known) -> None:
        from mlflow.entities import Dataset, DatasetInput  # noqa: PLC0415

        record, content = self._tail.record, dataset_digest(self._tail.record)
        if not content or run.tags.get(INPUT_TAG) == content:
            return
        name = task_name(record) or record.name
        data = Dataset(name=name, digest=content, source_type="paretta task", source=json.dumps({"task": name}))
        self._write(self._client.log_inputs, run.run_id, [DatasetInput(data)])
        self._tag(run, {INPUT_TAG: content})

    def _sync_sweep(self, front: Front) -> None:
        """Write the content of the parent run: its landing text and, once the sweep has ended, its report."""
        record, run = self._tail.record, self._known[_SWEEP]
        write_views(self._client, self.experiment_id, record, self._experiment_tags)
        self._sync_input(run)
        content = sweep_run(record, landing_note(record, front, self.experiment_id, run.run_id))
        if record.status != "running" and run.tags.get(REPORT_TAG) != content.digest:
            with TemporaryDirectory(prefix="paretta-report-") as folder:
                write_tables(front, Path(folder))
                write_report(record, Path(folder) / "report.html")
                self._write(self._client.log_artifacts, run.run_id, folder, REPORT_PATH)
            self._tag(run, {REPORT_TAG: content.digest})
        self._sync_run(run, content, content.tags)
        self._untag(run, record.annotation())
