"""Rate-distortion training: the loss pays for the bits that the weights take in the coded file."""

import math
from typing import Final, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import moved
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.masks import attach_mask
from paretta.pipelines.model.quantizable import survey
from paretta.pipelines.model.recurrent import unfold_recurrent
from paretta.pipelines.quantization.code_length import code_bits
from paretta.pipelines.quantization.fake_quantize import (
    ActivationQuantizer,
    LearnedStepSize,
    attach_weight_quantizer,
    unrounded_codes,
    weight_quantizer,
)
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.quantizers import quantizer_of
from paretta.pipelines.tweak import Tweak, TweakSettings
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.note import Note

_BIAS_UNIT: Final = 16
# for weights that have no quantizer yet
_COARSE: Final = quantizer_of("symmetric", bits=5, axis=None, range="mse")


class BitPenalty(TweakSettings):
    """Add ``strength * bits * ln 2 / n`` to the loss: the length of the weights' codes over n training samples.

    The weights are rounded with learned steps; their length is under the prior that fits them best in each layer, the
    share of zeros in each row and column and the frequency of each size (Oktay et al., 2020, "Scalable model
    compression by entropy penalized reparameterization"; Girish et al., 2023, "LilNetX"). At strength 1 a bit of the
    model costs as much as a bit of the labels, which is the shortest description of both; less favours accuracy. Search
    0.003 to 0.3 on a log scale: on the digits 0.03 and 0.3 left a third and a seventh of the bytes and cost a point,
    and 1 cost 19. A teacher at temperature 4 makes the loss larger and a bit cheaper beside it: search 0.3 to 3 there.

    Use it after `quantize`, whose bits bound the codes. Where no layer is quantised, it quantises all weights to 5 bits
    with one step a layer. Weights that end at zero stay zero in later trainings. Layers whose codes choose from a
    codebook are not paid for, which a note tells. Biases of layers that compute in integers end without the low bits
    that results do not show.
    """

    kind: Literal["bit_penalty"] = "bit_penalty"
    strength: float = Field(
        default=0.03, gt=0, description="the price of a bit, 1 as much as a bit of the labels, such as 0.03"
    )
    rise: float = Field(
        default=0.3, ge=0, le=1, description="the share of steps within which the price rises to its full, such as 0.3"
    )

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Give weights learned steps if none has them, and return the hook that adds the length of the codes."""
        quantized = _quantized(model)
        if not quantized:
            _quantize(model, bench)
            quantized = _quantized(model)
        uncounted = tuple(name for name, (_, quantizer) in quantized.items() if quantizer.levels is not None)
        if len(uncounted) == len(quantized):
            rule = f"the codes of {', '.join(uncounted)} choose from a codebook, whose length it does not know"
            raise WrongInput(Problem(self.kind, rule, None, "quantise them with `weights: symmetric`"))
        if uncounted:
            bench.note(Note(self.kind, "pays for no bits: its codes choose from a codebook", uncounted))
        layers = [layer for layer, quantizer in quantized.values() if quantizer.levels is None]
        return _Paying(self, layers, bench.task.num_train, num_steps)

    @property
    def holds_values(self) -> bool:
        """Weights are on integer grids, zeros masked."""
        return True

    def words(self) -> str:
        """Describe the tweak: its strength."""
        return f"pay {self.strength:g} for bits"


class _Paying(Tweak):
    def __init__(self, settings: BitPenalty, layers: list[nn.Module], num_samples: int, num_steps: int) -> None:
        self.layers, self.rising = layers, settings.rise * num_steps
        self.price, self.factor = settings.strength * math.log(2) / num_samples, 1.0

    def before_step(self, step: int, model: nn.Module) -> None:
        self.factor = min(1.0, step / self.rising) if self.rising else 1.0

    def penalty(self, model: nn.Module) -> Tensor:
        bits = [code_bits(unrounded_codes(layer).flatten(1)) for layer in self.layers]
        return self.price * self.factor * torch.stack(bits).sum()

    def finish(self, model: nn.Module) -> None:
        for layer in self.layers:
            attach_mask(layer, unrounded_codes(layer).detach().round() != 0)
            _round_bias(layer)


@torch.no_grad()
def _round_bias(layer: nn.Module) -> None:
    """Round a bias to multiples of `_BIAS_UNIT` of its integers, whose low bits the coded file then leaves out.

    A unit is the product of a weight's step and a sixteenth of the input's range, and finer than the steps of results:
    on LeNet-5 these are about 25 of the bias's integers.
    """
    quantizer, bias = weight_quantizer(layer), getattr(layer, "bias", None)
    entering = getattr(layer, "input_quantizer", None)
    if quantizer is not None and isinstance(bias, Tensor) and isinstance(entering, ActivationQuantizer):
        unit = _BIAS_UNIT * entering.scale * quantizer.steps()
        bias.copy_((bias / unit).round() * unit)


def _quantized(model: nn.Module) -> dict[str, tuple[nn.Module, LearnedStepSize]]:
    """Return the layers with learned steps and their quantizers by name."""
    found = ((name, module, weight_quantizer(module)) for name, module in model.named_modules())
    return {name: (module, quantizer) for name, module, quantizer in found if quantizer is not None}


def _quantize(model: nn.Module, bench: Bench) -> None:
    example = moved(bench.task.example_input, bench.ranks.device)
    was_training = model.training
    fold_batch_norms(model.eval(), example)
    unfold_recurrent(unfold_attention(model))
    able = [name for name, obstacle in survey(model, example) if obstacle is None]
    if not able:
        raise WrongInput(Problem("bit_penalty", "no layer of the model can be quantised", None))
    for name in able:
        attach_weight_quantizer(model.get_submodule(name), _COARSE)
    model.train(was_training)
