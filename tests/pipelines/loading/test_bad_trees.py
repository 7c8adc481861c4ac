"""Names, lengths, a collate, free axes and metrics that do not fit are told by check: what was seen and expected."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate
from tree_tasks import sound_task, text_task

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.verification.rehearsal import require_export
from paretta.search_spaces.errors import WrongInput


class Renamed(Dataset[dict[str, Tensor]]):
    """The same samples with another name for an entry."""

    def __init__(self, samples: Dataset[dict[str, Tensor]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        return {"words": sample["ids"], "mask": sample["mask"], "labels": sample["labels"]}


def misnamed() -> Task:
    task = text_task()
    example = {"words": task.example_input["ids"], "mask": task.example_input["mask"]}
    train, validation, test = (Renamed(samples) for samples in (task.train, task.validation, task.test))
    return replace(task, train=train, validation=validation, test=test, example_input=example, free_axes={})


def collated_otherwise(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    batch = default_collate(samples)
    return {"input_ids": batch["ids"], "mask": batch["mask"], "labels": batch["labels"]}


def with_length(length: int) -> Task:
    task = sound_task()
    assert isinstance(task.validation, TensorDataset)
    sound, lengths, labels = task.validation.tensors
    longer = lengths.clone()
    longer[4] = length
    return replace(task, validation=TensorDataset(sound, longer, labels))


class OneByOne(IterableDataset[dict[str, Tensor]]):
    """Sentences one after the other."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        yield from iter(text_task().train)


class Forgetful:
    """Has a state that nothing is added to."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right, self.seen = 0, [torch.zeros(2)]

    def update(self, scores: Tensor, labels: Tensor) -> None:
        right = int((scores.argmax(1) == labels).sum())
        assert right <= len(labels)

    def compute(self) -> float:
        return float(self.right)


class Errors(Forgetful):
    """Counts errors only, so that it is the same after correct answers."""

    def update(self, scores: Tensor, labels: Tensor) -> None:
        self.right += int((scores.argmax(1) != labels).sum())


class Knowing(nn.Module):
    """Answers with the first class, which is right for samples of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([2.0, -2.0]))

    def forward(self, ids: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        return {"logits": self.bias.repeat(len(ids), 1)}


BROKEN: dict[str, Callable[[], Task]] = {
    "task.example_input: must name parameters of Reader.forward, which are ids, mask, labels; got 'words'": misnamed,
    "task.training_inputs: must name parameters of Reader.forward, which are ids, mask, labels; got 'label'": (
        lambda: replace(text_task(), training_inputs=("label",))
    ),
    "task.train collated: must have what the model is called with: ids, mask; got 'without ids, but with input_ids, "
    "mask, labels'": lambda: replace(text_task(), collate=collated_otherwise),
    "task.validation[4]: lengths must be 0 to 32, the steps of the longest input; got 33": (lambda: with_length(33)),
    "task.validation[4]: lengths must be 0 to 32, the steps of the longest input; got -1": (lambda: with_length(-1)),
    "task.train metric m: update must change what Forgetful keeps; got 'the same as after reset, after 8 samples'": (
        lambda: replace(text_task(), metrics={"m": Metric(Forgetful())})
    ),
    "task.train: must be a map-style dataset; got 'DataLoader'; give the loader's parts: loader.dataset, and to the "
    "task collate=loader.collate_fn": lambda: replace(text_task(), train=DataLoader(text_task().train)),
    "task.train: must be a map-style dataset; got 'OneByOne'; give list(dataset), or, of more than fits into memory, "
    "a few thousand samples and Task(stream=...)": lambda: replace(text_task(), train=OneByOne()),
    "task.train metric m: scores: must be one number": lambda: replace(text_task(), metrics={"m": Metric(Torn())}),
}


class Torn(Errors):
    def compute(self) -> object:
        return {"a": self.right, "b": 0}


@pytest.mark.parametrize("told", BROKEN)
def test_what_does_not_fit_is_told_with_what_was_seen(told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        check_task(BROKEN[told]())
    assert told in str(caught.value)


def test_what_the_hints_make_of_loaders_and_streams_of_samples_passes_the_check() -> None:
    task = text_task()
    loader = DataLoader(task.train, batch_size=4)
    check_task(replace(task, train=loader.dataset, collate=loader.collate_fn, test=list(task.test)))  # type: ignore[arg-type]


def test_the_longest_length_is_no_problem() -> None:
    check_task(with_length(32))


def test_a_count_of_errors_that_finds_none_is_no_problem() -> None:
    task = text_task()
    task.train.labels.zero_()  # type: ignore[attr-defined]
    check_task(
        replace(
            task,
            model=Knowing,
            validation=task.train,
            test=task.train,
            metrics={"errors": Metric(Errors(), "min", "errors")},
            loss=lambda outputs, batch: F.cross_entropy(outputs["logits"], batch["labels"]),
        )
    )


class Fixed(nn.Module):
    """Reads exactly eight tokens; or, where they are folded, makes rows of any eight."""

    def __init__(self, *, folds: bool) -> None:
        super().__init__()
        self.folds, self.words, self.head = folds, nn.Embedding(20, 4), nn.Linear(32, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        words = self.words(ids) * mask.unsqueeze(-1)
        return {"logits": self.head(words.reshape(-1, 32) if self.folds else words.flatten(1))}


@pytest.mark.parametrize(
    ("folds", "told"),
    [
        (False, "task.free_axes: the model fixes axis 1 of ids at 8"),
        (True, "at half the length of its free axes with one row for each sample, here 2; got [[1, 2]]"),
    ],
)
def test_a_free_axis_that_the_model_fixes_is_told_before_any_training(folds: bool, told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        require_export(replace(text_task(), model=lambda: Fixed(folds=folds)))
    assert told in str(caught.value)
