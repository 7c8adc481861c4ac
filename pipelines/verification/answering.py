"""Answer JSON requests with a delivered model; needs ONNX Runtime alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.artifact import MODEL, session
from paretta.pipelines.data.decoder_feeds import empty_cache, generates, is_cache
from paretta.pipelines.verification.smoke import element_type
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import first_line

if TYPE_CHECKING:
    from onnxruntime import NodeArg


def answering(folder: Path) -> Callable[[object], Json]:
    """Return a function that answers parsed requests with the model in `folder`, in the words of MLflow's server.

    A request is ``{"inputs": {NAME: [...]}}``, or ``{"inputs": [...]}`` for a model with one input, each with the batch
    as its first axis; the answer is ``{"predictions": {NAME: [...]}}``. The function raises `ValueError` with one line
    if the request does not fit the model; several threads may call it at the same time.

    A request to a decoder may leave out the cache of keys and values; it is then empty, and not part of the answer.
    """
    from paretta.pipelines.data.refusals import REFUSALS  # noqa: PLC0415 - loads the runtime

    opened = session(folder / MODEL)
    inputs, names = opened.get_inputs(), [output.name for output in opened.get_outputs()]

    def answer(request: object) -> Json:
        begins = _begins(request, inputs)
        feeds = _feeds(request, [node for node in inputs if not (begins and is_cache(node.name))])
        wanted = [name for name in names if not (begins and is_cache(name))]
        try:
            cache = empty_cache(inputs, max(map(len, feeds.values()))) if begins else {}
            outputs = opened.run(wanted, {**feeds, **cache})
        except REFUSALS as error:
            raise ValueError(f"the model refuses the inputs: {first_line(error)}") from None
        return {"predictions": {name: output.tolist() for name, output in zip(wanted, outputs, strict=True)}}

    return answer


def _begins(request: object, inputs: "list[NodeArg]") -> bool:
    """Return whether the model is a decoder, and the request has no cache."""
    given = request.get("inputs") if isinstance(request, Mapping) else None
    named = isinstance(given, Mapping) and any(isinstance(name, str) and is_cache(name) for name in given)
    return generates(node.name for node in inputs) and not named


def _feeds(request: object, inputs: "list[NodeArg]") -> dict[str, NDArray[np.generic]]:
    given = request.get("inputs") if isinstance(request, Mapping) else None
    if isinstance(given, list) and len(inputs) == 1:
        given = {inputs[0].name: given}
    named = {node.name for node in inputs}
    if not isinstance(given, Mapping) or given.keys() != named:
        words = ", ".join(sorted(named))
        raise ValueError(f'a request is {{"inputs": {{NAME: [...]}}}} with the inputs {words}')
    return {node.name: _array(given[node.name], node) for node in inputs}


def _array(numbers: object, node: "NodeArg") -> NDArray[np.generic]:
    dtype = element_type(node.type)
    try:
        with np.errstate(over="ignore"):  # told below
            array = np.array(numbers, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{node.name}: expected nested lists of {dtype}: {first_line(error)}") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{node.name}: expected finite numbers, found nan, infinity or one beyond {dtype}")
    if array.ndim != len(node.shape):
        raise ValueError(f"{node.name}: expected {len(node.shape)} axes {node.shape}, found {array.ndim}")
    return array
