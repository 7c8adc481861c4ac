"""An interrupted training continues from its last epoch and ends bit-identical to an undisturbed one."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, TrainingProgress, seeded
from paretta.pipelines.data.generators import GeneratorStates
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.state.state_file import read_state, write_state
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.tweak import Tweak


class Interrupted(Exception):
    """Stands for a worker that is killed."""


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(48, 6, generator=generator), torch.arange(48) % 3)
    return Task(net, data, data, data, functional.cross_entropy, {"accuracy": Metric(correct)}, torch.zeros(1, 6))


def trained(bench: Bench, settings: TrainSettings, *tweaks: Tweak) -> tuple[dict[str, torch.Tensor], tuple[float, ...]]:
    with seeded(0):
        model = net()
    losses = fit(model, bench, settings, tweaks=tweaks)
    return model.state_dict(), losses


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "schedule": "one-cycle"},
        {"optimizer": "adagrad", "lr": 0.1},
        {"optimizer": "lbfgs", "lr": 0.5},
        {"optimizer": "adam", "tweaks": [{"kind": "l1_penalty"}]},
    ],
)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_it_ends_as_if_nothing_had_happened(
    task: Task, tmp_path: Path, settings: dict[str, object], killed_after: int
) -> None:
    chosen = TrainSettings.model_validate({"epochs": 4, "batch_size": 16, "lr": 0.01, **settings})
    bench = Bench(task, Ranks.alone(), seed=3, stage="train")
    undisturbed, losses = trained(bench, chosen)
    told: list[int] = []

    def kill(progress: TrainingProgress) -> None:
        told.append(progress.epoch)
        if progress.epoch == killed_after and len(told) == killed_after:
            raise Interrupted

    kept = replace(bench, checkpoint=Checkpoint(tmp_path), report=kill)
    with pytest.raises(Interrupted):
        trained(kept, chosen)
    again, losses_again = trained(kept, chosen)
    assert told == [1, 2, 3, 4], "no epoch is trained twice"
    assert losses_again == losses
    assert all(torch.equal(again[name], tensor) for name, tensor in undisturbed.items())


class Kill(Tweak):
    """Interrupts the training once, at a step."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, list[int]()

    def before_step(self, step: int, model: nn.Module) -> None:
        self.steps.append(step)
        if step == self.at:
            self.at = 0
            raise Interrupted


@pytest.mark.parametrize("more", [{}, {"ema": 0.9, "patience": 2}, {"optimizer": "lbfgs", "lr": 0.5}])
def test_it_goes_on_from_the_step(task: Task, tmp_path: Path, more: dict[str, object]) -> None:
    """Of 24 steps an epoch, steps 17 and 41 are the last ones saved before steps 22 and 46; dropout draws as it did."""
    chosen = TrainSettings.model_validate({"epochs": 3, "batch_size": 2, "lr": 0.01, **more})
    bench = Bench(task, Ranks.alone(), seed=3, stage="train")
    undisturbed, losses = trained(bench, chosen)
    kept = replace(bench, checkpoint=Checkpoint(tmp_path, every_s=0.0))
    for at, begins in ((22, 1), (46, 18)):
        kill = Kill(at)
        with pytest.raises(Interrupted):
            trained(kept, chosen, kill)
        assert kill.steps == list(range(begins, at + 1))
    last = Kill(0)
    again, losses_again = trained(kept, chosen, last)
    assert last.steps[0] == 42
    assert losses_again == losses
    assert all(torch.equal(again[name], tensor) for name, tensor in undisturbed.items())


def test_generators_survive_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)
    random.gauss(0, 1)
    np.random.standard_normal()
    write_state(tmp_path / "g.safetensors", {"all": GeneratorStates.now().packed()})

    def draw() -> list[float]:
        return [torch.rand(()).item(), random.gauss(0, 1), random.random(), float(np.random.standard_normal())]

    expected = draw()
    packed = read_state(tmp_path / "g.safetensors")["all"]
    assert isinstance(packed, torch.Tensor)
    GeneratorStates.unpacked(packed).restore()
    assert draw() == expected


def test_a_finished_training_is_not_repeated(task: Task, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    bench = Bench(task, Ranks.alone(), seed=3, checkpoint=Checkpoint(tmp_path), report=told.append)
    first, again = (trained(bench, TrainSettings(epochs=2)) for _ in range(2))
    assert len(told) == 2
    assert all(torch.equal(first[0][name], tensor) for name, tensor in again[0].items())
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_another_seed_or_setting_starts_anew(task: Task, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    bench = Bench(task, Ranks.alone(), seed=3, checkpoint=Checkpoint(tmp_path), report=told.append)
    trained(bench, TrainSettings())
    trained(replace(bench, seed=4), TrainSettings())
    trained(bench, TrainSettings(lr=0.1))
    assert len(told) == 3


def flipped(content: bytes, place: int) -> bytes:
    """Turn one bit over, as a bad disk does."""
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing is left": lambda _: b"",
    "another file": lambda _: b"not a tensor file",
    "cut short": lambda content: content[:-7],
    "a bit of a tensor": lambda content: flipped(content, len(content) - 7),
    "a loss": lambda content: flipped(content, content.index(b"losses") + 12),
    "a type": lambda content: content.replace(b'"dtype":"F32"', b'"dtype":"I32"', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_training_starts_again(
    task: Task, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(task, Ranks.alone(), seed=3, checkpoint=Checkpoint(tmp_path))
    expected, _ = trained(bench, TrainSettings())
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    assert path.read_bytes() != whole
    again, _ = trained(bench, TrainSettings())
    assert "cannot be read" in caplog.text
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


def test_a_state_of_any_shape_survives(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    shared = torch.arange(6.0)
    state = {"a": [1, 2.5, None, "x", True], "b": {0: {"t": shared[::2]}, 7: [shared, torch.tensor(3)]}, "c": {}}
    checkpoint.save("key", state)
    found = checkpoint.load("key")
    assert found["a"] == state["a"]
    assert list(found["b"]) == [0, 7]
    assert torch.equal(found["b"][0]["t"], shared[::2])
    assert found["b"][7][1].item() == 3
    assert found["c"] == {}
    assert checkpoint.load("other") is None


def test_a_full_disk_costs_the_state_and_not_the_training(full_disk: Path) -> None:
    checkpoint = Checkpoint(full_disk)
    checkpoint.save("small", {"model": torch.ones(4)})
    checkpoint.save("small", {"model": torch.ones(1_000_000)})
    kept = checkpoint.load("small")
    assert kept is not None
    assert torch.equal(kept["model"], torch.ones(4))  # type: ignore[arg-type]
    assert [file.name for file in full_disk.iterdir()] == ["small.safetensors"]
