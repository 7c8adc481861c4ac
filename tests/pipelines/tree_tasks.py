"""Small tasks whose models take or give more than one tensor: text with a mask, sound with lengths, a table."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from paretta.pipelines.task import Metric, Task


class Sentences(Dataset[dict[str, Tensor]]):
    """Token ids in which the label is which of two marks is there; padded with 0 to eight tokens."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(3, 9, (count,), generator=generator)
        self.ids = torch.randint(3, 20, (count, 8), generator=generator)
        self.mask = (torch.arange(8) < lengths[:, None]).long()
        self.labels = torch.randint(0, 2, (count,), generator=generator)
        self.ids[torch.arange(count), (torch.rand(count, generator=generator) * lengths).long()] = self.labels + 1
        self.ids *= self.mask

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"ids": self.ids[index], "mask": self.mask[index], "labels": self.labels[index]}


class Reader(nn.Module):
    """Mean over tokens that the mask keeps; answers with a mapping, and with its own loss where it is given labels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(20, width)
        self.mix = nn.Linear(width, 2 * width)
        self.head = nn.Linear(2 * width, 2)

    def forward(self, ids: Tensor, mask: Tensor, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        states = F.relu(self.mix(self.words(ids))) * mask.unsqueeze(-1)
        logits = self.head(states.sum(1) / mask.sum(1, keepdim=True))
        found = {"logits": logits, "states": states}
        return found if labels is None else {"loss": F.cross_entropy(logits, labels), **found}


def right(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    return (outputs["logits"].argmax(1) == batch["labels"]).float()


def text_task(*, own_loss: bool = False) -> Task:
    """A text classifier with a mask and a free number of tokens; its loss is its own where asked for."""

    def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return outputs["loss"] if "loss" in outputs else F.cross_entropy(outputs["logits"], batch["labels"])

    train, validation, test = Sentences(256, 0), Sentences(64, 1), Sentences(64, 2)
    example = {name: train[0][name][None] for name in ("ids", "mask")}
    return Task(
        Reader,
        train,
        validation,
        test,
        loss,
        {"accuracy": Metric(right)},
        example,
        free_axes={"ids": {1: "tokens"}, "mask": {1: "tokens"}},
        training_inputs=("labels",) if own_loss else (),
    )


@dataclass
class Heard:
    """What a recogniser answers."""

    scores: Tensor
    confidence: Tensor


class Ear(nn.Module):
    """A convolution over sound, averaged over as many steps as the length says; answers with a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 5, padding=2)
        self.second = nn.Conv1d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, sound: Tensor, lengths: Tensor) -> Heard:
        hidden = F.relu(self.second(F.relu(self.first(sound.unsqueeze(1)))))
        keep = (torch.arange(sound.shape[1], device=sound.device) < lengths.unsqueeze(1)).to(hidden.dtype)
        mean = (hidden * keep.unsqueeze(1)).sum(2) / lengths.unsqueeze(1)
        scores = self.head(mean)
        return Heard(scores, scores.softmax(1).amax(1))


def sound_task() -> Task:
    """Tones of three pitches, as tuples (sound, length, label)."""

    def split(count: int, seed: int) -> TensorDataset:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 3, (count,), generator=generator)
        lengths = torch.randint(20, 33, (count,), generator=generator)
        phase = torch.rand(count, 1, generator=generator) * 6
        sound = torch.sin(torch.arange(32) * (0.3 + 0.7 * labels[:, None]) + phase)
        return TensorDataset(sound * (torch.arange(32) < lengths[:, None]), lengths, labels)

    def right(heard: Heard, labels: Tensor) -> Tensor:
        return (heard.scores.argmax(1) == labels).float()

    train, validation, test = split(256, 0), split(64, 1), split(64, 2)
    return Task(
        Ear,
        train,
        validation,
        test,
        lambda heard, labels: F.cross_entropy(heard.scores, labels),
        {"accuracy": Metric(right)},
        (train.tensors[0][:1], train.tensors[1][:1]),
        class_scores=lambda heard: heard.scores,
    )


class TableNet(nn.Module):
    """Numbers and a category of another dtype, in one nested input; answers with one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = nn.Embedding(4, 4)
        self.body = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, row: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = self.body(torch.cat([row["numbers"], self.kinds(row["kind"])], dim=1))
        return found


class Table(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Rows as pairs of a mapping and a label."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.numbers = torch.randn(count, 5, generator=generator)
        self.kind = torch.randint(0, 4, (count,), generator=generator)
        self.labels = ((self.numbers[:, 0] > 0) ^ (self.kind >= 2)).long()

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[tuple[dict[str, Tensor]], Tensor]:
        return ({"numbers": self.numbers[index], "kind": self.kind[index]},), self.labels[index]


def table_task() -> Task:
    """Rows of numbers and a category."""
    train, validation, test = Table(256, 0), Table(64, 1), Table(64, 2)
    (row,), _ = train[0]
    example = ({name: value[None] for name, value in row.items()},)
    accuracy = Metric(lambda outputs, labels: (outputs.argmax(1) == labels).float())
    return Task(TableNet, train, validation, test, F.cross_entropy, {"accuracy": accuracy}, example)
