"""A task that cannot work is refused with the reason; one that can is read the same way however it is stored."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils.data import Dataset, Subset, TensorDataset

from paretta.pipelines.data.samples import places, take
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct, make
from paretta.search_spaces.errors import WrongInput

MAKER = """
from paretta.pipelines.tasks.digits import make as digits
def make(width=4): return digits(width=width, hidden=8)
number = 3
def wrong(): return 7
def fails(): raise FileNotFoundError("no images in data/")
"""


class Listed(Dataset[tuple[Tensor, Tensor]]):
    """The same samples, one at a time."""

    def __init__(self, tensors: TensorDataset) -> None:
        self.tensors_ = tensors

    def __len__(self) -> int:
        return len(self.tensors_)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.tensors_[index]
        return image, label


@pytest.fixture
def task() -> Task:
    return make(width=4, hidden=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MAKER, encoding="utf-8")
    return tmp_path


def test_a_registered_task_is_made_with_its_options() -> None:
    assert load_task("digits", {"width": 4}).new_model().conv1.out_channels == 4


def test_a_file_is_found_relative_to_the_sweep(folder: Path) -> None:
    check_task(load_task("./mine.py:make", {"width": 3}, folder))


def test_a_module_beside_the_sweep_is_found(folder: Path) -> None:
    (folder / "neighbour_of_sweep.py").write_text(MAKER, encoding="utf-8")
    check_task(load_task("neighbour_of_sweep:make", {}, folder))


@pytest.mark.parametrize(
    ("use", "options", "told"),
    [
        ("./absent.py:make", {}, "must exist"),
        ("no_such_module:make", {}, "No module named 'no_such_module'"),
        ("./mine.py:maker", {}, "did you mean 'make'"),
        ("./mine.py:number", {}, "must name something callable; got 'int'"),
        ("./mine.py:wrong", {}, "must return a Task; got 'int'"),
        ("./mine.py:make", {"witdh": 3}, "got an unexpected keyword argument 'witdh'"),
        ("./mine.py:fails", {}, "no images in data/ (at "),
        ("digit", {}, "did you mean 'digits'"),
        ("./mine.py", {}, "must name a function of the file; got './mine.py'; write ./mine.py:make"),
    ],
)
def test_what_cannot_be_loaded_is_told(folder: Path, use: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        load_task(use, options, folder)
    assert told in str(caught.value)


def test_a_fault_in_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("\nimport not_there_at_all\n", encoding="utf-8")
    with pytest.raises(WrongInput, match=r"not_there_at_all.*broken\.py:2"):
        load_task("./broken.py:make", {}, tmp_path)


def test_the_digits_pass(task: Task) -> None:
    check_task(task)


def with_labels(task: Task, high: int) -> Task:
    images, labels = task.train.tensors
    return replace(task, train=TensorDataset(images, labels.clone().index_fill_(0, torch.tensor([900]), high)))


def with_images(task: Task, images: Tensor) -> Task:
    return replace(task, train=TensorDataset(images, task.train.tensors[1][: len(images)]))


BROKEN = {
    "class labels must be 0..9": lambda task: with_labels(task, 10),
    "must hold at least one sample": lambda task: replace(task, test=Subset(task.test, [])),
    "inputs must be finite": lambda task: with_images(task, torch.full((9, 1, 8, 8), torch.nan)),
    "inputs must look like example_input": lambda task: with_images(task, torch.zeros(9, 3, 8, 8)),
    "running the model on example_input failed": lambda task: replace(task, example_input=torch.zeros(1, 2, 8, 8)),
    "must be a tensor of shape [1, ...]": lambda task: replace(task, example_input=torch.zeros(8, 8)),
    "must be a torch module or a function": lambda task: replace(task, model=3),
    "must make a torch.nn.Module": lambda task: replace(task, model=lambda: 3),
    "must be one number": lambda task: replace(
        task, loss=lambda y, t: functional.cross_entropy(y, t, reduction="none")
    ),
    "must be finite on an untrained model": lambda task: replace(task, loss=lambda y, t: y.sum() * torch.inf),
    "failed: ValueError: no": lambda task: replace(task, loss=raising),
    "must give 8 scores or one number": lambda task: replace(task, metrics={"m": Metric(lambda y, t: y)}),
    "must name at least one metric": lambda task: replace(task, metrics={}),
}


def raising(outputs: Tensor, targets: Tensor) -> Tensor:
    raise ValueError("no")


class Asked(Listed):
    """Gives whatever `answer` makes of a sample."""

    def __init__(
        self, tensors: TensorDataset, answer: Callable[[int, Tensor, Tensor], object], length: int = 0
    ) -> None:
        super().__init__(tensors)
        self.answer, self.length = answer, length

    def __len__(self) -> int:
        return self.length or super().__len__()

    def __getitem__(self, index: int) -> object:  # type: ignore[override]
        return self.answer(index, *super().__getitem__(index))


def gives(answer: Callable[[int, Tensor, Tensor], object], length: int = 0) -> Callable[[Task], Task]:
    return lambda task: replace(task, validation=Asked(task.validation, answer, length))


def gives_bytes(task: Task) -> Task:
    images, labels = task.validation.tensors
    labels = labels.to(torch.uint8)
    labels[300] = 77
    return replace(task, validation=TensorDataset(images, labels))


def unreadable(index: int, image: Tensor, label: Tensor) -> object:
    if index == 358:
        raise OSError("the file is broken")
    return image, label


def leaving(index: int, image: Tensor, label: Tensor) -> object:
    sys.exit("bye")


class Talks(nn.Module):
    """Answers in training as no exported model does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> object:
        scores = self.linear(images.flatten(1))
        return (scores, scores) if self.training else scores


def with_value(task: Task, value: float, place: int) -> Task:
    images = task.train.tensors[0].clone()
    images[place] = value
    return replace(task, train=TensorDataset(images, task.train.tensors[1]))


def scripted(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own word on TorchScript
        return torch.jit.script(model)  # type: ignore[no-any-return]


def compiled(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's own parts
        return torch.compile(model)  # type: ignore[return-value]


def regression(task: Task, loss: Callable[[Tensor, Tensor], Tensor]) -> Task:
    targets = torch.zeros(1077, 10)
    targets[7, 3] = torch.nan
    train = TensorDataset(task.train.tensors[0][:1077], targets)
    return replace(task, train=train, validation=train, test=train, loss=loss, metrics={"m": Metric(absolute)})


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.where(targets.isnan(), 0.0, (outputs - targets).abs()).mean(1)


def masked(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets)[~targets.isnan()].square().mean()


BROKEN |= {
    "task.train[900]: class labels must be 0..9, one for each of the model's outputs; got [10]": BROKEN[
        "class labels must be 0..9"
    ],
    "task.validation[300]: class labels must be 0..9, one for each of the model's outputs; got [77]": gives_bytes,
    "task.train[701]: inputs must be finite": lambda task: with_value(task, torch.inf, 701),
    "task.train[7]: its target is not finite, and neither is its loss": lambda task: regression(
        task, functional.mse_loss
    ),
    "task.validation[0]: a sample must be a pair (input, target); got 'a dict of x, y'": gives(
        lambda _, image, label: {"x": image, "y": label}
    ),
    "task.validation[0]: a sample must be a pair (input, target); got 'tuple of 3'": gives(
        lambda _, image, label: (image, label, 3)
    ),
    "task.validation[0]: its target must be a tensor or a number; got 'str'": gives(
        lambda _, image, __: (image, "cat")
    ),
    "task.validation[0]: its input must be a tensor or a number; got 'list of Tensor'; give the tensor itself": gives(
        lambda _, image, label: ((image,), label)
    ),
    "task.validation[358]: reading it failed: OSError: the file is broken (at ": gives(unreadable),
    "task.validation[0]: reading it failed: SystemExit: bye (at ": gives(leaving),
    "task.validation[399]: reading it failed: IndexError": gives(lambda _, image, label: (image, label), 400),
    "task.validation[0]: inputs must look like example_input": gives(lambda _, image, label: (image[0], label)),
    "targets must look alike": gives(lambda index, image, label: (image, label.repeat(1 + index % 2))),
    "the loss in training mode, on outputs tuple of 0 [8, 10], 1 [8, 10] failed": lambda task: replace(
        task, model=Talks
    ),
    "must not be a TorchScript module": lambda task: replace(task, model=scripted(nn.Flatten())),
    "must not be compiled by torch.compile; got 'OptimizedModule'; give the module itself": lambda task: replace(
        task, model=compiled(task.new_model())
    ),
    "must not be compiled by torch.compile; got '0 of OptimizedModule'": lambda task: replace(
        task, model=lambda: nn.Sequential(compiled(task.new_model()))
    ),
    "must not be wrapped for several devices; got 'DataParallel'; give the wrapped module": lambda task: replace(
        task, model=nn.DataParallel(task.new_model())
    ),
    "1 must be its parameter; got 'one that torch.nn.utils.spectral_norm computes'; use": lambda task: replace(
        task, model=nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(64, 10)))
    ),
    "the weight of 1 must be its parameter; got 'one that torch.nn.utils.prune computes'; make": lambda task: replace(
        task, model=nn.Sequential(nn.Flatten(), prune.l1_unstructured(nn.Linear(64, 10), "weight", 0.5))
    ),
    "must have parameters that can be trained": lambda task: replace(
        task, model=task.new_model().requires_grad_(False)
    ),
    "must be differentiable": lambda task: replace(task, loss=lambda y, t: functional.cross_entropy(y, t).detach()),
}


def test_targets_that_the_loss_leaves_out_are_no_problem(task: Task) -> None:
    check_task(regression(task, masked))


def test_gradients_that_were_switched_off_are_told(task: Task) -> None:
    with torch.no_grad(), pytest.raises(WrongInput, match="gradients must be recorded where it is trained"):
        check_task(task)


def test_a_model_that_is_not_trained_may_be_frozen(task: Task) -> None:
    check_task(replace(task, model=task.new_model().requires_grad_(False)), trains=False)


def test_a_bad_sample_in_the_middle_is_named_when_it_is_met(task: Task) -> None:
    def odd(index: int, image: Tensor, label: Tensor) -> object:
        return image[:, : 7 if index == 130 else 8], label

    with pytest.raises(WrongInput, match=r"data\[130\]: putting it into a batch with others failed"):
        take(Asked(task.validation, odd), torch.tensor([3, 130, 5]))


class Squeezed(nn.Module):
    """Drops the axis of a lone sample."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        scores = self.linear(images.flatten(1))
        return scores.squeeze(0) if len(images) == 1 and bool((images == 0.25).all()) else scores


def test_the_last_batch_of_an_evaluation_is_tried_if_it_is_small(task: Task) -> None:
    images, labels = task.validation.tensors
    last = TensorDataset(torch.cat([images[:256], torch.full((1, 1, 8, 8), 0.25)]), labels[:257])
    check_task(replace(task, model=Squeezed))
    with pytest.raises(WrongInput, match=r"must answer the last batch of 256, which has 1 of 257 samples, with \[1, "):
        check_task(replace(task, model=Squeezed, validation=last))
    score = Metric(lambda y, t: (y.argmax(1) == t).float() if len(t) > 1 else torch.ones(()))
    with pytest.raises(WrongInput, match="metric odd on the last batch of 256, which has 1 of 257 samples"):
        check_task(replace(task, validation=last, metrics={"odd": score}))
    twice = TensorDataset(*(torch.cat([part[:256], part]) for part in last.tensors))
    shared = replace(task, model=Squeezed, validation=twice)
    check_task(replace(shared, validation=Subset(shared.validation, range(512))), num_workers=2)
    with pytest.raises(WrongInput, match=r"which has 1 of 257 samples that one worker reads, with \[1, "):
        check_task(shared, num_workers=2)


@pytest.mark.parametrize("told", BROKEN)
def test_what_does_not_fit_is_told(task: Task, told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        check_task(BROKEN[told](task))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_kinds_of_dataset_give_the_same_batch(task: Task) -> None:
    indices = torch.tensor([5, 0, 7])
    images, labels = task.train.tensors[0][indices], task.train.tensors[1][indices]
    reversed_ = Subset(task.train, list(reversed(range(len(task.train)))))
    for dataset, where in ((task.train, indices), (Listed(task.train), indices), (reversed_, 1077 - indices)):
        found = take(dataset, where)
        assert torch.equal(found[0], images)
        assert torch.equal(found[1], labels)


def test_places_cover_the_split_in_order(task: Task) -> None:
    labels = torch.cat([task.batch(task.validation, part)[1] for part in places(task.validation, 50)])
    assert torch.equal(labels, task.validation.tensors[1])


def test_the_digest_says_what_it_covers_and_sees_one_changed_value(task: Task) -> None:
    known = data_digest(task)
    assert known.startswith("tensors:")
    assert known == data_digest(make(width=8))
    assert known != data_digest(with_labels(task, 5 if int(task.train.tensors[1][900]) != 5 else 6))
    assert data_digest(replace(task, train=Listed(task.train))).startswith("samples:")


def test_a_given_model_is_copied(task: Task) -> None:
    given = nn.Linear(2, 2)
    made = replace(task, model=given).new_model()
    made.weight.data.zero_()
    assert bool(given.weight.any())


def test_correct_is_the_share_of_right_classes() -> None:
    outputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(20) % 3
    pairs = zip(outputs.tolist(), targets.tolist(), strict=True)
    by_hand = [float(max(range(3), key=row.__getitem__) == target) for row, target in pairs]
    assert correct(outputs, targets).tolist() == by_hand
