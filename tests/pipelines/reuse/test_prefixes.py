"""The key of a trained prefix is the same in every process, also where samples are read as random views."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from paretta.pipelines.bench import seeded
from paretta.pipelines.reuse.prefixes import prefix_keys
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.search_spaces.space.plan import Plan

PLAN = Plan(({"kind": "train"},), ({"kind": "quantize"},))


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Samples with noise that is drawn at each reading."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.ones(6) + torch.randn(6), torch.tensor(index % 3)


def keys(model_seed: int) -> tuple[str, ...]:
    whole = TensorDataset(torch.ones(8, 6), torch.arange(8) % 3)
    with seeded(model_seed):
        model = nn.Linear(6, 3)
    metrics = {"accuracy": Metric(correct)}
    task = Task(lambda: nn.Linear(6, 3), Noisy(), whole, whole, functional.cross_entropy, metrics, torch.zeros(1, 6))
    return prefix_keys(PLAN, task, model, 0)


def test_random_views_leave_the_key_as_it_is_and_another_model_does_not() -> None:
    with seeded(1):
        first = keys(5)
    with seeded(2):
        second, other = keys(5), keys(6)
    assert first == second
    assert len(set(first) | set(other)) == 6
