"""ONNX Runtime's MatMulNBits, 4 bits in blocks of 32: ``python ort_nbits.py FP32 SAMPLES.npz OUT``."""

import sys

import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

source, _, out = sys.argv[1:]
model = onnx.load(source)
weights = {item.name: item for item in model.graph.initializer}
nodes = []
for node in model.graph.node:  # the tool leaves Gemm as it is
    if node.op_type != "Gemm":
        nodes.append(node)
        continue
    weight = numpy_helper.to_array(weights[node.input[1]])
    if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        weight = weight.T.copy()
    weights[node.input[1]].CopyFrom(numpy_helper.from_array(weight, node.input[1]))
    nodes.append(helper.make_node("MatMul", node.input[:2], [f"{node.output[0]}.product"]))
    nodes.append(helper.make_node("Add", [f"{node.output[0]}.product", node.input[2]], node.output))
del model.graph.node[:]
model.graph.node.extend(nodes)
quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True, accuracy_level=4)
quantizer.process()
onnx.save(quantizer.model.model, out)
