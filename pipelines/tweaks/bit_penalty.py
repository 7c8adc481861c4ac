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
from paretta.pipelines.quantization.fake_quantize import attach_weight_quantizer, unrounded_codes, weight_quantizer
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.quantizers import quantizer_of
from paretta.pipelines.tweak import Tweak, TweakSettings
from paretta.search_spaces.errors import Problem, WrongInput

# for weights that have no quantizer yet
_COARSE: Final = quantizer_of("symmetric", bits=5, axis=None, range="mse")


class BitPenalty(TweakSettings):
    """Add ``strength * bits * ln 2 / n`` to the loss: the length of the weights' codes over n training samples.

    The weights are rounded with learned steps; their length is under the prior that fits them best in each layer, the
    share of zeros in each row and column and the frequency of each size (Oktay et al., 2020, "Scalable model
    compression by entropy penalized reparameterization"; Girish et al., 2023, "LilNetX"). At strength 1 a bit of the
    model costs as much as a bit of the labels, which is the shortest description of both; less favours accuracy. Search
    0.003 to 0.3 on a log scale: on the digits 0.03 and 0.3 left a third and a seventh of the bytes and cost a point,
    and 1 cost 19.

    Use it after `quantize`, whose bits bound the codes. Where no layer is quantised, it quantises all weights to 5 bits
    with one step a layer. Weights that end at zero stay zero in later trainings.
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
        layers = _counted(model)
        if not layers:
            _quantize(model, bench)
            layers = _counted(model)
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


def _counted(model: nn.Module) -> list[nn.Module]:
    """Return the layers whose codes can be counted: with learned steps, and not of a codebook."""
    found = [(module, weight_quantizer(module)) for module in model.modules()]
    return [module for module, quantizer in found if quantizer is not None and quantizer.levels is None]


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
