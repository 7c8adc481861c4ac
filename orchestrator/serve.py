"""Serve a pulled model."""

from pathlib import Path

from search_spaces.errors import Problem, WrongInput


def serve(folder: Path, *, port: int) -> None:
    """Answer ``/invocations`` with the model in `folder` on loopback until interrupted.

    Raises:
        WrongInput: there is no such folder, or the port is taken.
        DamagedArtifact: its files are not what the manifest says, or the model does not answer.
    """
    from dashboards.model_server import serve_model  # noqa: PLC0415 - MLflow is loaded only to serve
    from pipelines.artifact import verify  # noqa: PLC0415
    from pipelines.smoke import require_answer  # noqa: PLC0415

    if not folder.is_dir():
        raise WrongInput(Problem("folder", "there is no such folder", str(folder), "name a pulled artifact's folder"))
    verify(folder)
    require_answer(folder)
    serve_model(folder, port=port)
