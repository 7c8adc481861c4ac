"""The trials of a sweep as a table (pandas, CSV, Parquet), and the front as `front.json`."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paretta.dashboards.journal.summary import roles
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.results.confirmation import confirmation_document
from paretta.search_spaces.results.front import Front, timed_on
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from pandas import DataFrame

FRONT_SCHEMA_VERSION: Final = 2  # schema 1 had the state `pruned`, and counted trials that miss a limit as `complete`
FRONT_SCHEMA: Final = Path(__file__).parents[1] / "schemas" / "front.schema.json"


def to_frame(trials: Front | Iterable[Trial]) -> "DataFrame":
    """Return a table with one row per trial.

    Columns: ``uid, number, role, status, words``; per meter ``<meter>, <meter>_low, <meter>_high`` in base units, and
    ``test_<meter>`` if the test split was read; ``knob.<name>``; ``cost.<name>``; ``seed, artifact, reason``. For a
    `Front` the rows are its members, with an additional column ``front_role``.
    """
    import pandas  # noqa: PLC0415  heavy

    held = roles(trials) if isinstance(trials, Front) else None
    rows = [
        _row(trial) | ({} if held is None else {"front_role": ", ".join(held.get(trial.uid, ()))}) for trial in trials
    ]
    return pandas.DataFrame(rows)


def side_by_side(trials: Mapping[str, Trial]) -> "DataFrame":
    """Return a table with one column per trial, under its name: readings as text with intervals, knobs, cost, plan."""
    import pandas  # noqa: PLC0415  heavy

    return pandas.DataFrame({name: _facts(trial) for name, trial in trials.items()}).fillna("")


def _facts(trial: Trial) -> dict[str, str]:
    facts = {"trial": trial.uid, **{meter: str(reading) for meter, reading in trial.readings.items()}}
    facts |= {f"{meter} (test)": str(reading) for meter, reading in trial.test_readings.items()}
    facts |= {
        f"knob {name}": f"{value:.4g}" if isinstance(value, float) else str(value)
        for name, value in trial.knobs.items()
    }
    return facts | {"plan": trial.words or "the uncompressed model"}


def _row(trial: Trial) -> dict[str, object]:
    row: dict[str, object] = {
        "uid": trial.uid,
        "number": trial.number,
        "role": trial.role,
        "status": trial.status,
        "words": trial.words,
    }
    for prefix, readings in (("", trial.readings), ("test_", trial.test_readings)):
        for meter, reading in readings.items():
            row[f"{prefix}{meter}"] = reading.value
            if reading.low is not None or reading.high is not None:
                row |= {f"{prefix}{meter}_low": reading.low, f"{prefix}{meter}_high": reading.high}
    row |= {f"knob.{name}": value for name, value in trial.knobs.items()}
    row |= {f"cost.{name}": amount for name, amount in trial.cost.items()}
    row |= {"of": trial.of} if trial.of else {}
    return row | {"seed": trial.seed, "artifact": trial.artifact, "reason": trial.reason}


def front_document(front: Front) -> dict[str, Json]:
    """Return the front as plain data, as described by ``dashboards/schemas/front.schema.json``."""
    held = roles(front)
    objectives: list[Json] = [{"meter": o.meter, "goal": o.goal, "unit": o.unit} for o in front.objectives]
    members: list[Json] = [{"roles": list(held.get(trial.uid, ())), **_member(trial)} for trial in front]
    tried = [trial for trial in front.trials if trial.role != "confirmation"]
    statuses = sorted({trial.status for trial in tried})
    counts: dict[str, Json] = {status: sum(t.status == status for t in tried) for status in statuses}
    return {
        "schema": FRONT_SCHEMA_VERSION,
        "sweep": front.sweep,
        "objectives": objectives,
        "hypervolume": front.hypervolume,
        "counts": counts,
        "baseline": _member(front.baseline) if front.baseline else None,
        "limits": [limit.to_document() for limit in front.limits],
        "best_effort": front.best_effort,
        "timed_on": list(timed_on(front)),
        "members": members,
        "undecided": [_member(trial) for trial in front.undecided],
        **confirmation_document(front),
    }


def _member(trial: Trial) -> dict[str, Json]:
    document = trial.to_document()
    kept = (
        "uid",
        "number",
        "role",
        "words",
        "knobs",
        "plan",
        "fingerprint",
        "seed",
        "readings",
        "test_readings",
        "artifact",
    )
    return {name: document[name] for name in kept} | {
        "layers": dict(trial.layers),
        "notes": [note.to_document() for note in trial.notes],
    }


def write_front_json(front: Front, path: Path) -> None:
    """Write `front_document` as JSON."""
    text = json.dumps(front_document(front), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")


def write_csv(trials: Front | Iterable[Trial], path: Path) -> None:
    """Write `to_frame` as CSV."""
    to_frame(trials).to_csv(path, index=False)


def write_parquet(trials: Front | Iterable[Trial], path: Path) -> None:
    """Write `to_frame` as Parquet; a column with values of several types is written as JSON text."""
    frame = to_frame(trials)
    for name in frame.columns:
        values = [value for value in frame[name] if not _is_missing(value)]
        if len({_parquet_type(value) for value in values}) > 1 or any(isinstance(v, list | dict) for v in values):
            frame[name] = [_as_json(value) for value in frame[name]]
    frame.to_parquet(path, index=False)


def _parquet_type(value: object) -> type:
    """Return the type of a value's Parquet column; integers and floats share one."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _as_json(value: object) -> str | None:
    return None if _is_missing(value) else json.dumps(value)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def write_tables(front: Front, folder: Path) -> None:
    """Write ``front.json``, ``front.csv`` and ``trials.csv`` into `folder`."""
    write_front_json(front, folder / "front.json")
    write_csv(front, folder / "front.csv")
    write_csv(front.trials, folder / "trials.csv")
