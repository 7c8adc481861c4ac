"""Who is speaking? Speech of different lengths, through convolutions and a GRU."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretta import Task
from paretta.integrations.sequences import Sequences, sequence_task, steps_mask

COEFFICIENTS, SPEAKERS, EACH = 12, 9, 18  # of the 30 recordings of each speaker, 18 are trained on


class Listener(nn.Module):
    """Two convolutions over frames, a narrow GRU, and the mean over as many frames as there are."""

    def __init__(self, width: int = 96, states: int = 16) -> None:
        """Make layers of these widths: 57,689 parameters by default."""
        super().__init__()
        self.first = nn.Conv1d(COEFFICIENTS, width, 5, padding=2)
        self.second = nn.Conv1d(width, width, 5, padding=2)
        self.narrow = nn.Conv1d(width, 2 * states, 1)
        self.gru = nn.GRU(2 * states, states, batch_first=True)
        self.head = nn.Linear(states, SPEAKERS)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return scores [n, 9] for frames [n, steps, 12] and lengths [n]."""
        mask = steps_mask(frames, lengths)
        found = F.relu(self.first(frames.transpose(1, 2))) * mask.unsqueeze(1)
        found = F.relu(self.narrow(F.relu(self.second(found))))
        states, _ = self.gru(found.transpose(1, 2))
        mean = (states * mask.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)
        scores: Tensor = self.head(mean)
        return scores


def make(folder: str = "data") -> Task:
    """Return the task; the official test split is read only once.

    Args:
        folder: with the two files, relative to this file.
    """
    where = Path(__file__).parent / folder
    known, labels = _read(where / "JapaneseVowels_TRAIN.ts")
    place = [labels[:at].count(label) for at, label in enumerate(labels)]  # of a recording among its speaker's
    train = [at for at in range(len(known)) if place[at] < EACH]
    validation = [at for at in range(len(known)) if place[at] >= EACH]
    return sequence_task(
        {
            "train": Sequences([known[at] for at in train], [labels[at] for at in train]),
            "validation": Sequences([known[at] for at in validation], [labels[at] for at in validation]),
            "test": Sequences(*_read(where / "JapaneseVowels_TEST.ts")),
        },
        Listener,
        steps=(2, 64),
    )


def _read(path: Path) -> tuple[list[Tensor], list[int]]:
    """Return frames [steps, 12] and speakers, from 0, of a file: a line a recording, a colon between coefficients."""
    if not path.is_file():
        program = Path(__file__).with_name("fetch.py")
        raise FileNotFoundError(f"{path.name} is missing; run: python {program}")
    _, _, lines = path.read_text(encoding="utf-8").partition("@data\n")
    rows = [line.split(":") for line in lines.splitlines() if line]
    frames = [torch.tensor([[*map(float, part.split(","))] for part in parts[:-1]]).T.contiguous() for parts in rows]
    return frames, [int(parts[-1]) - 1 for parts in rows]
