"""A folder in an object store, addressed by a URI."""

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlsplit

from pyarrow import fs

from paretta.dashboards.tracking.store import without_login
from paretta.search_spaces.errors import Problem, WrongInput, first_line

MANIFEST: Final = "manifest.json"  # lists the hashes of an artifact's other files, so it is copied after them


_CHUNK: Final = 2**20


_WHOLE: Final = frozenset({"s3", "gcs", "abfs"})  # these replace files atomically


@dataclass(frozen=True, slots=True)
class Storage:
    """The files below a URI; every method raises `OSError` if the storage cannot be reached.

    Args:
        uri: such as ``s3://bucket/sweeps``. Credentials come from each node's environment, never from here.
    """

    uri: str

    def send(self, name: str, root: Path) -> None:
        """Upload the file or folder `name` from `root`; an artifact's manifest comes last."""
        path = root / name
        for file in sorted((path.rglob("*") if path.is_dir() else [path]), key=lambda file: file.name == MANIFEST):
            if file.is_file():
                self._upload(file, file.relative_to(root).as_posix())

    def bring(self, name: str, root: Path) -> None:
        """Download the file or folder `name` to `root`; an artifact whose manifest is unchanged is not copied again."""
        system, base = _opened(self.uri)
        selector = fs.FileSelector(f"{base}/{name}", recursive=True, allow_not_found=True)
        whole = system.get_file_info(f"{base}/{name}")
        infos = [whole] if whole.type == fs.FileType.File else system.get_file_info(selector)
        there = {info.path.removeprefix(f"{base}/"): info.path for info in infos if info.type == fs.FileType.File}
        manifest = f"{name}/{MANIFEST}"
        if manifest in there and _content(root / manifest) == self._read(there[manifest]):
            return
        for file in sorted(there, key=lambda file: file == manifest):
            _require_inside(file)
            self._download(there[file], root / file)

    def keep_within(self, name: str, size: int) -> None:
        """Remove the oldest files of the folder `name` until at most `size` bytes are left."""
        system, base = _opened(self.uri)
        infos = system.get_file_info(fs.FileSelector(f"{base}/{name}", allow_not_found=True))
        files = sorted((info for info in infos if info.type == fs.FileType.File), key=lambda info: info.mtime_ns)
        total = sum(info.size for info in files)
        for info in files[:-1]:
            if total <= size:
                break
            system.delete_file(info.path)
            total -= info.size

    def names(self) -> list[str]:
        """List the files directly below the URI."""
        system, base = _opened(self.uri)
        infos = system.get_file_info(fs.FileSelector(base, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.File)

    def remove(self, name: str) -> None:
        """Remove the folder `name`."""
        system, base = _opened(self.uri)
        if system.get_file_info(f"{base}/{name}").type == fs.FileType.Directory:
            system.delete_dir(f"{base}/{name}")

    def _read(self, path: str) -> bytes:
        system, _ = _opened(self.uri)
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _download(self, path: str, to: Path) -> None:
        system, _ = _opened(self.uri)
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{to.name}.{secrets.token_hex(6)}.part")
        with system.open_input_stream(path) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        partial.replace(to)

    def _upload(self, file: Path, name: str) -> None:
        system, base = _opened(self.uri)
        to, whole = f"{base}/{name}", system.type_name in _WHOLE
        aside = to if whole else f"{to}.{secrets.token_hex(6)}.part"
        if not whole:
            system.create_dir(str(PurePosixPath(to).parent), recursive=True)
        with file.open("rb") as source, system.open_output_stream(aside) as target:
            shutil.copyfileobj(source, target, _CHUNK)
        if not whole:
            system.move(aside, to)


def below(uri: str, name: str) -> str:
    """Return the URI of `name` below `uri`, keeping the query at the end.

    >>> below("s3://bucket/sweeps/?region=eu-west-1", "digits")
    's3://bucket/sweeps/digits?region=eu-west-1'
    >>> below("file:///data", "my größe")
    'file:///data/my%20gr%C3%B6%C3%9Fe'
    """
    parts = urlsplit(uri)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


def is_uri(place: str) -> bool:
    """Return True for a URI, False for a path or name."""
    return "://" in place


def check_storage(uri: str, where: str = "--storage") -> None:
    """Write a small file to the storage, read it and remove it.

    Raises:
        WrongInput: one of these fails, or the URI holds credentials, which would be written to the sweep's record.
    """
    parts = urlsplit(uri)
    if parts.username or parts.password:
        hint = "leave them out and set them in the environment of every node, such as AWS_ACCESS_KEY_ID"
        raise WrongInput(Problem(where, "a storage's URI must not contain credentials", without_login(uri), hint))
    probe = f".paretta-{secrets.token_hex(6)}"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / probe).mkdir()
            (Path(scratch) / probe / "probe").write_bytes(b"paretta")
            Storage(uri).send(probe, Path(scratch))
            (Path(scratch) / probe / "probe").unlink()
            Storage(uri).bring(probe, Path(scratch))
            assert (Path(scratch) / probe / "probe").read_bytes() == b"paretta"
            Storage(uri).remove(probe)
    except (OSError, ValueError) as error:  # pyarrow raises ValueError for an unknown kind of URI
        rule = f"must be a URI that can be written, such as s3://bucket/sweeps: {first_line(error)}"
        hint = "check the URI, and the credentials in the environment (for S3 AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL ...)"
        raise WrongInput(Problem(where, rule, uri, hint)) from None


@cache
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    system, path = fs.FileSystem.from_uri(uri)
    return system, path.rstrip("/")


def _require_inside(name: str) -> None:
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise OSError(f"{name} is outside the sweep's folder")


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
