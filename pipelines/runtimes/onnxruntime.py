"""ONNX Runtime on the CPU: the reference, which is installed with paretta."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.data.refusals import REFUSALS
from paretta.pipelines.kernels.ort_session import PROVIDERS, open_session, session_call
from paretta.pipelines.runtime import Device, ModelRefused, Opened, Runtime, RuntimeCall, WeightStorage
from paretta.search_spaces.errors import first_line
from paretta.search_spaces.objectives.reading import Detail


class Onnxruntime(Runtime):
    """Runs every file that is delivered. Its path for ``cuda``, and its subclasses, have not been run on a GPU."""

    title: ClassVar[str] = "ONNX Runtime"
    distribution: ClassVar[str] = "onnxruntime"
    install: ClassVar[str] = "pip install onnxruntime"
    devices: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")
    in_thread: ClassVar[bool] = True
    storage: ClassVar[WeightStorage] = "smallest"
    providers: ClassVar[Mapping[Device, str]] = PROVIDERS

    def open(self, model_path: Path, *, threads: int, device: Device) -> Opened:
        """Open a session of one provider; with several threads idle ones sleep instead of spinning."""
        try:
            return _Session(open_session(model_path, threads=threads, provider=self.providers[device]), device)
        except REFUSALS as error:
            raise ModelRefused(f"{self.title} cannot load the file: {first_line(error)}") from error

    def missing(self) -> str | None:
        """Return why the build of ONNX Runtime that is installed lacks the provider; None if it has it."""
        device = self.devices[0]
        if self.providers[device] in onnxruntime.get_available_providers():
            return None
        return f"{self.title} is not installed here: {self.install}"

    def lacks(self, device: Device) -> str | None:
        """Return how to get the provider of a device that the installed build lacks; None if it has it."""
        if self.providers[device] in onnxruntime.get_available_providers():
            return None
        return f"{self.title} as it is installed here does not compute on {device}: pip install onnxruntime-gpu"

    def version(self) -> str:
        """Return its version, whichever distribution it is from."""
        return f"onnxruntime {onnxruntime.__version__}"

    def kernels(self, model_path: Path, inputs: Feeds) -> Mapping[str, Detail]:
        """Return how many integer kernels ran, on zeros, and their shares of multiplications and weights."""
        from paretta.pipelines.kernels.ort_kernels import integer_kernels  # noqa: PLC0415 - loads onnx

        return integer_kernels(model_path).details()

    def digest(self, model_path: Path) -> str:
        """Return a digest of the kernels that run and their shapes, which do not follow from the widths of weights."""
        from paretta.pipelines.kernels.ort_kernels import kernels_digest  # noqa: PLC0415 - loads onnx

        return kernels_digest(model_path)


class _Session(Opened):
    def __init__(self, session: onnxruntime.InferenceSession, device: Device) -> None:
        self._session, self._device = session, device

    def answers(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        try:
            found: list[NDArray[np.generic]] = self._session.run(None, dict(feeds))
        except REFUSALS as error:
            raise ModelRefused(f"ONNX Runtime cannot run the file: {first_line(error)}") from error
        return found

    def call(self, batch: Feeds) -> RuntimeCall:
        return session_call(self._session, batch, self._device)
