"""The graph that ONNX Runtime makes of a model, as a file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def optimised_file(model: bytes | Path) -> Iterator[Path]:
    """Give the path of the ONNX file that ONNX Runtime's extended optimisations make of `model`, inside the block.

    Its large weights lie in a file beside it.
    """
    import onnxruntime  # noqa: PLC0415 - only processes that look at a graph need it

    with tempfile.TemporaryDirectory(prefix="paretta-") as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # that the file is for this machine only
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        source = model if isinstance(model, bytes) else str(model)
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        yield path
