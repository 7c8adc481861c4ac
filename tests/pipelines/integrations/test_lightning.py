"""A LightningModule with its DataModule is a task in one call; a module of the same form is too."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.integrations.lightning import lightning_task
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.training.evaluate import scores
from paretta.search_spaces.errors import WrongInput


class ValAccuracy(nn.Module):
    """An accuracy with the form of torchmetrics' metrics."""

    higher_is_better, plot_lower_bound, plot_upper_bound = True, 0.0, 1.0

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.right, self.count = 0, 0

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        self.right += int((outputs.argmax(1) == labels).sum())
        self.count += len(labels)

    def compute(self) -> float:
        return self.right / self.count


class Steps:
    """The methods of a classifier, for either base class."""

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.net(pixels)  # type: ignore[attr-defined]
        return found

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, labels = batch
        loss = functional.cross_entropy(self(pixels), labels, label_smoothing=0.1)  # type: ignore[operator]
        self.log("train_loss", loss)  # type: ignore[attr-defined]
        return loss


def fill(module: Any) -> None:
    torch.manual_seed(0)
    module.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    module.val_acc = ValAccuracy()


class Classifier(Steps, nn.Module):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        fill(self)

    def log(self, *_: object) -> None:
        raise AssertionError("there is no trainer to log to")


def split(seed: int, count: int = 96) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return TensorDataset(torch.randn(count, 4, generator=generator) + 2 * labels[:, None], labels)


class Data:
    """The methods of a DataModule."""

    def setup(self, stage: str) -> None:
        self.splits = [split(seed) for seed in range(3)]

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.splits[0], batch_size=16, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.splits[1], batch_size=16)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return [DataLoader(self.splits[2], batch_size=16)]


def require_task(module: nn.Module, data: object) -> None:
    """It is sound, its loss is the module's own, and training by it leads somewhere."""
    task = lightning_task(module, data)
    check_task(task)
    assert sorted(task.metrics) == ["acc"]
    assert [name for name, _ in task.new_model().named_children()] == ["net"]
    inputs, targets = task.batch(task.train, torch.arange(8))
    assert list(inputs) == ["pixels"]
    model = task.new_model()
    outputs = model(**inputs)
    expected = functional.cross_entropy(outputs, targets["labels"], label_smoothing=0.1)
    assert torch.equal(task.loss(outputs, targets), expected)
    trained = stage_of({"kind": "train", "epochs": 12, "lr": 0.02, "batch_size": 16}).apply(
        model, Bench(task, Ranks.alone())
    )
    found = scores(trained, task, Ranks.alone())["acc"]
    pixels, labels = split(1).tensors
    with torch.no_grad():
        assert found == pytest.approx(float((trained(pixels).argmax(1) == labels).float().mean()))
    assert found > 0.6  # a third by chance


def test_a_module_of_lightnings_form_is_a_task() -> None:
    require_task(Classifier(), Data())


def test_a_module_of_lightning_is_a_task() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(Steps, lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            lightning.LightningModule.__init__(self)
            fill(self)

    class DataModule(Data, lightning.LightningDataModule):  # type: ignore[misc,name-defined]
        pass

    require_task(Module(), DataModule())


class Mapped(Classifier):
    """Takes batches that are mappings, and steps through them."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": functional.cross_entropy(self(batch["pixels"]), batch["labels"])}


class MappedData(Data):
    def setup(self, stage: str) -> None:
        self.splits = [  # type: ignore[assignment]
            [{"pixels": pixels, "labels": label} for pixels, label in split(seed)] for seed in range(3)
        ]


def test_batches_may_be_mappings_and_a_step_may_return_one() -> None:
    task = lightning_task(Mapped(), MappedData())
    check_task(task)
    inputs, targets = task.batch(task.train, torch.arange(4))
    outputs = task.new_model()(**inputs)
    assert torch.equal(task.loss(outputs, targets), functional.cross_entropy(outputs, targets["labels"]))


class Around(Classifier):
    """Calls a layer where it should call itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])


class Bare(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels


class NoTest(Data):
    test_dataloader = None  # type: ignore[assignment]


class Several(Data):
    def val_dataloader(self) -> Any:
        return [*super().test_dataloader(), *super().test_dataloader()]


class OnlyInputs(Data):
    def setup(self, stage: str) -> None:
        self.splits = [TensorDataset(split(seed).tensors[0]) for seed in range(3)]


@pytest.mark.parametrize(
    ("module", "data", "told"),
    [
        (Around(), Data(), r"training_step must call self\(...\) once.*; got '0 calls'; call self\(x\)"),
        (
            Bare(),
            Data(),
            "module: must have forward, training_step, as Lightning's does; got 'Bare without training_step'",
        ),
        (Classifier(), NoTest(), "data: must have .*; got 'NoTest without test_dataloader'"),
        (Classifier(), Several(), "data.val_dataloader: must return one torch DataLoader; got 'list'; choose one"),
        (Classifier(), OnlyInputs(), r"what forward takes \(pixels\) and then targets; got 'list of 1'"),
    ],
)
def test_what_is_no_task_is_told_in_one_line(module: nn.Module, data: object, told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        check_task(lightning_task(module, data))
