"""NNCF's weight compression of an ONNX file to 4 bits: ``python nncf_int4.py FP32 SAMPLES.npz OUT``."""

import sys

import nncf
import onnx

source, _, out = sys.argv[1:]
mode = nncf.CompressWeightsMode.INT4_SYM
onnx.save(nncf.compress_weights(onnx.load(source), mode=mode, all_layers=True, group_size=-1), out)
