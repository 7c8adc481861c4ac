"""Weights that are paid for by the bit take as few as the coded file then needs, and keep their zeros."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.coding.container import decode_model, encode_model
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.model.weights import weights_of
from paretta.pipelines.quantization.code_length import code_bits
from paretta.pipelines.quantization.fake_quantize import unrounded_codes, weight_codes, weight_quantizer
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.tweak import tweak_of
from paretta.search_spaces.errors import WrongInput


def lenet() -> nn.Module:
    with seeded(1):
        return nn.Sequential(
            nn.Conv2d(1, 12, 3),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3),
            nn.Flatten(),
            nn.Linear(24 * 9, 80),
            nn.ReLU(),
            nn.Linear(80, 4),
        )


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Quadrants: where of an image the bright spot is."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(512) % 4
    images = 0.3 * torch.randn(512, 1, 12, 12, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 6 * (label // 2) + 1 :, 6 * (label % 2) + 1 :][:4, :4] += 1.0
    data = TensorDataset(images, labels)
    return Bench(
        Task(lenet, data, data, data, functional.cross_entropy, {"accuracy": Metric(correct)}, images[:1]),
        Ranks.alone(),
        seed=3,
    )


def trained(bench: Bench, *tweaks: Mapping[str, object], model: nn.Module | None = None, epochs: int = 6) -> nn.Module:
    model = model or stage_of({"kind": "quantize", "bits": 4, "granularity": "tensor"}).apply(lenet(), bench)
    settings = {"epochs": epochs, "batch_size": 32, "lr": 0.003, "tweaks": tweaks}
    fit(model, bench, TrainSettings.model_validate(settings))
    return model


def layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if weight_quantizer(module) is not None]


def reckoned(model: nn.Module) -> float:
    return sum(code_bits(unrounded_codes(layer).flatten(1)).item() / 8 for layer in layers(model))


def zeros(model: nn.Module) -> Tensor:
    return torch.cat([weight.values.flatten() == 0 for weight in weights_of(model)])


@pytest.fixture(scope="module")
def cheap(bench: Bench) -> nn.Module:
    return trained(bench, {"kind": "bit_penalty", "strength": 0.3})


def test_a_higher_price_leaves_fewer_bits(bench: Bench, cheap: nn.Module) -> None:
    free, dear = trained(bench), trained(bench, {"kind": "bit_penalty", "strength": 3.0})
    assert reckoned(cheap) < 0.5 * reckoned(free)
    assert reckoned(dear) < 0.7 * reckoned(cheap)


def test_the_coded_file_takes_what_the_training_reckoned_with(bench: Bench, cheap: nn.Module) -> None:
    model = to_bytes(cheap, bench.task.example_input, bench.task.free_axes)
    coded = encode_model(model)
    assert coded.parts["codes"] <= 1.02 * reckoned(cheap)
    assert decode_model(coded.content) == model


def test_a_bit_costs_its_share_of_a_sample(bench: Bench) -> None:
    model = stage_of({"kind": "quantize", "bits": 4}).apply(lenet(), bench)
    hook = tweak_of({"kind": "bit_penalty", "strength": 0.5, "rise": 0.2}).start(model, bench, 100)
    bits = 8 * reckoned(model)
    for step, share in ((5, 0.25), (20, 1.0), (90, 1.0)):
        hook.before_step(step, model)
        found = hook.penalty(model)
        assert found is not None
        assert found.item() == pytest.approx(0.5 * share * bits * math.log(2) / 512, rel=1e-4)


def test_biases_end_without_the_low_bits_that_results_do_not_show(bench: Bench, cheap: nn.Module) -> None:
    for layer in layers(cheap):
        quantizer, entering = weight_quantizer(layer), getattr(layer, "input_quantizer", None)
        bias = getattr(layer, "bias", None)
        assert quantizer is not None and entering is not None and isinstance(bias, Tensor)  # noqa: PT018
        sixteenths = bias.detach() / (quantizer.steps().detach() * entering.scale * 16)
        assert float((sixteenths - sixteenths.round()).abs().max()) < 1e-3
        assert len(sixteenths.round().unique()) > 1


def test_zeros_stay_zero_in_later_trainings(bench: Bench, cheap: nn.Module) -> None:
    before = zeros(cheap)
    after = zeros(trained(bench, model=cheap, epochs=1))
    assert before.float().mean() > 0.5
    assert bool(after[before].all())


def test_what_was_masked_before_costs_nothing_and_stays(bench: Bench) -> None:
    model = stage_of({"kind": "sparsify", "sparsity": 0.8}).apply(lenet(), bench)
    masked = zeros(model)
    model = stage_of({"kind": "quantize", "bits": 4}).apply(model, bench)
    latent = torch.cat([unrounded_codes(layer).flatten() for layer in layers(model)])
    assert bool((latent[masked] == 0).all())
    assert bool(zeros(trained(bench, {"kind": "bit_penalty"}, model=model, epochs=1))[masked].all())


def test_floats_get_steps_of_their_own(bench: Bench) -> None:
    model = trained(bench, {"kind": "bit_penalty", "strength": 0.3}, model=lenet(), epochs=1)
    assert len(layers(model)) == 4
    assert max(int(weight_codes(layer).abs().max()) for layer in layers(model)) <= 15


def test_layers_with_codebooks_are_told_and_refused_where_there_are_no_others(bench: Bench) -> None:
    penalty, bench = tweak_of({"kind": "bit_penalty"}), replace(bench, notes=[])
    model = stage_of({"kind": "quantize", "bits": 4}).apply(lenet(), bench)
    model = stage_of({"kind": "quantize", "bits": {"0": 4}, "weights": "codebook"}).apply(model, bench)
    bench.notes.clear()
    penalty.start(model, bench, 1)
    assert [str(note) for note in bench.notes] == ["0 pays for no bits: its codes choose from a codebook"]
    model = stage_of({"kind": "quantize", "bits": 4, "weights": "codebook"}).apply(lenet(), bench)
    with pytest.raises(WrongInput, match="the codes of 0, 2, 4, 6 choose from a codebook"):
        penalty.start(model, bench, 1)


def test_a_model_without_weights_is_refused(bench: Bench) -> None:
    with pytest.raises(WrongInput, match="no layer of the model can be quantised"):
        tweak_of({"kind": "bit_penalty"}).start(nn.Sequential(nn.Flatten()), bench, 1)
