"""ONNX Runtime's static quantiser, pre-processed, per channel: ``python ort_static.py FP32 SAMPLES.npz OUT``."""

import sys

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Samples(CalibrationDataReader):
    """The samples, one by one."""

    def __init__(self, path):
        self.rows = iter(np.load(path)["input"])

    def get_next(self):
        """Return the next one as feeds."""
        row = next(self.rows, None)
        return None if row is None else {"input": row[None]}


source, samples, out = sys.argv[1:]
quant_pre_process(source, f"{out}.pre", skip_symbolic_shape=True)
quantize_static(
    f"{out}.pre",
    out,
    Samples(samples),
    quant_format=QuantFormat.QDQ,
    per_channel=True,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
)
