"""Export a trained model to a small ONNX model whose quantised layers compute in integers."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Final, cast

import onnx
import torch
from torch import Tensor, nn

from paretta.pipelines.data.trees import FlatModel, TensorTree, call_model, input_names, moved, output_names, tensors
from paretta.pipelines.export.graph_passes import compact, compacted
from paretta.pipelines.export.interface import FreeAxes, doubled, exported_axes
from paretta.pipelines.export.origin import Exported, Origin
from paretta.pipelines.export.packed_layers import PackedEmbedding, PackedLinear, packs
from paretta.pipelines.export.recurrent_layers import with_free_steps
from paretta.pipelines.export.stored_layers import (
    OPSET,
    DynamicLayer,
    IntegerLayer,
    RestoredLayer,
    StoredGate,
    StoredGrid,
    StoredWeight,
    keeps_forward,
    store_in_place,
)
from paretta.pipelines.model.padded_convolution import Convolution
from paretta.pipelines.model.quiet_export import quiet_export
from paretta.pipelines.model.recurrent import RecurrentWeight
from paretta.pipelines.model.torch_private import lean_exporter
from paretta.pipelines.quantization.fake_quantize import (
    ActivationQuantizer,
    HardGate,
    block_quantizer,
    is_dynamic,
    is_quantized,
    weight_quantizer,
)
from paretta.pipelines.quantization.joint_quantizers import JOINT_QUANTIZERS
from paretta.pipelines.quantization.layer_graph import bake_parametrizations, fold_batch_norms
from paretta.pipelines.runtime import WeightStorage
from paretta.search_spaces.errors import Problem, WrongInput

_ANY_LENGTH: Final = 2**31  # a batch of fewer is one that a file must answer


def to_onnx(model: nn.Module, example_input: TensorTree, free_axes: FreeAxes | None = None) -> onnx.ModelProto:
    """Return `model` in evaluation mode as ONNX, with the names of its inputs and outputs and a free batch axis.

    A single tensor is called ``input``, a single answer ``output``; see `input_names` and `output_names` in
    `paretta.pipelines.data.trees` for others.

    Batch norms are folded. A quantised layer becomes integer weights with QuantizeLinear and DequantizeLinear around
    it, which ONNX Runtime fuses into QLinearConv or QGemm; if only its weights are quantised they become floats at load
    time. Weights are stored in the fewest bytes that standard operators unpack at load time. Equal models give equal
    bytes. The given model is not changed.

    Args:
        model: any module that torch.export accepts, on any device.
        example_input: what it is called with, a tree of [n, ...].
        free_axes: the axes beside the first that may vary later, by input; see `Task.free_axes`.

    Raises:
        WrongInput: `free_axes` does not fit the inputs, or the model fixes one of them.
    """
    return compact(traced(delivered_form(model, example_input), example_input, free_axes))


def exported(
    model: nn.Module,
    example_input: TensorTree,
    free_axes: FreeAxes | None = None,
    *,
    storage: WeightStorage = "smallest",
) -> Exported:
    """Return `to_onnx` serialised, with the layers that its tensors belong to; see `Runtime` for `storage`."""
    ready = delivered_form(model, example_input, packed=storage == "smallest")
    graph = traced(ready, example_input, free_axes)
    small, short = compacted(graph, storage)
    return Exported(small.SerializeToString(deterministic=True), Origin.of(small, graph, short))


def to_bytes(model: nn.Module, example_input: TensorTree, free_axes: FreeAxes | None = None) -> bytes:
    """Return `to_onnx` serialised, equal models as equal bytes."""
    serialised: bytes = to_onnx(model, example_input, free_axes).SerializeToString(deterministic=True)
    return serialised


def delivered_form(model: nn.Module, example_input: TensorTree, *, packed: bool = True) -> nn.Module:
    """Return a copy of `model` on the CPU, in evaluation mode, with folded norms and layers as they will be stored.

    Layers keep their names. Arguments are those of `to_onnx`; without `packed` no layer reads a packed weight, which
    ONNX Runtime alone computes with.
    """
    ready = deepcopy(model).cpu().eval()
    fold_batch_norms(ready, moved(example_input, "cpu"))
    in_integers = any(is_quantized(layer) and not is_dynamic(layer) for layer in ready.modules())
    for name, layer in list(ready.named_modules()):
        if f".{JOINT_QUANTIZERS}." in f".{name}":
            if isinstance(layer, ActivationQuantizer):
                ready = _replaced(ready, name, StoredGrid(layer))
            elif isinstance(layer, HardGate):
                ready = _replaced(ready, name, StoredGate())
        elif (quantizer := weight_quantizer(layer)) is not None and keeps_forward(layer):
            at_load = not in_integers or quantizer.group is not None or isinstance(layer, nn.Embedding)
            store_in_place(layer, at_load=at_load or is_dynamic(layer))
        elif isinstance(layer, RecurrentWeight) and weight_quantizer(layer) is not None:
            ready = _replaced(ready, name, StoredWeight(layer))
        elif packed and packs(layer):
            kind = PackedEmbedding if isinstance(layer, nn.Embedding) else PackedLinear
            ready = _replaced(ready, name, kind(layer))
        elif is_quantized(layer) and block_quantizer(layer) is None:
            stored = DynamicLayer if is_dynamic(layer) else IntegerLayer
            ready = _replaced(ready, name, stored(cast(nn.Linear, layer)))
        elif weight_quantizer(layer) is not None:
            ready = _replaced(ready, name, RestoredLayer(cast("Convolution | nn.Linear | nn.Embedding", layer)))
        elif ".parametrizations." not in f".{name}.":
            bake_parametrizations(layer)
    return ready


def _replaced(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    model.set_submodule(name, layer)
    return model


def traced(
    model: nn.Module,
    example_input: TensorTree,
    free_axes: FreeAxes | None = None,
    *,
    outputs: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """Return the `delivered_form` of a model as a graph, in torch's words and names.

    Args:
        model: in evaluation mode, on the CPU.
        example_input: what it is called with.
        free_axes: see `to_onnx`.
        outputs: names for its outputs; by default their own.
    """
    several = doubled(moved(example_input, "cpu"))
    model = with_free_steps(model, plain=bool(free_axes))
    axes = exported_axes(model, several, free_axes or {})
    with torch.no_grad():
        answers = call_model(model, several)
    is_plain = isinstance(several, Tensor) and isinstance(answers, Tensor)
    with lean_exporter(), quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            model if is_plain else FlatModel(model, several),
            tuple(tensors(several)),
            input_names=input_names(model, several),
            output_names=[*(outputs or output_names(answers))],
            opset_version=OPSET,
            dynamic_shapes=tuple(axes) if is_plain else {"leaves": tuple(axes)},
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    _require_free(program.model_proto.graph, axes)
    if program.exported_program is not None:
        _require_any_length(program.exported_program, axes)
    return program.model_proto


def _require_free(graph: onnx.GraphProto, axes: Sequence[Mapping[int, object] | None]) -> None:
    """Raise `WrongInput` where an axis that is to stay free has one length in the graph."""
    for given, free in zip(graph.input, axes, strict=True):
        for axis in free or ():
            length = given.type.tensor_type.shape.dim[axis]
            if not length.dim_param and axis == 0:
                rule = f"the model fixes its batch size at {length.dim_value}, that of the batch it was traced with"
                hint = "take the size from x.shape[0] as it is, without int() or a list of numbers, or write -1"
                raise WrongInput(Problem("task.model", rule, hint=hint))
            if not length.dim_param:
                rule = f"the model fixes axis {axis} of {given.name} at {length.dim_value}"
                raise WrongInput(Problem("task.free_axes", rule, hint="leave the axis out, or change the model"))


def _require_any_length(
    program: torch.export.ExportedProgram, axes: Sequence[Mapping[int, torch.export.Dim] | None]
) -> None:
    """Raise `WrongInput` if the graph is right for some lengths of the batch, or within stated bounds, only.

    A decision by a length, such as ``if x.shape[0] > 4``, has one course in the graph, and torch narrows the range.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for name, free in zip(program.graph_signature.user_inputs, axes, strict=False):
        value = values.get(str(name))
        for axis, dim in (free or {}).items():
            length = value.shape[axis] if isinstance(value, Tensor) else None
            found = program.range_constraints.get(length.node.expr) if isinstance(length, torch.SymInt) else None
            most = _ANY_LENGTH if axis == 0 else int(dim.max) if dim.max < _ANY_LENGTH else 0
            if found is not None and bool(found.upper < most):
                place, what = ("task.model", "the batch size") if axis == 0 else ("task.free_axes", f"axis {axis}")
                rule = f"the model decides by {what}, so the file is right for lengths up to {int(found.upper)} only"
                raise WrongInput(Problem(place, rule, hint="let the forward do the same for every length"))
