"""MLflow's model server for a delivered folder, on loopback."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from paretta.dashboards.server.server_process import (
    LOOPBACK,
    address,
    ended_by_any_signal,
    free_port,
    require_loopback,
    serving,
    wait_until_interrupted,
)
from paretta.dashboards.tracking.flavor import add_mlflow_files, copy_delivered
from paretta.dashboards.tracking.store import ENVIRONMENT

SERVING_PORT: Final = 8080
# The model is ONNX, so pickles need never be loaded.
_ENVIRONMENT: Final = {**ENVIRONMENT, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}


def serve_model(
    folder: Path, *, host: str = LOOPBACK, port: int = SERVING_PORT, say: Callable[[str], object] = print
) -> None:
    """Serve the model in `folder` at ``/invocations`` until interrupted. Raises as `open_model_server` does."""
    with ended_by_any_signal(), open_model_server(folder, host=host, port=port) as url:
        say(f"{url}/invocations")
        say(f"""try: curl -H 'Content-Type: application/json' -d '{{"inputs": [...]}}' {url}/invocations""")
        wait_until_interrupted(say)


@contextmanager
def open_model_server(folder: Path, *, host: str = LOOPBACK, port: int = SERVING_PORT) -> Iterator[str]:
    """Run the server while the context is open; yield its URL.

    Args:
        folder: folder of delivered files; they are copied, and nothing is written to it.
        host: a loopback address.
        port: port to listen on; 0 picks a free one.

    Raises:
        WrongInput: the port is taken, or the host is not a loopback address.
        DamagedArtifact: the files do not match their manifest.
        ParettaError: the server did not start.
    """
    require_loopback(host)
    port = free_port(host, port)
    with TemporaryDirectory(prefix="paretta-serve-") as scratch:
        model = Path(scratch) / "model"
        copy_delivered(folder, model)
        add_mlflow_files(model)
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
        command += ["--env-manager", "local", "--host", host, "--port", str(port)]
        url = address(host, port)
        log = Path(scratch) / "server.log"
        # MLflow starts uvicorn by its bare name; it is installed beside this interpreter, which may not be on PATH
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = {**_ENVIRONMENT, "PATH": programs}
        with serving(command, f"{url}/ping", log=log, cwd=Path(scratch), environment=environment):
            yield url
