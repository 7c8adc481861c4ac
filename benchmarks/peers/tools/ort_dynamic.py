"""ONNX Runtime's dynamic quantiser, per channel: ``python ort_dynamic.py FP32 SAMPLES.npz OUT``."""

import sys

from onnxruntime.quantization import QuantType, quantize_dynamic

source, _, out = sys.argv[1:]
quantize_dynamic(source, out, per_channel=True, weight_type=QuantType.QInt8)
