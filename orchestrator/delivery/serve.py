"""Serve a pulled model."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from paretta.search_spaces.errors import Problem, WrongInput


def serve(folder: Path, *, port: int, tell: Callable[[str], object] = print) -> None:
    """Serve the model in `folder` at ``/invocations`` on loopback until interrupted.

    MLflow's model server does it if MLflow is installed, otherwise a small server that needs ONNX Runtime alone and
    answers requests of the form ``{"inputs": ...}``. `tell` is called with a warning if integer kernels of this machine
    overflow with the model's weights.

    Raises:
        WrongInput: the folder does not exist, or the port is taken.
        DamagedArtifact: its files do not match the manifest, or the model does not run.
    """
    from paretta.dashboards.server.model_server import serve_model  # noqa: PLC0415 - each verb loads only what it needs
    from paretta.pipelines.artifact import MODEL, verify_files  # noqa: PLC0415
    from paretta.pipelines.kernels.saturation import warning_of  # noqa: PLC0415
    from paretta.pipelines.verification.answering import answering  # noqa: PLC0415
    from paretta.pipelines.verification.smoke import require_answer  # noqa: PLC0415

    if not folder.is_dir():
        raise WrongInput(Problem("folder", "there is no such folder", str(folder), "name a pulled artifact's folder"))
    verify_files(folder)
    require_answer(folder)
    if warning := warning_of(folder / MODEL):
        tell(warning)
    serve_model(folder, port=port, answer=None if find_spec("mlflow") else answering(folder))
