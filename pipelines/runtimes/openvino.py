"""OpenVINO on the CPU: an optional extra, `pip install 'paretta[openvino]'`."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.runtime import Device, ModelRefused, Opened, Runtime, RuntimeCall
from paretta.search_spaces.errors import first_line
from paretta.search_spaces.objectives.reading import Detail

if TYPE_CHECKING:
    from openvino import CompiledModel, Model

_PRODUCTS: Final = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNSeq", "RNNCell"})
_INTEGER: Final = frozenset({"i8", "u8", "i4", "u4"})


class Openvino(Runtime):
    """Runs the file on one stream of the CPU plug-in, compiled for the shapes of each batch.

    Floats stay float32: the plug-in's default on processors with bfloat16 units would round to 8 bits of precision. It
    chooses no core itself, so that the timing can.
    """

    title: ClassVar[str] = "OpenVINO"
    distribution: ClassVar[str] = "openvino"
    install: ClassVar[str] = "pip install 'paretta[openvino]'"
    in_thread: ClassVar[bool] = True

    def load(self) -> None:
        """Import it."""
        import openvino  # noqa: F401, PLC0415 - an optional extra

    def open(self, model_path: Path, *, threads: int, device: Device) -> Opened:
        """Read the file; it is compiled when the shapes are known."""
        import openvino  # noqa: PLC0415 - an optional extra

        try:
            return _Read(openvino.Core().read_model(model_path), threads)
        except RuntimeError as error:
            raise ModelRefused(f"OpenVINO cannot load the file: {_reason(error)}") from error

    def kernels(self, model_path: Path, inputs: Feeds) -> Mapping[str, Detail]:
        """Return the operations of the compiled graph with their precisions, and how many layers compute in integers.

        Only layers with a kernel of their own are counted; small products may be part of a ``Subgraph`` in floats.
        The graph is compiled for the first sample, with the settings that are used for timing.
        """
        opened = self.open(model_path, threads=1, device="cpu")
        assert isinstance(opened, _Read)
        ran = Counter(opened.operations(feed_batch(inputs, 1)))
        layers = {(kind, precision): count for (kind, precision), count in ran.items() if kind in _PRODUCTS}
        return {
            "kernels": ", ".join(f"{kind} {precision} x {count}" for (kind, precision), count in sorted(ran.items())),
            "layers": sum(layers.values()),
            "integer_layers": sum(count for (_, precision), count in layers.items() if precision in _INTEGER),
        }


class _Read(Opened):
    """A file that was read, with its compiled form for each combination of shapes."""

    def __init__(self, model: "Model", threads: int) -> None:
        self._model, self._threads = model, threads
        self._compiled: dict[tuple[tuple[int, ...], ...], CompiledModel] = {}

    def answers(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        compiled = self._for(feeds)
        try:
            found = compiled(dict(feeds))
        except RuntimeError as error:
            raise ModelRefused(f"OpenVINO cannot run the file: {_reason(error)}") from error
        return [np.array(found[output]) for output in compiled.outputs]

    def call(self, batch: Feeds) -> RuntimeCall:
        from openvino import Tensor  # noqa: PLC0415 - an optional extra

        request = self._for(batch).create_infer_request()
        request.set_tensors({name: Tensor(np.ascontiguousarray(array)) for name, array in batch.items()})
        infer: RuntimeCall = request.infer
        return infer

    def operations(self, feeds: Feeds) -> list[tuple[str, str]]:
        """Return kind and precision of each operation that runs for `feeds`, without inputs and constants."""
        ordered = self._for(feeds).get_runtime_model().get_ordered_ops()
        infos = [operation.get_rt_info() for operation in ordered]
        told = [(str(info["layerType"].value), str(info["runtimePrecision"].value)) for info in infos]
        return [(kind, precision) for kind, precision in told if kind not in ("Input", "Output", "Const", "Constant")]

    def _for(self, feeds: Feeds) -> "CompiledModel":
        shapes = {name: array.shape for name, array in feeds.items()}
        key = tuple(shapes.values())
        if key not in self._compiled:
            self._compiled[key] = self._compile(shapes)
        return self._compiled[key]

    def _compile(self, shapes: Mapping[str, tuple[int, ...]]) -> "CompiledModel":
        import openvino  # noqa: PLC0415 - an optional extra

        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            fixed = self._model.clone()
            fixed.reshape({name: list(shape) for name, shape in shapes.items()})
            return openvino.Core().compile_model(fixed, "CPU", settings)
        except RuntimeError as error:
            raise ModelRefused(f"OpenVINO cannot compile the file: {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    """Return the last line, before which OpenVINO names its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)
