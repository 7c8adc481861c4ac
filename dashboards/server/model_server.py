"""The model server for a delivered folder, on loopback: MLflow's, or a small one where MLflow is not installed."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from paretta.dashboards.server.json_server import Answer, open_json_server
from paretta.dashboards.server.server_process import (
    LOOPBACK,
    address,
    ended_by_any_signal,
    free_port,
    require_loopback,
    serving,
    wait_until_interrupted,
)
from paretta.dashboards.tracking.flavor import SAMPLE_FILE, add_mlflow_files, copy_delivered
from paretta.dashboards.tracking.store import ENVIRONMENT

SERVING_PORT: Final = 8080
_LONGEST_BODY: Final = 400  # characters of a request that is printed whole
# The model is ONNX, so pickles need never be loaded.
_ENVIRONMENT: Final = {**ENVIRONMENT, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}


def serve_model(
    folder: Path,
    *,
    host: str = LOOPBACK,
    port: int = SERVING_PORT,
    say: Callable[[str], object] = print,
    answer: Answer | None = None,
) -> None:
    """Serve the model in `folder` at ``/invocations`` until interrupted. Raises as `open_model_server` does.

    Args:
        folder: folder of delivered files.
        host: a loopback address.
        port: port to listen on; 0 picks a free one.
        say: called with each line to show to the user.
        answer: answers requests in this process; None starts MLflow's server.
    """
    with (
        ended_by_any_signal(),
        TemporaryDirectory(prefix="paretta-request-") as scratch,
        (
            open_model_server(folder, host=host, port=port)
            if answer is None
            else open_json_server(answer, host=host, port=port)
        ) as url,
    ):
        say(f"{url}/invocations")
        say("try:")
        say(example_request(folder, url, Path(scratch)))
        wait_until_interrupted(say)


def example_request(folder: Path, url: str, scratch: Path) -> str:
    """Return a command that asks the server at `url` about the sample stored in `folder`.

    A long request is written to `scratch`. Folders of earlier versions have no sample; the command then has a gap.
    """
    body, path = '{"inputs": [...]}', folder / SAMPLE_FILE
    if path.is_file():
        import numpy  # noqa: PLC0415 - only to serve

        with numpy.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        inputs = {
            name: _numbers(a.astype(str).tolist()) if a.dtype.kind == "f" else a.tolist() for name, a in arrays.items()
        }
        body = json.dumps({"inputs": inputs})
    if len(body) > _LONGEST_BODY:
        (scratch / "request.json").write_text(body)
        body = f"@{scratch / 'request.json'}"
    return f"curl -H 'Content-Type: application/json' -d {shlex.quote(body)} {url}/invocations"


def _numbers(texts: object) -> object:
    """Return the numbers that NumPy wrote, with no more digits than their type has."""
    return [_numbers(text) for text in texts] if isinstance(texts, list) else float(str(texts))


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
        command = [sys.executable, "-m", "paretta.dashboards.server.guarded_scoring", str(model), host, str(port)]
        url = address(host, port)
        log = Path(scratch) / "server.log"
        with serving(command, f"{url}/ping", log=log, cwd=Path(scratch), environment=_ENVIRONMENT):
            yield url
