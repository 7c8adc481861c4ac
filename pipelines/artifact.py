"""The delivered folder: a model, how it was made, what was measured, and a manifest with the digest of every file."""

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from paretta.search_spaces.bounded_files import read_bounded, sha256_of
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import DamagedArtifact, WrongInput, first_line
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.yaml_io import read_yaml, write_yaml

# A fresh measuring process opens and verifies artifacts, which must import little; only a session needs ONNX Runtime.
if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL, PLAN, READINGS, MANIFEST = "model.onnx", "plan.yaml", "readings.json", "manifest.json"
FILES = (MODEL, PLAN, READINGS)
SAMPLE = "sample.npz"  # one valid input of the model, which folders of earlier versions lack
CARD = "README.md"  # written when a folder is pulled; the manifest does not cover it
_TAKEN = (
    *FILES,
    SAMPLE,
    MANIFEST,
    CARD,
    "MLmodel",
    "requirements.txt",
    "python_env.yaml",
)  # the last three are MLflow's
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_FORMAT = 1
_NUMBER = (float, int, type(None))
_READING: dict[str, tuple[type, ...]] = {  # fields of a reading's document and their types
    "value": _NUMBER,
    "low": _NUMBER,
    "high": _NUMBER,
    "unit": (str,),
    "num_samples": (int,),
    "reason": (str, type(None)),
    "details": (dict,),
}
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "paretta", "torch")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A delivered folder, verified and read.

    Args:
        folder: its path.
        plan: the stages that made the model.
        readings: by objective, as written with the model.
        seed: the trial's seed.
        data_digest: identifies the data on which the model was trained.
        versions: of the libraries that wrote it.
        digests: SHA-256 (hex) of each file except the manifest.
        task: the reference by which its task was loaded; empty if the plan names none.
        manifest: the whole manifest, with facts on layers and notes of stages.
    """

    folder: Path
    plan: Plan
    readings: Mapping[str, Reading]
    seed: int
    data_digest: str
    versions: Mapping[str, str]
    digests: Mapping[str, str]
    task: str = ""
    manifest: Mapping[str, Json] = field(default_factory=dict)

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL

    def session(self, *, threads: int = 1) -> "InferenceSession":
        """Return an ONNX Runtime session for the model on the CPU with `threads` threads."""
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
    notes: Sequence[Document] = (),
    sample: bytes | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Artifact:
    """Write a delivered folder and return it; equal arguments and versions give equal bytes in every file.

    Args:
        folder: created if missing; an earlier artifact in it is replaced.
        model: the ONNX model, serialised.
        plan: the stages that made the model.
        seed: the trial's seed.
        data_digest: identifies the data on which the model was trained.
        readings: by objective, those known so far; see `record`.
        layers: facts of each layer, by name, see `quantization.layer_facts`; stored in the manifest.
        origin: what else is needed to run the plan again, such as task and number of workers; written at the top of
            plan.yaml.
        notes: what stages left unchanged, and why, see `search_spaces.results.note`; stored in the manifest.
        sample: inputs [1, ...] of the model, by name, as the content of an ``.npz`` file.
        files: what the task delivers beside the model, by name, see `is_file_name`.
    """
    recipe: Document = {**(origin or {}), "seed": seed, **plan.to_document()}
    manifest: Document = {
        "format": _FORMAT,
        "seed": seed,
        "data": data_digest,
        "versions": {name: _version(name) for name in _LIBRARIES},
        **({"layers": layers} if layers else {}),
        **({"notes": list(notes)} if notes else {}),
    }
    contents = {MODEL: model, PLAN: write_yaml(recipe).encode(), READINGS: _readings(readings or {})}
    contents |= {} if sample is None else {SAMPLE: sample}
    contents |= files or {}
    _write(folder, contents, manifest)
    return open_artifact(folder)


def is_file_name(name: str) -> bool:
    """Return whether a task may deliver a file of this name: letters, digits, ``_``, ``-`` and dots, not one of ours.

    >>> is_file_name("preprocessor_config.json"), is_file_name("../model"), is_file_name("model.onnx")
    (True, False, False)
    """
    return bool(_NAME.fullmatch(name)) and name not in _TAKEN


def record(folder: Path, readings: Mapping[str, Reading]) -> Artifact:
    """Verify the folder, replace its readings by `readings`, and return the artifact. Raises `DamagedArtifact`."""
    manifest = verify_files(folder)
    names = cast("Mapping[str, str]", manifest["files"])
    contents = {name: (folder / name).read_bytes() for name in names} | {READINGS: _readings(readings)}
    _write(folder, contents, manifest)
    return open_artifact(folder)


def _write(folder: Path, contents: Mapping[str, bytes], manifest: Document) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    complete = {**manifest, "files": {name: _sha256(content) for name, content in contents.items()}}
    # The manifest is removed first and written last, so that a partly written folder fails verification.
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(_json(complete))


def open_artifact(folder: Path) -> Artifact:
    """Verify a delivered folder and read it. Raises `DamagedArtifact`."""
    manifest = verify_files(folder)
    plan, task = _plan(folder / PLAN)
    return Artifact(
        folder=folder,
        plan=plan,
        readings=read_readings(folder),
        seed=cast(int, manifest["seed"]),
        data_digest=cast(str, manifest["data"]),
        versions=cast("Mapping[str, str]", manifest["versions"]),
        digests=cast("Mapping[str, str]", manifest["files"]),
        task=task,
        manifest=manifest,
    )


def _plan(path: Path) -> tuple[Plan, str]:
    """Return the plan in a file, and the name of its task."""
    try:
        document = cast(Document, read_yaml(path).data)
        plan, task = Plan.from_document(document), document.get("task")
        return plan, str(task.get("use", "")) if isinstance(task, Mapping) else ""
    except (WrongInput, KeyError, TypeError, RecursionError) as error:
        raise DamagedArtifact(f"{path}: expected a plan, found {type(error).__name__}: {first_line(error)}") from None


def read_readings(folder: Path) -> dict[str, Reading]:
    """Return the readings stored with a model, unverified. Raises `DamagedArtifact` with file and line."""
    path = folder / READINGS
    text, documents = _json_of(path)
    if not isinstance(documents, dict):
        raise DamagedArtifact(f"{path}:1: expected readings by name, found {type(documents).__name__}")
    readings = {}
    for name, document in documents.items():
        try:
            readings[name] = reading_of(document)
        except (ValueError, KeyError, TypeError) as error:
            words = f"no {error} in it" if isinstance(error, KeyError) else first_line(error)
            raise DamagedArtifact(
                f"{path}:{_line_of(name, text)}: expected a reading of {name}, found {words}"
            ) from None
    return readings


def reading_of(document: object) -> Reading:
    """Return the reading in plain data from outside. Raises `ValueError`, `KeyError` or `TypeError` if it is none."""
    if not isinstance(document, dict):
        raise TypeError(type(document).__name__)
    for name, kinds in _READING.items():
        if not isinstance(document[name], kinds) or isinstance(document[name], bool):
            raise TypeError(f"{name} {document[name]!r:.40}")
    return Reading.from_document(document)


def _json_of(path: Path) -> tuple[str, object]:
    """Return the text of a file and its parsed JSON. Raises `DamagedArtifact` with file and line."""
    try:
        text = read_bounded(path).decode()
        return text, json.loads(text)
    except json.JSONDecodeError as error:
        raise DamagedArtifact(f"{path}:{error.lineno}: expected JSON, found {error.msg} at {error.colno}") from None
    except UnicodeDecodeError as error:
        raise DamagedArtifact(f"{path}:1: expected JSON, found {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedArtifact(f"{path}:1: expected JSON, found {first_line(error)}") from None


def _line_of(key: str, text: str) -> int:
    """Return the line on which a key first occurs in a JSON text."""
    before, found, _ = text.partition(json.dumps(key, ensure_ascii=False))
    return before.count("\n") + 1 if found else 1


def verify_files(folder: Path) -> Document:
    """Recompute the SHA-256 of every file but the model card, and return the manifest.

    Raises:
        DamagedArtifact: files are missing, were added, were changed or are not regular files; the message names all of
            them.
    """
    require_regular(folder)
    manifest = _manifest(folder)
    expected = cast("Mapping[str, str]", manifest["files"])
    found = {path.name for path in folder.iterdir()} - {MANIFEST, CARD}
    faults = [
        f"{folder / name}: the manifest does not know this; expected only {', '.join((*expected, MANIFEST))}"
        for name in sorted(found - set(expected))
    ]
    for name, digest in sorted(expected.items()):
        path = folder / name
        actual = sha256_of(path) if path.is_file() else "no such file"
        if actual != digest:
            faults.append(f"{path}: expected sha256 {digest}, found {actual}")
    if faults:
        raise DamagedArtifact("\n".join(faults))
    return manifest


def require_regular(folder: Path) -> None:
    """Raise `DamagedArtifact` if anything in a delivered folder is not a regular file, before any file is opened.

    A link could point outside the folder, and reading a pipe or a device might never end.
    """
    if not folder.is_dir():
        raise DamagedArtifact(f"{folder}: expected a delivered folder, found none")
    faults = [path for path in sorted(folder.iterdir()) if not stat.S_ISREG(path.lstat().st_mode)]
    if faults:
        raise DamagedArtifact("\n".join(f"{path}: expected a regular file" for path in faults))


def layers_in_floats(folder: Path) -> dict[str, str]:
    """Return details for a reading: as ``float_layers`` the layers that compute in floats, or ``all``.

    Empty if the manifest has no layers.
    """
    path = folder / MANIFEST
    layers = cast("Mapping[str, Document]", _manifest(folder).get("layers", {})) if path.is_file() else {}
    if not layers:
        return {}
    names = [name for name, facts in layers.items() if facts["in_floats"]]
    return {"float_layers": "all" if len(names) == len(layers) else ", ".join(names)}


def session(model_path: Path, *, threads: int = 1) -> "InferenceSession":
    """Return an ONNX Runtime session for any ONNX file on the CPU with `threads` threads."""
    from onnxruntime import InferenceSession, SessionOptions  # noqa: PLC0415 - only a session needs the runtime

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])


def _manifest(folder: Path) -> Document:
    path = folder / MANIFEST
    if not path.is_file():
        raise DamagedArtifact(f"{path}: expected a manifest, found no such file; the folder was not written completely")
    text, manifest = _json_of(path)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        line = _line_of("format", text)
        raise DamagedArtifact(f"{path}:{line}: expected a manifest of format {_FORMAT}, found {found!r}")
    files, layers = manifest.get("files"), manifest.get("layers", {})
    if not isinstance(files, dict) or not _are_files(files):
        line = _line_of("files", text)
        raise DamagedArtifact(f"{path}:{line}: expected digests of {', '.join(FILES)}, found {files!r:.200}")
    for name, kind in {"seed": int, "data": str, "versions": dict}.items():
        if not isinstance(manifest.get(name), kind):
            line = _line_of(name, text)
            raise DamagedArtifact(f"{path}:{line}: expected {name}, found {manifest.get(name)!r:.200}")
    if not isinstance(layers, dict) or not all(
        isinstance(facts, dict) and "in_floats" in facts for facts in layers.values()
    ):
        raise DamagedArtifact(
            f"{path}:{_line_of('layers', text)}: expected what became of each layer, found {layers!r:.200}"
        )
    return manifest


def _are_files(names: Iterable[str]) -> bool:
    """Return whether these are the names of an artifact's files: ours, and others that a task delivers."""
    given = {*names}
    return given.issuperset(FILES) and all(name in FILES or name == SAMPLE or is_file_name(name) for name in given)


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
