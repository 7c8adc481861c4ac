"""Export a sweep to files for other tools."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.errors import Problem, WrongInput

_PICTURES = (".png", ".svg")


def export_sweep(folder: Path, wanted: Mapping[str, Path], *, force: bool = False) -> list[Path]:
    """Write the sweep in `folder` to files, given by kind, and return their paths.

    The kinds are ``json``, ``csv``, ``parquet``, ``picture`` (PNG or SVG by the file's ending) and ``optuna``. Each
    file is written completely or not at all; with `force`, a file that exists is replaced.

    Raises `WrongInput` with every problem found: no file is named, a file exists, its folder does not exist, or a
    picture cannot be drawn.
    """
    if not wanted:
        rule = "name at least one file"
        raise WrongInput(Problem("export", rule, hint="such as --csv trials.csv or --optuna study.db"))
    problems = [problem for kind, path in wanted.items() for problem in _problems(kind, path, force=force)]
    if problems:
        raise WrongInput(*problems)
    record = SweepRecord.read(folder)
    if "picture" in wanted and len(record.objectives) < 2:
        rule = "the front of a single objective is one point, which needs no picture"
        raise WrongInput(Problem("--picture", rule, hint="paretta front shows it"))
    for kind, path in wanted.items():
        with TemporaryDirectory(dir=path.parent, prefix=".paretta-") as scratch:
            _write(record, kind, Path(scratch) / path.name)
            (Path(scratch) / path.name).replace(path)
    return list(wanted.values())


def export_experience(home: Path, sweep: Path | None, path: Path, *, force: bool = False) -> int:
    """Write the results of a sweep, or of all in `home`, as a table for ``learn_from``, and return their number.

    Raises `WrongInput` if the file exists, its folder does not, or there are no results.
    """
    from paretta.orchestrator.storage.experience_table import home_results, results_of, write_experience  # noqa: PLC0415 - pyarrow is loaded where it is asked for

    if problems := _problems("experience", path, force=force):
        raise WrongInput(*problems)
    results = home_results(home)[0] if sweep is None else results_of(sweep)
    if not results:
        raise WrongInput(Problem("--experience", "there is no finished trial yet", str(sweep or home)))
    write_experience(path, results)
    return len(results)


def _write(record: SweepRecord, kind: str, path: Path) -> None:
    if kind == "optuna":
        from paretta.orchestrator.delivery.optuna_export import export_optuna  # noqa: PLC0415 - Optuna is loaded where it is asked for

        export_optuna(record, path)
    else:
        from paretta.dashboards.report.files import write_files  # noqa: PLC0415 - pandas too

        write_files(record, kind, path)


def _problems(kind: str, path: Path, *, force: bool) -> list[Problem]:
    if path.is_dir():
        return [Problem(f"--{kind}", "this is a folder", str(path), "name a file in it")]
    if path.exists() and not force:
        return [Problem(f"--{kind}", "the file already exists", str(path), "name a new one, or replace it by --force")]
    if not path.parent.is_dir():
        return [Problem(f"--{kind}", "there is no such folder", str(path.parent), "make it first")]
    if kind == "picture" and path.suffix not in _PICTURES:
        return [Problem("--picture", "the extension must name the picture format", path.name, "name a .png or an .svg")]
    return []
