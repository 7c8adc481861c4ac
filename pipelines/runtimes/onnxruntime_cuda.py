"""ONNX Runtime with CUDA, on an NVIDIA GPU; written from its documentation, never run on a GPU."""

from collections.abc import Mapping
from typing import ClassVar

from paretta.pipelines.runtime import Device
from paretta.pipelines.runtimes.onnxruntime import Onnxruntime


class OnnxruntimeCuda(Onnxruntime):
    """The provider ``CUDAExecutionProvider`` of ``onnxruntime-gpu``. It has not been run."""

    title: ClassVar[str] = "ONNX Runtime with CUDA"
    distribution: ClassVar[str] = "onnxruntime-gpu"
    install: ClassVar[str] = "pip install onnxruntime-gpu in place of onnxruntime"
    devices: ClassVar[tuple[Device, ...]] = ("cuda",)
    providers: ClassVar[Mapping[Device, str]] = {"cuda": "CUDAExecutionProvider"}
