"""The delivered folder: a model, how it was made, what was measured, and a manifest that proves all of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import DamagedArtifact
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.yaml_io import read_yaml, write_yaml

# Opening and verifying must stay light, for a fresh measuring process; only a session needs the runtime.
if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL, PLAN, READINGS, MANIFEST = "model.onnx", "plan.yaml", "readings.json", "manifest.json"
FILES = (MODEL, PLAN, READINGS)
_FORMAT = 1
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "paretta", "torch")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A delivered folder that has been read.

    Args:
        folder: where it lies.
        plan: the stages that made the model.
        readings: by objective, as written with the model.
        seed: the trial's seed.
        data_digest: names the data the model was trained on.
        versions: of the libraries that wrote it.
        digests: SHA-256 (hex) of each file but the manifest.
    """

    folder: Path
    plan: Plan
    readings: Mapping[str, Reading]
    seed: int
    data_digest: str
    versions: Mapping[str, str]
    digests: Mapping[str, str]

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL

    def session(self, *, threads: int = 1) -> "InferenceSession":
        """Return an ONNX Runtime session on the CPU that computes with `threads` threads."""
        return session(self.model_path, threads=threads)


def write(
    folder: Path,
    model: bytes,
    *,
    plan: Plan,
    seed: int,
    data_digest: str,
    readings: Mapping[str, Reading] | None = None,
    layers: Document | None = None,
    origin: Document | None = None,
) -> Artifact:
    """Write a delivered folder and return it; equal arguments and versions give equal bytes in every file.

    Args:
        folder: made if it is missing; an earlier artifact in it is replaced.
        model: the ONNX model, serialised.
        plan: the stages that made the model.
        seed: the trial's seed.
        data_digest: names the data the model was trained on.
        readings: by objective, as far as they are known; see `record`.
        layers: what became of each layer, by its name, see `quantization.layer_facts`; the manifest keeps it.
        origin: what else it takes to run the plan again, such as task and number of workers; leads plan.yaml.
    """
    recipe: Document = {**(origin or {}), "seed": seed, **plan.to_document()}
    manifest: Document = {
        "format": _FORMAT,
        "seed": seed,
        "data": data_digest,
        "versions": {name: _version(name) for name in _LIBRARIES},
        **({"layers": layers} if layers else {}),
    }
    contents = {MODEL: model, PLAN: write_yaml(recipe).encode(), READINGS: _readings(readings or {})}
    _write(folder, contents, manifest)
    return open_artifact(folder)


def record(folder: Path, readings: Mapping[str, Reading]) -> Artifact:
    """Verify the folder, put `readings` in the place of those it holds, and return it. Raises `DamagedArtifact`."""
    manifest = verify_files(folder)
    contents = {name: (folder / name).read_bytes() for name in FILES} | {READINGS: _readings(readings)}
    _write(folder, contents, manifest)
    return open_artifact(folder)


def _write(folder: Path, contents: Mapping[str, bytes], manifest: Document) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    complete = {**manifest, "files": {name: _sha256(content) for name, content in contents.items()}}
    # The manifest goes first and comes last: a folder whose writing was interrupted does not verify.
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(_json(complete))


def open_artifact(folder: Path) -> Artifact:
    """Verify a delivered folder and read it. Raises `DamagedArtifact`."""
    manifest = verify_files(folder)
    document = cast(Document, read_yaml(folder / PLAN).data)
    readings = json.loads((folder / READINGS).read_text(encoding="utf-8"))
    return Artifact(
        folder=folder,
        plan=Plan.from_document(document),
        readings={name: Reading.from_document(reading) for name, reading in readings.items()},
        seed=cast(int, manifest["seed"]),
        data_digest=cast(str, manifest["data"]),
        versions=cast("Mapping[str, str]", manifest["versions"]),
        digests=cast("Mapping[str, str]", manifest["files"]),
    )


def verify_files(folder: Path) -> Document:
    """Recompute the SHA-256 of every file and return the manifest.

    Raises:
        DamagedArtifact: a file is missing, was added or was altered; the message names all of them.
    """
    manifest = _manifest(folder)
    expected = cast("Mapping[str, str]", manifest["files"])
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    faults = [
        f"{folder / name}: the manifest does not know this; expected only {', '.join((*FILES, MANIFEST))}"
        for name in sorted(found - set(expected))
    ]
    for name, digest in sorted(expected.items()):
        path = folder / name
        actual = _sha256(path.read_bytes()) if path.is_file() else "no such file"
        if actual != digest:
            faults.append(f"{path}: expected sha256 {digest}, found {actual}")
    if faults:
        raise DamagedArtifact("\n".join(faults))
    return manifest


def layers_in_floats(folder: Path) -> dict[str, str]:
    """Return as ``float_layers`` the names of the layers that compute in floats, or ``all``, for a reading's details.

    Empty where the folder says nothing of layers.
    """
    path = folder / MANIFEST
    layers = json.loads(path.read_text(encoding="utf-8")).get("layers") if path.is_file() else None
    if not layers:
        return {}
    names = [name for name, facts in layers.items() if facts["in_floats"]]
    return {"float_layers": "all" if len(names) == len(layers) else ", ".join(names)}


def session(model_path: Path, *, threads: int = 1) -> "InferenceSession":
    """Return an ONNX Runtime session on the CPU for any ONNX file, computing with `threads` threads."""
    from onnxruntime import InferenceSession, SessionOptions  # noqa: PLC0415 - only a session needs the runtime

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])


def _manifest(folder: Path) -> Document:
    path = folder / MANIFEST
    if not path.is_file():
        raise DamagedArtifact(f"{path}: expected a manifest, found no such file; the folder was not written completely")
    try:
        manifest: object = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedArtifact(f"{path}: expected JSON, found {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DamagedArtifact(f"{path}: expected a manifest of format {_FORMAT}, found {found!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(FILES):
        raise DamagedArtifact(f"{path}: expected digests of {', '.join(FILES)}, found {files!r}")
    if not {"seed", "data", "versions"} <= set(manifest):
        raise DamagedArtifact(f"{path}: expected seed, data and versions, found only {', '.join(sorted(manifest))}")
    return manifest


def _readings(readings: Mapping[str, Reading]) -> bytes:
    return _json({name: reading.to_document() for name, reading in readings.items()})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
