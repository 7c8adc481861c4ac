"""The report of a sweep: one self-contained HTML file that needs no network and no server."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.front_growth import GrowthStep
from paretta.dashboards.journal.liveness import has_died, state_words
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import reused_words, roles, total_cost
from paretta.dashboards.report.advice import advice
from paretta.dashboards.report.courses import courses, curves, layers_of
from paretta.dashboards.report.knob_importance import influence
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front, timed_on
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.yaml_io import write_yaml

STATIC: Final = Path(__file__).parents[1] / "static"
SCRIPTS: Final = (
    "format.js",
    "choose.js",
    "charts/canvas.js",
    "charts/scatter.js",
    "charts/space.js",
    "charts/growth.js",
    "charts/parallel.js",
    "charts/curves.js",
    "charts/timeline.js",
    "tables/front.js",
    "tables/compare.js",
    "tables/trials.js",
    "tables/layers.js",
    "tables/endings.js",
    "now.js",
    "report.js",
)
_LONGEST_DETAIL: Final = 800


def write_report(record: SweepRecord, path: Path, *, at: str | None = None) -> None:
    """Write the report of `record`, running or over, to `path`.

    Args:
        record: the sweep.
        path: the HTML file.
        at: the option with which `paretta pull` finds the sweep, for the commands on the page; by default ``--home``
            with the parent of the sweep's folder; empty if no option is needed.
    """
    path.write_text(render(report_data(record, at=at)), encoding="utf-8")


def render(data: Mapping[str, Json], *, scripts: Sequence[str] = SCRIPTS) -> str:
    """Insert data, styles and scripts into the page."""
    # "<" is escaped, so that no text of a trial can end the script element that contains the data
    carried = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    title = str(data["sweep"]).replace("&", "&amp;").replace("<", "&lt;")
    page = (STATIC / "report.html").read_text(encoding="utf-8")
    code = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in scripts)
    for mark, text in (
        ("<!--title-->", title),
        ("/*style*/", (STATIC / "report.css").read_text(encoding="utf-8")),
        ("/*script*/", code),
        ("/*data*/", carried),
    ):
        page = page.replace(mark, text, 1)
    return page


def live_page(data: Mapping[str, Json], links: Mapping[str, str]) -> str:
    """Return the live page: it polls ``data.json`` beside it and redraws itself.

    Args:
        data: `report_data` with ``now`` and ``version``.
        links: URLs of further pages by name.
    """
    page = render({**data, "links": dict(links)}, scripts=("poll.js", *SCRIPTS))
    # the page may connect only to its own server
    return page.replace("default-src 'none';", "default-src 'none'; connect-src 'self';", 1)


def report_data(record: SweepRecord, *, at: str | None = None) -> dict[str, Json]:
    """Return everything that the page shows as plain data; trials are compact, because there may be thousands."""
    if has_died(record):
        record.interrupt()
    home = f"--home {shlex.quote(str(record.folder.absolute().parent))}"
    front, trials = record.front(), [trial for trial in record.trials.values() if trial.role != "confirmation"]
    knobs = list(dict.fromkeys(name for trial in trials for name in trial.knobs))
    held, members = roles(front), {trial.uid for trial in front}
    undecided = {trial.uid for trial in front.undecided}
    status, reason = state_words(record)
    return {
        "sweep": record.name,
        "at": home if at is None else at,
        "note": str(record.annotation()),
        "story": record.config.get("story", record.facts.get("story")),
        "status": status,
        "reason": reason,
        "started": record.started,
        "updated": record.updated,
        "frozen": record.frozen is not None,
        "objectives": [_objective(objective, front) for objective in front.objectives],
        "knobs": list(knobs),
        "trials": [
            _trial(trial, front, knobs, held.get(trial.uid, ()), on_front=trial.uid in members)
            | ({"undecided": True, **_times(trial, front)} if trial.uid in undecided else {})
            | ({"noted": str(about)} if (about := record.annotation(trial.uid)) else {})
            for trial in trials
        ],
        "limits": [_limit(limit, front) for limit in front.limits],
        "best_effort": front.best_effort,
        "front": [trial.uid for trial in front],
        "timed_on": list(timed_on(front)),
        "plans": {trial.uid: write_yaml({"stages": list(trial.plan.stages)}) for trial in front},
        "layers": layers_of(trials, front),
        "courses": courses(record, trials),
        "curves": curves(record, trials),
        "advice": list(advice(record, front)),
        "growth": _growth(record.history()),
        "influence": {meter: dict(shares) for meter, shares in influence(trials, front.objectives).items()},
        "cost": dict(total_cost(record)),
        "config": write_yaml(dict(record.config)),
        "facts": write_yaml(dict(record.facts)),
    }


def _objective(objective: Objective, front: Front) -> Json:
    baseline = front.baseline.value(objective.meter) if front.baseline else None
    return {"meter": objective.meter, "goal": objective.goal, "unit": objective.unit, "baseline": baseline}


def _trial(trial: Trial, front: Front, knobs: list[str], held: tuple[str, ...], *, on_front: bool) -> dict[str, Json]:
    """Return a trial with short keys: v, l, h are value, low and high by objective, t the same on the test split.

    k is the value of each knob: ``none`` if a step was left out, null if the knob was not reached.
    """
    meters = [objective.meter for objective in front.objectives]
    document: dict[str, Json] = {
        "uid": trial.uid,
        "n": trial.number,
        "status": trial.status,
        "words": trial.words,
        "v": [trial.value(meter) for meter in meters],
        "l": [_part(trial.readings.get(meter), "low") for meter in meters],
        "h": [_part(trial.readings.get(meter), "high") for meter in meters],
        "k": ["none" if name in trial.knobs and trial.knobs[name] is None else trial.knobs.get(name) for name in knobs],
        "wall": round(max(trial.finished - trial.started, 0.0), 2),
    }
    if trial.role == "baseline":
        document["baseline"] = True
    if on_front:
        document |= {"front": True, "roles": list(held), "axes": _axes(trial, front)}
        document |= {"reused": reused_words(trial)} if trial.reused else {}
        document |= _times(trial, front)
        document["t"] = [_interval(trial.test_readings.get(meter)) for meter in meters]
    if trial.notes:
        document["notes"] = [str(note) for note in trial.notes]
    if trial.reason:
        document |= {"why": trial.reason, "detail": trial.detail[-_LONGEST_DETAIL:]}
    return document


def _limit(limit: Limit, front: Front) -> Json:
    """Return a limit of the sweep; its bound is None if it is in another unit than the objective."""
    meters = [objective.meter for objective in front.objectives]
    index = meters.index(limit.meter) if limit.meter in meters else None
    baseline = front.baseline.readings.get(limit.meter) if front.baseline else None
    shown = index is not None and limit.unit in (None, front.objectives[index].unit)
    bound = limit.bound(baseline) if shown else None
    return {"i": index, "side": limit.side, "bound": bound, "words": str(limit)}


def _axes(trial: Trial, front: Front) -> Json:
    """Return a member's coordinates on the scales of `Objective.axis`; plain losses if there is no baseline."""
    places: list[Json] = []
    for objective in front.objectives:
        value = trial.value(objective.meter)
        origin = front.baseline.value(objective.meter) if front.baseline else None
        assert value is not None
        places.append(objective.loss(value) if origin is None else objective.axis(value, origin))
    return places


def _part(reading: Reading | None, name: str) -> float | None:
    value = getattr(reading, name) if reading else None
    return None if value is None else float(f"{value:.8g}")


def _interval(reading: Reading | None) -> Json:
    return [_part(reading, name) for name in ("value", "low", "high")] if reading else None


def _seconds(reading: Reading | None) -> Json:
    return reading.value_in("s") if reading and reading.unit == "ratio" else None


def _times(trial: Trial, front: Front) -> dict[str, Json]:
    """Return the absolute time of each latency ratio, and a mark on readings that other load disturbed."""
    readings = [trial.readings.get(objective.meter) for objective in front.objectives]
    marks: list[Json] = [reading is not None and bool(reading.details.get("contended")) for reading in readings]
    return {"seconds": [_seconds(reading) for reading in readings], "contended": marks}


def _growth(steps: Sequence[GrowthStep]) -> list[Json]:
    """Keep the steps where the hypervolume changed, and the last: ``[trials ended, hypervolume]``.

    The members that the front had then are left out: compared with all trials in the end, they may be others.
    """
    pairs = zip([None, *steps], steps, strict=False)
    kept = [step for before, step in pairs if before is None or before.hypervolume != step.hypervolume]
    return [[step.number, float(f"{step.hypervolume:.6g}")] for step in [*kept, *steps[-1:]]]
