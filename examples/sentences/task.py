"""Sentences as vectors: a trained encoder made smaller without labels, on editorials and customer reviews."""

import zlib
from pathlib import Path

from paretta import Task
from paretta.integrations.transformers import sentence_encoder

SHARES = {"train": (0, 6), "validation": (6, 8), "test": (8, 10)}  # of ten, by a digest of the article's number
LEAST_WORDS = 4


def make(folder: str = "data", train: int = 256, validation: int = 300) -> Task:
    """Return the task; sentences of one article or review are in one split.

    Args:
        folder: with the encoder and the sentences, relative to this file, as ``fetch.py`` makes it.
        train: number of sentences for calibration and training.
        validation: number of sentences in each of the other splits.
    """
    where = Path(__file__).parent / folder
    if not (where / "model" / "config.json").is_file():
        raise FileNotFoundError(f"no encoder in {where}; run: python {Path(__file__).with_name('fetch.py')}")
    counts = {"train": train, "validation": validation, "test": validation}
    rows = {name: _sentences(where, *share)[: counts[name]] for name, share in SHARES.items()}
    return sentence_encoder(where / "model", max_length=64, **rows)


def _sentences(folder: Path, first: int, last: int) -> list[dict[str, str]]:
    """Return the sentences of the articles whose digests are from `first` to before `last`, shuffled and each once."""
    found = set()
    for path in sorted(folder.glob("*_GroundTruth.txt")):
        for line in path.read_text(encoding="ascii").splitlines():
            place, _, text = line.split("\t", 2)
            article = f"{path.name} {place.partition('_')[0]}"
            if first <= zlib.crc32(article.encode()) % 10 < last and len(words := text.split()) >= LEAST_WORDS:
                found.add(" ".join(words))
    return [{"text": text} for text in sorted(found, key=lambda text: zlib.crc32(text.encode()))]
