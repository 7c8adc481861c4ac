"""Removing a sweep from MLflow: its runs, its logged models and its registered model."""

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.schema import sweep_id
from paretta.dashboards.tracking.store import open_store, probe, search_runs, store_errors


def remove_from_store(record: SweepRecord, tracking_uri: str) -> int:
    """Delete what the store has of a sweep, and return the number of its runs.

    Runs go to MLflow's trash, from which `mlflow gc` removes them and their files for good.

    Raises:
        WrongInput: the store cannot be reached.
        StoreUnavailable: the store stopped responding; what is left is deleted by calling this again.
    """
    probe(tracking_uri)
    client, mine = open_store(tracking_uri), f"tags.`sweep.id` = '{sweep_id(record)}'"
    with store_errors():
        for model in client.search_registered_models(mine):
            client.delete_registered_model(model.name)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = list(search_runs(client, experiments, mine))
        while logged := client.search_logged_models(experiments, mine):
            for found in logged:
                client.delete_logged_model(found.model_id)
        for run in runs:
            client.delete_run(run.info.run_id)
    return len(runs)
