"""Weights in groups and packed weights are delivered with exactly the values that they had in training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from quantized_models import accuracy
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.coding.container import decode_model, encode_model
from paretta.pipelines.export.agreement import checked_export
from paretta.pipelines.export.integer_packing import pack_fields
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.layer_kernels import facts_that_ran
from paretta.pipelines.kernels.mac_count import layer_work
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.quantization.layer_facts import LayerFacts, layer_facts
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.runtime import WeightStorage
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.verification.asked_and_got import asked_and_got

COLUMNS = 72  # in groups of 16 and 32 the last one is shorter


class Words(nn.Module):
    """Looks up rows, and computes two linear layers with and without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, COLUMNS)
        self.hidden = nn.Linear(COLUMNS, 160)
        self.out = nn.Linear(160, 10, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        result: Tensor = self.out(self.hidden(self.table(words)).relu().mean(1))
        return result


def words_task() -> Task:
    torch.manual_seed(0)
    words = torch.randint(0, 40, (48, 7), generator=torch.Generator().manual_seed(5))
    data = TensorDataset(words, torch.arange(48) % 10)
    return Task(Words(), data, data, data, nn.CrossEntropyLoss(), {"accuracy": Metric(accuracy)}, words[:1])  # type: ignore[arg-type]


def delivered(storage: WeightStorage = "smallest", **settings: object) -> tuple[bytes, dict[str, LayerFacts]]:
    """Quantise the words model, export it as a run does, and return the file with the facts of its layers."""
    task = words_task()
    model = task.new_model()
    model = Quantize.model_validate(settings).apply(model, Bench(task=task, ranks=Ranks.alone(), seed=3)).eval()
    exported = checked_export(model, task, storage=storage)
    return exported.content, facts_that_ran(exported, layer_facts(model, task.example_input))


def operators(content: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(content).graph.node}


def answers(content: bytes, values: Tensor) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"input": values.numpy()})[0]
    return found


class Beside(nn.Module):
    """Layers that read the same values, their answers side by side."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([layer(values) for layer in self.layers.values()], -1)

    def weight(self, name: str) -> Tensor:
        found = self.layers[name].weight
        assert isinstance(found, Tensor)
        return found.detach()


def beside(layers: Mapping[str, nn.Module], values: Tensor, **settings: object) -> tuple[Beside, bytes]:
    """Quantise layers that stand beside each other, and return them with their file."""
    model, data = Beside(**layers), TensorDataset(values, torch.zeros(len(values), dtype=torch.long))
    task = Task(model, data, data, data, nn.CrossEntropyLoss(), {"accuracy": Metric(accuracy)}, values[:1])  # type: ignore[arg-type]
    stage = Quantize.model_validate(settings)
    quantized = stage.apply(model, Bench(task=task, ranks=Ranks.alone())).eval()
    assert isinstance(quantized, Beside)
    for layer in quantized.layers.values():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return quantized, to_bytes(quantized, values[:1])


WIDTHS = {"layers.a": 4, "layers.b": 3, "layers.c": 2, "layers.d": 4}
GROUPS = {"layers.a": 32, "layers.b": 16, "layers.c": 64, "layers.d": None}
GRIDS = [
    {"group": GROUPS, "weights": "symmetric"},
    {"group": GROUPS, "weights": "affine"},
    {"granularity": "tensor", "weights": "affine"},
]


@pytest.mark.parametrize("compute", ["float", "packed"])
@pytest.mark.parametrize("settings", GRIDS, ids=str)
def test_linear_layers_have_the_very_weights_of_training(settings: dict[str, object], compute: str) -> None:
    torch.manual_seed(2)
    layers, unit = {name: nn.Linear(COLUMNS, 80) for name in "abcd"}, torch.eye(COLUMNS)
    model, content = beside(layers, unit, bits=WIDTHS, compute=compute, **settings)
    assert ("MatMulNBits" in operators(content)) == (compute == "packed")
    # each answer for a unit vector is one weight times one, plus zeros
    expected = torch.cat([model.weight(name).T for name in "abcd"], 1)
    np.testing.assert_array_equal(answers(content, unit), expected.numpy())


@pytest.mark.parametrize("compute", ["float", "packed"])
@pytest.mark.parametrize("settings", GRIDS[:2], ids=str)
def test_embeddings_have_the_very_rows_of_training(settings: dict[str, object], compute: str) -> None:
    torch.manual_seed(2)
    layers, places = {name: nn.Embedding(60, COLUMNS) for name in "abcd"}, torch.arange(60)
    model, content = beside(layers, places, bits={**WIDTHS, "layers.d": 7}, compute=compute, **settings)
    assert ("GatherBlockQuantized" in operators(content)) == (compute == "packed")
    expected = torch.cat([model.weight(name) for name in "abcd"], 1)
    np.testing.assert_allclose(answers(content, places), expected.numpy(), rtol=3e-7, atol=0)


def test_what_ran_is_told_with_bits_and_groups() -> None:
    _, facts = delivered(bits=4, group=32, compute="packed")
    assert {name: of.kernel for name, of in facts.items()} == {
        "table": "GatherBlockQuantized",
        "hidden": "MatMulNBits",
        "out": "MatMulNBits",
    }
    assert {of.group for of in facts.values()} == {32}
    assert facts["out"].stored == pytest.approx(4 + 16 / 32)  # codes, and a bfloat16 for each group of 32
    line = "out: 4 bits in groups of 32 asked, 4.5 stored, MatMulNBits: MatMulNBits multiplies floats with it"
    assert asked_and_got({"out": facts["out"]}, {}) == (line,)


def test_more_than_four_bits_compute_in_floats_and_say_why() -> None:
    _, facts = delivered(bits={"hidden": 5, "*": 4}, group=32, compute="packed")
    assert facts["hidden"].kernel == "MatMul"
    assert facts["hidden"].in_floats == "MatMulNBits is slower than floats with more than 4 bits"
    assert facts["out"].kernel == "MatMulNBits"


def test_what_other_runtimes_read_has_standard_operators_only() -> None:
    content, facts = delivered("portable", bits=4, group=32, compute="packed")
    assert {entry.domain for entry in onnx.load_from_string(content).opset_import} <= {"", "pkg.onnxscript.torch_lib"}
    assert facts["hidden"].kernel == "MatMul"


def test_fewer_bits_take_fewer_bytes_though_they_are_widened_at_load() -> None:
    torch.manual_seed(2)
    sizes = []
    for bits in (4, 3, 2):
        _, content = beside({"a": nn.Linear(96, 160)}, torch.eye(96), bits=bits, group=32, compute="packed")
        assert decode_model(encode_model(content).content) == content
        sizes.append(len(content))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.7 * sizes[0]


def test_products_of_packed_weights_are_counted(tmp_path: Path) -> None:
    unit, path = torch.eye(COLUMNS), tmp_path / "model.onnx"
    path.write_bytes(beside({"a": nn.Linear(COLUMNS, 96)}, unit, bits=4, group=32, compute="packed")[1])
    (work,) = layer_work(path, {"input": unit[:1].numpy()})
    assert (work.operator, work.macs, work.weight_bits, work.is_integer) == ("MatMulNBits", COLUMNS * 96, 4, False)
    counts = integer_kernels(path)
    assert (counts.macs, counts.weights, counts.integer_macs) == (COLUMNS * 96, COLUMNS * 96, 0)


BLOCKS = {"layers.a": 16, "layers.b": 32, "layers.c": 64, "layers.d": None}


@pytest.mark.parametrize("columns", [72, 200, 512])
@pytest.mark.parametrize("weights", ["symmetric", "affine"])
def test_activations_in_blocks_are_rounded_in_training_as_the_kernel_does(weights: str, columns: int) -> None:
    torch.manual_seed(2)
    layers = {name: nn.Linear(columns, 80) for name in "abcd"}
    values = torch.randn(9, columns) * torch.logspace(-3, 2, 9)[:, None]
    values[4, :40] = 0
    settings = {"bits": 4, "group": BLOCKS, "weights": weights, "compute": "packed"}
    model, content = beside(layers, values, activation_range="dynamic", **settings)
    with torch.no_grad():
        expected = model(values).numpy()
        floats = torch.cat([values @ model.weight(name).T for name in "abcd"], 1).numpy()
    found, largest = answers(content, values), np.abs(expected).max(1, keepdims=True)
    assert (np.abs(found - expected) / largest).max() < 1e-5
    assert (np.abs(floats - expected) / largest).max() > 1e-3
    for row in (0, 4):  # an answer does not depend on the others of its batch
        np.testing.assert_allclose(answers(content, values[row : row + 1])[0], found[row], rtol=1e-5, atol=1e-6)


def test_activations_in_blocks_are_told_and_counted_as_integers(tmp_path: Path) -> None:
    content, facts = delivered(bits={"hidden": 5, "*": 4}, group=32, compute="packed", activation_range="dynamic")
    assert (facts["out"].kernel, facts["out"].in_floats) == ("MatMulNBits in int8", None)
    assert facts["hidden"].in_floats == "MatMulNBits is slower than floats with more than 4 bits"
    path, words = tmp_path / "model.onnx", torch.randint(0, 40, (1, 7))
    path.write_bytes(content)
    works = {work.operator: work for work in layer_work(path, {"input": words.numpy()})}
    packed = works["MatMulNBits"]
    assert (packed.value_bits, packed.weight_bits, packed.is_integer, packed.macs) == (8, 4, True, 1600)
    assert not works["MatMul"].is_integer
    assert integer_kernels(path).integer_macs == 1600


def test_other_runtimes_round_blocks_by_standard_operators() -> None:
    settings = {"bits": 4, "group": 32, "compute": "packed", "activation_range": "dynamic"}
    words = torch.randint(0, 40, (5, 7), generator=torch.Generator().manual_seed(8))
    (portable, facts), (packed, _) = delivered("portable", **settings), delivered(**settings)
    assert facts["hidden"].in_floats == "ONNX Runtime runs it as MatMul, in floats"
    assert "MatMulNBits" not in operators(portable)
    np.testing.assert_allclose(answers(portable, words), answers(packed, words), rtol=1e-4, atol=1e-4)


_LEVELS = onnxruntime.GraphOptimizationLevel
_FEW = {TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2}


def blocks_along_axis_0() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    codes = random.integers(-8, 8, (64, 32))
    weight = TensorProto(name="w", data_type=TensorProto.INT4, dims=codes.shape, raw_data=pack_fields(codes, 4))
    scale = numpy_helper.from_array((random.random((2, 32)) / 8).astype(np.float32), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=32),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])]
    found = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])]
    graph = helper.make_graph(nodes, "g", given, found, [weight, scale])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def widened(model: onnx.ModelProto) -> bool:
    """Return whether a DequantizeLinear of `model` reads blocks of fewer than 8 bits."""
    stored = {item.name: item.data_type for item in model.graph.initializer}
    return any(
        node.op_type == "DequantizeLinear"
        and stored.get(node.input[0]) in _FEW
        and any(attribute.name == "block_size" for attribute in node.attribute)
        for node in model.graph.node
    )


def test_the_runtime_rounds_activations_of_such_a_graph_by_itself() -> None:
    """At its default level it makes a MatMulNBits with 8-bit activations of a DequantizeLinear of blocks along axis 0.

    The file has floats. In 1.31.1 answers are off by 0.3 to 0.8 % of the largest.
    """
    model, values = blocks_along_axis_0(), np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    answers = []
    for level in (_LEVELS.ORT_DISABLE_ALL, _LEVELS.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"x": values})[0])
    gap = np.abs(answers[1] - answers[0]).max() / np.abs(answers[0]).max()
    assert 1e-3 < gap < 0.02  # below, the runtime has learned to keep floats, and this guard can go
    assert widened(model)


@pytest.mark.parametrize("compute", ["integer", "float", "packed"])
def test_no_delivered_graph_is_of_that_form(compute: str) -> None:
    content, _ = delivered(bits={"hidden": 4, "*": 3}, group=32, compute=compute)
    assert not widened(onnx.load_from_string(content))
