"""Reading a sweep back from MLflow: its trials, its front, and the delivered files of a trial."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, cast

from paretta.dashboards.journal.record import limits_of, wishes_of
from paretta.dashboards.tracking.flavor import MANIFEST_FILE, copy_delivered
from paretta.dashboards.tracking.schema import ARTIFACT_TAG, SWEEP_TAG, join_document, trial_from_run
from paretta.dashboards.tracking.store import open_existing, search_runs, store_errors
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import DamagedArtifact, Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

_MODEL_URI: Final = re.compile(r"models:/([^/@:]+)([@/])([^/@]+)")


def read_back(tracking_uri: str, sweep: str, *, front_only: bool = False) -> list[Trial]:
    """Return the trials of a sweep, the baseline included, in order of their numbers.

    Args:
        tracking_uri: the store.
        sweep: its name, or its `sweep.id` if several sweeps in the store share a name.
        front_only: return only the front and the baseline, which is much faster for a large sweep.

    Raises:
        WrongInput: the store cannot be reached, or has no such sweep, or several.
    """
    client, parent = _open_sweep(tracking_uri, sweep)
    return _trials(client, parent, front_only)


def read_front(tracking_uri: str, sweep: str) -> Front:
    """Return the front of a sweep as recorded in the store. Raises as `read_back` does."""
    client, parent = _open_sweep(tracking_uri, sweep)
    document = join_document(SWEEP_TAG, parent.data.tags)
    goals = cast(Sequence[dict[str, str]], document["objectives"])
    objectives = [Objective(goal["meter"], "max" if goal["goal"] == "max" else "min", goal["unit"]) for goal in goals]
    config = cast(Document, document["config"])
    trials = _trials(client, parent, front_only=True)
    reference = limits_of(config, "reference")
    return Front.of(
        trials, objectives, str(document["name"]), limits_of(config), wishes_of(config), reference=reference
    )


def download(tracking_uri: str, sweep: str, uid: str, to: Path) -> Path:
    """Download the delivered files of trial `uid` into the new folder `to`, and return `to`.

    MLflow keeps no checksums, so every file is checked against the manifest, and the manifest against the model's tag.

    Raises:
        WrongInput: as `read_back`, or there is no such trial, or it has no model in the store.
        DamagedArtifact: the downloaded files are not those that were logged.
    """
    client, parent = _open_sweep(tracking_uri, sweep)
    with store_errors():
        found = list(_children(client, parent, f" and tags.`trial.uid` = '{uid}'"))
        if not found:
            known = (run.data.tags["trial.uid"] for run in _children(client, parent, " and tags.pareto = 'true'"))
            raise WrongInput(Problem(sweep, did_you_mean(uid, known, "trial of the front")))
        wanted = f"tags.`sweep.id` = '{parent.data.tags['sweep.id']}' and tags.`trial.uid` = '{uid}'"
        models = client.search_logged_models([parent.info.experiment_id], wanted)
    complete = [model for model in models if ARTIFACT_TAG in model.tags]
    if not complete:
        hint = "pull from the sweep's own folder, or choose a member of the front"
        raise WrongInput(Problem(f"{sweep} {uid}", "its files are not in the store", hint=hint))
    return _download(tracking_uri, complete[0].artifact_location, complete[0].tags[ARTIFACT_TAG], to)


def download_registered(tracking_uri: str, uri: str, to: Path) -> Path:
    """Download the delivered files of a registered model, such as ``models:/digits@knee``, into the new folder `to`.

    Raises:
        WrongInput: the store cannot be reached, or has no such model, alias or version.
        DamagedArtifact: the downloaded files are not those that were registered.
    """
    client = open_existing(tracking_uri)
    with store_errors():
        version = _registered(client, uri)
        location = client.get_model_version_download_uri(version.name, version.version)
    return _download(tracking_uri, location, version.tags.get(ARTIFACT_TAG), to)


def _registered(client: "MlflowClient", uri: str) -> "ModelVersion":
    found = _MODEL_URI.fullmatch(uri)
    if not found:
        rule = "a registered model is models:/NAME@ALIAS or models:/NAME/VERSION"
        raise WrongInput(Problem("model", rule, uri, "write it like models:/digits@knee"))
    name, kind, chosen = found.groups()
    models = {model.name: model for model in client.search_registered_models()}
    if name not in models:
        raise WrongInput(Problem(uri, did_you_mean(name, models, "registered model")))
    numbers = models[name].aliases if kind == "@" else {str(v.version): str(v.version) for v in _versions(client, name)}
    if chosen not in numbers:
        noun = "alias" if kind == "@" else "version"
        raise WrongInput(Problem(uri, did_you_mean(chosen, numbers, f"{noun} of {name}")))
    return client.get_model_version(name, numbers[chosen])


def _versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    return list(client.search_model_versions(f"name = '{name}'"))


def _download(tracking_uri: str, location: str, manifest: str | None, to: Path) -> Path:
    """Download and check the delivered files of a model, without MLflow's own; `to` is created only if all is well.

    `location` is the URI of the files themselves: MLflow would look up ``models:/ID`` in the process's default store.
    """
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415

    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to.parent, prefix=".paretta-") as scratch:
        with store_errors():
            source = download_artifacts(artifact_uri=location, dst_path=scratch, tracking_uri=tracking_uri)
        copy = Path(scratch) / "delivered"
        digests = copy_delivered(Path(source), copy)
        if manifest is not None and digests[MANIFEST_FILE] != manifest:
            found = digests[MANIFEST_FILE]
            raise DamagedArtifact(f"{location} {MANIFEST_FILE}: expected sha256 {manifest}, found {found}")
        shutil.move(copy, to)
    return to


def _open_sweep(tracking_uri: str, sweep: str) -> "tuple[MlflowClient, Run]":
    client = open_existing(tracking_uri)
    with store_errors():
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        sweeps = list(search_runs(client, experiments, "tags.`sweep.kind` = 'sweep'"))
    found = [run for run in sweeps if sweep in (run.data.tags["sweep.id"], run.data.tags["sweep.name"])]
    if not found:
        names = {run.data.tags["sweep.name"] for run in sweeps}
        raise WrongInput(Problem("--tracking-uri", did_you_mean(sweep, names, "sweep in the store")))
    if len(found) > 1:
        ids = ", ".join(run.data.tags["sweep.id"] for run in found)
        raise WrongInput(Problem(sweep, f"{len(found)} sweeps of the store have this name", hint=f"give one of {ids}"))
    return client, found[0]


def _trials(client: "MlflowClient", parent: "Run", front_only: bool) -> list[Trial]:
    wanted = " and tags.pareto = 'true'" if front_only else ""
    with store_errors():
        runs = list(_children(client, parent, wanted))
        if front_only:
            runs += list(_children(client, parent, " and tags.`sweep.kind` = 'baseline' and tags.pareto = 'false'"))
    return sorted((trial_from_run(run.data.tags) for run in runs), key=lambda trial: trial.number)


def _children(client: "MlflowClient", parent: "Run", wanted: str) -> "Iterator[Run]":
    sweep = f"tags.`sweep.id` = '{parent.data.tags['sweep.id']}' and tags.`sweep.kind` != 'sweep'"
    return search_runs(client, [parent.info.experiment_id], f"{sweep}{wanted}")
