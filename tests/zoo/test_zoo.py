"""Models of many structures are pruned, quantised and exported, and answer at every step as they did before it."""

import logging
from copy import deepcopy

import onnxruntime as ort
import pytest
import torch
from families import FAMILIES, Family
from masking import distinct, masked
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.equivalence import Comparison, compare_answers
from paretta.pipelines.model.weights import fold_weight_norm
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Metric, Task

pytestmark = pytest.mark.slow


def bench(family: Family) -> Bench:
    data = TensorDataset(family.inputs, torch.arange(len(family.inputs)) % 5)
    metrics = {"mean": Metric(lambda outputs, _: outputs.flatten(1).mean(1))}
    task = Task(family.make, data, data, data, lambda o, _: o.square().mean(), metrics, family.inputs[:1])
    return Bench(task, Ranks.alone())


def fresh(family: Family) -> nn.Module:
    with seeded(0):
        return distinct(fold_weight_norm(unfold_attention(family.make().eval())))


def in_onnx_runtime(model: nn.Module, inputs: Tensor) -> Comparison:
    """Compare what ONNX Runtime answers with what `model` does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(to_bytes(model, inputs[:1]), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return compare_answers(model, lambda x: session.run(None, {name: x.numpy()})[0], [inputs], tolerance=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_step_keeps_the_answers(name: str, caplog: pytest.LogCaptureFixture) -> None:
    family, caplog.handler.level = FAMILIES[name], logging.WARNING
    whole = fresh(family)
    pruned = Prune(sparsity=0.5).apply(deepcopy(whole), bench(family))
    comparison = compare_answers(masked(whole, pruned), pruned, [family.inputs], tolerance=1e-4)
    assert comparison.alike, comparison.words()
    told = [record.getMessage() for record in caplog.records if "keep their width" in record.getMessage()]
    assert len(told) == len(family.kept)
    for layer, reason in family.kept.items():
        assert any(layer in message.partition(" keep ")[0].split(", ") and reason in message for message in told)

    quantized = Quantize(bits=8, calibration_samples=8).apply(deepcopy(pruned), bench(family)).eval()
    comparison = in_onnx_runtime(quantized, family.inputs)
    assert comparison.largest < 0.05, comparison.words()  # a sum that rounds to the next step moves a value so far
