"""Open and call a model in ONNX Runtime, with few imports, for measuring processes."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.runtime import Device, NoSuchDevice, RuntimeCall

PROVIDERS: Mapping[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_call(model_path: Path, batch: Feeds, *, threads: int = 1, device: Device = "cpu") -> RuntimeCall:
    """Open a session of its own and return a call that answers `batch`, arrays [n, ...] by name.

    With several threads idle ones sleep instead of spinning, since CPU time would include the spinning.
    The path for ``cuda`` has not been run on a GPU.

    Raises:
        NoSuchDevice: the runtime has no such device, or would silently compute elsewhere.
    """
    return session_call(open_session(model_path, threads=threads, provider=PROVIDERS[device]), batch, device)


def session_call(session: onnxruntime.InferenceSession, batch: Feeds, device: Device) -> RuntimeCall:
    """Return a call that answers `batch` on the device of the session."""
    if device == "cpu":
        feed = dict(batch)
        return lambda: session.run(None, feed)
    return bound_call(session, batch, device)


def bound_call(session: onnxruntime.InferenceSession, batch: Feeds, device: Device) -> RuntimeCall:
    """Return a call whose input and outputs stay on `device`, and which returns once the device has finished."""
    binding = session.io_binding()
    for name, array in batch.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, device)

    def call() -> object:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    return call


def open_session(model_path: Path, *, threads: int, provider: str) -> onnxruntime.InferenceSession:
    """Open a session of `provider`, such as ``CPUExecutionProvider``. Raises `NoSuchDevice` if there is none."""
    known = onnxruntime.get_available_providers()
    if provider not in known:
        raise NoSuchDevice(f"ONNX Runtime has no {provider} here, only {', '.join(known)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if threads > 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model_path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise NoSuchDevice(f"ONNX Runtime could not start {provider} and fell back to {session.get_providers()[0]}")
    return session
