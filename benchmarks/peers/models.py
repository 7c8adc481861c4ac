"""The networks that are compressed, trained once on MNIST and kept: the same weights go to every tool."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.networks import resnet_8
from paretta import Task
from paretta.pipelines.bench import seeded

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "mnist"))
from fetch import fetch
from task import make

TRAINED, EPOCHS = 8_000, 2


def mlp(width: int = 1024) -> nn.Module:
    """Return two hidden layers, 1.86 million parameters."""
    layers = (nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(nn.Flatten(), *layers)


NETWORKS: Final = {"resnet_8": resnet_8, "mlp": mlp}


def task_of(name: str, home: Path) -> Task:
    """Return a task with the trained network; its test split is the 10,000 test images."""
    fetch(home / "mnist")
    task = make(folder=str((home / "mnist").absolute()))
    images, labels = (tensor[:TRAINED] for tensor in task.train.tensors)
    model = _trained(NETWORKS[name](), images, labels, home / f"{name}.pt")
    return replace(task, model=model, train=TensorDataset(images, labels))


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
