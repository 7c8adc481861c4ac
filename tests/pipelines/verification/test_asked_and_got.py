"""A check says in a few lines where layers do not get the bits or the integer kernel that are asked."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.data.samples import Samples
from paretta.pipelines.quantization.layer_facts import LayerFacts
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.verification.asked_and_got import asked_and_got
from paretta.pipelines.verification.rehearsal import rehearse
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan


class Mixed(nn.Module):
    """A layer without an integer form among others, with a softmax between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.steps = nn.Conv2d(1, 8, 3), nn.Conv1d(8, 8, 1, padding_mode="circular")
        self.hidden, self.head = nn.Linear(8, 32), nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self.steps(self.conv(inputs).relu().flatten(2)).mean(2)
        answer: Tensor = self.head(self.hidden(rows).softmax(1))
        return answer


def lines(*stages: Document) -> tuple[str, ...]:
    data = cast(Samples, TensorDataset(torch.randn(16, 1, 8, 8), torch.arange(16) % 10))
    metrics = {"mean": Metric(lambda outputs, _: outputs.mean(1))}
    task = Task(Mixed, data, data, data, nn.CrossEntropyLoss(), metrics, torch.zeros(1, 1, 8, 8))
    found = rehearse([Plan((), stages)], task, where="space", tell=lambda _: None)
    assert not [line for line in found.unchanged if "steps" in line], "each is told once"
    return found.got


def test_what_stays_in_floats_is_told_with_bits_kernel_and_reason() -> None:
    unknown = "only zero padding has an integer form, not 'circular'"
    named = f"steps: 8 bits asked, 32 stored, Conv: {unknown}"
    between = "between integer layers in floats: 1 Conv, 1 ReduceMean, 1 Softmax"
    assert lines({"kind": "quantize", "bits": 8}) == (named, between)


def test_weights_alone_in_few_bits_are_told_to_run_in_floats() -> None:
    found = lines({"kind": "quantize", "bits": {"hidden": 4, "head": 4}, "activation_bits": 32})
    assert len(found) == 1
    assert found[0].startswith("hidden, head: 4 bits asked, 4")
    assert found[0].endswith(" stored, Gemm: its input is not quantized")


def test_nothing_is_told_where_nothing_was_asked() -> None:
    assert lines({"kind": "prune", "sparsity": 0.5}) == ()


@pytest.mark.parametrize(("stored", "count"), [(4.4, 0), (8.0, 1)])
def test_a_layer_that_is_stored_in_more_bits_is_told(stored: float, count: int) -> None:
    facts = LayerFacts((4, 8), 4, 0.0, None, 4, stored, "QGemm")
    assert len(asked_and_got({"fc": facts}, {})) == count


def test_of_many_alike_layers_a_few_are_named() -> None:
    facts = LayerFacts((4, 8), 32, 0.0, "its weight is shared", 8, 32.0, "MatMul")
    (line,) = asked_and_got({f"block{place}": facts for place in range(50)}, {})
    assert line.startswith("block0, block1, block2 and 47 more: 8 bits asked, 32 stored, MatMul: ")
