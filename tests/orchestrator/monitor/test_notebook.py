"""A front and a running sweep show themselves in a notebook."""

import base64
import re
from html import unescape
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.notebook import NotebookDisplay, Shown, notebook_output
from paretta.orchestrator.monitor.progress_text import summary
from paretta.orchestrator.sweeps.result import SweepFront
from paretta.search_spaces.errors import WrongInput

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def front(tmp_path: Path) -> SweepFront:
    return SweepFront.read(write_sweep(tmp_path / "s", trials=16).folder)


def rows(html: str) -> list[list[str]]:
    return [
        [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", html)
    ]


def test_a_front_shows_its_table_and_its_picture(front: SweepFront) -> None:
    html = front._repr_html_()
    head, *body = rows(html)
    assert head == ["trial", "size", "latency", "accuracy", "accuracy (test)", "plan"]
    assert [row[0].split()[0] for row in body[: len(front)]] == [trial.uid for trial in front]
    assert [row[1] for row in body[: len(front)]] == [str(trial.readings["size"]) for trial in front]
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    assert base64.b64decode(picture).startswith(PNG)
    assert "± half of the 95 % interval" in html


def test_a_front_says_in_one_line_what_it_is(front: SweepFront) -> None:
    assert repr(front) == f"<front of s: {len(front)} points, 16 trials, knee {front.knee().uid}>"


def test_the_plot_shows_itself(front: SweepFront, tmp_path: Path) -> None:
    figure = front.plot()
    assert figure._repr_png_().startswith(PNG)
    assert [axes.get_xlabel().split()[0] for axes in figure.axes] == ["size", "latency"]
    figure.savefig(tmp_path / "front.svg")
    assert "<svg" in (tmp_path / "front.svg").read_text(encoding="utf-8")


def test_a_trial_is_had_by_uid_number_or_role(front: SweepFront) -> None:
    trial = next(trial for trial in front.trials if trial.role == "trial" and trial.is_measured)
    assert front[trial.uid] is front[f"{trial.number:04d}"] is trial
    assert front["knee"] == front.knee()
    assert front["smallest"] == front.pick(prefer="size")
    assert front["baseline"] == front.baseline
    with pytest.raises(WrongInput, match="no role on the front is called 'smalest'; did you mean 'smallest'"):
        front["smalest"]


def test_trials_are_compared_beside_each_other(front: SweepFront) -> None:
    table = front.compare("baseline", "smallest")
    assert list(table.columns) == ["baseline", "smallest"]
    assert front.baseline is not None
    assert table.loc["size", "baseline"] == str(front.baseline.readings["size"])
    smallest = front.pick(prefer="size")
    assert table.loc["accuracy", "smallest"] == str(smallest.readings["accuracy"])
    assert table.loc["knob prune.sparsity", "smallest"] == f"{smallest.knobs['prune.sparsity']:.4g}"
    assert table.loc["knob prune.sparsity", "baseline"] == ""
    assert list(front.compare().columns) == ["baseline", "knee", "smallest", "fastest", "most accurate"]


class Cell:
    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def update(self, obj: object) -> None:
        assert isinstance(obj, Shown)
        self.shown.append(obj)


def test_a_running_sweep_is_shown_in_one_output(tmp_path: Path) -> None:
    record, seen, cell = write_sweep(tmp_path / "s", trials=16, finished=False), SweepRecord("s"), Cell()
    display = NotebookDisplay(cell, 16)
    display.show_line("s: starting 2 lane(s)")
    assert "starting 2 lane(s)" in cell.shown[-1].html
    for event, _ in events(record.folder):
        seen.apply(event)
        display.update(seen, event)
    html, text = cell.shown[-1].html, repr(cell.shown[-1])
    assert '<progress max="16" value="14"' in html
    assert text == summary(seen, 16)
    assert text.partition(";")[0] in unescape(html)
    assert rows(html)[0][0] in {trial.uid for trial in record.front()}


def test_outside_of_a_notebook_there_is_no_output() -> None:
    assert notebook_output() is None
