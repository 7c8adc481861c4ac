"""Read all meters of an artifact: those of the runtime in a fresh process, those that judge answers here."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from paretta.pipelines.data.feeds import save_feeds
from paretta.pipelines.data.refusals import REFUSALS
from paretta.pipelines.measuring.artifact_answers import first_feeds, judged
from paretta.pipelines.measuring.probe_process import TIMEOUT_SECONDS, ProbeRequest, process_environment
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import Meter, MeterBench
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.errors import TrialFailed, WrongInput, first_line
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.user_code import reference_to


class Probe(Protocol):
    """Reads meters of finished artifacts where the model will run."""

    def __call__(
        self, artifacts: Sequence[Path], bench: MeterBench, meters: Sequence[ServedMeter], *, scratch: Path
    ) -> list[list[Reading]]:
        """Return for each artifact one reading per meter, in their order.

        Args:
            artifacts: the folders to measure, in the same rounds.
            bench: the baseline, the first samples, and the facts.
            meters: what to read.
            scratch: an empty folder for files of its own.

        Raises:
            TrialFailed: an artifact does not run.
        """
        ...


def measure(
    artifact: Path,
    baseline: Path | None,
    task: Task,
    *,
    split: Split,
    meters: Sequence[Meter],
    facts: Mapping[str, float] | None = None,
    scratch: Path | None = None,
    elsewhere: Probe | None = None,
) -> dict[str, Reading]:
    """Return the reading of each meter, by label.

    Nothing is asked of the model in torch: answers and times are those of the delivered file in ONNX Runtime; times are
    taken in a process of its own that training has left no threads and no warm caches in, or on another machine.

    Args:
        artifact: the folder to measure.
        baseline: the uncompressed model's artifact, which latency is compared with.
        task: its split and metrics.
        split: which split to run.
        meters: what to read.
        facts: facts known only to the run that made the artifact, such as ``train_cpu_s`` and ``train_wall_s``.
        scratch: where temporary files go; the system's place by default.
        elsewhere: reads the meters that run the model, on another machine; by default they are read here.

    Raises:
        TrialFailed: the artifact does not run, or a sample cannot be read, or an input of it is not finite.
    """
    with TemporaryDirectory(dir=scratch) as temporary:
        judging = [meter for meter in meters if meter.judges_answers]
        others = [meter for meter in meters if not meter.judges_answers]
        with _running():
            bench = MeterBench(baseline, first_feeds(artifact, task, split), facts=facts or {})
        readings = _probed([artifact], bench, Path(temporary), others, elsewhere)[0] if others else []
        found = dict(zip(others, readings, strict=True))
        if judging:
            with _running():
                names = [meter.label for meter in judging]
                bench = replace(bench, scored=judged(artifact, task, split, names))
            found |= {meter: meter.read(artifact, bench) for meter in judging}
        return {meter.label: found[meter] for meter in meters}


def measure_together(
    artifacts: Sequence[Path],
    baseline: Path,
    task: Task,
    *,
    meters: Sequence[Meter],
    facts: Mapping[str, float],
    elsewhere: Probe | None = None,
) -> list[dict[str, Reading]]:
    """Return the readings of each artifact by label, all taken side by side in one process, on the validation split.

    Args:
        artifacts: the folders to measure.
        baseline: the uncompressed model's artifact.
        task: its split.
        meters: what to read; none that judges answers.
        facts: as in `measure`.
        elsewhere: as in `measure`.

    Raises:
        TrialFailed: an artifact does not run.
    """
    with TemporaryDirectory() as temporary:
        with _running():
            bench = MeterBench(baseline, first_feeds(baseline, task, "validation"), facts=facts)
        rows = _probed(artifacts, bench, Path(temporary), meters, elsewhere)
        return [dict(zip((meter.label for meter in meters), row, strict=True)) for row in rows]


@contextmanager
def _running() -> Iterator[None]:
    try:
        yield
    except WrongInput as error:
        failed = TrialFailed.of(error)
        raise TrialFailed(f"measure: {failed.reason}", failed.detail, failed.by_input) from error
    except REFUSALS as error:
        raise TrialFailed(f"measure: the artifact does not run: {first_line(error)}", str(error)) from None


def _probed(
    artifacts: Sequence[Path], bench: MeterBench, folder: Path, meters: Sequence[Meter], elsewhere: Probe | None
) -> list[list[Reading]]:
    """Return the readings of each artifact; `elsewhere` reads those of meters that run it."""
    there = [] if elsewhere is None else [meter for meter in meters if isinstance(meter, ServedMeter)]
    here = [meter for meter in meters if meter not in there]
    sent = [] if elsewhere is None or not there else elsewhere(artifacts, bench, there, scratch=folder)
    own = _probed_here(artifacts, bench, folder, here) if here else []
    found: list[list[Reading]] = []
    for place in range(len(artifacts)):
        named: dict[Meter, Reading] = dict(zip(there, sent[place], strict=True)) if there else {}
        named |= dict(zip(here, own[place], strict=True)) if here else {}
        found.append([named[meter] for meter in meters])
    return found


def _probed_here(
    artifacts: Sequence[Path], bench: MeterBench, folder: Path, meters: Sequence[Meter]
) -> list[list[Reading]]:
    save_feeds(folder / "inputs.npz", bench.inputs)
    request = ProbeRequest(
        artifact=artifacts[0].absolute(),
        beside=tuple(artifact.absolute() for artifact in artifacts[1:]),
        baseline=None if bench.baseline is None else bench.baseline.absolute(),
        inputs=folder / "inputs.npz",
        meters=tuple(map(_document, meters)),
        readings=folder / "readings.json",
        facts=dict(bench.facts),
    )
    (folder / "request.json").write_text(request.model_dump_json(), encoding="utf-8")
    _run_probe(folder / "request.json")
    documents = json.loads((folder / "readings.json").read_text(encoding="utf-8"))
    return [[Reading.from_document(document) for document in row] for row in documents]


def _document(meter: Meter) -> dict[str, str | int | float | bool | None]:
    """Return a meter's settings with its class, and its runtime's, as another process finds them."""
    settings = {**meter.model_dump(), "kind": reference_to(type(meter))}
    if isinstance(meter, ServedMeter) and ":" in meter.runtime:
        return {**settings, "runtime": reference_to(type(meter.runs))}
    return settings


def _run_probe(request: Path) -> None:
    command = [sys.executable, "-m", "paretta.pipelines.measuring.probe_process", str(request)]
    try:
        # our own interpreter and module; nothing of the command comes from outside
        subprocess.run(  # noqa: S603
            command, env=process_environment(), check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise TrialFailed(f"measure: the artifact does not run: {lines[-1]}", error.stderr) from None
    except subprocess.TimeoutExpired:
        raise TrialFailed(f"measure: no reading within {TIMEOUT_SECONDS:g} s") from None
