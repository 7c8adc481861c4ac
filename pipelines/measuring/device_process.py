"""The processes of a device's agent: they look at the machine, and measure files that came over the network.

``python -m paretta.pipelines.measuring.device_process facts FILE`` and ``... read REQUEST`` run them. They end with the
process that started them, whose end closes their standard input.
"""

import json
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.data.feeds import load_feeds
from paretta.pipelines.kernels.saturation import saturates
from paretta.pipelines.measuring.probe_process import ProbeRequest, read_request, run_request
from paretta.pipelines.measuring.served_meter import ServedMeter, machine
from paretta.pipelines.meter import meter_of
from paretta.pipelines.runtime import runtime_of
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import ParettaError, Problem, TrialFailed, WrongInput, first_line
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.registry import METERS, RUNTIMES

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto

OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
LARGEST_BATCH: Final = 2**30  # bytes
REFUSED: Final = 3  # the exit code where the last line on standard error is written for people


def machine_facts() -> dict[str, Json]:
    """Return what a sweep must know of this machine before it measures here.

    ``machine`` as in a reading's details, ``cores``, ``saturates``: whether integer kernels overflow, and ``runtimes``:
    the version of each, or ``missing`` with the reason.
    """
    runtimes: dict[str, Json] = {}
    for name in RUNTIMES.names():
        runtime = runtime_of(name)
        missing = runtime.missing()
        runtimes[name] = {"missing": missing} if missing else {"version": runtime.version()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"machine": {**machine()}, "cores": cores, "saturates": saturates(), "runtimes": runtimes}


def read_received(request: ProbeRequest) -> None:
    """Process a request whose files come from elsewhere.

    Raises:
        WrongInput: a meter or a runtime is not known here by its name; code that a request names is never imported.
        TrialFailed: a file is damaged, or would make this process read another one.
    """
    for document in request.meters:
        _require_known(document.get("kind"), METERS.names(), "meter")
        if "runtime" in document:
            _require_known(document["runtime"], RUNTIMES.names(), "runtime")
    for path in (request.inputs, *request.expected):
        require_plain_arrays(path)
    for document in request.meters:
        meter = meter_of(document, {})
        if not isinstance(meter, ServedMeter):
            raise WrongInput(Problem("meter", "it does not run the model, so it is read elsewhere", document["kind"]))
        _require_small(meter, request.inputs)
    for folder in (request.artifact, *request.beside, *(() if request.baseline is None else (request.baseline,))):
        require_own_data(folder / MODEL)
    run_request(request)


def _require_known(name: object, known: tuple[str, ...], noun: str) -> None:
    if name not in known:
        rule = f"this machine has no such {noun}, only {', '.join(known)}"
        raise WrongInput(Problem(noun, rule, name, "install the package that has it there"))


def _require_small(meter: ServedMeter, inputs: Path) -> None:
    """Refuse a batch for which the samples would be repeated until the memory is full."""
    size = sum(array[:1].nbytes for array in load_feeds(inputs).values()) * meter.batch_size
    if size > LARGEST_BATCH:
        most = format_quantity(LARGEST_BATCH, "B")
        rule = f"the inputs of a call take {format_quantity(size, 'B')}, and may take {most}"
        raise WrongInput(Problem(f"{meter.label}.batch_size", rule, meter.batch_size))


def require_plain_arrays(path: Path) -> None:
    """Raise `TrialFailed` unless a file is an .npz of arrays that take no more memory than the file does."""
    try:
        with zipfile.ZipFile(path) as archive:
            squeezed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError) as error:
        raise TrialFailed(f"the arrays are damaged: {first_line(error)}") from error
    if squeezed:
        raise TrialFailed(f"the arrays are compressed, which nothing of ours writes: {squeezed[0]}")


def require_own_data(path: Path) -> None:
    """Raise `TrialFailed` unless a file is an ONNX model that holds all its tensors itself.

    A tensor may name another file as the place of its values, from which the runtime would read.
    """
    import onnx  # noqa: PLC0415 - after the arrays

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise TrialFailed(f"the model is damaged: {type(error).__name__}: {first_line(error)}") from error
    if not model.graph.node:
        raise TrialFailed("the model is damaged: it computes nothing")
    outside = [t.name for t in _tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL or t.external_data]
    if outside:
        raise TrialFailed(f"the model reads values of {outside[0]!r} from another file, which is not allowed")


def _tensors(model: "ModelProto") -> "Iterator[TensorProto]":
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _attribute_tensors(node.attribute)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _parts(sparse)
    for node in graph.node:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: "Iterable[AttributeProto]") -> "Iterator[TensorProto]":
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from _parts(sparse)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _graph_tensors(graph)


def _parts(sparse: "SparseTensorProto") -> "Iterator[TensorProto]":
    yield from (sparse.values, sparse.indices)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would abort an interpreter that ends
        pass
    os.killpg(0, signal.SIGKILL)


def serve_agent_command(command: str, path: Path) -> None:
    """Run one command. Ends the process with `REFUSED` and one line if the request is at fault."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        OOM_SCORE.write_text("1000", encoding="ascii")  # if memory runs out, this process is ended and not the agent
    try:
        if command == "facts":
            path.write_text(json.dumps(machine_facts()), encoding="utf-8")
        else:
            read_received(read_request(path))
    except ParettaError as error:
        print(first_line(error), file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    serve_agent_command(sys.argv[1], Path(sys.argv[2]))
