"""A table is a task: numbers and categories as scikit-learn encodes them, with what others need beside the model."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from paretta.pipelines.export.agreement import checked_bytes
from paretta.pipelines.integrations.tables import FrameRows, TableNet, table_task
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.training.evaluate import scores
from paretta.search_spaces.errors import WrongInput


def table(count: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "length": generator.normal(50, 9, count),
            "rooms": generator.integers(1, 6, count),
            "colour": generator.choice(["red", "green", "blue"], count),
            "garden": generator.integers(0, 2, count).astype(bool),
            "constant": np.ones(count, np.float32),
        }
    )
    frame["price"] = frame["length"] * 2 + frame["rooms"] + 20 * frame["garden"]
    frame["kind"] = np.where(frame["price"] > 110, "dear", "cheap")
    return frame


def test_rows_are_encoded_as_scikit_learn_does() -> None:
    frame = table().drop(columns="price")
    task = table_task(frame, "kind")
    check_task(task)
    columns = json.loads(task.files["columns.json"])
    assert [row["name"] for row in columns["numbers"]] == ["length", "rooms", "constant"]
    assert columns["categories"] == {"colour": ["blue", "green", "red"], "garden": ["False", "True"]}
    assert columns["classes"] == ["cheap", "dear"]
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0)).numpy()
    train, validation = frame.iloc[order[:120]], frame.iloc[order[120:160]]
    scaler = StandardScaler().fit(train[["length", "rooms", "constant"]])
    coder = OrdinalEncoder().fit(train[["colour", "garden"]].astype(str))
    rows = task.validation
    assert isinstance(rows, FrameRows)
    np.testing.assert_allclose(
        rows.numbers.numpy(), scaler.transform(validation[["length", "rooms", "constant"]]), atol=1e-5
    )
    codes = coder.transform(validation[["colour", "garden"]].astype(str)) + 1
    assert np.array_equal(rows.categories.numpy(), codes)
    assert rows.target.tolist() == [int(kind == "dear") for kind in validation["kind"]]
    assert (rows.numbers.dtype, rows.categories.dtype) == (torch.float32, torch.int64)
    checked_bytes(task.new_model().eval(), task)


def test_a_value_that_training_has_not_seen_has_a_code_of_its_own() -> None:
    frame = table().drop(columns="price")
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0)).tolist()
    frame.loc[order[130], "colour"] = "violet"
    rows = table_task(frame, "kind").validation
    assert isinstance(rows, FrameRows)
    assert rows.categories[10, 0] == 0
    assert int((rows.categories == 0).sum()) == 1


def test_a_target_with_decimals_is_regressed_in_units_of_its_variance() -> None:
    task = table_task(table().drop(columns="kind"), "price")
    check_task(task)
    assert (task.metrics["squared_error"].goal, task.metrics["squared_error"].unit) == ("min", "variance")
    rows = task.train
    assert isinstance(rows, FrameRows)
    assert float(rows.target.mean()) == pytest.approx(0, abs=1e-6)
    assert float(rows.target.std()) == pytest.approx(1, abs=1e-6)
    model = task.new_model().eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    found = scores(model, task, Ranks.alone())["squared_error"]  # of a model that always answers the mean
    assert found == pytest.approx(float((task.validation.target**2).mean()), rel=1e-5)  # type: ignore[attr-defined]


def test_whole_numbers_are_categories_where_they_are_named_so() -> None:
    task = table_task(table().drop(columns="price"), "kind", categorical=["colour", "garden", "rooms"])
    model = task.new_model()
    assert isinstance(model, TableNet)
    assert [layer.num_embeddings for layer in model.embeddings] == [4, 3, 6]  # type: ignore[union-attr]


def test_a_code_out_of_range_is_told_with_its_row_and_column() -> None:
    task = table_task(table().drop(columns="price"), "kind")
    assert isinstance(task.train, FrameRows)
    task.train.categories[77, 0] = 4
    told = r"train\[77\]: the code of categorical column 0 must be 0 to 3; got 4"
    assert len(list(task.train.problems("train"))) == 1
    with pytest.raises(WrongInput, match=told):
        check_task(task)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: f.rename(columns={"kind": "sort"}), "the table has no column called 'kind'; it has length, rooms"),
        (
            lambda f: f.assign(length=f["length"].mask(f.index == 7)),
            r"table\['length'\], row 7: numbers must be there and finite; 1 of",
        ),
        (lambda f: f.assign(kind="cheap"), r"table\['kind'\]: must have at least two classes; got 'cheap'"),
        (lambda f: f.head(2), "table: must have a row for each split; got 2"),
        (lambda f: f.assign(kind=1.5), r"table\['kind'\]: must vary in the training split; got 1.5"),
        (
            lambda f: f.assign(kind=np.where(f.index == 3, np.nan, f.index * 0.5)),
            r"table\['kind'\]: targets must be there",
        ),
    ],
)
def test_tables_that_cannot_be_learned_are_told_in_one_line(spoil: object, told: str) -> None:
    with pytest.raises(WrongInput, match=told) as caught:
        table_task(spoil(table().drop(columns="price")), "kind")  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_text_that_is_named_no_category_is_told() -> None:
    with pytest.raises(WrongInput, match=r"table\['colour'\]: must hold numbers; .*name the column in `categorical`"):
        table_task(table().drop(columns="price"), "kind", categorical=["garden"])
