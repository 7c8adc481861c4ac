"""Check on real samples that an exported model gives the same outputs as the trained one."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paretta.pipelines.data.refusals import REFUSALS
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.data.trees import TensorTree, call_model, moved, tensors
from paretta.pipelines.export.graph_passes import compact
from paretta.pipelines.export.interface import shortened
from paretta.pipelines.export.origin import Exported
from paretta.pipelines.export.to_onnx import delivered_form, exported, traced
from paretta.pipelines.model.equivalence import compare_answers
from paretta.pipelines.model.recurrent import RecurrentWeight
from paretta.pipelines.quantization.fake_quantize import detach_activation_quantizers, is_quantized
from paretta.pipelines.quantization.joint_quantizers import detach_joint_quantizers
from paretta.pipelines.quantization.layer_graph import folded_layers
from paretta.pipelines.runtime import WeightStorage
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import TrialFailed

Answers: TypeAlias = list[NDArray[Any]]

# Relative to the largest output. The two models add float32 numbers in different order.
FLOAT_TOLERANCE = 1e-3
# An 8-bit grid has 255 steps. The two models may round a value near the middle of a step differently, which shifts
# later values by a step; an output may accumulate a few such steps.
INTEGER_TOLERANCE = 16 / 255
_MOST_NOISE = 1.0  # beyond that the answers are noise themselves
_BATCHES = (1, 4)


def checked_export(model: nn.Module, task: Task, *, storage: WeightStorage = "smallest") -> Exported:
    """Return the export of `model` after checking that its outputs in ONNX Runtime agree with the model's.

    Checked on the first five samples used for statistics, with a batch of one and a larger one; if axes besides the
    first are free, also at half their length and on the example input, whose axes may have a length that samples lack,
    such as a cache that is not empty.

    Args:
        model: as for `to_onnx`; quantised layers round.
        task: with the samples, the example input and its free axes.
        storage: of its weights, see `paretta.pipelines.runtime.Runtime`.

    Raises:
        TrialFailed: ONNX Runtime rejects the model, or outputs differ by more than the tolerance (`FLOAT_TOLERANCE`, or
            `INTEGER_TOLERANCE` if activations are quantised); the reason names the first layer that differs.
    """
    delivered = exported(model, task.example_input, task.free_axes, storage=storage)
    require_same_answers(delivered.content, model, task)
    return delivered


def checked_bytes(model: nn.Module, task: Task) -> bytes:
    """Return the result of `checked_export`, serialised."""
    return checked_export(model, task).content


def require_same_answers(content: bytes, model: nn.Module, task: Task) -> None:
    """Raise `TrialFailed` if the outputs of the serialised model `content` differ from those of `model`."""
    trained = deepcopy(model).cpu().eval()
    batches, found = list(_batches(trained, task)), _session(content)
    compared = compare_answers(_answers_of(trained), found, batches, tolerance=_tolerance(trained))
    if not (compared.alike or _is_rounding(trained, found, batches)):
        layer = _first_difference(trained, task, batches)
        place = "no single layer differs" if layer is None else f"the first layer that differs is {layer!r}"
        raise TrialFailed(f"the exported model does not answer as the trained one: {compared.words()}; {place}")


def _answers_of(model: nn.Module) -> Callable[[TensorTree], Sequence[Tensor]]:
    return lambda inputs: tensors(call_model(model, inputs))


def _is_rounding(trained: nn.Module, found: Callable[[TensorTree], Answers], batches: Sequence[TensorTree]) -> bool:
    """Return whether every output differs by no more than twice what the rounding of activations changes it by.

    A value in the middle between two steps may be rounded to either. In a deep network each such choice changes the
    roundings after it, until the two models differ as two draws of the rounding noise do: after the first of MiniLM's
    six layers by 0.001 of the largest value, after the last by up to 0.39, where the rounding changes up to 0.91.
    """
    if not any(is_quantized(module) for module in trained.modules()):
        return False
    smooth = deepcopy(trained)
    detach_joint_quantizers(smooth)
    for layer in smooth.modules():
        detach_activation_quantizers(layer)

    def largest(other: Callable[[TensorTree], Sequence[object]], place: int) -> float:
        known = _answers_of(trained)
        return compare_answers(
            lambda inputs: known(inputs)[place], lambda inputs: other(inputs)[place], batches
        ).largest

    places = range(len(found(batches[0])))
    return all(largest(found, place) <= min(2 * largest(_answers_of(smooth), place), _MOST_NOISE) for place in places)


def _tolerance(model: nn.Module) -> float:
    return INTEGER_TOLERANCE if any(is_quantized(module) for module in model.modules()) else FLOAT_TOLERANCE


def _batches(model: nn.Module, task: Task) -> Iterator[TensorTree]:
    start = 0
    for size in _BATCHES:
        indices = torch.arange(start, start + size) % num_samples(task.statistics_samples)
        yield (inputs := moved(task.calibration_inputs(indices), "cpu"))
        start += size
    if task.free_axes:
        yield shortened(model, inputs, task.free_axes)
        yield moved(task.example_input, "cpu")


def _session(model: bytes) -> Callable[[TensorTree], Answers]:
    """Return a function that runs the model in ONNX Runtime and returns a list of arrays."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise TrialFailed(f"ONNX Runtime refuses the exported model: {_first_line(error)}") from error
    names = [given.name for given in session.get_inputs()]

    def answers(inputs: TensorTree) -> Answers:
        given = [np.ascontiguousarray(tensor.numpy()) for tensor in tensors(inputs)]
        try:
            outputs: Answers = session.run(None, dict(zip(names, given, strict=True)))
        except REFUSALS as error:
            raise TrialFailed(f"ONNX Runtime cannot run the exported model: {_first_line(error)}") from error
        return outputs

    return answers


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _first_difference(trained: nn.Module, task: Task, batches: Sequence[TensorTree]) -> str | None:
    """Return the first layer, in order of computation, whose outputs differ, or None if all agree.

    A layer before a folded norm is omitted: the norm represents both.
    """
    example = task.example_input
    folded = folded_layers(trained, example)
    names = [name for name in _layers_called(trained, batches[0]) if name not in folded]
    if not names:
        return None
    outputs = [f"output{place}" for place, _ in enumerate(names)]
    graph = traced(_Watched(delivered_form(trained, example), names), example, task.free_axes, outputs=outputs)
    watched, session = _Watched(trained, names), _session(compact(graph).SerializeToString())
    with torch.no_grad():
        expected = [call_model(watched, batch) for batch in batches]
    found = [session(batch) for batch in batches]

    def differs(place: int) -> bool:
        return not compare_answers(
            lambda batch: expected[batch][place],
            lambda batch: found[batch][place],
            range(len(batches)),
            tolerance=_tolerance(trained),
        ).alike

    return next((name for place, name in enumerate(names) if differs(place)), None)


class _Watched(nn.Module):
    """Wraps a model so that it returns the outputs of some of its layers."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)
        self.eval()

    def forward(self, *inputs: TensorTree, **named: TensorTree) -> tuple[Tensor, ...]:
        seen: dict[str, Tensor] = {}

        def keep(name: str, output: Tensor) -> None:
            seen[name] = output

        handles = [
            self.model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: keep(name, output))
            for name in self.names
        ]
        self.model(*inputs, **named)
        for handle in handles:
            handle.remove()
        return tuple(seen[name] for name in self.names)


def _layers_called(model: nn.Module, inputs: TensorTree) -> list[str]:
    """Return the names of modules without children that return one floating-point tensor, in order of first call."""
    called: dict[str, None] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            called[name] = None

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name and _is_layer(name, module) and not isinstance(module, RecurrentWeight)  # it answers the same always
    ]
    with torch.no_grad():
        call_model(model, inputs)
    for handle in handles:
        handle.remove()
    return list(called)


def _is_layer(name: str, module: nn.Module) -> bool:
    inside = (".parametrizations.", ".input_quantizer.", ".output_quantizer.")
    owned = {child for child, _ in module.named_children()} - {part.strip(".") for part in inside}
    return not owned and not any(part in f".{name}." for part in inside)
