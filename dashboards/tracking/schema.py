"""The MLflow schema: what the runs of a sweep contain, and how a trial is read back from its run.

====================  =========================================  ===================================================
                      sweep (parent run)                         trial or baseline (child run)
====================  =========================================  ===================================================
tags                  sweep.id, sweep.name, sweep.kind=sweep,    sweep.id, sweep.name, sweep.kind=trial|baseline,
                      sweep.status, sweep.spec.sha256, fact.*,   trial.uid, trial.number, trial.status, trial.reason,
                      the user's own tags                        plan.words, plan.fingerprint, plan.notes,
                                                                 trial.readings (with readable units), lineage.baseline,
                                                                 lineage.trial, lineage.reused (stages of other trials),
                                                                 pareto=true|false, pareto.role, pareto.chart (the
                                                                 front and the baseline), the user's own tags
params                the resolved sweep document, flattened     the knobs, and the seed
dataset input         the task's data, by its digest
metrics               front/hypervolume, front/size,             <meter>; interval/<meter>_low and _high; test/<meter>;
                      best/<meter>; step = trials ended          detail/<meter>_<detail>; hp/<knob>; cost/<name>; all at
                                                                 step 0, and curves <stage>/<name> by epoch
artifacts             report/                                    a logged model of each member of the front, as output
====================  =========================================  ===================================================

The logged models and their registered versions are in `paretta.dashboards.tracking.registered_models`.
"""

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeGuard, cast

from paretta.dashboards.journal.front_growth import GrowthStep
from paretta.dashboards.journal.liveness import state_words
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import reused_words, roles
from paretta.dashboards.journal.waiting import time_shares
from paretta.search_spaces.canonical import Document, Json, canonical_json, digest
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from mlflow.entities import Metric

TRIAL_TAG: Final = "mlflow.paretta.trial"  # MLflow's pages hide tags that start with `mlflow.`
SWEEP_TAG: Final = "mlflow.paretta.sweep"
CONTENT_TAG: Final = "mlflow.paretta.content"  # written last: the digest of the run's content
STEP_TAG: Final = "mlflow.paretta.step"
REPORT_TAG: Final = "mlflow.paretta.report"
INPUT_TAG: Final = "mlflow.paretta.input"
ARTIFACT_TAG: Final = "artifact.sha256"  # digest of the manifest, which has the digest of each file
REPORT_PATH: Final = "report"

_LONGEST_TAG: Final = 5_000
_LONGEST_PARAM: Final = 500
_LONGEST_DIGEST: Final = 36
_COUNTERS: Final = (
    "epoch",
    "epochs",
    "num_epochs",
    "step",
    "steps",
    "num_steps",
)  # positions on a curve, not values of it
_SAME_NAMES: Final = re.compile(r"[^\w\-. /:]")
_STATUS: Final[Mapping[str, str]] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "stopped early": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
    "done": "FINISHED",
    "stopped": "KILLED",
    "died": "KILLED",
}
# colours of Okabe and Ito, which people with colour blindness tell apart; they also differ in lightness
_KNEE, _WITH_ROLE, _ON_FRONT, _BASELINE, _OFF_FRONT = "#d55e00", "#e69f00", "#0072b2", "#000000", "#b3b3b3"


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric; `time` in Unix milliseconds."""

    key: str
    value: float
    time: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class RunContent:
    """The content of one MLflow run, except its artifacts and the tags that change with the front.

    Args:
        start, end: Unix milliseconds; `end` is None while it runs.
    """

    name: str
    status: str
    start: int
    end: int | None
    params: Mapping[str, str]
    points: tuple[Point, ...]
    tags: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the content."""
        points: Json = [[point.key, point.value, point.time, point.step] for point in self.points]
        return digest([self.name, self.status, self.start, self.end, self.params, points, self.tags])


def sweep_id(record: SweepRecord) -> str:
    """Return an id of the sweep that is unique in a shared store, from its first name and its start."""
    name = record.first_name or record.name
    return f"{name}-{digest([name, record.started])[:8]}"


def task_name(record: SweepRecord) -> str:
    """Return the name of the task in the sweep document; empty if it has none."""
    task = record.config.get("task")
    use = task.get("use") if isinstance(task, Mapping) else task
    return use if isinstance(use, str) else ""


def experiment_name(record: SweepRecord) -> str:
    """Return the name of the experiment, one per task, because sweeps over the same task are comparable."""
    return f"paretta {task_name(record)}".strip()


def dataset_digest(record: SweepRecord) -> str:
    """Return the digest of the task's data, truncated to MLflow's limit; empty if there is none."""
    return str(record.facts.get("data_digest") or "").rpartition(":")[2][:_LONGEST_DIGEST]


def trial_run(record: SweepRecord, trial: Trial, curve: Sequence[Point] = ()) -> RunContent:
    """Return the content of the run of `trial`; `curve` is its training curve."""
    time, about = _milliseconds(trial.finished or trial.started), record.annotation(trial.uid)
    tags = {
        "sweep.id": sweep_id(record),
        "sweep.name": record.name,
        "sweep.kind": trial.role,
        "trial.uid": trial.uid,
        "trial.number": str(trial.number),
        "trial.status": trial.status,
        "plan.words": trial.words,
        "plan.fingerprint": trial.plan.fingerprint,
        "mlflow.source.name": "paretta",
        "mlflow.note.content": trial_note(trial, about.note),
        **({"trial.reason": trial.reason} if trial.reason else {}),
        **({"trial.readings": readings} if (readings := _readable(record, trial)) else {}),
        **{f"unmeasured.{meter}": r.reason or "" for meter, r in trial.readings.items() if r.value is None},
        **({"plan.notes": "\n".join(map(str, trial.notes))} if trial.notes else {}),
        **_lineage(record, trial),
        **about.tags,
        **split_document(TRIAL_TAG, trial.to_document()),
    }
    params = {**{name: _text(value) for name, value in trial.knobs.items()}, "seed": str(trial.seed)}
    running = trial.status == "running"
    return RunContent(
        name="baseline" if trial.role == "baseline" else f"{trial.role} {trial.number}",
        status=_STATUS[trial.status],
        start=_milliseconds(trial.started),
        end=None if running else time,
        params=_named(params, _LONGEST_PARAM),
        points=() if running else (*_final_points(trial, time), *curve),
        tags=_named(tags, _LONGEST_TAG),
    )


def sweep_run(record: SweepRecord, note: str) -> RunContent:
    """Return the content of the parent run, without its curves; `note` is the landing text in Markdown."""
    status, reason = state_words(record)
    tags = {
        "sweep.id": sweep_id(record),
        "sweep.name": record.name,
        "sweep.kind": "sweep",
        "sweep.status": status,
        "sweep.spec.sha256": digest(record.config),
        "mlflow.source.name": "paretta",
        "mlflow.note.content": note[:_LONGEST_TAG],
        **({"sweep.reason": reason} if reason else {}),
        **{f"fact.{name}": _text(value) for name, value in flatten(record.facts)},
        **record.annotation().tags,
        **split_document(SWEEP_TAG, _sweep_document(record)),
    }
    params = {name: _text(value) for name, value in flatten(record.config)}
    return RunContent(
        name=record.name,
        status=_STATUS[status],
        start=_milliseconds(record.started),
        end=None if status == "running" else _milliseconds(record.updated),
        params=_named(params, _LONGEST_PARAM),
        points=(),
        tags=_named(tags, _LONGEST_TAG),
    )


def step_points(step: GrowthStep) -> list[Point]:
    """Return the parent run's metrics after one more trial has ended."""
    values = {"front/hypervolume": step.hypervolume, "front/size": float(step.size)}
    values |= {f"best/{meter}": value for meter, value in step.best.items()}
    return [Point(allowed_name(key), value, _milliseconds(step.time), step.number) for key, value in values.items()]


def objective_points(record: SweepRecord, trial: Trial) -> list[Point]:
    """Return the metrics of the trial's run that are objectives of the sweep."""
    meters = {allowed_name(objective.meter) for objective in record.objectives}
    return [point for point in _final_points(trial, _milliseconds(trial.finished)) if point.key in meters]


def metrics_of(points: Sequence[Point], *, model_id: str | None = None) -> "list[Metric]":
    """Convert the points to MLflow's metrics, attached to a logged model if one is given."""
    from mlflow.entities import Metric  # noqa: PLC0415

    return [Metric(point.key, point.value, point.time, point.step, model_id) for point in points]


def front_marks(front: Front) -> dict[str, dict[str, str]]:
    """Return, by uid, the tags for whether a trial is on the front, in which roles and colour, and on its charts."""
    held, members = roles(front), {trial.uid for trial in front}
    return {
        trial.uid: {
            "pareto": "true" if trial.uid in members else "false",
            "pareto.role": ", ".join(held.get(trial.uid, ())),
            "pareto.chart": "true" if trial.uid in members or trial.role == "baseline" else "false",
            "mlflow.runColor": _colour(trial, held.get(trial.uid, ()), on_front=trial.uid in members),
        }
        for trial in front.trials
    }


def _colour(trial: Trial, held: Sequence[str], *, on_front: bool) -> str:
    if trial.role == "baseline":
        return _BASELINE
    if not on_front:
        return _OFF_FRONT
    return _KNEE if "knee" in held else _WITH_ROLE if held else _ON_FRONT


def curve_points(event: Document, seen: int) -> list[Point]:
    """Return the metrics of one progress event as ``stage/name``: each number but the epoch, scores, shares of time."""
    message = cast(Document, event["message"])
    stage, epoch = str(message.get("stage", "progress")), message.get("epoch")
    step = epoch if isinstance(epoch, int) else seen
    time = _milliseconds(cast(float, event["time"]))
    scores = cast(Document, message.get("scores", {}))
    shares = {f"share_{name}": share for name, share in time_shares(message).items()}
    values = {key: value for key, value in {**message, **scores, **shares}.items() if key not in _COUNTERS}
    return [
        Point(allowed_name(f"{stage}/{key}"), float(value), time, step)
        for key, value in values.items()
        if _is_number(value)
    ]


def trial_from_run(tags: Mapping[str, str]) -> Trial:
    """Read a trial back from its run's tags, exactly as it was recorded."""
    return Trial.from_document(join_document(TRIAL_TAG, tags))


def split_document(key: str, document: Json) -> dict[str, str]:
    """Split a document into tags: as plain JSON if it fits into one tag, else compressed and cut into parts.

    >>> split_document("t", {"a": 1})
    {'t': '{"a":1}'}
    """
    text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    if len(text) <= _LONGEST_TAG:
        return {key: text}
    text = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    parts = [text[start : start + _LONGEST_TAG] for start in range(0, len(text), _LONGEST_TAG)]
    return {key if index == 0 else f"{key}.{index}": part for index, part in enumerate(parts)}


def join_document(key: str, tags: Mapping[str, str]) -> Document:
    """Read what `split_document` wrote."""
    text, index = tags[key], 1
    if text.startswith("deflate;"):
        while len(text) == index * _LONGEST_TAG and f"{key}.{index}" in tags:
            text, index = text + tags[f"{key}.{index}"], index + 1
        text = zlib.decompress(base64.b64decode(text.removeprefix("deflate;"))).decode()
    return cast(Document, json.loads(text))


def flatten(document: Json, prefix: str = "") -> Iterable[tuple[str, Json]]:
    """Yield each leaf of a document with its path.

    >>> list(flatten({"search": {"trials": 16}, "objectives": ["size", "latency"]}))
    [('search.trials', 16), ('objectives.0', 'size'), ('objectives.1', 'latency')]
    """
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(document, Sequence) and not isinstance(document, str) and document:
        for index, value in enumerate(document):
            yield from flatten(value, f"{prefix}.{index}" if prefix else str(index))
    else:
        yield prefix or "value", document


def _named(values: Mapping[str, str], longest: int) -> dict[str, str]:
    return {allowed_name(key): value[:longest] for key, value in values.items()}


def _final_points(trial: Trial, time: int) -> list[Point]:
    values: dict[str, float] = {}
    for name, reading in trial.readings.items():
        values |= _reading_values(name, name, reading)
    for name, reading in trial.test_readings.items():
        values |= _reading_values(f"test/{name}", f"test_{name}", reading)
    again = [float(r.details["read_at"]) for r in trial.readings.values() if "read_at" in r.details]
    time = max([time, *map(_milliseconds, again)])  # for equal times the store would keep the larger value
    values |= {f"hp/{knob}": float(value) for knob, value in trial.knobs.items() if _is_number(value)}
    values |= {f"cost/{name}": amount for name, amount in trial.cost.items()}
    return [Point(allowed_name(key), value, time) for key, value in values.items()]


def _reading_values(key: str, name: str, reading: Reading) -> dict[str, float]:
    """Return the value under `key`, and the rest under groups of their own, which MLflow's pages fold."""
    values = {key: reading.value, f"interval/{name}_low": reading.low, f"interval/{name}_high": reading.high}
    numbers = {detail: value for detail, value in reading.details.items() if not isinstance(value, str)}
    details = {f"detail/{name}_{detail}": float(value) for detail, value in numbers.items()}
    return {found: value for found, value in values.items() if value is not None} | details


def _readable(record: SweepRecord, trial: Trial) -> str:
    """Return a trial's objectives with the units that people read, which MLflow's columns of metrics do not have."""
    read = [(o.meter, trial.readings[o.meter]) for o in record.objectives if o.meter in trial.readings]
    return " · ".join(f"{meter} {reading.with_time}" for meter, reading in read if reading.value is not None)


def _lineage(record: SweepRecord, trial: Trial) -> dict[str, str]:
    """Return tags that name the work this trial is based on: the baseline, another trial's training, reused stages."""
    baseline = next((other for other in record.trials.values() if other.role == "baseline"), None)
    shared = baseline is not None and trial is not baseline and trial.plan.baseline == baseline.plan.baseline
    tags = {"lineage.baseline": baseline.uid} if baseline is not None and shared and trial.plan.baseline else {}
    tags |= {"lineage.reused": reused_words(trial)} if trial.reused else {}
    return tags | ({"lineage.trial": trial.of} if trial.of else {})


def trial_note(trial: Trial, noted: str) -> str:
    """Return the description of a trial (Markdown): what the user has noted of it, its plan, and its readings."""
    rows = [f"- {meter}: {reading}" for meter, reading in trial.readings.items()]
    tested = [f"- {meter} on the test split: {reading}" for meter, reading in trial.test_readings.items()]
    reason = [f"**{trial.status}**: {trial.reason}", ""] if trial.reason else []
    detail = ["", "```", trial.detail[:2_000], "```"] if trial.detail else []
    left = [f"- {note}" for note in trial.notes]
    first = [noted, ""] if noted else []
    return "\n".join([*first, trial.words, "", *reason, *rows, *tested, *left, *detail])


def _sweep_document(record: SweepRecord) -> dict[str, Json]:
    goals: Json = [{"meter": o.meter, "goal": o.goal, "unit": o.unit} for o in record.objectives]
    frozen = None if record.frozen is None else list(record.frozen)
    return {"name": record.name, "objectives": goals, "config": record.config, "facts": record.facts, "frozen": frozen}


def allowed_name(key: str) -> str:
    """Return the nearest name that MLflow allows for a metric, param or tag; it treats names as paths.

    >>> allowed_name("best/loss//val"), allowed_name("MAP@1 (top)"), allowed_name("../a")
    ('best/loss/_/val', 'MAP_1 _top_', '_/a')
    """
    parts = _SAME_NAMES.sub("_", key).split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
