"""Compare a delivered folder's claims with what an isolated process finds in it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from paretta.pipelines.artifact import MODEL, READINGS, SAMPLE, read_readings, require_regular
from paretta.pipelines.data.feeds import load_feeds
from paretta.pipelines.measuring.runtime_agreement import agreement
from paretta.pipelines.meter import Meter
from paretta.pipelines.runtime import ModelRefused, runtime_of
from paretta.pipelines.verification.cache_check import cache_agreement
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import DamagedArtifact, TrialFailed, first_line
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import METERS, RUNTIMES

if TYPE_CHECKING:  # torch is needed to judge answers, not to look at files
    from paretta.pipelines.task import Split, Task

ISOLATED_CHECK: Final = Path(__file__).with_name("isolated_check.py")
TIMEOUT_S: Final = 600.0
_TEST: Final = "test_"
FindingStatus: TypeAlias = Literal["confirmed", "mismatch", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of checking one claim.

    Args:
        name: ``manifest``, or the name of a reading; those of the test split begin with ``test_``.
        outcome: whether it holds.
        words: both numbers, or why it was not checked.
    """

    name: str
    outcome: FindingStatus
    words: str

    def __str__(self) -> str:
        """Describe the finding in one line."""
        return f"{self.name}: {self.outcome}, {self.words}"


def verify_claims(
    folder: Path, task: "Task | None", *, without: str = "no task", elsewhere: bool = False
) -> tuple[Finding, ...]:
    """Verify the artifact in `folder`: first the manifest, then each claimed reading.

    A fresh, isolated Python process that imports neither torch nor any module of this project checks the SHA-256 of
    every file, measures the model's size and runs it in ONNX Runtime; see `isolated_check`. The task's own metric
    scores those outputs in this process. Timings and similar readings are not repeatable and are never compared; for a
    claim on another runtime, such as ``latency@openvino``, its answers to the stored sample are. A decoder with a cache
    must answer token by token as it does for the whole stored sample.

    Args:
        folder: a delivered folder.
        task: the task with the metrics; if None, metrics are not checked.
        without: why there is no task.
        elsewhere: whether this may be another machine than the one that made the artifact. On another processor the
            last bits of a float may differ, and with them the answer for one sample in a thousand, or for one sample of
            a smaller split; on the same machine nothing may differ. A coded size is only checked elsewhere, since the
            machine that made the artifact measured it with the same code.
    """
    try:
        require_regular(folder)
    except DamagedArtifact as error:
        return (Finding("manifest", "mismatch", "; ".join(str(error).splitlines())),)
    with TemporaryDirectory(prefix="paretta-") as scratch:
        claims, unreadable = _claims(folder)
        strange, judge = None, task
        if task is not None:
            from paretta.pipelines.verification.judging import isolated_score, strange_data  # noqa: PLC0415 - loads torch

            strange = strange_data(folder, task)
            judge = None if strange else task
        report = isolated_report(folder.absolute(), [], Path(scratch))
        if faults := cast(list[str], report["faults"]):
            return (Finding("manifest", "mismatch", "; ".join(faults)),)
        findings = [Finding("manifest", "confirmed", "every file is what its manifest says")]
        findings += [Finding(READINGS, "mismatch", unreadable)] if unreadable else []
        for name, claim in claims.items():
            model_bytes, meter = cast(int, report["model_bytes"]), _meter_called(name)
            found = meter.second_look(claim, folder, model_bytes=model_bytes, elsewhere=elsewhere) if meter else None
            if found is not None:
                findings.append(_compared(name, claim, found, 0.0))
            elif judge is not None and name.removeprefix(_TEST) in judge.metrics:
                metric, split = name.removeprefix(_TEST), _split(name)
                found = isolated_score(folder.absolute(), judge, metric, split, Path(scratch))
                findings.append(_compared(name, claim, found, _tolerance(claim, elsewhere)))
            else:
                findings.append(Finding(name, "not checked", strange or _reason(name, judge, without)))
        return (*findings, *_same_with_cache(folder), *_same_elsewhere(folder, claims))


def require_verified(folder: Path, task: "Task", names: Sequence[str]) -> None:
    """Raise `TrialFailed` with both numbers unless every claim holds and each of `names` was among those checked."""
    findings = verify_claims(folder, task)
    wrong = [finding for finding in findings if finding.outcome == "mismatch"]
    unseen = set(names) - {finding.name for finding in findings if finding.outcome == "confirmed"}
    if wrong:
        raise TrialFailed(f"verify: {'; '.join(map(str, wrong))}")
    if unseen:
        raise TrialFailed(f"verify: the artifact makes no claim of {', '.join(sorted(unseen))}")


def _same_with_cache(folder: Path) -> Iterator[Finding]:
    """Compare the answers of a decoder token by token with those for the whole text."""
    found = cache_agreement(folder)
    if found is not None:
        gap = f"off those at once by {found.gap:.2g} of the largest (up to {found.most:.2g} is rounding)"
        outcome: FindingStatus = "confirmed" if found.holds else "mismatch"
        yield Finding("cache", outcome, f"answers token by token are {gap}")


def _same_elsewhere(folder: Path, claims: Mapping[str, Reading]) -> Iterator[Finding]:
    """Compare the answers of each runtime that a claim names with ONNX Runtime's; the folder's code is not loaded."""
    named = dict.fromkeys(name.partition("@")[2] for name in claims if _meter_called(name.removeprefix(_TEST)))
    for name in (name for name in named if name in RUNTIMES.names()):
        runtime, finding = runtime_of(name), f"answers@{name}"
        if missing := runtime.missing():
            yield Finding(finding, "not checked", missing)
        elif not (folder / SAMPLE).is_file():
            yield Finding(finding, "not checked", "the folder has no stored sample")
        elif runtime.devices[0] != "cpu":
            yield Finding(finding, "not checked", f"it computes on {runtime.devices[0]}")
        else:
            try:
                found = agreement(folder / MODEL, runtime, load_feeds(folder / SAMPLE))
            except ModelRefused as error:
                yield Finding(finding, "mismatch", str(error))
                continue
            words = f"off ONNX Runtime's by {found.gap:.2g} of the largest answer (up to {found.most:.2g} is rounding)"
            yield Finding(finding, "confirmed" if found.holds else "mismatch", words)


def _claims(folder: Path) -> tuple[Mapping[str, Reading], str]:
    """Return the claimed readings, or why they cannot be read."""
    try:
        return read_readings(folder), ""
    except (OSError, DamagedArtifact) as error:
        return {}, first_line(error)


def _split(name: str) -> "Split":
    return "test" if name.startswith(_TEST) else "validation"


def isolated_report(folder: Path, runs: Sequence[Mapping[str, str]], scratch: Path) -> Mapping[str, Json]:
    """Let an isolated process look at `folder` and run its model, and return its report; see `isolated_check`.

    Args:
        folder: absolute path of a delivered folder.
        runs: files of ``inputs`` to run the model on, and of its ``outputs``.
        scratch: folder for the request and the report.

    Raises `TrialFailed` if the model does not run, or the process loaded more than it may.
    """
    request, report = scratch / "request.json", scratch / "report.json"
    request.write_text(json.dumps({"folder": str(folder), "runs": [*runs], "report": str(report)}), encoding="utf-8")
    command = [sys.executable, "-I", str(ISOLATED_CHECK), str(request)]
    try:
        # our own interpreter and script; no part of the command is user input
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)  # noqa: S603
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise TrialFailed(f"verify: the artifact does not run: {lines[-1]}", error.stderr) from None
    except subprocess.TimeoutExpired:
        raise TrialFailed(f"verify: no answer within {TIMEOUT_S:g} s") from None
    found: Mapping[str, Json] = json.loads(report.read_text(encoding="utf-8"))
    if found["foreign"]:
        raise TrialFailed(f"verify: the checking process is not independent, it loaded {found['foreign']}")
    return found


def _tolerance(claim: Reading, elsewhere: bool) -> float:
    rounding = 1e-9 * max(abs(claim.value or 0.0), 1.0)
    if not elsewhere:
        return rounding
    samples = max(claim.num_samples, 1)
    return max(1.0, samples / 1000) / samples * max(abs(claim.value or 0.0), 1.0) + rounding


def _compared(name: str, claim: Reading, found: float, tolerance: float) -> Finding:
    if claim.value is None:
        return Finding(name, "not checked", f"nothing is claimed: {claim.reason}")
    holds = abs(claim.value - found) <= tolerance
    words = f"claimed {claim.value!r} {claim.unit}, found {found!r} {claim.unit}"
    return Finding(name, "confirmed" if holds else "mismatch", words)


def _reason(name: str, task: "Task | None", without: str) -> str:
    meter = _meter_called(name.removeprefix(_TEST))
    if meter is not None:
        return meter.unchecked
    return without if task is None else "the task has no metric of this name"


def _meter_called(name: str) -> type[Meter] | None:
    """Return the registered meter of this name, or None for a metric; no code named by a delivered folder is loaded."""
    kind = name.partition("@")[0]  # the rest is the runtime that it was read on
    if kind not in METERS.names() or ":" in kind:
        return None
    return METERS.load_class(kind, Meter)  # type: ignore[type-abstract]  # it loads a complete one
