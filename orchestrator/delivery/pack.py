"""Pack a model into a coded file, and unpack it."""

from pathlib import Path
from typing import TYPE_CHECKING

from paretta.orchestrator.delivery.free_folder import check_free
from paretta.search_spaces.errors import Problem, WrongInput

if TYPE_CHECKING:
    from paretta.pipelines.coding.container import Coded


def pack(source: Path, to: Path) -> "tuple[Coded, int]":
    """Write the coded file of an ONNX file, or of the one in an artifact's folder; return it and the ONNX file's size.

    Raises:
        WrongInput: the file does not exist, or `to` exists.
        DamagedArtifact: the folder does not match its manifest, or holds no ONNX model.
    """
    from paretta.pipelines import artifact  # noqa: PLC0415 - the runtime is loaded only where it is used
    from paretta.pipelines.coding import container  # noqa: PLC0415

    if to.exists():
        raise WrongInput(Problem("--to", "the coded file must be new", str(to), "name a file that does not exist"))
    if source.is_dir():
        artifact.verify_files(source)
    path = source / artifact.MODEL if source.is_dir() else source
    model = _read(path, "name an artifact's folder or an ONNX file")
    coded = container.encode_model(model, where=str(path))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(coded.content)
    return coded, len(model)


def unpack(source: Path, to: Path) -> Path:
    """Unpack ``model.onnx`` into the new folder `to`, and return its path.

    Raises:
        WrongInput: the file does not exist, or `to` is not free.
        DamagedArtifact: it is not a coded file or was altered; nothing was written.
    """
    from paretta.pipelines import artifact  # noqa: PLC0415 - the runtime is loaded only where it is used
    from paretta.pipelines.coding import container  # noqa: PLC0415

    check_free(to)
    model = container.decode_model(_read(source, "name a file that `paretta pack` wrote"), where=str(source))
    to.mkdir(parents=True, exist_ok=True)
    (to / artifact.MODEL).write_bytes(model)
    return to / artifact.MODEL


def _read(path: Path, hint: str) -> bytes:
    if not path.is_file():
        raise WrongInput(Problem("file", "there is no such file", str(path), hint))
    return path.read_bytes()
