"""NNCF's post-training quantisation of an ONNX file: ``python nncf_int8.py FP32 SAMPLES.npz OUT``."""

import sys

import nncf
import numpy as np
import onnx

source, samples, out = sys.argv[1:]
rows = np.load(samples)["input"]
dataset = nncf.Dataset([row[None] for row in rows], lambda row: {"input": row})
onnx.save(nncf.quantize(onnx.load(source), dataset, subset_size=len(rows)), out)
