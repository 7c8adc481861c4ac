"""Serve a pulled model."""

from pathlib import Path

from paretta.search_spaces.errors import Problem, WrongInput


def serve(folder: Path, *, port: int) -> None:
    """Serve the model in `folder` at ``/invocations`` on loopback until interrupted.

    Raises:
        WrongInput: the folder does not exist, or the port is taken.
        DamagedArtifact: its files do not match the manifest, or the model does not run.
    """
    from paretta.dashboards.server.model_server import serve_model  # noqa: PLC0415 - MLflow is loaded only to serve
    from paretta.pipelines.artifact import verify_files  # noqa: PLC0415
    from paretta.pipelines.verification.smoke import require_answer  # noqa: PLC0415

    if not folder.is_dir():
        raise WrongInput(Problem("folder", "there is no such folder", str(folder), "name a pulled artifact's folder"))
    verify_files(folder)
    require_answer(folder)
    serve_model(folder, port=port)
