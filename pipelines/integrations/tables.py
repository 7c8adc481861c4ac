"""A pandas table as a task: numbers and categories of different types, as scikit-learn's estimators take them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from paretta.pipelines.task import SPLITS, Metric, Split, Task
from paretta.search_spaces.errors import Problem, WrongInput

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS_FILE: Final = "columns.json"
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, and how their values become a model's inputs.

    A number becomes ``(value - mean) / std``; a category its place in `categories` plus 1, since 0 stands for a value
    that was not seen in training.

    Args:
        numbers: names of the numeric columns.
        means: of these columns in the training split.
        stds: their deviations; 1 for a column that does not vary.
        categories: the values of each categorical column, by its name, in the order of their codes.
        classes: the values of the target, in the order of their labels; empty if it is a number.
    """

    numbers: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    categories: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...] = ()

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of codes of each categorical column, with the one of values that are not known."""
        return tuple(len(values) + 1 for values in self.categories.values())

    def to_json(self) -> bytes:
        """Return the content of ``columns.json``, from which others can encode rows."""
        document = {
            "numbers": [
                {"name": name, "mean": mean, "std": std}
                for name, mean, std in zip(self.numbers, self.means, self.stds, strict=True)
            ],
            "categories": {name: list(values) for name, values in self.categories.items()},
            "classes": list(self.classes),
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    def encoded(self, frame: "DataFrame") -> tuple[Tensor, Tensor]:
        """Return a table's numbers [n, numbers] of float32 and the codes of its categories [n, categories] of int64."""
        values = frame[list(self.numbers)].to_numpy(np.float64)
        numbers = (values - np.array(self.means)) / np.array(self.stds)
        codes = np.zeros((len(frame), len(self.categories)), np.int64)
        for place, (name, known) in enumerate(self.categories.items()):
            places = {value: code for code, value in enumerate(known, start=1)}
            codes[:, place] = [places.get(str(value), 0) for value in frame[name]]
        return torch.from_numpy(numbers.astype(np.float32)), torch.from_numpy(codes)


class FrameRows(Dataset[dict[str, Tensor]]):
    """Rows as mappings of ``numbers``, ``categories`` and ``target``."""

    def __init__(self, numbers: Tensor, categories: Tensor, target: Tensor, cardinalities: Sequence[int]) -> None:
        """Take numbers [n, ...], codes [n, ...], targets [n], and how many codes each categorical column has."""
        self.numbers, self.categories, self.target = numbers, categories, target
        self.cardinalities = tuple(cardinalities)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.target)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one row."""
        return {"numbers": self.numbers[index], "categories": self.categories[index], "target": self.target[index]}

    def problems(self, where: str) -> Iterator[Problem]:
        """Yield the first code that has no place, column by column."""
        for column, count in enumerate(self.cardinalities):
            codes = self.categories[:, column]
            wrong = ((codes < 0) | (codes >= count)).nonzero()
            if len(wrong):
                row = int(wrong[0])
                rule = f"the code of categorical column {column} must be 0 to {count - 1}"
                yield Problem(f"{where}[{row}]", rule, int(codes[row]), "give the column more codes, or mend the row")


class TableNet(nn.Module):
    """An embedding for each categorical column beside the numbers, and a multi-layer perceptron over both."""

    def __init__(self, num_numbers: int, cardinalities: Sequence[int], num_outputs: int, width: int = 128) -> None:
        """Make two hidden layers of `width`; an embedding has about the fourth root of its column's codes, times 4."""
        super().__init__()
        sizes = [max(2, round(4 * count**0.25)) for count in cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(*pair) for pair in zip(cardinalities, sizes, strict=True))
        self.first = nn.Linear(num_numbers + sum(sizes), width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return scores [n, outputs] for numbers [n, numbers] of float32 and codes [n, categories] of int64."""
        rows = [embedding(categories[:, place]) for place, embedding in enumerate(self.embeddings)]
        hidden = functional.relu(self.first(torch.cat([numbers, *rows], dim=1)))
        scores: Tensor = self.head(functional.relu(self.second(hidden)))
        return scores


def table_task(
    frame: "DataFrame",
    target: str,
    *,
    model: Callable[[Columns, int], nn.Module] | None = None,
    categorical: Sequence[str] | None = None,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of predicting one column of a table from the others.

    A target of numbers with decimals is regressed (metric ``squared_error``, in units of the training split's
    variance), any other is a class (metric ``accuracy``). The delivered file has the inputs ``numbers`` and
    ``categories``; beside it lies ``columns.json``, which says how a row becomes these.

    Args:
        frame: the table.
        target: the name of the column to predict.
        model: ``model(columns, outputs)`` makes a model with ``forward(numbers, categories)``; by default `TableNet`.
        categorical: names of columns to take for categories; by default those that are not numbers, and truth values.
        shares: of the three splits, drawn at random with a fixed seed.
        metrics: by default as above; they see the outputs and a batch with the entry ``target``.

    Raises:
        WrongInput: a column is missing, a number is missing or infinite, or there is nothing to tell apart.
    """
    named = [target, *(categorical or ())]
    if missing := [name for name in named if name not in frame.columns]:
        rule = f"the table has no column called {missing[0]!r}; it has {', '.join(map(str, frame.columns[:20]))}"
        raise WrongInput(Problem("table", rule))
    parts = _parts(len(frame), shares)
    inputs = frame.drop(columns=target)
    texts = [name for name in inputs.columns if _is_text(inputs[name])] if categorical is None else list(categorical)
    _require_numbers(inputs, [name for name in inputs.columns if name not in texts])
    columns = _columns(inputs.iloc[parts["train"].numpy()], texts)
    values = frame[target]
    is_number = values.dtype.kind == "f"
    classes = () if is_number else tuple(sorted({str(value) for value in values}))
    if not is_number and len(classes) < 2:
        raise WrongInput(
            Problem(f"table[{target!r}]", "must have at least two classes", classes[0] if classes else None)
        )
    columns = Columns(columns.numbers, columns.means, columns.stds, columns.categories, classes)
    truths = _targets(values, classes, parts["train"], target)
    numbers, codes = columns.encoded(inputs)
    rows = {
        name: FrameRows(numbers[part], codes[part], truths[part], columns.cardinalities) for name, part in parts.items()
    }
    num_outputs = len(classes) or 1
    making = model or _network
    default = {"squared_error": Metric(_squared, "min", "variance")} if is_number else {"accuracy": Metric(_is_right)}
    return Task(
        model=partial(making, columns, num_outputs),
        train=rows["train"],
        validation=rows["validation"],
        test=rows["test"],
        loss=_regression_loss if is_number else _class_loss,
        metrics=default if metrics is None else metrics,
        example_input={"numbers": numbers[:1], "categories": codes[:1]},
        files={COLUMNS_FILE: columns.to_json()},
    )


def _network(columns: Columns, num_outputs: int) -> nn.Module:
    return TableNet(len(columns.numbers), columns.cardinalities, num_outputs)


def _is_text(column: Any) -> bool:
    return column.dtype.kind not in "iuf"


def _parts(count: int, shares: tuple[float, float, float]) -> dict[Split, Tensor]:
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise WrongInput(Problem("shares", "must be three positive numbers whose sum is 1", list(shares)))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_SEED))
    first, second = round(shares[0] * count), round((shares[0] + shares[1]) * count)
    if not 0 < first < second < count:
        raise WrongInput(Problem("table", "must have a row for each split", count))
    return dict(zip(SPLITS, (order[:first], order[first:second], order[second:]), strict=True))


def _columns(frame: "DataFrame", texts: Sequence[str]) -> Columns:
    numbers = tuple(name for name in frame.columns if name not in texts)
    values = frame[list(numbers)].to_numpy(np.float64) if numbers else np.zeros((len(frame), 0))
    stds = values.std(0)
    known = {name: tuple(sorted({str(value) for value in frame[name]})) for name in texts}
    return Columns(numbers, tuple(values.mean(0)), tuple(np.where(stds > 0, stds, 1.0)), known)


def _require_numbers(frame: "DataFrame", names: Sequence[str]) -> None:
    for name in names:
        if _is_text(frame[name]):
            hint = "name the column in `categorical`"
            raise WrongInput(Problem(f"table[{name!r}]", "must hold numbers", str(frame[name].dtype), hint))
        wrong = np.flatnonzero(~np.isfinite(frame[name].to_numpy(np.float64)))
        if len(wrong):
            place, value = frame.index[wrong[0]], frame[name].iloc[wrong[0]]
            hint = "fill it, drop the row, or name the column in `categorical`"
            rule = f"numbers must be there and finite; {len(wrong)} of {len(frame)} are not"
            raise WrongInput(Problem(f"table[{name!r}], row {place}", rule, float(value), hint))


def _targets(values: Any, classes: Sequence[str], train: Tensor, name: str) -> Tensor:
    """Return class labels, or numbers with mean 0 and variance 1 over the training split."""
    if classes:
        places = {value: label for label, value in enumerate(classes)}
        return torch.tensor([places[str(value)] for value in values])
    found = torch.from_numpy(values.to_numpy(np.float64, copy=True))
    if not bool(found.isfinite().all()):
        raise WrongInput(Problem(f"table[{name!r}]", "targets must be there and finite", hint="drop these rows"))
    if float(found[train].std()) == 0:
        raise WrongInput(Problem(f"table[{name!r}]", "must vary in the training split", float(found[0])))
    return ((found - found[train].mean()) / found[train].std()).float()


def _class_loss(outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    return functional.cross_entropy(outputs, batch["target"])


def _regression_loss(outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    return functional.mse_loss(outputs.squeeze(1), batch["target"])


def _is_right(outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    return (outputs.argmax(1) == batch["target"]).float()


def _squared(outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    return (outputs.squeeze(1) - batch["target"]) ** 2
