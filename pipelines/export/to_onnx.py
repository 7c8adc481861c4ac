"""A trained model as a small ONNX model whose quantised layers run in integers."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from paretta.pipelines.export.graph_passes import compact
from paretta.pipelines.export.stored_layers import OPSET, IntegerLayer, RestoredLayer, StoredGrid
from paretta.pipelines.model.torch_private import exporter_logger, one_registry
from paretta.pipelines.quantization.fake_quantize import ActivationQuantizer, is_quantized, weight_quantizer
from paretta.pipelines.quantization.joint_quantizers import JOINT_QUANTIZERS
from paretta.pipelines.quantization.layer_graph import bake_parametrizations, fold_batch_norms


def to_onnx(model: nn.Module, example_input: Tensor) -> onnx.ModelProto:
    """Return `model` in evaluation mode as ONNX: input ``input`` with a free batch axis, output ``output``.

    Batch norms are folded. A quantised layer becomes integer weights with QuantizeLinear and DequantizeLinear around
    it, which ONNX Runtime fuses into QLinearConv or QGemm; where only its weights are quantised they become floats at
    load. Weights are stored in the fewest bytes that standard operators unpack at load. Equal models give equal bytes.
    The model given is left alone.

    Args:
        model: any module that torch.export accepts, on any device.
        example_input: [n, ...]; only the batch axis may vary later.
    """
    return compact(traced(delivered_form(model, example_input), example_input))


def to_bytes(model: nn.Module, example_input: Tensor) -> bytes:
    """Return `to_onnx` serialised, equal models as equal bytes."""
    serialised: bytes = to_onnx(model, example_input).SerializeToString(deterministic=True)
    return serialised


def delivered_form(model: nn.Module, example_input: Tensor) -> nn.Module:
    """Return a copy of `model` on the CPU, in evaluation mode, with folded norms and layers as they will be stored.

    Layers keep their names. Arguments are those of `to_onnx`.
    """
    ready = deepcopy(model).cpu().eval()
    fold_batch_norms(ready, example_input.detach().cpu())
    for name, layer in list(ready.named_modules()):
        if f".{JOINT_QUANTIZERS}." in f".{name}":
            if isinstance(layer, ActivationQuantizer):
                ready = _replaced(ready, name, StoredGrid(layer))
        elif is_quantized(layer):
            ready = _replaced(ready, name, IntegerLayer(cast("nn.Conv2d | nn.Linear", layer)))
        elif weight_quantizer(layer) is not None:
            ready = _replaced(ready, name, RestoredLayer(cast("nn.Conv2d | nn.Linear | nn.Embedding", layer)))
        elif ".parametrizations." not in f".{name}.":
            bake_parametrizations(layer)
    return ready


def _replaced(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    model.set_submodule(name, layer)
    return model


def traced(model: nn.Module, example_input: Tensor, outputs: Sequence[str] = ("output",)) -> onnx.ModelProto:
    """Return the `delivered_form` of a model as a graph with these outputs, in torch's words and names."""
    batch = torch.export.Dim("batch", min=1)
    example = example_input.detach().cpu()
    # A batch of one would be taken for a constant.
    several = example[:1].expand(2, *example.shape[1:]).contiguous()
    with _quiet(), one_registry(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (several,),
            input_names=["input"],
            output_names=[*outputs],
            opset_version=OPSET,
            dynamic_shapes=({0: batch},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself, which nobody here can mend, from the user."""
    remarks = logging.getLogger(exporter_logger())
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    shapes = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    shapes_level = shapes.level
    shapes.setLevel(logging.ERROR)
    try:
        # where one way to trace a model fails, its graph is printed before the next is tried
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            # of recurrent layers
            warnings.filterwarnings("ignore", "_check_is_size will be removed", FutureWarning)
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export", UserWarning)
            yield
    finally:
        remarks.setLevel(level)
        shapes.setLevel(shapes_level)
