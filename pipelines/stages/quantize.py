"""Quantise weights to 2..8 bits and activations to 8 bits, ready for further training."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import ClassVar, Literal, Self, TypeAlias, cast

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import moved
from paretta.pipelines.kernels.saturation import SAFE_BITS, saturates
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.name_patterns import by_pattern
from paretta.pipelines.model.quantizable import COMPUTING, is_depthwise, survey
from paretta.pipelines.model.recurrent import unfold_recurrent
from paretta.pipelines.post_training.gather import LEAST_SAMPLES, too_few
from paretta.pipelines.post_training.norm_statistics import refresh
from paretta.pipelines.post_training.round_layers import Rounding, round_layers
from paretta.pipelines.quantization.bit_widths import WidthBudget, Widths, found_widths
from paretta.pipelines.quantization.calibration import calibrate
from paretta.pipelines.quantization.fake_quantize import (
    attach_block_quantizer,
    attach_dynamic_quantizer,
    attach_weight_quantizer,
    detach_activation_quantizers,
    weight_quantizer,
)
from paretta.pipelines.quantization.joint_quantizers import detach_joint_quantizers
from paretta.pipelines.quantization.layer_graph import fold_batch_norms, plain_copy
from paretta.pipelines.quantization.weight_groups import GROUPED, Groups, asked_groups, group_words, packed_block
from paretta.pipelines.quantizers import Quantizer, RangeRule, known_quantizer, quantizer_of
from paretta.pipelines.sensitivities import WIDTHS, Subject
from paretta.pipelines.stage import Norms, Shape, Stage
from paretta.pipelines.task import Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.note import Note, notes_by_reason

ActivationRange: TypeAlias = Literal["minmax", "percentile", "mse", "dynamic"]  # a `RangeRule`, or that of each call
_MOST = 0.5
_CODE_BITS = 8
_LESSENED = "take 7 of 8 bits: integer kernels of x86 processors without VNNI overflow with more (`reduce_range`)"
_log = logging.getLogger("paretta")


class Quantize(Stage):
    """Fold batch norms, put learned-step quantisers on weights and 8-bit quantisers on activations.

    Batch norms that have seen no batch since `prune` removed channels are recalibrated first: folded as they are, their
    statistics would be those of another model (27.7 % instead of 89.7 % on a ResNet-8 at 50 %).

    Convolutions, also those that pad with zeros themselves, linear layers and attention projections then compute in
    integers, and embedding tables hold integers. Transposed convolutions and the weights of GRU and LSTM layers hold
    integers and compute in floats: ONNX Runtime has no integer kernels that compute what they were trained to.
    The model stays trainable: a `train` or `distill` stage after this one is quantisation-aware training. With
    `activation_bits: 32` or `compute: float` only the weights are stored in few bits; the model computes in floats, as
    fast as before. With `compute: faster` it does so if integers would be slower on the runtime that is measured.

    Activations have a grid that calibration samples gave them, or with ``activation_range: dynamic`` one that each call
    finds: what a linear layer reads is rounded to 256 steps between its own smallest and largest value, and zero, in
    training, in evaluation and in the file, as ONNX Runtime's DynamicQuantizeLinear does. It needs no samples, and is
    the usual choice for transformers. The range is that of the whole tensor, padding included, so **an answer depends a
    little on the other samples of its batch**: metrics, which are read in batches of up to 256, are those of such
    batches. In training, a batch is that of all ranks. Convolutions keep calibrated grids (by ``mse``), since their
    dynamic kernel, ConvInteger, is slow; so do the sums and pools between them. OpenVINO 2026.4 computes such linear
    layers in floats, with the same roundings. Source: ONNX operators, "DynamicQuantizeLinear"; ONNX Runtime, "Quantize
    ONNX models".

    Integer kernels of x86 processors without VNNI instructions add two products in 16 bits, which 8-bit weights
    overflow: a network of three layers was off by 14 % of its largest output. There, weights keep to 7 bits
    (`reduce_range`), except depthwise convolutions, whose kernels have room. A file made on a processor with VNNI
    needs ``reduce_range: true`` to answer the same on one without.

    With `group` each run of so many weights along a row of a linear layer or an embedding has a step of its own,
    ``w_hat[i, j] = (q[i, j] - z[i, j // group]) * s[i, j // group]``: for 3 or 4 bits without training, at 16 bits more
    for each group. The last group of a row may be shorter. Such linear layers compute in floats, since integer kernels
    take one step for a channel. With `compute: packed` linear layers of at most 4 bits and embeddings read their
    weights packed in memory, by ONNX Runtime's MatMulNBits and GatherBlockQuantized, which is faster where few samples
    are answered at once, as in a decoder, and slower for large batches; the rest computes as with ``integer``. With
    ``activation_range: dynamic`` as well, packed linear layers round what they read to int8 with a step for each block
    of a row (`accuracy_level` 4), which takes half of the time at batch 1 and depends on no other sample. Source:
    Dettmers and Zettlemoyer, "The case for 4-bit precision", 2023, section 4; ONNX Runtime, "Contrib operators".
    """

    usual: ClassVar[Mapping[str, float]] = {"bits": 8, "activation_bits": 8}
    idle: ClassVar[Mapping[str, float]] = {"bits": 8, "activation_bits": 8}
    calibrates: ClassVar[bool] = True

    kind: Literal["quantize"] = "quantize"
    bits: Widths = Field(
        default=8,
        description="2..8 for all layers, {name pattern: bits} such as {'conv*': 4, '*': 8}, first match wins, "
        "or widths to be found, as {average: 4.5} or {at_most: 50kB}",
    )
    weights: str = Field(default="symmetric", description="the name of a quantizer for weights, such as symmetric")
    granularity: Literal["channel", "tensor"] = Field(
        default="channel", description="channel (a step for each output channel) or tensor (one for all of a layer)"
    )
    group: Groups = Field(
        default=None,
        description="how many weights along a row of linear layers and embeddings share a step: 16, 32, 64, 128 or "
        "256, or null for all of the row; {name pattern: size} such as {'lm_head': 32, '*': 128}, first match wins",
    )
    weight_range: RangeRule = Field(default="mse", description="one of minmax, percentile, mse")
    activation_bits: Literal[8, 32] = Field(
        default=8, description="8, or 32 to leave activations in floats and quantise weights alone"
    )
    activation_range: ActivationRange = Field(
        default="mse",
        description="one of minmax, percentile, mse, over calibration samples, or dynamic: linear layers take the "
        "range of what they read at each call",
    )
    compute: Literal["integer", "float", "packed", "faster"] = Field(
        default="integer",
        description="integer, float (few bits are stored, activations stay in floats), packed (linear layers and "
        "embeddings unpack weights of few bits at each call, the rest is integer; ONNX Runtime only), or faster: "
        "`launch` times integer and float once and writes down which it is",
    )
    reduce_range: bool | None = Field(
        default=None,
        description="true to keep codes of weights that are multiplied in integers to 7 bits, so that kernels of x86 "
        "processors without VNNI do not overflow; by default if those of this machine do",
    )
    rounding: Rounding = Field(
        default="nearest",
        description="nearest, second_order (GPTQ, then single changes) or learned (AdaRound)",
    )
    bias_correction: bool = Field(
        default=False, description="true to set biases so that the mean outputs of layers stay what they were"
    )
    calibration_samples: int = Field(default=512, ge=1, description="how many training samples activations are seen on")

    @field_validator("weights")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_quantizer(name)

    @model_validator(mode="after")
    def _one_granularity(self) -> Self:
        if self.group is not None and self.granularity == "tensor":
            raise ValueError("`group` gives steps to parts of a row; leave out `granularity: tensor`")
        return self

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self._tunes and self.calibration_samples < LEAST_SAMPLES:
            what = "bias_correction" if self.rounding == "nearest" else f"rounding {self.rounding}"
            raise ValueError(f"{what} needs `calibration_samples` of at least {LEAST_SAMPLES}")
        return self

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return the quantised model, on the same device and in the same mode.

        Raises:
            WrongInput: a pattern matches no layer, no layer can be quantised, or the budget cannot be kept.
        """
        was_training = model.training
        device = bench.ranks.device
        model.to(device).eval()
        refresh(model, bench, num_samples=self.calibration_samples)
        kept = fold_batch_norms(model, moved(bench.task.example_input, device))
        for note in notes_by_reason(self.kind, kept):
            bench.note(note)
        unfold_recurrent(unfold_attention(model))
        chosen = self._chosen(model, bench)
        layers = {name: model.get_submodule(name) for name in chosen}
        groups = self._groups(model, chosen, bench)
        computing = [name for name, layer in layers.items() if isinstance(layer, COMPUTING)]
        detach_joint_quantizers(model)
        reference = plain_copy(model) if self._tunes else model
        integer = [name for name in computing if not (name in groups or self._packs(layers[name]))]
        narrow = set(self._narrow(model, integer))
        for name, layer in layers.items():
            detach_activation_quantizers(layer)
            code_bits = SAFE_BITS if name in narrow else _CODE_BITS
            asked = chosen[name] if chosen[name] > code_bits else None
            quantizer = self._quantizer(chosen[name], groups.get(name), code_bits)
            attach_weight_quantizer(layer, quantizer, asked, packed=self._packs(layer))
        if lessened := tuple(name for name in chosen if name in narrow and chosen[name] > SAFE_BITS):
            bench.note(Note(self.kind, _LESSENED, lessened, bits=_CODE_BITS))
        if self._tunes:
            self._tune(model, reference, computing, bench)
        if self.compute == "faster":
            bench.note(Note(self.kind, "`compute: faster` is decided by `launch`; here the layers compute in integers"))
        if self._in_integers:
            self._quantize_activations(model, integer, bench)
            self._round_blocks(layers.values())
        return model.train(was_training)

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a second `quantize` stage without training in between, which would make the first one useless."""
        before = next((stage for stage in reversed(earlier) if stage.shape == "kept" or stage.kind == self.kind), None)
        if isinstance(before, Quantize) and not (isinstance(self.bits, dict) and isinstance(before.bits, dict)):
            return "quantizes anew what was just quantized; give all widths in one stage, or train in between"
        return None

    def unmet(self, task: Task) -> str | None:
        """Report too few calibration samples."""
        if self._tunes:
            return too_few(task, fits=True)
        return too_few(task, fits=False) if self._in_integers and self.activation_range != "dynamic" else None

    def advice(self, earlier: Sequence[Stage], later: Sequence[Stage]) -> str | None:
        """Advise to train a pruned model before it is quantised, if the plan trains it at all."""
        cuts = [index for index, stage in enumerate(earlier) if stage.norms == "stale"]
        if not cuts or any(isinstance(stage, TrainSettings) for stage in earlier[cuts[-1] :]):
            return None
        if training := next((stage for stage in later if isinstance(stage, TrainSettings)), None):
            return (
                f"`quantize` comes before the model has recovered from `{earlier[cuts[-1]].kind}`; give part of the "
                f"epochs of `{training.kind}` to a stage in between (on the digits at 75 %, 8 bits: 92.9 instead of "
                "90.5 %; 2 bits: 86.2 instead of 82.6 %)"
            )
        return None

    @property
    def norms(self) -> Norms:
        """Folded norms have current statistics."""
        return "fresh"

    @property
    def holds_values(self) -> bool:
        """Weights are on integer grids."""
        return True

    @property
    def shape(self) -> Shape:
        """The size depends on values: biases and rows with few values are stored in fewer bytes."""
        return "widths by value" if isinstance(self.bits, WidthBudget) else "stored by value"

    def sketch(self) -> Self:
        """Return the stage with little calibration data and a sensitivity that needs no data."""
        bits = (
            self.bits.model_copy(update={"sensitivity": "error"}) if isinstance(self.bits, WidthBudget) else self.bits
        )
        return self.model_copy(update={"bits": bits, "calibration_samples": min(self.calibration_samples, 64)})

    def words(self) -> str:
        """Describe the widths, such as ``quantize to 4 bits`` or ``quantize conv* to 4, * to 8 bits``."""
        how = "" if self.weights == "symmetric" else f" by {self.weights}"
        how += group_words(self.group)
        how += ", packed" if self.compute == "packed" else "" if self._in_integers else ", weights only"
        how += ", dynamic activations" if self._in_integers and self.activation_range == "dynamic" else ""
        how += "" if self.rounding == "nearest" else f", {self.rounding.replace('_', ' ')} rounding"
        how += ", corrected biases" if self.bias_correction else ""
        if isinstance(self.bits, int):
            return f"quantize to {self.bits} bits{how}"
        if isinstance(self.bits, WidthBudget):
            return f"quantize to {self.bits.words()}{how}"
        return "quantize " + ", ".join(f"{pattern} to {bits}" for pattern, bits in self.bits.items()) + f" bits{how}"

    @property
    def _in_integers(self) -> bool:
        return self.activation_bits == 8 and self.compute != "float"

    @property
    def _tunes(self) -> bool:
        return self.rounding != "nearest" or self.bias_correction

    def _quantize_activations(self, model: nn.Module, layers: Sequence[str], bench: Bench) -> None:
        """Put quantisers on what integer layers read: of each call's own range, or calibrated."""
        rule = "mse" if self.activation_range == "dynamic" else self.activation_range
        calibrated = []
        for name in layers:
            layer = model.get_submodule(name)
            if self.activation_range == "dynamic" and isinstance(layer, nn.Linear):
                attach_dynamic_quantizer(layer)
            else:
                calibrated.append(name)
        if calibrated:
            if lacking := too_few(bench.task, fits=False):
                raise WrongInput(Problem("quantize.activation_range", f"of a convolution {lacking}"))
            calibrate(model, calibrated, bench, num_samples=self.calibration_samples, range_rule=rule)

    def _round_blocks(self, layers: Iterable[nn.Module]) -> None:
        """Let linear layers that read packed weights of at most 4 bits round what they read, block by block."""
        for layer in layers if self.activation_range == "dynamic" else ():
            quantizer = weight_quantizer(layer)
            if isinstance(layer, nn.Linear) and self._packs(layer) and quantizer is not None and quantizer.fits_packed:
                attach_block_quantizer(layer, packed_block(layer.in_features, quantizer.group))

    def _tune(self, model: nn.Module, reference: nn.Module, layers: Sequence[str], bench: Bench) -> None:
        round_layers(
            model,
            reference,
            layers,
            bench,
            rounding=self.rounding,
            bias_correction=self.bias_correction,
            num_samples=self.calibration_samples,
        )

    def _narrow(self, model: nn.Module, computing: Sequence[str]) -> Iterable[str]:
        """Yield the layers whose integer kernels overflow with codes of 8 bits."""
        if self._in_integers and (saturates() if self.reduce_range is None else self.reduce_range):
            yield from (name for name in computing if not is_depthwise(model.get_submodule(name)))

    def _packs(self, layer: nn.Module) -> bool:
        """Return whether the layer reads its weight packed; a linear layer computes with float activations then."""
        return self.compute == "packed" and isinstance(layer, GROUPED)

    def _quantizer(self, bits: int, group: int | None, code_bits: int = _CODE_BITS) -> Quantizer:
        axis = 0 if self.granularity == "channel" else None
        name, rule = self.weights, self.weight_range
        return quantizer_of(name, bits=bits, axis=axis, range=rule, code_bits=code_bits, group=group)

    def _groups(self, model: nn.Module, names: Iterable[str], bench: Bench) -> dict[str, int]:
        """Return the group size of each layer that has groups, and note those that cannot have any."""
        asked = asked_groups(self.group, model)
        able = {name: isinstance(model.get_submodule(name), GROUPED) for name in names if name in asked}
        if left := tuple(name for name, is_able in able.items() if not is_able):
            reason = "keeps a step for each channel: only linear layers and embeddings have groups"
            bench.note(Note(self.kind, reason, left))
        return {name: asked[name] for name, is_able in able.items() if is_able}

    def _chosen(self, model: nn.Module, bench: Bench) -> dict[str, int]:
        """Return the bits of every layer to quantise, and note the layers that are not."""
        verdicts = dict(survey(model, moved(bench.task.example_input, bench.ranks.device)))
        able = [name for name, obstacle in verdicts.items() if obstacle is None]
        if not able:
            raise WrongInput(Problem("quantize.bits", "no layer of the model can be quantised", _listed(verdicts)))
        if isinstance(self.bits, WidthBudget):
            wanted = dict.fromkeys(verdicts, WIDTHS[0]) | self._found(self.bits, model, able, bench)
        else:
            patterns = {"*": self.bits} if isinstance(self.bits, int) else self.bits
            wanted = by_pattern(patterns, verdicts, "quantize.bits")
        for name in sorted(wanted.keys() - set(able)):
            bench.note(Note(self.kind, f"stays in float: {verdicts[name]}", (name,), bits=wanted[name]))
        chosen = {name: wanted[name] for name in able if name in wanted}
        _tell_share(model, chosen, bench)
        if not chosen:
            raise WrongInput(Problem("quantize.bits", "no layer of the model can be quantised", _listed(verdicts)))
        return chosen

    def _found(self, budget: WidthBudget, model: nn.Module, names: Sequence[str], bench: Bench) -> dict[str, int]:
        from paretta.pipelines.export.to_onnx import to_bytes  # noqa: PLC0415 - a second of CPU that only a budget needs

        groups = self._groups(model, names, replace(bench, notes=[]))

        def rounded(layer: str, weight: Tensor, bits: int) -> Tensor:
            return self._quantizer(bits, groups.get(layer)).fit(weight).nearest(weight)

        def file_bytes(widths: Mapping[str, int]) -> int:
            trial = self.sketch().model_copy(update={"bits": dict(widths)})
            return len(to_bytes(trial.apply(deepcopy(model), bench), bench.task.example_input, bench.task.free_axes))

        widths = found_widths(budget, Subject(plain_copy(model), tuple(names), rounded), bench, file_bytes)
        _log.info("quantize: %s", ", ".join(f"{name} to {bits} bits" for name, bits in widths.items()))
        return widths


def _tell_share(model: nn.Module, chosen: Mapping[str, int], bench: Bench) -> None:
    """Warn if less than half of the model's parameters are quantised."""
    total = sum(parameter.numel() for parameter in model.parameters())
    share = sum(cast(Tensor, model.get_submodule(name).weight).numel() for name in chosen) / max(total, 1)
    if share < _MOST:
        reason = f"reaches {100 * share:.1f} % of the model's numbers; the rest stays in floats"
        bench.note(Note("quantize", reason))


def _listed(verdicts: Mapping[str, str | None]) -> str:
    return "; ".join(f"{name}: {obstacle}" for name, obstacle in verdicts.items()) or "the model has no weights"
