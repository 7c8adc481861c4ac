"""Recurrent layers whose weights are layers of their own answer as torch's, and are stored in few bits."""

import pickle
from copy import deepcopy

import numpy as np
import onnxruntime
import pytest
import torch
from quantized_models import bench_of, quantized, task_of
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from paretta.pipelines.export.agreement import checked_export, require_same_answers
from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.kernels.layer_kernels import facts_that_ran
from paretta.pipelines.kernels.saturation import SAFE_BITS, saturates
from paretta.pipelines.model.quantizable import survey
from paretta.pipelines.model.recurrent import RecurrentWeight, unfold_recurrent
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.pipelines.reuse.model_snapshot import restored, snapshot
from paretta.pipelines.stages.cluster import Cluster
from paretta.search_spaces.errors import TrialFailed

STEPS = torch.randn(24, 9, 6, generator=torch.Generator().manual_seed(3))


class Reader(nn.Module):
    def __init__(self, layer: nn.GRU | nn.LSTM) -> None:
        super().__init__()
        self.rnn, self.head = layer, nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 4)

    def forward(self, steps: Tensor) -> Tensor:
        answer: Tensor = self.head(self.rnn(steps)[0][:, -1])
        return answer


def gru() -> Reader:
    torch.manual_seed(0)
    return Reader(nn.GRU(6, 16, batch_first=True)).eval()


def lstm() -> Reader:
    torch.manual_seed(0)
    return Reader(nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)).eval()


@pytest.mark.parametrize("make", [gru, lstm])
def test_unfolded_layers_answer_and_learn_as_torchs(make) -> None:
    plain, model = make(), unfold_recurrent(make())
    assert [name for name, module in model.named_modules() if isinstance(module, RecurrentWeight)] == [
        name for name, parameter in plain.named_parameters() if ".weight" in name and name.startswith("rnn")
    ]
    assert torch.equal(model(STEPS), plain(STEPS))
    packed = pack_padded_sequence(STEPS, torch.arange(24) % 9 + 1, batch_first=True, enforce_sorted=False)
    assert torch.equal(model.rnn(packed)[0].data, plain.rnn(packed)[0].data)
    model(STEPS).square().sum().backward()
    plain(STEPS).square().sum().backward()
    for name, parameter in plain.named_parameters():
        other = name if "weight" not in name or name.startswith("head") else f"{name}.weight"
        assert torch.equal(model.get_parameter(other).grad, parameter.grad)
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model)), model.to(torch.float64).float()):
        assert torch.equal(copy(STEPS), plain(STEPS))


@pytest.mark.parametrize(
    ("make", "bits", "steps"),
    [(gru, {"*_ih_*": 3, "*_hh_*": 4, "head": 8}, None), (lstm, 8, {"input": {1: "t"}})],
    ids=["gru", "lstm of free steps"],
)
def test_weights_are_stored_in_few_bits(make, bits, steps) -> None:
    model = quantized(make(), STEPS, bits)
    task = task_of(STEPS)
    delivered = checked_export(model, task)
    facts = facts_that_ran(delivered, layer_facts(model, STEPS[:1]))
    for name, layer in facts.items():
        asked = 8 if bits == 8 or name == "head" else 3 if "_ih_" in name else 4
        got = SAFE_BITS if name == "head" and saturates() else asked  # recurrent layers compute in floats
        assert (layer.asked, layer.bits) == (asked, got)
        if name != "head":
            assert layer.kernel == make().rnn.mode
            assert layer.in_floats == "recurrent layers compute in floats"
            assert layer.stored is not None
            assert layer.stored <= asked + 1  # a small tensor may take the next type
    content = to_onnx(model, STEPS[:1], steps).SerializeToString() if steps else delivered.content
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = STEPS[:, :5] if steps else STEPS
    found = session.run(None, {"input": given.numpy()})[0]
    np.testing.assert_allclose(found, model(given).detach().numpy(), rtol=0, atol=5e-3)


def test_a_layer_whose_weights_are_only_partly_quantised_is_told_as_it_is() -> None:
    model = quantized(lstm(), STEPS, {"*_ih_l0*": 4, "head": 8})
    delivered = checked_export(model, task_of(STEPS))
    facts = facts_that_ran(delivered, layer_facts(model, STEPS[:1]))
    assert facts["rnn.weight_ih_l0_reverse"].bits == 4
    assert facts["rnn.weight_ih_l0_reverse"].stored < 8
    assert (facts["rnn.weight_hh_l0"].stored, facts["rnn.weight_hh_l0"].in_floats) == (
        32,
        "its weight is not quantized",
    )


def test_a_file_that_answers_otherwise_is_refused() -> None:
    model, other = (quantized(gru(), STEPS, bits) for bits in (8, 2))
    with pytest.raises(TrialFailed, match=r"does not answer as the trained one.*no single layer differs"):
        require_same_answers(checked_export(model, task_of(STEPS)).content, other, task_of(STEPS))


def test_quantised_steps_learn_and_the_model_can_be_kept() -> None:
    model = quantized(gru(), STEPS, 4).train()
    model(STEPS).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    written = snapshot(model, gru())
    assert written is not None
    assert torch.equal(restored(written, gru())(STEPS), model(STEPS))


def test_weights_share_values() -> None:
    model = Cluster(values=8).apply(gru(), bench_of(gru(), STEPS))
    assert {len(model.get_submodule(f"rnn.weight_{part}_l0").weight.unique()) for part in ("ih", "hh")} == {8}
    assert len(checked_export(model.eval(), task_of(STEPS)).content) < 0.5 * len(
        to_onnx(gru(), STEPS[:1]).SerializeToString()
    )


class Halved(nn.GRU):
    """One whose size is chosen in its own way."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width // 2, batch_first=True)


class Doubled(Halved):
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(2 * input, hx)


class Mean(Halved):
    def mean(self, steps: Tensor) -> Tensor:
        return self(steps)[0].mean(1)


def test_subclasses_are_unfolded_if_they_compute_as_torchs() -> None:
    layer = Halved(6)
    expected = layer(STEPS)[0]
    assert torch.equal(unfold_recurrent(nn.Sequential(layer))[0](STEPS)[0], expected)
    assert dict(survey(Reader(Halved(6)), STEPS))["rnn.weight_ih_l0"] is None
    for kind in (Doubled, Mean):
        assert type(unfold_recurrent(nn.Sequential(kind(6)))[0]) is kind
        told = dict(survey(Reader(kind(6)), STEPS))["rnn.weight_hh_l0"]
        assert (told or "").startswith(f"{kind.__name__} layers have no integer form here")


def test_projections_and_plain_recurrence_stay_in_floats() -> None:
    for layer in (nn.LSTM(6, 8, proj_size=4, batch_first=True), nn.RNN(6, 8, batch_first=True)):
        assert type(unfold_recurrent(nn.Sequential(layer))[0]) is type(layer)
