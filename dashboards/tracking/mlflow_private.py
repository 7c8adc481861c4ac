"""The parts of MLflow that are not its public interface, each in one function; a test names the one that is gone."""


def create_tables(tracking_uri: str, artifacts: str) -> None:
    """Create or upgrade the tables of a database, as the first client of it would; artifacts go below `artifacts`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - loads MLflow

    SqlAlchemyStore(tracking_uri, artifacts)  # type: ignore[no-untyped-call]
