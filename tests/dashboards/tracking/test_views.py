import base64
import json
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from mlflow.utils.search_utils import SearchUtils
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.views import landing_note, plain_link, run_link, view_link, write_views

VIEWS = ("front", "trials", "failures")


class _Experiment:
    """Remembers the tags it was given."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def set_experiment_tag(self, _: str, key: str, value: str) -> None:
        self.tags[key] = value


@pytest.fixture
def record(tmp_path: Path) -> SweepRecord:
    return write_sweep(tmp_path / "s", trials=20, artifacts=False)


def _state(value: str) -> dict[str, Any]:
    packed = json.loads(value)["state"].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_three_views_are_written_once_and_fit_their_tags(record: SweepRecord) -> None:
    experiment, known = _Experiment(), dict[str, str]()
    write_views(experiment, "1", record, known)  # type: ignore[arg-type]
    assert known == experiment.tags
    assert [json.loads(value)["name"] for value in known.values()] == ["s: front", "s: all trials", "s: failures"]
    assert all(len(value) < 20_000 for value in known.values())
    again = _Experiment()
    write_views(again, "1", record, known)  # type: ignore[arg-type]
    assert again.tags == {}


def test_filters_are_in_the_grammar_of_mlflow(record: SweepRecord) -> None:
    experiment = _Experiment()
    write_views(experiment, "1", record, {})  # type: ignore[arg-type]
    for value in experiment.tags.values():
        state = _state(value)
        assert SearchUtils.parse_search_filter(state["searchFilter"])
        assert SearchUtils.parse_order_by_for_search_runs(f"{state['orderByKey']} ASC")


def test_links_name_the_view_that_was_written(record: SweepRecord) -> None:
    experiment = _Experiment()
    write_views(experiment, "1", record, {})  # type: ignore[arg-type]
    for view in VIEWS:
        address, _, query = view_link(record, "1", view, "http://127.0.0.1:5000").partition("?")
        assert address == "http://127.0.0.1:5000/#/experiments/1/runs"
        assert f"mlflow.sharedViewState.{parse_qs(query)['viewStateShareKey'][0]}" in experiment.tags
        plain = parse_qs(plain_link(record, "1", view).partition("?")[2])
        assert "viewStateShareKey" not in plain
        assert record.name in plain["searchFilter"][0]


def test_landing_note_opens_with_links_and_names_the_roles(record: SweepRecord) -> None:
    front = record.front()
    first, *rest = landing_note(record, front, "1", "abc").splitlines()
    assert first.startswith(f"[**report**]({run_link('1', 'abc', 'report/report.html')})")
    assert first.count("](#/experiments/1/runs") == 4
    assert sum(line.count(f"]({plain_link(record, '1', view)})") for line in rest for view in VIEWS) == 3
    (knee,) = [line for line in rest if line.startswith("| knee")]
    assert front.knee().uid in knee
