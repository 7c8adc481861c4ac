"""A delivered folder as an MLflow model: the same files, plus those that MLflow needs to load and serve them."""

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from paretta.search_spaces.bounded_files import read_bounded, sha256_of
from paretta.search_spaces.canonical import Document, Json, digest
from paretta.search_spaces.errors import DamagedArtifact
from paretta.search_spaces.yaml_io import write_yaml

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
SAMPLE_FILE: Final = "sample.npz"
_REQUIRED: Final = ("mlflow", "numpy", "onnx", "onnxruntime", "pandas")
# ONNX names element types as in C, NumPy by width
_TYPES: Final[Mapping[str, str]] = {"float": "float32", "double": "float64"}
_ONNX: Final[Document] = {
    "data": MODEL_FILE,
    "onnx_version": version("onnx"),
    "providers": ["CPUExecutionProvider"],
    "onnx_session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1, "execution_mode": "sequential"},
    "code": None,
}
_PYTHON_FUNCTION: Final[Document] = {
    "data": MODEL_FILE,
    "loader_module": "mlflow.onnx",
    "python_version": platform.python_version(),
    "env": {"virtualenv": "python_env.yaml"},
}


def delivered_digests(folder: Path) -> dict[str, str]:
    """Recompute and return the SHA-256 (hex) of each delivered file in `folder`, the manifest's own last.

    Other files are ignored. Raises `DamagedArtifact` if a file does not match the manifest.
    """
    manifest = folder / MANIFEST_FILE
    try:
        files = json.loads(read_bounded(manifest))["files"]
        expected = {Path(name).name: str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedArtifact(f"{manifest}: expected a manifest with `files`, found {error!r}") from None
    faults = []
    for name, stated in expected.items():
        path = folder / name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != stated:
            faults.append(f"{path}: expected sha256 {stated}, found {found}")
    if faults:
        raise DamagedArtifact("\n".join(faults))
    return {**expected, MANIFEST_FILE: sha256_of(manifest)}


def copy_delivered(source: Path, to: Path) -> dict[str, str]:
    """Copy the delivered files of `source` into the new folder `to` and return the digests of the copies.

    Raises `DamagedArtifact` if the copy does not match its manifest, such as while the source is being written.
    """
    to.mkdir(parents=True)
    try:
        names = list(json.loads(read_bounded(source / MANIFEST_FILE))["files"])
        for name in (*names, MANIFEST_FILE):
            shutil.copyfile(source / Path(name).name, to / Path(name).name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedArtifact(f"{source}: expected a delivered folder, found {error!r}") from None
    return delivered_digests(to)


def add_mlflow_files(folder: Path, *, model_id: str | None = None, run_id: str | None = None) -> None:
    """Write ``MLmodel``, ``requirements.txt`` and ``python_env.yaml`` beside the delivered files in `folder`.

    The format is the documented one of MLflow's ONNX flavour. `mlflow.onnx.save_model` is not used, because it
    serializes the model again, to other bytes than those that were measured, and imports it in another process to
    infer its requirements.
    """
    size = (folder / MODEL_FILE).stat().st_size
    signature = _signature(folder / MODEL_FILE)
    document: dict[str, Json] = {
        "flavors": {"onnx": dict(_ONNX), "python_function": dict(_PYTHON_FUNCTION)},
        "mlflow_version": version("mlflow"),
        "model_size_bytes": size,
        "model_uuid": model_id or digest([sha256_of(folder / MODEL_FILE)])[:32],
        **({"signature": signature} if signature else {}),
        **({"model_id": model_id} if model_id else {}),
        **({"run_id": run_id} if run_id else {}),
    }
    (folder / "MLmodel").write_text(write_yaml(document), encoding="utf-8")
    (folder / "requirements.txt").write_text("".join(f"{name}=={version(name)}\n" for name in _REQUIRED))
    environment: dict[str, Json] = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(write_yaml(environment), encoding="utf-8")


def _signature(path: Path) -> dict[str, Json] | None:
    """Return shapes and types of the model's inputs and outputs, dynamic sizes as -1; None if it cannot be opened."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is first imported
    from onnxruntime import InferenceSession  # noqa: PLC0415
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf  # noqa: PLC0415

    try:
        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except InvalidProtobuf:
        return None
    return {"inputs": _schema(session.get_inputs()), "outputs": _schema(session.get_outputs()), "params": None}


class _Described(Protocol):
    """ONNX Runtime's description of an input or an output."""

    name: str
    type: str
    shape: Sequence[int | str | None]


def _schema(values: Sequence[_Described]) -> str:
    specs: list[Json] = []
    for value in values:
        element = value.type.removeprefix("tensor(").removesuffix(")")
        shape: Json = [size if isinstance(size, int) else -1 for size in value.shape]
        tensor: dict[str, Json] = {"dtype": _TYPES.get(element, element), "shape": shape}
        specs.append({"name": value.name, "type": "tensor", "tensor-spec": tensor})
    return json.dumps(specs)
