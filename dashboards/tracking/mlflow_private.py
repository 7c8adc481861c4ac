"""Uses of MLflow's private interface, each in one function; a test reports which one an MLflow version removed."""


def create_tables(tracking_uri: str, artifacts: str) -> None:
    """Create or upgrade the tables of a database, as its first client would; artifacts are stored below `artifacts`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - loads MLflow

    SqlAlchemyStore(tracking_uri, artifacts)  # type: ignore[no-untyped-call]
