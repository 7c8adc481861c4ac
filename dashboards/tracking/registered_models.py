"""The models of a sweep in MLflow: a logged model per member of the front, and registered versions for its roles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, TypeVar

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.dashboards.tracking.flavor import MANIFEST_FILE, MODEL_FILE, add_mlflow_files, copy_delivered
from paretta.dashboards.tracking.schema import (
    ARTIFACT_TAG,
    allowed_name,
    metrics_of,
    objective_points,
    sweep_id,
    task_name,
    trial_note,
)
from paretta.search_spaces.canonical import canonical_json
from paretta.search_spaces.errors import DamagedArtifact
from paretta.search_spaces.objectives.roles import alias
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
_DESCRIPTION: Final = "Members of the front of a sweep. Each alias names the member that has this role now."
_TAKEN: Final = "RESOURCE_ALREADY_EXISTS"
_MISSING: Final = "RESOURCE_DOES_NOT_EXIST"


class Write(Protocol):
    """Makes one request that changes the store, and counts it once the response has arrived."""

    def __call__(self, call: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs) -> _Result:
        """Make the request."""


@dataclass(slots=True)
class _Logged:
    """A logged model in the store: its location, and the tags that it is known to have."""

    model_id: str
    run_id: str
    location: str
    tags: dict[str, str]


def _logged(model: "LoggedModel") -> _Logged:
    return _Logged(model.model_id, str(model.source_run_id), model.artifact_location, dict(model.tags))


@dataclass(slots=True)
class Models:
    """The models of one sweep in the store, and how to update them from the front.

    Models are looked up by their tags ``sweep.id`` and ``trial.uid``, and a registered name by its ``sweep.id``, so
    that a creation whose response was lost is not repeated. A member that leaves the front stays, with the tag
    ``pareto=left``. An alias moves from one version to another in one request, so it always names exactly one.

    Args:
        client: client of the store.
        write: makes and counts the requests that change the store.
        served: whether the store is behind a server.

    Attributes:
        name: name of the registered model; empty before one is needed.
    """

    client: "MlflowClient"
    write: Write
    served: bool
    name: str = ""
    _logged: dict[str, _Logged] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)
    _version_tags: dict[str, dict[str, str]] = field(default_factory=dict)
    _descriptions: dict[str, str] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _doubtful: set[str] = field(default_factory=set)
    _uploaded: dict[str, Trial] = field(default_factory=dict)
    _done: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def find_existing(self, record: SweepRecord, experiment_id: str) -> None:
        """Look up the sweep's models in the store; of duplicates, keep the oldest."""
        logged: dict[str, _Logged] = {}
        for model in self._search(record, experiment_id, ""):
            uid = model.tags["trial.uid"]
            if uid in logged:
                self.write(self.client.delete_logged_model, model.model_id)
            else:
                logged[uid] = _logged(model)
        self._logged = logged
        mine = self.client.search_registered_models(f"tags.`sweep.id` = '{sweep_id(record)}'")
        if mine:
            self._find_versions(mine[0].name)

    def _search(self, record: SweepRecord, experiment_id: str, wanted: str) -> "list[LoggedModel]":
        found: list[LoggedModel] = []
        token: str | None = None
        order = [{"field_name": "creation_timestamp", "ascending": True}]
        query = f"tags.`sweep.id` = '{sweep_id(record)}'{wanted}"
        while True:
            page = self.client.search_logged_models([experiment_id], query, order_by=order, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _find_versions(self, name: str) -> None:
        self.name = name
        for known in sorted(self.client.search_model_versions(f"name = '{name}'"), key=lambda v: int(v.version)):
            if uid := known.tags.get("trial.uid"):
                self._versions.setdefault(uid, str(known.version))
                self._version_tags[str(known.version)] = dict(known.tags)
                self._descriptions[str(known.version)] = known.description or ""
        self._aliases = dict(self.client.get_registered_model(name).aliases)

    def sync(self, record: SweepRecord, front: Front, experiment_id: str, run_ids: Mapping[str, str]) -> None:
        """Log the models of the front's members, re-tag those that left the front, and update the aliases of its roles.

        A member whose delivered files are missing here is left out.
        """
        members = {trial.uid: trial for trial in front}
        roles: dict[str, list[str]] = {}
        for role, trial in holders(front).items():
            roles.setdefault(trial.uid, []).append(alias(role))
        for uid, trial in members.items():
            self._sync_model(record, trial, experiment_id, run_ids[uid])
        for uid, model in self._logged.items():
            tags = {"pareto": "true" if uid in members else "left", "pareto.role": ", ".join(roles.get(uid, []))}
            self._tag(model, tags)
        wanted = {name: uid for uid, names in roles.items() for name in names if self._is_complete(uid)}
        if wanted:
            self._register(record, wanted)
        self._mark_versions(members, roles)
        self._describe_versions(record, members)

    def rename(self, before: str, name: str) -> None:
        """Rename the models of a sweep that was called `before`; a registered model with another name keeps it."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        for model in self._logged.values():
            self._tag(model, {"sweep.name": name})
        if self.name != before:
            return
        try:
            self.write(self.client.rename_registered_model, before, name)
        except MlflowException as error:
            if error.error_code != _TAKEN:
                raise
        else:
            self.name = name

    def _is_complete(self, uid: str) -> bool:
        return uid in self._logged and ARTIFACT_TAG in self._logged[uid].tags

    def _sync_model(self, record: SweepRecord, trial: Trial, experiment_id: str, run_id: str) -> None:
        folder = record.folder / trial.artifact if trial.artifact else None
        if self._uploaded.get(trial.uid) is trial or folder is None or not (folder / MANIFEST_FILE).is_file():
            return
        with TemporaryDirectory(prefix="paretta-model-") as scratch:
            copy = Path(scratch) / "model"
            try:
                digests = copy_delivered(folder, copy)
            except DamagedArtifact:
                return  # test readings are being added to the files; an event will follow
            known = self._logged.get(trial.uid)
            if known is None or known.tags.get(ARTIFACT_TAG) != digests[MANIFEST_FILE]:
                self._log(record, trial, copy, digests, known or self._create(record, trial, experiment_id, run_id))
        self._uploaded[trial.uid] = trial  # its files change only before an event that reports the change

    def _create(self, record: SweepRecord, trial: Trial, experiment_id: str, run_id: str) -> _Logged:
        left: list[LoggedModel] = []
        if trial.uid in self._doubtful:
            left = self._search(record, experiment_id, f" and tags.`trial.uid` = '{trial.uid}'")
        self._doubtful.add(trial.uid)
        tags = {"sweep.id": sweep_id(record), "sweep.name": record.name, "trial.uid": trial.uid, "format": "onnx"}
        knobs = {allowed_name(name): canonical_json(value)[:500] for name, value in trial.knobs.items()}
        create, name = self.client.create_logged_model, f"{record.name}-{trial.uid}"
        model = left[0] if left else self.write(create, experiment_id, name, run_id, tags, knobs, "onnx")
        self._doubtful.discard(trial.uid)
        self._logged[trial.uid] = _logged(model)
        return self._logged[trial.uid]

    def _log(self, record: SweepRecord, trial: Trial, copy: Path, digests: Mapping[str, str], model: _Logged) -> None:
        """Upload the files, log their readings, and tag their digests last, which marks the model as complete.

        Requests that have succeeded are not repeated, so that an unreliable store makes progress.
        """
        from mlflow.entities import LoggedModelOutput  # noqa: PLC0415

        add_mlflow_files(copy, model_id=model.model_id, run_id=model.run_id)
        client, done = self.client, self._done.setdefault((trial.uid, digests[MANIFEST_FILE]), set())

        def once(step: str, call: Callable[_Given, object], *given: _Given.args, **named: _Given.kwargs) -> None:
            if step not in done:
                self.write(call, *given, **named)
                done.add(step)

        for path in sorted(copy.iterdir()):
            once(path.name, client.log_model_artifact, model.model_id, str(path))
        measured = metrics_of(objective_points(record, trial), model_id=model.model_id)
        once("metrics", client.log_batch, model.run_id, measured)
        outputs = client.get_run(model.run_id).outputs  # logging one twice is an error
        if outputs is None or model.model_id not in {known.model_id for known in outputs.model_outputs}:
            once("output", client.log_outputs, model.run_id, [LoggedModelOutput(model.model_id, 0)])
        once("ready", client.finalize_logged_model, model.model_id, "READY")
        words = {"plan.words": trial.words[:5_000], "task": task_name(record) or record.name}
        self._tag(model, {**words, "model.sha256": digests[MODEL_FILE], ARTIFACT_TAG: digests[MANIFEST_FILE]})

    def _tag(self, model: _Logged, tags: Mapping[str, str]) -> None:
        new = {key: value for key, value in tags.items() if model.tags.get(key) != value}
        if new:
            self.write(self.client.set_logged_model_tags, model.model_id, new)
            model.tags |= new

    def _register(self, record: SweepRecord, wanted: Mapping[str, str]) -> None:
        """Create a version for each member with a role, then move the aliases, and delete those without a member."""
        if not self.name:
            self.name = self._free_name(record)
        for uid in dict.fromkeys(wanted.values()):
            if uid not in self._versions:
                self._add_version(uid)
        for name, uid in wanted.items():
            if self._aliases.get(name) != self._versions[uid]:
                self.write(self.client.set_registered_model_alias, self.name, name, self._versions[uid])
                self._aliases[name] = self._versions[uid]
        for name in self._aliases.keys() - wanted.keys():
            self.write(self.client.delete_registered_model_alias, self.name, name)
            del self._aliases[name]

    def _free_name(self, record: SweepRecord) -> str:
        """Register the sweep's name, or its unique id if another sweep in the store has that name."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        mine = sweep_id(record)
        for name in (record.name, mine):
            try:
                self.write(self.client.create_registered_model, name, {"sweep.id": mine}, _DESCRIPTION)
            except MlflowException as error:
                if error.error_code != _TAKEN:
                    raise
                if self.client.get_registered_model(name).tags.get("sweep.id") != mine:
                    continue
            return name
        raise AssertionError(f"{mine} is registered for another sweep")

    def _add_version(self, uid: str) -> None:
        model, doubt = self._logged[uid], f"{uid} version"
        if doubt in self._doubtful:
            self._find_versions(self.name)
        self._doubtful.add(doubt)
        if uid not in self._versions:
            tags = {"trial.uid": uid, "sweep.id": model.tags["sweep.id"]}
            # without a server, MLflow would look up ``models:/ID`` in the process's default store
            source = f"models:/{model.model_id}" if self.served else model.location
            create = self.client.create_model_version
            made = self.write(create, self.name, source, model.run_id, tags, model_id=model.model_id)
            self._versions[uid] = str(made.version)
            self._version_tags[str(made.version)] = tags
        self._doubtful.discard(doubt)

    def _mark_versions(self, members: Mapping[str, Trial], roles: Mapping[str, list[str]]) -> None:
        """Tag each version with its current roles and the digest of its files, which an upload may have changed."""
        for uid, number in self._versions.items():
            if uid not in self._logged:
                continue
            known, model = self._version_tags[number], self._logged[uid]
            tags = {"pareto": "true" if uid in members else "left", "pareto.role": ", ".join(roles.get(uid, []))}
            tags |= {name: model.tags[name] for name in ("model.sha256", ARTIFACT_TAG) if name in model.tags}
            for key, value in tags.items():
                if known.get(key) != value:
                    self.write(self.client.set_model_version_tag, self.name, number, key, value)
                    known[key] = value

    def _describe_versions(self, record: SweepRecord, members: Mapping[str, Trial]) -> None:
        """Describe each version of a member by its plan, its readings with units, and what the user has noted of it."""
        for uid, number in self._versions.items():
            if uid in members:
                text = trial_note(members[uid], record.annotation(uid).note)
                if self._descriptions.get(number) != text:
                    self.write(self.client.update_model_version, self.name, number, text)
                    self._descriptions[number] = text
