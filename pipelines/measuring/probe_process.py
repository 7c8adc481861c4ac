"""The measuring process: runs artifacts in ONNX Runtime without torch.

``python -m paretta.pipelines.measuring.probe_process request.json`` runs it.
"""

import json
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from paretta.pipelines.data.feeds import load_feeds
from paretta.pipelines.meter import MeterBench, meter_of
from paretta.search_spaces.canonical import Json


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: Path
    beside: tuple[Path, ...] = ()
    baseline: Path | None
    inputs: Path
    meters: tuple[dict[str, str | int | float | bool | None], ...]
    readings: Path
    facts: dict[str, float] = {}


def run_request(path: Path) -> None:
    """Process the request in the JSON file at `path`."""
    request = ProbeRequest.model_validate_json(path.read_text(encoding="utf-8"))
    bench = MeterBench(request.baseline, load_feeds(request.inputs), facts=request.facts)
    folders = [request.artifact, *request.beside]
    columns = [meter_of(document, {}).read_together(folders, bench) for document in request.meters]
    readings: list[Json] = [[column[row].to_document() for column in columns] for row in range(len(folders))]
    request.readings.write_text(json.dumps(readings), encoding="utf-8")


if __name__ == "__main__":
    run_request(Path(sys.argv[1]))
