import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pandas
import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.report.table import (
    FRONT_SCHEMA,
    front_document,
    to_frame,
    write_csv,
    write_front_json,
    write_parquet,
)
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.note import Note


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Front:
    return write_sweep(tmp_path_factory.mktemp("sweep") / "s", trials=60, artifacts=False).front()


def test_frame_has_a_row_per_trial_with_values_intervals_and_knobs(front: Front) -> None:
    frame = to_frame(front.trials).set_index("uid")
    assert list(frame.index) == [trial.uid for trial in front.trials]
    trial = front.members[2]
    assert frame.loc[trial.uid, "accuracy"] == trial.value("accuracy")
    assert frame.loc[trial.uid, "accuracy_low"] == trial.readings["accuracy"].low
    assert frame.loc[trial.uid, "test_accuracy"] == trial.test_readings["accuracy"].value
    assert frame.loc[trial.uid, "knob.prune.sparsity"] == trial.knobs["prune.sparsity"]
    assert "size_low" not in frame.columns
    failed = next(trial for trial in front.trials if trial.status != "complete")
    assert pandas.isna(frame.loc[failed.uid, "accuracy"])
    assert frame.loc[failed.uid, "reason"] == failed.reason


def test_frame_of_a_front_has_its_members_and_roles(front: Front) -> None:
    frame = to_frame(front).set_index("uid")
    assert list(frame.index) == [trial.uid for trial in front]
    assert "knee" in frame.loc[front.knee().uid, "front_role"]


def test_frame_of_nothing_is_empty() -> None:
    assert to_frame([]).empty


def test_files_hold_what_the_frame_holds(front: Front, tmp_path: Path) -> None:
    write_csv(front, tmp_path / "front.csv")
    write_parquet(front, tmp_path / "front.parquet")
    frame = to_frame(front)
    assert list(pandas.read_csv(tmp_path / "front.csv")["size"]) == list(frame["size"])
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "front.parquet"), frame, check_dtype=False)


def test_front_json_is_what_its_schema_says(front: Front, tmp_path: Path) -> None:
    schema = json.loads(FRONT_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    write_front_json(front, tmp_path / "front.json")
    document = json.loads((tmp_path / "front.json").read_text())
    jsonschema.validate(document, schema)
    jsonschema.validate(front_document(Front.of((), front.objectives)), schema)
    assert [member["uid"] for member in document["members"]] == [trial.uid for trial in front]
    assert document["hypervolume"] == front.hypervolume
    assert [member["layers"] for member in document["members"]] == [dict(trial.layers) for trial in front]
    assert all(trial.layers for trial in front)
    told = [[str(Note.from_document(note)) for note in member["notes"]] for member in document["members"]]
    assert told == [list(map(str, trial.notes)) for trial in front]
    assert any(told)


@pytest.mark.parametrize("spoil", [{"schema": 1}, {"members": [{}]}, {"more": 1}, {"hypervolume": None}])
def test_schema_refuses_another_document(front: Front, spoil: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**front_document(front), **spoil}, json.loads(FRONT_SCHEMA.read_text()))


def test_answers_of_several_types_share_a_parquet_column_as_json(front: Front, tmp_path: Path) -> None:
    answers = ["option1", 8, 4.5, None, True, [1, 2]]
    trials = [
        replace(trial, knobs={"mixed": answer, "number": number, "flag": number > 2})
        for number, (trial, answer) in enumerate(zip(front.trials, answers, strict=False))
    ]
    write_parquet(trials, tmp_path / "trials.parquet")
    read = pandas.read_parquet(tmp_path / "trials.parquet")
    assert [json.loads(text) if isinstance(text, str) else None for text in read["knob.mixed"]] == answers
    assert read["knob.number"].tolist() == list(range(6))
    assert read["knob.flag"].tolist() == [False] * 3 + [True] * 3
