"""The exported model computes what an independent integer model computes, bit for bit, in integer kernels."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from integer_simulator import looked_up, simulate
from quantized_models import Beside, bench_of, chain, images, quantized, residual
from torch import nn
from torch.nn.utils import parametrize

from paretta.pipelines.export.to_onnx import to_bytes, to_onnx
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.stages.quantize import Quantize
from paretta.search_spaces.registry import QUANTIZERS

WIDTHS = range(2, 9)


def outputs_of(model: bytes, inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": inputs.numpy()})[0]


def kernels_of(model: bytes, folder: Path):
    (folder / "model.onnx").write_bytes(model)
    return integer_kernels(folder / "model.onnx")


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_chain_equals_the_integer_simulator_bit_for_bit(bits: int, tmp_path: Path) -> None:
    inputs = images(1200)
    model = quantized(chain(), inputs, bits)
    exported = to_bytes(model, inputs[:1])
    expected = simulate(model, inputs)
    assert len(np.unique(expected)) > 300
    np.testing.assert_array_equal(outputs_of(exported, inputs), expected)
    kernels = kernels_of(exported, tmp_path)
    assert (kernels.kernels["QLinearConv"], kernels.kernels["QGemm"]) == (4, 2)
    assert kernels.details()["integer_macs_share"] == kernels.details()["integer_weights_share"] == 1.0
    assert "DequantizeLinear" not in kernels.kernels


def test_every_output_of_single_layers_of_every_width_is_exact() -> None:
    """Plain, depthwise and linear layers, and linear layers on tokens, at each width and 1,000 inputs, in one file."""
    torch.manual_seed(0)
    inputs = images(1000, channels=4, size=6)
    kinds = [
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)),
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 20)),
        lambda: nn.Sequential(nn.Flatten(2), nn.Linear(36, 5, bias=False)),
    ]
    branches = [kind() for _ in WIDTHS for kind in kinds]
    widths = {f"branches.{index}.*": WIDTHS[index // len(kinds)] for index in range(len(branches))}
    model = quantized(Beside(branches), inputs, widths)
    expected = np.concatenate([simulate(branch, inputs).reshape(1000, -1) for branch in branches], axis=1)
    assert expected.shape == (1000, len(WIDTHS) * (6 * 36 + 4 * 16 + 20 + 4 * 5))
    np.testing.assert_array_equal(outputs_of(to_bytes(model, inputs[:1]), inputs), expected)


def test_every_quantizer_is_exact_and_runs_in_integers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    inputs = images(1000, channels=2, size=6)
    settings = [{"weights": name} for name in QUANTIZERS.names()] + [
        {"weights": name, "granularity": "tensor"} for name in ("affine", "symmetric")
    ]
    branches = [nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 9)) for _ in settings]
    for branch, setting in zip(branches, settings, strict=True):
        quantized(branch, inputs, 3, **setting)
    exported = to_bytes(Beside(branches), inputs[:1])
    expected = np.concatenate([simulate(branch, inputs) for branch in branches], axis=1)
    np.testing.assert_array_equal(outputs_of(exported, inputs), expected)
    kernels = kernels_of(exported, tmp_path)
    assert (kernels.kernels["QLinearConv"], kernels.kernels["QGemm"]) == (len(settings), len(settings))
    assert kernels.details()["integer_macs_share"] == 1.0


class Rows(nn.Module):
    """Several embeddings of the same places, side by side."""

    def __init__(self, tables: list[nn.Module]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(tables)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return torch.cat([table(places).flatten(1) for table in self.tables], 1)


def test_embeddings_are_looked_up_exactly() -> None:
    """1,200 rows read at each width, of tables with a step for each row and with a single step."""
    torch.manual_seed(5)
    places = torch.randint(0, 100, (400, 3), generator=torch.Generator().manual_seed(0))
    settings = [{}, {"granularity": "tensor"}, {"weights": "affine"}, {"weights": "codebook"}]
    tables = [nn.Embedding(100, 8, padding_idx=0) for _ in WIDTHS for _ in settings]
    for index, table in enumerate(tables):
        quantized(nn.Sequential(table), places, WIDTHS[index // len(settings)], **settings[index % len(settings)])
        assert not table.weight[0].any()
    exported = to_bytes(Rows(tables), places[:1])
    expected = np.concatenate([looked_up(table, places.numpy()).reshape(400, -1) for table in tables], axis=1)
    np.testing.assert_array_equal(outputs_of(exported, places), expected)


def test_weights_alone_are_stored_in_few_bits_and_computed_with_in_floats(tmp_path: Path) -> None:
    inputs = images(64)
    branches = [quantized(chain(), inputs, 4, weights=name, activation_bits=32) for name in QUANTIZERS.names()]
    model = Beside([nn.Sequential(*branch) for branch in branches])
    exported = to_bytes(model, inputs[:1])
    assert len(exported) < 0.35 * 4 * sum(p.numel() for branch in branches for p in branch.parameters())
    np.testing.assert_allclose(outputs_of(exported, inputs), model(inputs).detach(), rtol=1e-4, atol=1e-5)
    kernels = kernels_of(exported, tmp_path)
    assert kernels.integer_layers == 0
    assert not {"DequantizeLinear", "Cast", "Mul"} & set(kernels.kernels), "made once, while the file is loaded"


class Tokens(nn.Module):
    """An encoder over tokens with learned positions, as users bring them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 16)
        self.position = nn.Parameter(torch.randn(1, 6, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True, activation="gelu", norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 10)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(self.table(places) + self.position)
        answer: torch.Tensor = self.head(hidden.mean(1))
        return answer


def test_a_pruned_transformer_runs_its_projections_in_integers(tmp_path: Path) -> None:
    torch.manual_seed(4)
    places = torch.randint(0, 40, (64, 6))
    model = Prune(sparsity={"*self_attn*": 0.5}).apply(Tokens(), bench_of(Tokens(), places))
    reference = deepcopy(model)(places).detach()
    model = quantized(model, places, 8)
    exported = to_bytes(model, places[:1])
    kernels = kernels_of(exported, tmp_path)
    assert kernels.kernels["QGemm"] == 4 + 2 + 1
    # what stays in floats are the two products of attention itself, in two heads of width 4
    assert kernels.macs - kernels.integer_macs == 2 * 2 * 6 * 6 * 4
    found = outputs_of(exported, places)
    assert np.abs(found - reference.numpy()).max() < 0.1 * float(reference.abs().max())
    assert (found.argmax(1) == model(places).argmax(1).numpy()).mean() > 0.95


def test_any_batch_size_gives_the_same_rows() -> None:
    inputs = images(64)
    exported = to_bytes(quantized(chain(), inputs, 4), inputs[:1])
    together = outputs_of(exported, inputs)
    for size in (1, 7):
        np.testing.assert_array_equal(outputs_of(exported, inputs[:size]), together[:size])


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardswish()], ids=["relu", "relu6", "hardswish"])
def test_skips_pools_and_other_activations_keep_layers_in_integers(activation: nn.Module, tmp_path: Path) -> None:
    inputs = images(256)
    model = residual(activation)
    reference = deepcopy(model).eval()(inputs).detach().numpy()
    exported = to_bytes(quantized(model, inputs, 8), inputs[:1])
    details = kernels_of(exported, tmp_path).details()
    assert (details["qlinear_conv"], details["qgemm"], details["integer_macs_share"]) == (4, 1, 1.0)
    assert np.abs(outputs_of(exported, inputs) - reference).max() < 0.1 * np.abs(reference).max()


def test_the_share_of_integer_work_is_counted(tmp_path: Path) -> None:
    inputs = images(64)
    exported = to_bytes(quantized(chain(), inputs, {"0": 8, "11": 8}), inputs[:1])
    kernels = kernels_of(exported, tmp_path)
    macs = [12 * 12 * 8 * 9, 6 * 6 * 8 * 9, 6 * 6 * 12 * 4 * 9, 3 * 3 * 16 * 12, 144 * 32, 32 * 10]
    assert kernels.macs == sum(macs)
    assert kernels.integer_macs == macs[0] + macs[-1]
    assert kernels.weights == 72 + 72 + 432 + 192 + 4608 + 320
    assert kernels.integer_weights == 72 + 320


def test_a_float_model_is_exported_with_folded_batch_norms(tmp_path: Path) -> None:
    inputs = images(64)
    model = residual()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = to_onnx(model, inputs[:1])
    assert "BatchNormalization" not in {node.op_type for node in exported.graph.node}
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    expected = model.eval()(inputs).detach().numpy()
    np.testing.assert_allclose(outputs_of(exported.SerializeToString(), inputs), expected, rtol=1e-4, atol=1e-5)
    assert kernels_of(exported.SerializeToString(), tmp_path).integer_layers == 0


def test_a_batch_norm_that_does_not_follow_a_layer_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2))
    inputs = images(32)
    model(inputs)
    exported = to_onnx(model, inputs[:1])
    assert [node.op_type for node in exported.graph.node].count("BatchNormalization") == 2
    np.testing.assert_allclose(
        outputs_of(exported.SerializeToString(), inputs), model.eval()(inputs).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_equal_models_give_equal_bytes() -> None:
    inputs = images(64)
    first = to_bytes(quantized(chain(), inputs, 3), inputs[:1])
    to_bytes(residual(), inputs[:1])
    assert to_bytes(quantized(chain(), inputs, 3), inputs[:1]) == first
    assert to_bytes(quantized(chain(), inputs, 4), inputs[:1]) != first


@pytest.mark.usefixtures("full_range")
def test_files_shrink_with_the_bits_and_carry_no_remarks() -> None:
    torch.manual_seed(2)
    inputs = images(64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 256), nn.ReLU(), nn.Linear(256, 10))
    weights = 144 * 256 + 256 * 10
    exports = {bits: to_onnx(quantized(deepcopy(model), inputs, bits), inputs[:1]) for bits in WIDTHS}
    sizes = [exports[bits].ByteSize() for bits in WIDTHS]
    assert sizes == sorted(sizes)
    overhead = sizes[-1] - weights
    assert overhead < 4 * 2 * 266 + 1500  # steps and biases, then a graph of two layers
    for bits, size in zip(WIDTHS, sizes, strict=True):
        assert size <= weights * bits / 8 + overhead + 600
    assert sizes[0] < weights * 1.61 / 8 + overhead + 600
    for export in exports.values():
        graph = export.graph
        assert not graph.value_info
        assert not export.metadata_props
        assert not export.producer_name
        assert not any(node.name or node.doc_string or node.metadata_props for node in graph.node)
        assert all(len(item.name) <= 2 for item in graph.initializer)
        onnx.checker.check_model(export, full_check=True)


def test_masked_weights_are_zero_in_the_artifact() -> None:
    class Mask(nn.Module):
        def __init__(self, mask: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.mask

    torch.manual_seed(0)
    inputs = images(1000)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10))
    model(inputs)
    mask = (torch.rand(4, 1, 3, 3) > 0.5).float()
    parametrize.register_parametrization(model[0], "weight", Mask(mask))
    float_outputs = deepcopy(model).eval()(inputs).detach()
    model = quantized(model, inputs, 8)
    assert isinstance(model[1], nn.Identity)
    assert torch.equal(model[0].weight == 0, (mask == 0) | (model[0].weight == 0))
    assert (model(inputs) - float_outputs).abs().max() < 0.1
    chain_of = nn.Sequential(model[0], *list(model)[2:])
    np.testing.assert_array_equal(outputs_of(to_bytes(model, inputs[:1]), inputs), simulate(chain_of, inputs))


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_layer_of_zeros_keeps_its_bias(granularity: str) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5)).eval()
    nn.init.zeros_(model[1].weight)
    nn.init.normal_(model[1].bias)
    nn.init.zeros_(model[4].weight)
    inputs = images(64)
    model = quantized(model, inputs, 8, granularity=granularity)
    found = torch.from_numpy(outputs_of(to_bytes(model, inputs[:1]), inputs))
    torch.testing.assert_close(found, model[4].bias.detach().expand(64, 5), rtol=1e-6, atol=1e-7)
    first = torch.from_numpy(outputs_of(to_bytes(model[:1], inputs[:1]), inputs))
    torch.testing.assert_close(first, model[0].bias.detach().view(-1, 1, 1).expand(64, 4, 10, 10), rtol=1e-6, atol=1e-7)


class Tied(nn.Module):
    """Reads the weight of a quantised layer once more."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.head = nn.Linear(32, 16), nn.Linear(16, 16), nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.inner(self.first(x).relu()).relu()
        return self.head(nn.functional.linear(hidden, self.first.weight.t()))


BETWEEN = {
    "linear": lambda: nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)),
    "convolution": lambda: nn.Sequential(
        nn.Conv1d(4, 8, 1), nn.ReLU(), nn.Conv1d(8, 8, 1), nn.ReLU(), nn.Conv1d(8, 5, 1)
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv1d(4, 8, 1), nn.ReLU(), nn.ConvTranspose1d(8, 8, 2, 2), nn.Conv1d(8, 5, 1)
    ),
    "tied": Tied,
}


@pytest.mark.parametrize("kind", BETWEEN)
def test_a_layer_in_floats_between_integer_layers_stays_in_floats(kind: str) -> None:
    torch.manual_seed(2)
    model = BETWEEN[kind]().eval()
    with torch.no_grad():  # widely different rows, which one step for the whole weight would ruin
        for parameter in model.parameters():
            parameter.mul_(torch.exp(1.5 * torch.randn(len(parameter), *[1] * (parameter.dim() - 1))))
    inputs = images(64)[:, 0].flatten(1)[:, :32]
    inputs = inputs if kind in ("linear", "tied") else inputs.view(64, 4, 8)
    names = {
        "linear": ("0", "4"),
        "convolution": ("0", "4"),
        "transposed": ("0", "3"),
        "tied": ("first", "inner", "head"),
    }
    model = quantized(model, inputs, dict.fromkeys(names[kind], 8))
    expected = model(inputs).detach()
    found = torch.from_numpy(outputs_of(to_bytes(model, inputs[:1]), inputs))
    assert float((found - expected).abs().median() / expected.abs().max()) < 1e-4  # ties of roundings aside


@pytest.mark.parametrize("settings", [{}, {"compute": "float"}, {"bits": 4, "compute": "packed"}], ids=str)
def test_hooks_of_layers_act_in_the_file_too(settings: dict) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Embedding(30, 8), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
    model[0].register_forward_hook(lambda _, __, output: output + 1)
    model[2].register_forward_hook(lambda _, __, output: 2 * output + 0.5)
    model[4].register_forward_pre_hook(lambda _, given: (given[0] - 0.3,))
    inputs = torch.randint(0, 30, (64, 4), generator=torch.Generator().manual_seed(1))
    model = quantized(model, inputs, **{"bits": 8, **settings})
    found = outputs_of(to_bytes(model, inputs[:1]), inputs)
    torch.testing.assert_close(torch.from_numpy(found), model(inputs).detach(), rtol=0, atol=0.02)


def test_a_linear_layer_on_sequences_runs_as_one_integer_product(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 16, bias=False), nn.GELU(), nn.Linear(16, 4))
    inputs = images(64).squeeze(1)
    model = quantized(model, inputs, 8)
    exported = to_bytes(model, inputs[:1])
    assert kernels_of(exported, tmp_path).kernels["QGemm"] == 2
    expected = model(inputs).detach().numpy()
    assert np.abs(outputs_of(exported, inputs) - expected).max() < 0.02 * np.abs(expected).max()


def test_an_artifact_agrees_with_the_trained_model_up_to_rounding() -> None:
    inputs = images(500)
    model = Quantize(bits=5).apply(chain(), bench_of(chain(), inputs)).eval()
    expected = model(inputs).detach().numpy()
    difference = np.abs(outputs_of(to_bytes(model, inputs[:1]), inputs) - expected)
    assert difference.max() < 0.05 * np.abs(expected).max()
