"""Spam or not: a text classifier with token ids, a mask and a free number of tokens, on real e-mails."""

import re
import tarfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from paretta import Metric, Task

VOCABULARY, LENGTH = 8192, 96  # words share 8,191 ids by a hash; 0 pads
_WORD = re.compile(r"[a-z$!']+|\d+")


class Emails(Dataset[dict[str, Tensor]]):
    """Token ids, mask and label of e-mails."""

    def __init__(self, ids: Tensor, labels: Tensor) -> None:
        """Take ids [n, tokens] and labels [n]."""
        self.ids, self.labels = ids, labels

    def __len__(self) -> int:
        """Return the number of e-mails."""
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one e-mail; its mask is 1 where there is a token."""
        ids = self.ids[index]
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": self.labels[index]}


class WordNet(nn.Module):
    """Words, each seen with its neighbours, averaged over the e-mail; answers with a mapping as many text models do."""

    def __init__(self, width: int = 64, hidden: int = 128) -> None:
        """Make layers of these widths."""
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.mix = nn.Linear(3 * width, hidden)
        self.body = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` [n, 2] for ids and mask [n, tokens]."""
        mask = attention_mask.unsqueeze(-1).to(torch.float32)
        words = self.words(input_ids) * mask
        padded = F.pad(words, (0, 0, 1, 1))
        tokens = input_ids.shape[1]
        seen = torch.cat([padded[:, :tokens], words, padded[:, 2 : 2 + tokens]], dim=2)
        mean = (F.relu(self.mix(seen)) * mask).sum(1) / mask.sum(1).clamp_min(1.0)
        return {"logits": self.head(F.relu(self.body(mean)))}


def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the cross entropy of the batch."""
    return F.cross_entropy(outputs["logits"], batch["labels"])


def right(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return 1 for each e-mail that is told rightly, else 0, [n]."""
    return (outputs["logits"].argmax(1) == batch["labels"]).float()


def make(folder: str = "data") -> Task:
    """Return the task; e-mails of equal words are kept once, and a hash of the words decides the split.

    Args:
        folder: with the archive of e-mails, relative to this file, as ``fetch.py`` makes it.
    """
    ids, labels, place = _emails(Path(__file__).parent / folder)
    train, validation, test = (Emails(ids[part], labels[part]) for part in (place < 6, place // 2 == 3, place >= 8))
    example = {name: train[0][name][None] for name in ("input_ids", "attention_mask")}
    free = {"input_ids": {1: "tokens"}, "attention_mask": {1: "tokens"}}
    return Task(WordNet, train, validation, test, loss, {"accuracy": Metric(right)}, example, free_axes=free)


@cache
def _emails(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids [n, tokens], labels [n] (1: spam) and a place from 0 to 9 that the words decide, [n]."""
    try:
        archive = next(folder.glob("*.tgz"))
    except StopIteration:
        raise FileNotFoundError(f"no e-mails in {folder}; run: python {Path(__file__).with_name('fetch.py')}") from None
    found: dict[tuple[int, ...], int] = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.name.startswith("package/data/") and member.name.endswith(".txt"):
                file = packed.extractfile(member)
                assert file is not None
                found.setdefault(_ids(file.read().decode("latin-1")), int("/spam-" in member.name))
    rows = [torch.tensor(words + (0,) * (LENGTH - len(words))) for words in found]
    places = [zlib.crc32(repr(words).encode()) % 10 for words in found]
    return torch.stack(rows), torch.tensor(list(found.values())), torch.tensor(places)


def _ids(text: str) -> tuple[int, ...]:
    """Return the ids of the subject's and the first words of the body; other headers tell too much."""
    headers, _, body = text.partition("\n\n")
    subject = next((line for line in headers.splitlines() if line.lower().startswith("subject:")), "")
    words = _WORD.findall(f"{subject[8:]} {re.sub('<[^>]*>', ' ', body)}".lower())[:LENGTH]
    return tuple(zlib.crc32(word.encode()) % (VOCABULARY - 1) + 1 for word in words) or (1,)
