"""The measuring process: runs artifacts in ONNX Runtime without torch.

``python -m paretta.pipelines.measuring.probe_process request.json`` runs it.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from paretta.pipelines.data.feeds import load_feeds, save_feeds
from paretta.pipelines.meter import MeterBench, meter_of
from paretta.search_spaces.canonical import Json

TIMEOUT_SECONDS: Final = 600.0  # the longest time of one request


class ProbeRequest(BaseModel):
    """What to measure and where to write the results.

    Args:
        artifact: the folder to measure.
        beside: further folders to measure in the same rounds.
        baseline: the folder to compare it with.
        inputs: .npz file, [n, ...] by name of the file's inputs.
        meters: documents of the meters to read.
        readings: JSON file to write: for each folder one reading per meter, in their order.
        facts: numbers from the run that made the artifact.
        expected: files of the answers that another machine gave, of `artifact`, `beside` and `baseline` in this order;
            none if this machine judges the answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: Path
    beside: tuple[Path, ...] = ()
    baseline: Path | None
    inputs: Path
    meters: tuple[dict[str, str | int | float | bool | None], ...]
    readings: Path
    facts: dict[str, float] = {}
    expected: tuple[Path, ...] = ()


def read_request(path: Path) -> ProbeRequest:
    """Return the request in the JSON file at `path`."""
    return ProbeRequest.model_validate_json(path.read_text(encoding="utf-8"))


def run_request(request: ProbeRequest) -> None:
    """Process a request."""
    folders = [request.artifact, *request.beside]
    judged = [*folders, *([] if request.baseline is None else [request.baseline])]
    expected = dict(zip(judged, map(load_answers, request.expected), strict=True)) if request.expected else {}
    bench = MeterBench(request.baseline, load_feeds(request.inputs), facts=request.facts, expected=expected)
    columns = [meter_of(document, {}).read_together(folders, bench) for document in request.meters]
    readings: list[Json] = [[column[row].to_document() for column in columns] for row in range(len(folders))]
    request.readings.write_text(json.dumps(readings), encoding="utf-8")


def save_answers(path: Path, answers: Sequence[NDArray[np.generic]]) -> None:
    """Write a model's outputs, in their order, to an .npz file."""
    save_feeds(path, {f"{place:06d}": array for place, array in enumerate(answers)})


def load_answers(path: Path) -> list[NDArray[np.generic]]:
    """Read what `save_answers` wrote."""
    return [array for _, array in sorted(load_feeds(path).items())]


def process_environment() -> dict[str, str]:
    """Return the environment of a measuring process: it finds the same modules as this one, a user's own among them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    run_request(read_request(Path(sys.argv[1])))
