"""The networks that are compressed: trained once on MNIST and kept, or by others; the same weights go to every tool."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.networks import resnet_8
from benchmarks.peers.duel import BATCHES, Ratio, accuracy, cosine
from paretta import Task
from paretta.pipelines.bench import seeded
from paretta.pipelines.data.feeds import Feeds

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
TRAINED, EPOCHS, NUM_SAMPLES = 8_000, 2, 256


@dataclass(frozen=True, slots=True)
class Subject:
    """A network with its data.

    Args:
        task: with the trained model.
        samples: for calibration, given to every tool.
        test: what the files are timed and judged on.
        judge: returns how good a file's answers are, by name, from the file, the fp32 file and a runtime's name.
        judged_on: what that is, in words.
    """

    task: Task
    samples: Feeds
    test: Feeds
    judge: Callable[[Path, Path, str], Mapping[str, Ratio]]
    judged_on: str


def mlp(width: int = 1024) -> nn.Module:
    """Return two hidden layers, 1.86 million parameters."""
    layers = (nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(nn.Flatten(), *layers)


NETWORKS: Final = {"resnet_8": resnet_8, "mlp": mlp}


def subject_of(name: str, home: Path) -> Subject:
    """Return one of `NETWORKS` with MNIST, or ``minilm``, the sentence encoder of the examples."""
    return _sentences(home) if name == "minilm" else _digits(name, home)


def _sentences(home: Path) -> Subject:
    program, example = (_module("sentences", name) for name in ("fetch", "task"))
    program.fetch(home / "sentences")
    task = example.make(folder=str((home / "sentences").absolute()))

    samples, test = (
        {key: tensor.numpy() for key, tensor in task.batch(split, torch.arange(count))[0].items()}
        for split, count in ((task.train, NUM_SAMPLES), (task.test, len(task.test)))
    )

    def judge(path: Path, source: Path, runtime: str) -> Mapping[str, Ratio]:
        place = 1  # the vector stands after the states
        return {f"cosine, batch {size}": cosine((path, source), test, place, size, runtime) for size in BATCHES}

    return Subject(task, samples, test, judge, f"{len(task.test)} sentences of editorials and reviews, against fp32")


def _module(example: str, name: str) -> ModuleType:
    """Return a program of an example; those of two examples have the same names."""
    spec = spec_from_file_location(f"{example}_{name}", EXAMPLES / example / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _digits(name: str, home: Path) -> Subject:
    program, example = (_module("mnist", part) for part in ("fetch", "task"))
    program.fetch(home / "mnist")
    task = example.make(folder=str((home / "mnist").absolute()))
    images, labels = (tensor[:TRAINED] for tensor in task.train.tensors)
    model = _trained(NETWORKS[name](), images, labels, home / f"{name}.pt")
    task = replace(task, model=model, train=TensorDataset(images, labels))
    test, right = (np.asarray(tensor) for tensor in task.test.tensors)

    def judge(path: Path, _source: Path, runtime: str) -> Mapping[str, Ratio]:
        return {"accuracy": accuracy(path, test, right, runtime)}

    samples = {"input": np.asarray(images[:NUM_SAMPLES])}
    return Subject(task, samples, {"input": test}, judge, "10,000 test images of MNIST")


def _trained(model: nn.Module, images: Tensor, labels: Tensor, path: Path) -> nn.Module:
    if not path.exists():
        with seeded(0):
            for module in model.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
            for _ in range(EPOCHS):
                for part in torch.randperm(TRAINED).split(64):
                    optimizer.zero_grad()
                    functional.cross_entropy(model(images[part]), labels[part]).backward()
                    optimizer.step()
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()
