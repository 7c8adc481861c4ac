"""Activations on the grid of their own range: torch, the file and an independent integer model compute alike."""

from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from quantized_models import accuracy, bench_of, chain, images, quantized
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.coding.container import decode_model, encode_model
from paretta.pipelines.data.samples import Samples
from paretta.pipelines.export.agreement import checked_export
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.layer_kernels import facts_that_ran, optimised_graph
from paretta.pipelines.kernels.mac_count import layer_work
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.quantization.fake_quantize import (
    BlockQuantizer,
    DynamicQuantizer,
    attach_dynamic_quantizer,
    is_dynamic,
    weight_codes,
    weight_quantizer,
)
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.reuse.model_snapshot import restored, snapshot
from paretta.pipelines.stage import stage_of
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.verification.asked_and_got import asked_and_got
from paretta.search_spaces.errors import WrongInput

FUSED = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")
VALUES = {
    "normal": torch.randn(7, 33, generator=torch.Generator().manual_seed(0)),
    "positive": torch.rand(64, 5, generator=torch.Generator().manual_seed(1)) + 3,
    "negative": -torch.rand(2, 3, 9, generator=torch.Generator().manual_seed(2)) - 1e-3,
    "zeros": torch.zeros(4, 4),
    "one value": torch.full((1, 1), -2.5),
    "halves": torch.arange(-255, 256).float()[None] / 2,
    "an outlier": torch.cat([torch.linspace(-1, 1, 999), torch.tensor([200.0])])[None],
}


def run(content: bytes, values: Tensor) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values.numpy()})[0]
    return found


def operators(content: bytes) -> Counter[str]:
    """Return the operators of ONNX Runtime's optimised graph."""
    return Counter(node.op_type for node in optimised_graph(content).node)


def parts(values: NDArray[np.float32]) -> tuple[NDArray[np.int64], np.float32, int]:
    """Return codes, scale and zero point by the formulas of ONNX's DynamicQuantizeLinear, in numpy."""
    low, high = min(values.min(), np.float32(0)), max(values.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    zero = int(np.clip(np.rint(np.float32(0 - low) / scale), 0, 255))
    return np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.int64), scale, zero


def simulated(model: nn.Sequential, values: Tensor) -> NDArray[np.float32]:
    """Return what integer kernels compute of linear layers and ReLUs: exact sums, rescaled in float32."""
    found = values.numpy()
    for layer in model:
        if isinstance(layer, nn.ReLU):
            found = np.maximum(found, 0)
            continue
        quantizer = weight_quantizer(layer)
        assert quantizer is not None
        grid = quantizer.grid()
        offsets = (weight_codes(layer).long() - grid.spread(grid.zero_point, layer.weight).long()).numpy()
        codes, scale, zero = parts(found)
        sums = (codes - zero) @ offsets.T
        found = sums.astype(np.float32) * (scale * grid.scale.numpy())
        bias = cast("Tensor | None", layer.bias)
        found = found if bias is None else found + bias.detach().numpy()
    return found


def features(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(count)) * 2 + 0.3


def linear_chain(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(24, 40, bias=bias), nn.ReLU(), nn.Linear(40, 16, bias=bias), nn.Linear(16, 7))


class Block(nn.Module):
    """Attention with separate projections and a feed-forward part, on tokens of which some are padding."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down, self.norm = nn.Linear(width, 64), nn.Linear(64, width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = (tokens.abs().sum(-1) == 0)[:, None, :]
        scores = (self.query(tokens) @ self.key(tokens).transpose(1, 2)).masked_fill(hidden, -1e4)
        tokens = self.norm(tokens + self.out(scores.softmax(-1) @ self.value(tokens)))
        result: Tensor = tokens + self.down(torch.nn.functional.gelu(self.up(tokens)))
        return result.mean(1)


def padded(count: int, width: int = 32) -> Tensor:
    """Sequences of 9 places, the last ones of which are zeros."""
    tokens = features(count, 9, width)
    for row, length in enumerate(torch.randint(2, 10, (count,), generator=torch.Generator().manual_seed(1)).tolist()):
        tokens[row, length:] = 0
    return tokens


@pytest.mark.parametrize("name", VALUES)
def test_torch_rounds_as_the_runtimes_operator_does(name: str) -> None:
    values = VALUES[name]
    quantize = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])
    sides = [helper.make_tensor_value_info(side, TensorProto.FLOAT, values.shape) for side in "xy"]
    graph = helper.make_graph([quantize, back], "g", sides[:1], sides[1:])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    found, expected = DynamicQuantizer()(values), run(content, values)
    # the straight-through form adds and subtracts the values themselves
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6 * float(values.abs().max()))
    codes, scale, zero = parts(values.numpy())
    np.testing.assert_array_equal(((codes - zero) * scale).astype(np.float32), expected)


@pytest.mark.usefixtures("full_range")
@pytest.mark.parametrize(
    ("bits", "bias", "settings"),
    [
        (8, True, {}),
        (4, False, {}),
        (8, False, {"weights": "affine"}),
        (2, True, {"weights": "affine"}),
        (4, True, {"granularity": "tensor"}),
        (3, True, {"weights": "codebook"}),
    ],
)
def test_a_chain_answers_as_the_integer_model(bits: int, bias: bool, settings: dict[str, str]) -> None:
    model = linear_chain(bias=bias)
    inputs = features(64, 24)
    model = cast(nn.Sequential, quantized(model, inputs, bits, activation_range="dynamic", **settings))
    content = to_bytes(model, inputs[:1])
    for count in (1, 3, 64):
        values = features(count, 24)
        expected = simulated(model, values)
        np.testing.assert_allclose(run(content, values), expected, rtol=1e-5, atol=1e-5)
        # torch adds floats: a value in the middle between two steps may be rounded to either
        gaps = np.abs(model(values).detach().numpy() - expected)
        assert gaps.max() < 0.01 * np.abs(expected).max()
        assert (gaps < 1e-4).mean() > 0.95
    assert sum(operators(content)[name] for name in FUSED) == 3


def test_a_transformers_block_runs_in_the_fused_kernels(tmp_path: Path) -> None:
    """As what ONNX Runtime's own tool writes of the same block: one rounding for query, key and value."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    torch.manual_seed(0)
    inputs = padded(64)
    plain, theirs = tmp_path / "plain.onnx", tmp_path / "theirs.onnx"
    plain.write_bytes(to_bytes(Block().eval(), inputs[:1]))
    quantize_dynamic(plain, theirs, per_channel=True, weight_type=QuantType.QInt8)
    model = quantized(Block(), inputs, 8, activation_range="dynamic")
    content = to_bytes(model, inputs[:1])
    counts, others = operators(content), operators(theirs.read_bytes())
    assert (counts["DynamicQuantizeMatMul"], counts["MatMulIntegerToFloat"]) == (3, 3)
    assert counts["DynamicQuantizeLinear"] == 1
    assert {name: counts[name] for name in (*FUSED, "DynamicQuantizeLinear")} == {
        name: others[name] for name in (*FUSED, "DynamicQuantizeLinear")
    }
    assert not counts["MatMulInteger"]
    assert not counts["Cast"]
    written = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert (written["DynamicQuantizeLinear"], written["MatMulInteger"]) == (4, 6)


def test_padding_and_batches_are_answered_as_in_torch() -> None:
    torch.manual_seed(0)
    model = quantized(Block(), padded(64), 8, activation_range="dynamic")
    content = to_bytes(model, padded(1))
    for count in (1, 4, 64):
        values = padded(count)
        with torch.no_grad():
            expected = model(values).numpy()
        # a value in the middle between two steps may be rounded to either
        assert np.abs(run(content, values) - expected).max() < 0.01 * np.abs(expected).max()


def test_an_answer_depends_on_the_other_samples_of_the_batch_in_torch_and_in_the_file() -> None:
    model = quantized(linear_chain(), features(64, 24), 8, activation_range="dynamic")
    values = torch.cat([features(1, 24), 40 * features(3, 24)])
    content = to_bytes(model, values[:1])
    with torch.no_grad():
        alone, together = model(values[:1]), model(values)[:1]
    assert not torch.allclose(alone, together, atol=0.02)
    np.testing.assert_allclose(run(content, values[:1]), alone.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(content, values)[:1], together.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantizer", [DynamicQuantizer(), BlockQuantizer(16)])
def test_gradients_pass_unchanged(quantizer: nn.Module) -> None:
    values = features(5, 24).requires_grad_()
    weights = features(5, 24)
    found = quantizer(values)
    (found * weights).sum().backward()
    assert torch.equal(cast(Tensor, values.grad), weights)
    assert not torch.allclose(found, values, atol=1e-3)


def task_of(model: nn.Module, inputs: Tensor, calibration: Tensor | None = None) -> Task:
    data = cast(Samples, TensorDataset(inputs, torch.arange(len(inputs)) % 7))
    metrics = {"accuracy": Metric(accuracy)}
    given = None if calibration is None else cast(Samples, TensorDataset(calibration, torch.zeros(len(calibration))))
    return Task(model, data, data, data, nn.CrossEntropyLoss(), metrics, inputs[:1], calibration=given)


def test_linear_layers_need_no_samples_and_convolutions_say_that_they_do() -> None:
    stage = Quantize(activation_range="dynamic")
    empty = task_of(linear_chain(), features(8, 24), calibration=torch.zeros(0, 24))
    assert Quantize().unmet(empty) is not None
    assert stage.unmet(empty) is None
    model = stage.apply(linear_chain(), Bench(task=empty, ranks=Ranks.alone()))
    assert [is_dynamic(model[place]) for place in (0, 2, 3)] == [True] * 3
    convolving = task_of(chain(), images(8), calibration=torch.zeros(0, 1, 12, 12))
    with pytest.raises(WrongInput, match=r"activation_range: of a convolution needs calibration samples"):
        stage.apply(chain(), Bench(task=convolving, ranks=Ranks.alone()))
    assert stage.model_copy(update={"rounding": "learned"}).unmet(empty) is not None


def test_convolutions_keep_calibrated_grids() -> None:
    inputs = images(64)
    model = quantized(chain(), inputs, 8, activation_range="dynamic")
    content = checked_export(model, bench_of(chain(), inputs).task).content
    counts = operators(content)
    assert (counts["QLinearConv"], counts["QGemm"], counts["DynamicQuantizeMatMul"]) == (4, 0, 2)
    layer = chain()[0]
    with torch.no_grad():
        expected = model(inputs).numpy()
    assert np.abs(run(content, inputs) - expected).max() < 0.02 * np.abs(expected).max()
    assert isinstance(layer, nn.Conv2d)


def test_every_layer_gets_what_was_asked_in_an_integer_kernel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = padded(64)
    task = task_of(Block(), inputs)
    model = quantized(task.new_model(), inputs, 4, activation_range="dynamic")
    exported = checked_export(model, task)
    facts = facts_that_ran(exported, layer_facts(model, inputs[:1]))
    assert {name: facts[name].kernel for name in ("query", "value", "up", "down")} == {
        "query": "MatMulIntegerToFloat",
        "value": "MatMulIntegerToFloat",
        "up": "DynamicQuantizeMatMul",
        "down": "DynamicQuantizeMatMul",
    }
    assert {(item.asked, item.bits, item.in_floats) for item in facts.values()} == {(4, 4, None)}
    assert asked_and_got(facts, {}) == ()
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.content)
    ran = integer_kernels(path)
    products = [work for work in layer_work(path, {"input": inputs.numpy()}) if work.is_integer]
    assert ran.integer_macs == sum(work.macs for work in products) == 9 * (4 * 32 * 32 + 2 * 32 * 64)
    assert {(work.value_bits, work.weight_bits) for work in products} == {(8, 4)}


def test_the_portable_and_the_coded_file_answer_alike() -> None:
    inputs = padded(64)
    torch.manual_seed(0)
    model = quantized(Block(), inputs, 4, activation_range="dynamic")
    task = task_of(Block(), inputs)
    content = checked_export(model, task).content
    expected = run(content, inputs)
    np.testing.assert_array_equal(run(checked_export(model, task, storage="portable").content, inputs), expected)
    assert decode_model(encode_model(content).content) == content


def test_codes_keep_to_seven_bits_where_kernels_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretta.pipelines.stages.quantize.saturates", lambda: True)
    model = quantized(linear_chain(), features(64, 24), 8, activation_range="dynamic")
    assert max(int(weight_codes(model.get_submodule(name)).abs().max()) for name in "023") == 63


def test_groups_and_float_activations_leave_no_quantiser() -> None:
    inputs = features(64, 24)
    for settings in ({"group": 16}, {"activation_bits": 32}, {"compute": "float"}):
        model = quantized(linear_chain(), inputs, 4, activation_range="dynamic", **settings)
        assert not any(is_dynamic(layer) for layer in model.modules())


def test_hooks_of_a_layer_act_on_dynamic_values_too() -> None:
    inputs = features(64, 24)
    model = quantized(linear_chain(), inputs, 8, activation_range="dynamic")
    plain = model(inputs).detach()
    model[0].register_forward_hook(lambda _, __, output: 2 * output)
    content = checked_export(model, task_of(linear_chain(), inputs)).content
    with torch.no_grad():
        expected = model(inputs)
    assert not torch.allclose(expected, plain)
    np.testing.assert_allclose(run(content, inputs), expected.numpy(), rtol=1e-4, atol=1e-3)
    assert operators(content)["DynamicQuantizeMatMul"] == 2


def test_a_later_stage_with_fixed_grids_replaces_the_dynamic_ones() -> None:
    inputs = features(64, 24)
    model = quantized(linear_chain(), inputs, 8, activation_range="dynamic")
    bench = bench_of(linear_chain(), inputs)
    model = Quantize(bits={"0": 4}).apply(model, bench)
    assert [is_dynamic(model[place]) for place in (0, 2, 3)] == [False, True, True]
    model = Quantize(activation_range="dynamic", bits={"0": 4}).apply(model, bench)
    attach_dynamic_quantizer(model[0])
    assert is_dynamic(model[0])


@pytest.mark.parametrize("compute", ["integer", "packed"])
def test_the_model_is_written_and_read_as_plain_data(compute: str) -> None:
    inputs = features(64, 24)
    model = quantized(linear_chain(), inputs, 4, activation_range="dynamic", compute=compute)
    written = snapshot(model, linear_chain())
    assert written is not None
    assert torch.equal(restored(written, linear_chain()).eval()(inputs), model(inputs))


@pytest.mark.parametrize("compute", ["integer", "packed"])
def test_training_goes_on_in_these_roundings_and_the_file_follows(compute: str) -> None:
    inputs = features(64, 24)
    task = task_of(linear_chain(), inputs)
    bench = Bench(task=task, ranks=Ranks.alone())
    stage = Quantize(bits=3, activation_range="dynamic", compute=compute)
    model = stage.apply(task.new_model(), bench)
    targets = torch.arange(64) % 7
    with torch.no_grad():
        before = float(task.loss(model(inputs), targets))
    fit(model, bench, TrainSettings(epochs=30, batch_size=32, lr=0.01))
    with torch.no_grad():
        expected = model(inputs)
    assert float(task.loss(expected, targets)) < 0.7 * before
    assert all(is_dynamic(model[place]) for place in (0, 2, 3))
    content = checked_export(model, task).content
    gaps = np.abs(run(content, inputs) - expected.numpy())
    assert gaps.max() < 0.02 * float(expected.abs().max())
    assert (gaps < 1e-3).mean() > 0.9


def test_words_and_wrong_ranges() -> None:
    assert Quantize(bits=4, activation_range="dynamic").words() == "quantize to 4 bits, dynamic activations"
    assert Quantize(compute="float", activation_range="dynamic").words() == "quantize to 8 bits, weights only"
    with pytest.raises(WrongInput, match=r"'minmax', 'percentile', 'mse' or 'dynamic'.*give one of minmax"):
        stage_of({"kind": "quantize", "activation_range": "dynamical"})
