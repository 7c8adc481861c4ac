"""The isolated check of a delivered folder: a script that imports neither paretta nor any training library.

``python -I isolated_check.py request.json`` checks the folder's files against its manifest, runs the model on the given
inputs and writes a report. It shares no code with what it checks, so that a bug cannot confirm itself. Python's
isolated mode keeps this folder and the user's site-packages off its import path.
"""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

_MANIFEST, _MODEL = "manifest.json", "model.onnx"
_CARD = "README.md"  # written when the folder was pulled, and free to be edited
_MAX_BYTES = 2**26
_OURS = ("torch", "onnx", "ray", "mlflow", "optuna", "paretta")


def run_check(request: Path) -> None:
    """Serve ``{"folder", "runs": [{"inputs", "outputs"}], "report"}``, all paths; a run is a batch in .npz files.

    The report has ``faults``, the files that differ from the manifest; ``model_bytes``; and ``foreign``, the modules
    loaded in this process that would make it no longer independent. If there are faults, the model is not run.
    """
    asked = json.loads(request.read_text(encoding="utf-8"))
    folder = Path(asked["folder"])
    faults = _faults(folder)
    report: dict[str, object] = {"faults": faults}
    if not faults:
        session = _opened(folder / _MODEL) if asked["runs"] else None
        for run in asked["runs"]:
            _answer(session, Path(run["inputs"]), Path(run["outputs"]))
        report["model_bytes"] = os.stat(folder / _MODEL).st_size
    report["foreign"] = [name for name in _OURS if name in sys.modules]
    Path(asked["report"]).write_text(json.dumps(report), encoding="utf-8")


def _faults(folder: Path) -> list[str]:
    present = sorted(os.listdir(folder))
    if odd := [name for name in present if not stat.S_ISREG(os.lstat(folder / name).st_mode)]:
        return [f"{name} is no regular file" for name in odd]  # links and pipes are never opened
    try:
        with (folder / _MANIFEST).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            return [f"{_MANIFEST} cannot be read: more than {_MAX_BYTES} bytes"]
        files = json.loads(content)["files"]
        expected = {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [f"{_MANIFEST} cannot be read: {type(error).__name__}: {error}"]
    faults = [f"{name} is not in the manifest" for name in present if name not in {*expected, _MANIFEST, _CARD}]
    faults += [f"{name} is not in the folder's manifest" for name in (_MODEL,) if name not in expected]
    for name, digest in sorted(expected.items()):
        path = folder / name
        found = _sha256(path) if name in present else "no such file"
        if found != digest:
            faults.append(f"{name}: expected sha256 {digest}, found {found}")
    return faults


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(model: Path) -> "onnxruntime.InferenceSession":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is first imported
    import onnxruntime  # noqa: PLC0415 - a manifest is checked without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _answer(session: "onnxruntime.InferenceSession", inputs: Path, outputs: Path) -> None:
    import numpy as np  # noqa: PLC0415

    with np.load(inputs, allow_pickle=False) as stored:
        arrays = [stored[name] for name in stored.files]
    feeds = dict(zip([given.name for given in session.get_inputs()], arrays, strict=True))
    answers = session.run(None, feeds)
    with open(outputs, "wb") as file:
        np.savez(file, *answers, allow_pickle=False)


if __name__ == "__main__":
    run_check(Path(sys.argv[1]))
