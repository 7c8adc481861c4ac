"""Remove, archive, restore or rename a whole sweep in MLflow."""

from typing import TYPE_CHECKING, Final

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.schema import sweep_id
from paretta.dashboards.tracking.store import open_existing, search_runs, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_ACTIVE: Final = 1
_DELETED: Final = 2


def remove_from_store(record: SweepRecord, tracking_uri: str) -> int:
    """Delete what the store has of a sweep, archived or not, and return the number of its runs.

    Runs go to MLflow's trash, from which `mlflow gc` removes them and their files for good.

    Raises:
        WrongInput: the store cannot be reached.
        StoreUnavailable: the store stopped responding; what is left is deleted by calling this again.
    """
    client, mine = open_existing(tracking_uri), _mine(record)
    with store_errors():
        for model in client.search_registered_models(mine):
            client.delete_registered_model(model.name)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        while logged := client.search_logged_models(experiments, mine):
            for found in logged:
                client.delete_logged_model(found.model_id)
        trashed = _runs(client, record, _DELETED)
        return _trash(client, record) + len(trashed)


def archive_in_store(record: SweepRecord, tracking_uri: str) -> int:
    """Move the runs of a sweep to MLflow's trash, and return their number; its registered model stays.

    Raises as `remove_from_store` does.
    """
    client = open_existing(tracking_uri)
    with store_errors():
        return _trash(client, record)


def restore_in_store(record: SweepRecord, tracking_uri: str) -> int:
    """Bring the runs of an archived sweep back from MLflow's trash, and return their number.

    A publication after it writes again what `mlflow gc` has removed since. Raises as `remove_from_store` does.
    """
    client = open_existing(tracking_uri)
    with store_errors():
        trashed = _runs(client, record, _DELETED)
        for run in trashed:
            client.restore_run(run.info.run_id)
    return len(trashed)


def rename_in_store(record: SweepRecord, tracking_uri: str) -> tuple[int, str]:
    """Give a sweep's runs, models and views the new name of its folder.

    A sweep that the store does not have is left out of it.

    Returns:
        The number of its runs, and the name of its registered model; empty if it has none.

    Raises:
        WrongInput: the store cannot be reached, or another process is publishing the sweep.
        StoreUnavailable: the store stopped responding.
    """
    client = open_existing(tracking_uri)
    with store_errors():
        found = len(_runs(client, record, _ACTIVE))
    if not found:
        return 0, ""
    publish_sweep(record, tracking_uri)
    with store_errors():
        models = list(client.search_registered_models(_mine(record)))
    return found, models[0].name if models else ""


def _mine(record: SweepRecord) -> str:
    return f"tags.`sweep.id` = '{sweep_id(record)}'"


def _runs(client: "MlflowClient", record: SweepRecord, stage: int) -> "list[Run]":
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(search_runs(client, experiments, _mine(record), stage))


def _trash(client: "MlflowClient", record: SweepRecord) -> int:
    runs = _runs(client, record, _ACTIVE)
    for run in runs:
        client.delete_run(run.info.run_id)
    return len(runs)
