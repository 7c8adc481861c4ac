"""A first look at whether a delivered model answers at all."""

from pathlib import Path

import numpy as np

from paretta.pipelines.artifact import MODEL, session
from paretta.search_spaces.errors import DamagedArtifact, first_line

_TYPES = {"float": "float32", "double": "float64"}


def require_answer(folder: Path) -> None:
    """Run the model in `folder` once on zeros, sizes that it leaves free taken as 1.

    Raises `DamagedArtifact` where it cannot be loaded or run, or answers with something that is not finite.
    """
    from paretta.pipelines.measuring.ort_session import REFUSALS  # noqa: PLC0415 - only this needs the runtime

    path = folder / MODEL
    try:
        opened = session(path)
        zeros = {
            given.name: np.zeros(
                [size if isinstance(size, int) else 1 for size in given.shape],
                _TYPES.get(element := given.type.removeprefix("tensor(").removesuffix(")"), element),
            )
            for given in opened.get_inputs()
        }
        answers = opened.run(None, zeros)
    except REFUSALS as error:
        raise DamagedArtifact(f"{path}: expected a model that runs, found {first_line(error)}") from None
    if not all(np.isfinite(answer).all() for answer in answers):
        raise DamagedArtifact(f"{path}: expected a finite answer to zeros, found one that is not")
