"""Quantise weights to 2..8 bits and activations to 8 bits, ready for further training."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from pipelines.bench import Bench
from pipelines.export import to_bytes
from pipelines.fake_quantize import (
    attach_input_quantizer,
    attach_output_quantizer,
    attach_weight_quantizer,
    detach_activation_quantizers,
    is_quantized,
)
from pipelines.layer_graph import Activation, LayerGraph, fold_batch_norms, weighted_modules
from pipelines.patterns import by_pattern
from pipelines.quantizers.affine import Affine, RangeRule
from pipelines.quantizers.symmetric import Symmetric
from pipelines.sensitivities import WIDTHS, Subject
from pipelines.stage import Shape, Stage
from pipelines.task import draw, take
from pipelines.widths import Budget, Widths, found_widths
from search_spaces.errors import Problem, WrongInput

_log = logging.getLogger("paretta")
_BATCH = 64
_VALUES_PER_BATCH = 2**15


class Quantize(Stage):
    """Fold batch norms, put learned-step quantisers on weights and calibrated 8-bit quantisers on activations.

    The model stays trainable: a `train` or `distill` stage after this one is quantisation-aware training.
    """

    kind: Literal["quantize"] = "quantize"
    bits: Widths = Field(
        default=8,
        description="2..8 for all layers, {name pattern: bits} such as {'conv*': 4, '*': 8}, first match wins, "
        "or widths to be found, as {average: 4.5} or {at_most: 50kB}",
    )
    calibration_samples: int = Field(default=512, ge=1, description="how many training samples activations are seen on")
    activation_range: RangeRule = Field(default="mse", description="one of minmax, percentile, mse")

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return the quantised model, on the device and in the mode it came in.

        Raises:
            WrongInput: a pattern matches no layer, no layer can be quantised, or the budget cannot be kept.
        """
        was_training = model.training
        device = bench.ranks.device
        model.to(device).eval()
        example = bench.task.example_input.to(device)
        fold_batch_norms(model, example)
        chosen = self._chosen(model, bench)
        for name, bits in chosen.items():
            detach_activation_quantizers(model.get_submodule(name))
            attach_weight_quantizer(model.get_submodule(name), bits)
        self._calibrate(model, chosen, bench)
        return model.train(was_training)

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Widths may fall step by step, with training in between; without, the former step was for nothing."""
        before = next((stage for stage in reversed(earlier) if stage.shape == "kept" or stage.kind == self.kind), None)
        if isinstance(before, Quantize) and not (isinstance(self.bits, dict) and isinstance(before.bits, dict)):
            return "quantizes anew what was just quantized; give all widths in one stage, or train in between"
        return None

    @property
    def holds_values(self) -> bool:
        """Weights stand on their grids."""
        return True

    @property
    def shape(self) -> Shape:
        """Biases and rows of few values take the bytes that their values need; widths may follow from values, too."""
        return "widths by value" if isinstance(self.bits, Budget) else "stored by value"

    def sketch(self) -> Self:
        """Calibrate on little, and share the budget by what needs no data."""
        bits = self.bits.model_copy(update={"sensitivity": "error"}) if isinstance(self.bits, Budget) else self.bits
        return self.model_copy(update={"bits": bits, "calibration_samples": min(self.calibration_samples, 64)})

    def words(self) -> str:
        """Say the widths, such as ``quantize to 4 bits`` or ``quantize conv* to 4, * to 8 bits``."""
        if isinstance(self.bits, int):
            return f"quantize to {self.bits} bits"
        if isinstance(self.bits, Budget):
            return f"quantize to {self.bits.words()}"
        return "quantize " + ", ".join(f"{pattern} to {bits}" for pattern, bits in self.bits.items()) + " bits"

    def _chosen(self, model: nn.Module, bench: Bench) -> dict[str, int]:
        """Return the bits of every layer that is to be quantised, and say which are not."""
        verdicts = dict(survey(model, bench.task.example_input.to(bench.ranks.device)))
        able = [name for name, obstacle in verdicts.items() if obstacle is None]
        if not able:
            raise WrongInput(Problem("quantize.bits", "no layer of the model can be quantised", _listed(verdicts)))
        if isinstance(self.bits, Budget):
            wanted = dict.fromkeys(verdicts, WIDTHS[0]) | self._found(self.bits, model, able, bench)
        else:
            patterns = {"*": self.bits} if isinstance(self.bits, int) else self.bits
            wanted = by_pattern(patterns, verdicts, "quantize.bits")
        for name in wanted.keys() - set(able):
            _log.warning("%s stays in float: %s", name, verdicts[name])
        chosen = {name: wanted[name] for name in able if name in wanted}
        if not chosen:
            raise WrongInput(Problem("quantize.bits", "no layer of the model can be quantised", _listed(verdicts)))
        return chosen

    def _found(self, budget: Budget, model: nn.Module, names: Sequence[str], bench: Bench) -> dict[str, int]:
        def file_bytes(widths: Mapping[str, int]) -> int:
            trial = self.sketch().model_copy(update={"bits": dict(widths)})
            return len(to_bytes(trial.apply(deepcopy(model), bench), bench.task.example_input))

        subject = Subject(model, tuple(names), _rounded)
        widths = found_widths(budget, subject, bench, file_bytes)
        _log.info("quantize: %s", ", ".join(f"{name} to {bits} bits" for name, bits in widths.items()))
        return widths

    def _calibrate(self, model: nn.Module, chosen: Mapping[str, int], bench: Bench) -> None:
        layers = {name: model.get_submodule(name) for name in chosen}
        graph = LayerGraph.of(model, bench.task.example_input.to(bench.ranks.device))
        quantized = {*chosen, *(name for name, layer in model.named_modules() if is_quantized(layer))}
        watchers = {name: _Watcher.on(layer) for name, layer in layers.items()}
        with torch.no_grad():
            for inputs in self._samples(bench):
                model(inputs.to(bench.ranks.device))
        rule = Affine(range=self.activation_range)
        for name, layer in layers.items():
            watchers[name].stop()
            attach_input_quantizer(layer, rule.fit(watchers[name].inputs()))
            if isinstance(layer, nn.Conv2d) and not graph.feeds_a_quantizer(name, quantized):
                attach_output_quantizer(layer, rule.fit(watchers[name].outputs(graph.activation_after(name))))

    def _samples(self, bench: Bench) -> Iterator[Tensor]:
        """Yield batches of a random choice of the training data; equal on every rank."""
        chosen = draw(bench.task.train, self.calibration_samples, bench.seed)
        for indices in torch.split(chosen, _BATCH):
            yield take(bench.task.train, indices)[0]


def survey(model: nn.Module, example_input: Tensor) -> Iterator[tuple[str, str | None]]:
    """Yield every module that owns a weight matrix or kernel, and why it cannot be quantised (None: it can)."""
    called = _called(model, example_input)
    owners: dict[int, int] = {}
    for _, module in weighted_modules(model):
        owners[id(_stored(module))] = owners.get(id(_stored(module)), 0) + 1
    for name, module in weighted_modules(model):
        yield name, _obstacle(module, called=module in called, shared=owners[id(_stored(module))] > 1)


def _obstacle(module: nn.Module, *, called: bool, shared: bool) -> str | None:
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return f"{type(module).__name__} layers have no integer form here; Conv2d and Linear do"
    padding = module.padding_mode if isinstance(module, nn.Conv2d) else "zeros"
    obstacles = {
        "it computes in its own way": type(module).forward not in (nn.Conv2d.forward, nn.Linear.forward),
        f"only zero padding has an integer form, not {padding!r}": padding != "zeros",
        "its weight is shared with another layer": shared,
        "the model uses its weight without calling the layer": not called,
        "its sums could overflow 32 bits": module.weight[0].numel() * 255 * 127 >= 2**31,
    }
    return next((words for words, applies in obstacles.items() if applies), None)


def _called(model: nn.Module, example_input: Tensor) -> set[nn.Module]:
    called: set[nn.Module] = set()
    handles = [
        module.register_forward_pre_hook(lambda module, _: called.add(module)) for _, module in weighted_modules(model)
    ]
    with torch.no_grad():
        model(example_input)
    for handle in handles:
        handle.remove()
    return called


def _stored(module: nn.Module) -> Tensor:
    """Return the parameter behind `module.weight`, parametrized or not."""
    if parametrize.is_parametrized(module, "weight"):
        return cast(Tensor, cast(nn.ModuleDict, module.parametrizations)["weight"].original)
    return cast(Tensor, module.weight)


def _rounded(weight: Tensor, bits: int) -> Tensor:
    return Symmetric(bits=bits).fit(weight).nearest(weight)


def _listed(verdicts: Mapping[str, str | None]) -> str:
    return "; ".join(f"{name}: {obstacle}" for name, obstacle in verdicts.items()) or "the model has no weights"


@dataclass(slots=True)
class _Watcher:
    """An even sample of what passes through one layer, with the exact extremes of every batch."""

    entered: list[Tensor]
    left: list[Tensor]
    handle: RemovableHandle | None = None

    @classmethod
    def on(cls, layer: nn.Module) -> "_Watcher":
        watcher = cls([], [])

        def watch(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            watcher.entered.append(_thinned(inputs[0]))
            watcher.left.append(_thinned(output))

        watcher.handle = layer.register_forward_hook(watch)
        return watcher

    def stop(self) -> None:
        assert self.handle is not None
        self.handle.remove()

    def inputs(self) -> Tensor:
        return torch.cat(self.entered)

    def outputs(self, activation: Activation) -> Tensor:
        """Return the outputs; where an activation follows, what it lets through, as the rest is never needed."""
        outputs = torch.cat(self.left)
        return outputs if activation == "none" else outputs.clamp(0.0, 6.0 if activation == "relu6" else None)


def _thinned(values: Tensor) -> Tensor:
    flat = values.detach().flatten()
    step = -(-flat.numel() // _VALUES_PER_BATCH)
    return torch.cat([flat[::step], flat.min()[None], flat.max()[None]])
