"""Samples are what the user's own data set gives, and messages name them by their place in the split."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset, random_split

from paretta.pipelines.batches.request import is_in_memory
from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import take
from paretta.pipelines.loading.check_data import tensors_of
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.digests import data_digest, is_repeatable
from paretta.pipelines.measuring.artifact_answers import require_readable
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.verification.rehearsal import _few
from paretta.search_spaces.errors import TrialFailed, WrongInput


class Doubled(TensorDataset):
    """Tensors whose samples are changed when they are read, such as by a transform."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image, label = super().__getitem__(index)
        return image * 2, label


class DoubledPart(Subset[tuple[Tensor, ...]]):
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:  # type: ignore[override]
        image, label = super().__getitem__(index)
        return image * 2, label

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        return [self[index] for index in indices]


IMAGES, LABELS = torch.rand(6, 1, 8, 8), torch.arange(6)
DOUBLED = {
    "tensors": Doubled(IMAGES, LABELS),
    "a part of them": Subset(Doubled(IMAGES, LABELS), range(6)),
    "a part that doubles": DoubledPart(TensorDataset(IMAGES, LABELS), range(6)),
}


@pytest.mark.parametrize("kind", DOUBLED)
def test_what_a_subclass_does_to_its_samples_is_not_passed_over(kind: str) -> None:
    dataset, chosen = DOUBLED[kind], torch.tensor([4, 1])
    images, labels = take(dataset, chosen)
    assert torch.equal(images, 2 * IMAGES[chosen])
    assert labels.tolist() == [4, 1]
    task = replace(make(width=4), train=dataset, validation=dataset, test=dataset)
    assert tensors_of(dataset) is None  # so check reads its samples
    assert not is_in_memory(task, "train")
    assert data_digest(task).startswith("samples:")
    assert torch.equal(take(_few(task).train, chosen)[0], 2 * IMAGES[chosen])


class Unread(Dataset[tuple[Tensor, Tensor]]):
    """One of its samples cannot be read."""

    def __init__(self, error: BaseException, bad: int) -> None:
        self.error, self.bad = error, bad

    def __len__(self) -> int:
        return 120

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == self.bad:
            raise self.error
        return torch.full((1, 8, 8), index / 120), torch.tensor(index % 10)


def with_train(dataset: Dataset[tuple[Tensor, Tensor]]) -> Task:
    return replace(make(width=4), train=dataset)


@pytest.mark.parametrize("error", [OSError("gone"), StopIteration(), SystemExit(3), AssertionError(), KeyError(1)])
def test_a_sample_is_named_by_its_place_in_the_split(error: BaseException) -> None:
    part, _ = random_split(Unread(error, 70), [100, 20], torch.Generator().manual_seed(0))
    index = list(part.indices).index(70)
    with pytest.raises(WrongInput, match=rf"^task\.train\[{index}\]: reading it failed: .*\(at {__file__}:\d+\)"):
        with_train(part).batch(part, torch.tensor([3, index]))


def test_every_reading_of_a_split_names_it() -> None:
    task = with_train(Unread(OSError("gone"), 119))  # the last sample is in every digest
    for read in (is_repeatable, data_digest, lambda task: task.calibration_inputs(torch.tensor([119]))):
        with pytest.raises(WrongInput, match=r"^task\.train\[119\]: reading it failed: OSError: gone"):
            read(task)
    assert task.name_of(Unread(OSError(), 0)) == "data"


def test_every_sample_of_the_test_split_is_read_before_it_is_needed() -> None:
    good = Unread(OSError("gone"), 500)
    require_readable(replace(make(width=4), test=good), "test")
    require_readable(make(width=4), "test")
    bad = replace(make(width=4), test=Subset(Unread(OSError("gone"), 61), range(60, 120)))
    with pytest.raises(TrialFailed, match=r"^task\.test\[1\]: reading it failed: OSError: gone \(at ") as caught:
        require_readable(bad, "test")
    assert caught.value.by_input


class Odd(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are read one by one, of which one late has another target than its model or its loss takes."""

    def __init__(self, odd: Tensor, like: Tensor, place: int = 700) -> None:
        self.odd, self.like, self.place = odd, like, place

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.full((1, 8, 8), index / 1000), self.odd if index == self.place else self.like


CLASSES = "class labels must be 0..9, one for each of the model's outputs"


@pytest.mark.parametrize("label", [10, -1])
def test_a_late_label_is_told_wherever_it_is_first_read(label: int) -> None:
    """Check reads such a split in part only."""
    data = Odd(torch.tensor(label), torch.tensor(3))
    task = replace(make(width=4), train=data, validation=data, test=data)
    check_task(task)
    settings = TrainSettings(epochs=1, lr=0.01, batch_size=100)
    with pytest.raises(WrongInput, match=rf"^task\.train\[700\]: {CLASSES}; got \[{label}\]; relabel the classes"):
        fit(task.new_model(), Bench(task, Ranks.alone()), settings)
    for place in (100, 300, 500, 700):  # some of these are left out of the only batch of the first epoch
        late = replace(task, train=Odd(torch.tensor(label), torch.tensor(3), place))
        with pytest.raises(WrongInput, match=rf"^task\.train\[{place}\]: {CLASSES}"):
            fit(late.new_model(), Bench(late, Ranks.alone()), TrainSettings(epochs=1, lr=0.01, batch_size=600))
    for split in ("train", "test"):
        with pytest.raises(TrialFailed, match=rf"^task\.{split}\[700\]: {CLASSES}; got \[{label}\]") as caught:
            require_readable(task, split)
        assert caught.value.by_input
    require_readable(replace(task, ignore_label=label), "test")


def test_a_late_target_that_is_not_finite_is_told_unless_the_loss_leaves_it_out() -> None:
    def leaving_out(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs[:, 0] - targets.nan_to_num()) ** 2 * targets.isfinite()).mean()

    data = Odd(torch.tensor(torch.nan), torch.tensor(0.5))
    task = replace(make(width=4), train=data, loss=lambda outputs, targets: ((outputs[:, 0] - targets) ** 2).mean())
    with pytest.raises(TrialFailed, match=r"^task\.train\[700\]: its target is not finite, and neither is its loss"):
        require_readable(task, "train")
    require_readable(replace(task, loss=leaving_out), "train")


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_lazy_layers_take_their_shapes_from_the_example() -> None:
    def lazy(*norms: nn.Module) -> nn.Module:
        return nn.Sequential(nn.LazyConv2d(4, 3), *norms, nn.Flatten(), nn.LazyLinear(10))

    for model in (lambda: lazy(nn.LazyBatchNorm2d()), lazy()):
        task = replace(make(width=4), model=model)
        check_task(task)
        torch.manual_seed(5)
        first = task.new_model()
        torch.manual_seed(5)
        again = task.new_model()
        assert isinstance(first, nn.Sequential)
        assert (tuple(first[0].weight.shape), tuple(first[-1].weight.shape)) == ((4, 1, 3, 3), (10, 144))
        assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
        assert first.training
        assert first.state_dict().get("1.num_batches_tracked", 0) == 0
