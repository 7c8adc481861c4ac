"""Whether the integer kernels of this processor overflow where two neighbouring 8-bit weights are large."""

from functools import cache
from typing import Final

SAFE_BITS: Final = 7  # 2 * 255 * 64 fits in 16 bits, 2 * 255 * 127 does not


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
