"""A smoke test: does a delivered model run at all?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.artifact import MODEL, SAMPLE, session
from paretta.pipelines.data.feeds import load_feeds
from paretta.search_spaces.errors import DamagedArtifact, first_line

_TYPES = {"float": "float32", "double": "float64"}


def require_answer(folder: Path) -> None:
    """Run the model in `folder` once, on the sample stored with it.

    A folder of an earlier version has no sample; its model is run on noise, or zeros for integer inputs, with free
    dimensions of 1. A score of -inf is valid, since it rules a class out.

    Raises `DamagedArtifact` if the model cannot be loaded or run, or returns nan or inf.
    """
    from paretta.pipelines.data.refusals import REFUSALS  # noqa: PLC0415 - only this needs the runtime

    path = folder / MODEL
    try:
        opened = session(path)
        stored = load_feeds(folder / SAMPLE) if (folder / SAMPLE).is_file() else {}
        inputs = {given.name: _input(stored.get(given.name), given.type, given.shape) for given in opened.get_inputs()}
        answers = opened.run(None, inputs)
    except REFUSALS as error:
        raise DamagedArtifact(f"{path}: expected a model that runs, found {first_line(error)}") from None
    for answer in answers:
        if np.isnan(answer).any() or np.isposinf(answer).any() or np.isneginf(answer).all():
            kind = "a stored sample" if stored else "noise"
            raise DamagedArtifact(f"{path}: expected a finite answer to {kind}, found one that is not")


def element_type(tensor_type: str) -> np.dtype[np.generic]:
    """Return the NumPy type of the elements of an ONNX Runtime input.

    >>> element_type("tensor(float)"), element_type("tensor(int64)")
    (dtype('float32'), dtype('int64'))
    """
    element = tensor_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_TYPES.get(element, element))


def _input(
    sample: NDArray[np.generic] | None, tensor_type: str, shape: Sequence[int | str | None]
) -> NDArray[np.generic]:
    dtype = element_type(tensor_type)
    if sample is not None:
        return sample.astype(dtype, copy=False)
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(0).standard_normal(sizes).astype(dtype)
    return np.zeros(sizes, dtype)
