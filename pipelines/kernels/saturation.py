"""Whether the integer kernels of this processor overflow where two neighbouring 8-bit weights are large."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paretta.pipelines.kernels.optimised_file import optimised_file

if TYPE_CHECKING:
    from onnx import NodeProto

SAFE_BITS: Final = 7  # 2 * 255 * 64 fits in 16 bits, 2 * 255 * 127 does not
_LARGEST: Final = 2 ** (SAFE_BITS - 1)
# kernels of ONNX Runtime's optimised graphs that multiply 8-bit integers, and where their weight stands
_WEIGHT_OF: Final = {
    "ConvInteger": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "QGemm": 3,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}


@cache
def saturates() -> bool:
    """Return whether ONNX Runtime's product of unsigned 8-bit activations and signed 8-bit weights is wrong here.

    x86 processors without VNNI instructions add two products in a signed 16-bit register, which stops at 32,767. The
    kernel is tried with the largest values, not guessed from the processor's name. Source: ONNX Runtime, "Quantize ONNX
    models: when and why do I need to try U8U8?".
    """
    import numpy as np  # noqa: PLC0415 - all three are needed by the first quantised model only
    import onnxruntime  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    depth = 64
    weights = numpy_helper.from_array(np.full((depth, 16), 127, np.int8), "weights")
    given = helper.make_tensor_value_info("given", TensorProto.UINT8, [16, depth])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [16, 16])
    node = helper.make_node("MatMulInteger", ["given", "weights"], ["sums"])
    model = helper.make_model(
        helper.make_graph([node], "g", [given], [sums], [weights]),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"given": np.full((16, depth), 255, np.uint8)})
    return bool((found != 255 * 127 * depth).any())


def warning_of(model: Path) -> str | None:
    """Return a line that tells that `model` may answer wrongly on this processor; None if nothing points to that.

    A file that was made where kernels have room, as on a processor with VNNI instructions, may hold weights that those
    of this one overflow with. Which answers are wrong, and by how much, depends on the inputs.
    """
    if not saturates() or not (found := num_overflowing(model)):
        return None
    layers = "a layer" if found == 1 else f"{found} layers"
    return (
        f"warning: {layers} with 8-bit weights may answer wrongly here, where integer kernels overflow (x86 without "
        "VNNI); make the model with {kind: quantize, reduce_range: true}"
    )


def num_overflowing(model: Path) -> int:
    """Return how many layers of an ONNX file overflow on x86 processors without VNNI, whatever processor this is.

    They are the integer layers of ONNX Runtime's optimised graph with codes of more than 7 bits. Kernels of depthwise
    convolutions have room.
    """
    import numpy as np  # noqa: PLC0415 - as above
    import onnx  # noqa: PLC0415

    with optimised_file(model) as path:
        graph = onnx.load(str(path)).graph
    stored = {item.name: item for item in graph.initializer if item.data_type == onnx.TensorProto.INT8}
    found = 0
    for node in graph.node:
        place = _WEIGHT_OF.get(node.op_type)
        if place is not None and node.input[place] in stored:
            codes = onnx.numpy_helper.to_array(stored[node.input[place]]).astype(np.int16)
            found += bool(np.abs(codes).max(initial=0) > _LARGEST and not _is_depthwise(node, codes.shape))
    return found


def _is_depthwise(node: "NodeProto", shape: tuple[int, ...]) -> bool:
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return "Conv" in node.op_type and groups == shape[0] > 1 and shape[1] == 1
