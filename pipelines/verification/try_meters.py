"""Try a user's meters and runtimes once before anything is trained, so that a failing one is reported early."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from paretta.pipelines.measuring.artifact_answers import first_feeds
from paretta.pipelines.measuring.served_meter import ServedMeter, runtimes_of
from paretta.pipelines.measuring.untrained import sketch
from paretta.pipelines.meter import Meter, MeterBench
from paretta.pipelines.runtime import storage_for
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

_SAMPLES: Final = 8  # that a meter may use
_FACTS: Final = {"train_wall_s": 1.0, "train_cpu_s": 1.0}  # those that every run knows
_OURS: Final = __name__.partition(".")[0]


def is_own(meter: Meter) -> bool:
    """Return whether a meter, or the runtime that it measures on, is the user's."""
    return _is_own(meter) or (isinstance(meter, ServedMeter) and _is_own(meter.runs))


def try_meters(meters: Mapping[str, Meter], plan: Plan, task: Task) -> None:
    """Read each of the user's meters once, and let each of their runtimes answer, on the untrained baseline's file.

    A `TrialFailed` is ignored, since the untrained model may be the reason.

    Args:
        meters: by the place in the sweep file that names them; none with `judges_answers`.
        plan: the baseline's.
        task: its model and validation samples.

    Raises:
        WrongInput: with every problem found: a meter fails or returns something else than a reading in its unit; a
            runtime fails, or its answers differ from ONNX Runtime's.
    """
    with TemporaryDirectory(prefix="paretta-") as scratch:
        folder = Path(scratch) / "baseline"
        sketch(folder, plan, task, storage=storage_for(runtimes_of(meters.values())))
        bench = MeterBench(folder, first_feeds(folder, task, "validation", _SAMPLES), facts=_FACTS)
        problems = [problem for where, meter in meters.items() for problem in _problems(meter, folder, bench, where)]
    if problems:
        raise WrongInput(*problems)


def _problems(meter: Meter, folder: Path, bench: MeterBench, where: str) -> Iterable[Problem]:
    try:
        with blaming(where, f"reading {meter.label} of the untrained model"):
            if not _is_own(meter):
                assert isinstance(meter, ServedMeter)
                refused = meter.unavailable(folder, bench)
                return [] if refused is None else [Problem(where, f"{meter.label} cannot be read: {refused.reason}")]
            found: object = meter.read_together([folder], bench)[0]
    except TrialFailed:
        return []
    except WrongInput as error:
        return error.problems
    if not isinstance(found, Reading):
        return [Problem(where, f"the meter {meter.label} must return a Reading", found)]
    if found.unit != meter.unit:
        return [
            Problem(where, f"the readings of the meter {meter.label} must be in its unit, {meter.unit!r}", found.unit)
        ]
    return []


def _is_own(thing: object) -> bool:
    return type(thing).__module__.partition(".")[0] != _OURS
