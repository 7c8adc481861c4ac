"""A home's finished trials as one small table, from which later sweeps learn; it can be rebuilt from the journals."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

from paretta.dashboards.journal.home_names import JOURNAL_FILE, sweep_folders
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.search.experience import PastResult, gain_of
from paretta.orchestrator.search.losses import LossScale
from paretta.search_spaces.errors import DamagedRecord, Problem, WrongInput
from paretta.search_spaces.space.holes import Label

EXPERIENCE_FILE: Final = "experience.parquet"
_COLUMNS: Final = ("sweep", "journal_bytes", "knobs", "gains")


def results_of(folder: Path) -> list[PastResult]:
    """Return the finished trials of the sweep in `folder`; none without a measured baseline.

    Raises `DamagedRecord` if its journal is damaged.
    """
    record = SweepRecord.read(folder)
    baseline = next((trial for trial in record.trials.values() if trial.role == "baseline"), None)
    if baseline is None:
        return []
    origins = {objective.meter: baseline.value(objective.meter) for objective in record.objectives}
    scales = [LossScale(o, origin, 0.0) for o in record.objectives if (origin := origins[o.meter]) is not None]
    found = []
    for trial in record.trials.values():
        if trial.role == "trial" and trial.is_measured:
            values = ((scale, trial.value(scale.objective.meter)) for scale in scales)
            gains = {scale.objective.meter: gain_of(scale, value) for scale, value in values if value is not None}
            found.append(PastResult(folder.name, cast("dict[str, Label]", dict(trial.knobs)), gains))
    return found


def home_results(home: Path) -> tuple[list[PastResult], list[str]]:
    """Return the results of all sweeps in `home`, and what the user should be told about the table.

    The table holds what did not change since it was written, by the size of each journal; the rest is read from the
    journals, and the table is written anew. A table that cannot be read is rebuilt; a damaged journal is left out.
    """
    path, said = home / EXPERIENCE_FILE, list[str]()
    kept: dict[tuple[str, int], list[PastResult]] = {}
    if path.exists():
        try:
            for result, size in _rows(path):
                kept.setdefault((result.sweep, size), []).append(result)
        except WrongInput:
            said.append(f"{path} was damaged; it is rebuilt from the journals")
    results: dict[tuple[str, int], list[PastResult]] = {}
    for folder in sweep_folders(home, archived=False):
        key = folder.name, (folder / JOURNAL_FILE).stat().st_size
        try:
            results[key] = kept[key] if key in kept else results_of(folder)
        except DamagedRecord as error:
            said.append(f"nothing is learned from {folder.name}: {error}")
    if said or {key for key, own in results.items() if own} != {*kept}:
        try:
            _write(path, [(result, size) for (_, size), own in results.items() for result in own])
        except OSError as error:
            said.append(f"{path} cannot be written: {error.strerror}")
    return [result for own in results.values() for result in own], said


def read_experience(path: Path) -> list[PastResult]:
    """Read a table that `write_experience` wrote. Raises `WrongInput` if it is missing or no such table."""
    return [result for result, _ in _rows(path)]


def write_experience(path: Path, results: Sequence[PastResult]) -> None:
    """Write results to one file, completely or not at all."""
    _write(path, [(result, 0) for result in results])


def _rows(path: Path) -> Iterator[tuple[PastResult, int]]:
    import pyarrow as pa  # noqa: PLC0415 - loaded where a table is read
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    try:
        rows = pq.read_table(path, columns=list(_COLUMNS)).to_pylist()
        for row in rows:
            knobs, gains = json.loads(row["knobs"]), json.loads(row["gains"])
            numbers = {str(meter): float(gain) for meter, gain in gains.items()}
            yield (
                PastResult(str(row["sweep"]), {str(name): value for name, value in knobs.items()}, numbers),
                row["journal_bytes"],
            )
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, AttributeError) as error:
        rule = f"is no table of results: {str(error).partition(chr(10))[0]}"
        raise WrongInput(Problem(str(path), rule, hint="make one with `paretta export --experience FILE`")) from None


def _write(path: Path, rows: Sequence[tuple[PastResult, int]]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - loaded where a table is written
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    columns = {
        "sweep": pa.array([result.sweep for result, _ in rows], pa.string()),
        "journal_bytes": pa.array([size for _, size in rows], pa.int64()),
        "knobs": pa.array([json.dumps(dict(result.knobs)) for result, _ in rows], pa.string()),
        "gains": pa.array([json.dumps(dict(result.gains)) for result, _ in rows], pa.string()),
    }
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".paretta-") as scratch:
        part = Path(scratch) / path.name
        pq.write_table(pa.table(columns), part)
        part.replace(path)
