"""The exceptions by which ONNX Runtime refuses to load or run a model; importing this loads the runtime."""

from onnxruntime.capi import onnxruntime_pybind11_state as failures

REFUSALS = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
)
