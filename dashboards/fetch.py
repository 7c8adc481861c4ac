"""Reads a sweep back out of MLflow: its trials, its front, and the delivered files of one of them."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from dashboards.journal import limits_of
from dashboards.ledger import ARTIFACT_PATH, SWEEP_TAG, join_document, trial_of
from dashboards.store import open_store, probe, search_runs, store_errors
from search_spaces.errors import Problem, WrongInput, did_you_mean
from search_spaces.front import Front
from search_spaces.objectives import Objective
from search_spaces.plan import Document
from search_spaces.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def read_back(tracking_uri: str, sweep: str, *, front_only: bool = False) -> list[Trial]:
    """Return the trials of a sweep, the baseline included, in order of their numbers.

    Args:
        tracking_uri: the store.
        sweep: its name, or its `sweep.id` where several sweeps of the store share a name.
        front_only: leave out what is not on the front; the baseline stays. Far quicker on a large sweep.

    Raises:
        WrongInput: the store cannot be reached, or has no such sweep, or several.
    """
    client, parent = _open_sweep(tracking_uri, sweep)
    return _trials(client, parent, front_only)


def read_front(tracking_uri: str, sweep: str) -> Front:
    """Return the front of a sweep as it stands in the store. Raises as `read_back` does."""
    client, parent = _open_sweep(tracking_uri, sweep)
    document = join_document(SWEEP_TAG, parent.data.tags)
    goals = cast(Sequence[dict[str, str]], document["objectives"])
    objectives = [Objective(goal["meter"], "max" if goal["goal"] == "max" else "min", goal["unit"]) for goal in goals]
    limits = limits_of(cast(Document, document["config"]))
    return Front.of(_trials(client, parent, front_only=True), objectives, str(document["name"]), limits)


def download(tracking_uri: str, sweep: str, uid: str, to: Path) -> Path:
    """Bring the delivered files of trial `uid` into the new folder `to`, and return it.

    MLflow keeps no checksums and answers with an empty folder for files that were cleaned away: verify the manifest.

    Raises:
        WrongInput: as `read_back`, or there is no such trial, or it has no files in the store.
    """
    client, parent = _open_sweep(tracking_uri, sweep)
    with store_errors():
        found = list(_children(client, parent, f" and tags.`trial.uid` = '{uid}'"))
        if not found:
            known = (run.data.tags["trial.uid"] for run in _children(client, parent, " and tags.pareto = 'true'"))
            raise WrongInput(Problem(sweep, did_you_mean(uid, known, "trial of the front")))
        run_id = found[0].info.run_id
        if not client.list_artifacts(run_id, ARTIFACT_PATH):
            mend = "pull from the sweep's own folder, or choose a member of the front"
            raise WrongInput(Problem(f"{sweep} {uid}", "its files are not in the store", mend=mend))
        to.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=to.parent, prefix=".paretta-") as part:
            client.download_artifacts(run_id, ARTIFACT_PATH, part)
            shutil.move(Path(part) / ARTIFACT_PATH, to)
    return to


def _open_sweep(tracking_uri: str, sweep: str) -> "tuple[MlflowClient, Run]":
    probe(tracking_uri)
    client = open_store(tracking_uri)
    with store_errors():
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        sweeps = list(search_runs(client, experiments, "tags.`sweep.kind` = 'sweep'"))
    found = [run for run in sweeps if sweep in (run.data.tags["sweep.id"], run.data.tags["sweep.name"])]
    if not found:
        names = {run.data.tags["sweep.name"] for run in sweeps}
        raise WrongInput(Problem("--tracking-uri", did_you_mean(sweep, names, "sweep in the store")))
    if len(found) > 1:
        ids = ", ".join(run.data.tags["sweep.id"] for run in found)
        raise WrongInput(Problem(sweep, f"{len(found)} sweeps of the store have this name", mend=f"give one of {ids}"))
    return client, found[0]


def _trials(client: "MlflowClient", parent: "Run", front_only: bool) -> list[Trial]:
    wanted = " and tags.pareto = 'true'" if front_only else ""
    with store_errors():
        runs = list(_children(client, parent, wanted))
        if front_only:
            runs += list(_children(client, parent, " and tags.`sweep.kind` = 'baseline' and tags.pareto = 'false'"))
    return sorted((trial_of(run.data.tags) for run in runs), key=lambda trial: trial.number)


def _children(client: "MlflowClient", parent: "Run", wanted: str) -> "Iterator[Run]":
    sweep = f"tags.`sweep.id` = '{parent.data.tags['sweep.id']}' and tags.`sweep.kind` != 'sweep'"
    return search_runs(client, [parent.info.experiment_id], f"{sweep}{wanted}")
