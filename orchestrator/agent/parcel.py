"""A reading as it is sent to an agent: the request, and the files that it names by their digests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paretta.orchestrator.agent.protocol import ReadingRequest, SentModel
from paretta.pipelines.artifact import MANIFEST, MODEL
from paretta.pipelines.data.feeds import Feeds, save_feeds
from paretta.pipelines.measuring.probe_process import save_answers
from paretta.pipelines.measuring.runtime_agreement import MOST_SAMPLES, reference_answers
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import MeterBench
from paretta.pipelines.runtime import ModelRefused
from paretta.search_spaces.bounded_files import sha256_of
from paretta.search_spaces.errors import TrialFailed


@dataclass(frozen=True, slots=True)
class Parcel:
    """A request and its files.

    Args:
        request: what to measure.
        files: by digest, each once.
    """

    request: ReadingRequest
    files: Mapping[str, Path]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def parcel_for(artifacts: Sequence[Path], bench: MeterBench, meters: Sequence[ServedMeter], *, scratch: Path) -> Parcel:
    """Return what an agent needs to read `meters` of `artifacts`, beside the answers of this machine.

    Args:
        artifacts: the folders to measure.
        bench: the baseline, the first samples, of which only as many are sent as the meters use, and the facts.
        meters: what to read.
        scratch: an empty folder for files that are made for it.

    Raises:
        TrialFailed: an artifact does not run on this machine.
    """
    assert bench.baseline is not None
    files: dict[str, Path] = {}

    def added(path: Path) -> str:
        digest = sha256_of(path)
        files.setdefault(digest, path)
        return digest

    few = max(MOST_SAMPLES, *(meter.batch_size for meter in meters))
    inputs: Feeds = {name: array[:few] for name, array in bench.inputs.items()}
    save_feeds(scratch / "sent_inputs.npz", inputs)
    models = []
    for place, folder in enumerate((*artifacts, bench.baseline)):
        answers = scratch / f"answers{place}.npz"
        try:
            save_answers(answers, reference_answers(folder / MODEL, inputs))
        except ModelRefused as error:
            raise TrialFailed(f"measure: the artifact does not run: {error}") from error
        manifest = folder / MANIFEST
        models.append(
            SentModel(
                model=added(folder / MODEL),
                manifest=added(manifest) if manifest.is_file() else None,
                answers=added(answers),
            )
        )
    request = ReadingRequest(
        models=tuple(models[:-1]),
        baseline=models[-1],
        inputs=added(scratch / "sent_inputs.npz"),
        meters=tuple(meter.model_dump() for meter in meters),
        facts=dict(bench.facts),
    )
    return Parcel(request, files)
