"""Notes and tags are in the journal, whoever runs the sweep, and shown wherever the sweep is."""

import errno
import json
import re
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.annotation import Annotation
from paretta.dashboards.journal.event_schema import parse_event
from paretta.dashboards.journal.journal import Journal, annotate, events
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.html_report import report_data
from paretta.dashboards.server.live import LivePages
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.store import default_uri
from paretta.orchestrator.cli import main
from paretta.orchestrator.monitor.home_table import sweep_documents
from paretta.orchestrator.monitor.status import status_document
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.notes import annotate_sweep, parse_tags


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "s", trials=6, artifacts=False).folder


def _call(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--home", str(folder.parent)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_note_replaces_the_former_one_and_tags_come_and_go(folder: Path) -> None:
    before = SweepRecord.read(folder)
    uid = before.front().knee().uid
    assert annotate_sweep(folder) == "nothing is noted of s"
    assert annotate_sweep(folder, note="try on the phone", tags={"for": "phone"}) == "s: try on the phone [for=phone]"
    assert annotate_sweep(folder, "knee", note="two\nlines") == f"s@{uid}: two lines"
    annotate_sweep(folder, uid[:4], tags={"for": "watch", "draft": "yes"})
    annotate_sweep(folder, uid, tags={"draft": None})
    after = SweepRecord.read(folder)
    assert after.annotation() == Annotation("try on the phone", {"for": "phone"})
    assert after.annotation(uid) == Annotation("two\nlines", {"for": "watch"}, frozenset({"draft"}))
    assert annotate_sweep(folder, "", note="", tags={"for": None}) == "s: nothing is noted"
    assert annotate_sweep(folder, "baseline", note="as it came") == "s@baseline: as it came"
    assert (after.status, after.updated, after.trials) == (before.status, before.updated, before.trials)


def test_what_is_noted_is_shown_wherever_the_sweep_is(folder: Path) -> None:
    uid = SweepRecord.read(folder).front().knee().uid
    _call(folder, "note", "s", "<b>try</b> this", "--tag", "for=phone")
    assert _call(folder, "note", f"s@{uid}", "best so far") == f"s@{uid}: best so far\n"
    assert _call(folder, "note", "s") == "<b>try</b> this [for=phone]\n"
    for verb in ("status", "front"):
        shown = _call(folder, verb, "s").splitlines()
        assert f"noted {uid}: best so far" in shown
        assert "noted s: <b>try</b> this [for=phone]" in shown
    assert _call(folder, "list").splitlines()[2].startswith("s ")
    annotate_sweep(folder, note="word " * 40)
    piped = CliRunner().invoke(main, ["list", "--home", str(folder.parent)], env={"COLUMNS": None}).output.splitlines()
    assert len(piped) == 3
    assert re.search(r" · (word )+\.\.\. ", piped[2])
    annotate_sweep(folder, note="<b>try</b> this")
    (listed,) = sweep_documents([folder])
    assert (listed["note"], listed["tags"]) == ("<b>try</b> this", {"for": "phone"})
    state = status_document(SweepFiles(folder))
    assert (state["note"], state["tags"]) == ("<b>try</b> this", {"for": "phone"})
    assert state["noted"] == [{"uid": uid, "note": "best so far", "tags": {}}]
    data = report_data(SweepRecord.read(folder))
    assert data["note"] == "<b>try</b> this [for=phone]"
    assert [trial["noted"] for trial in data["trials"] if "noted" in trial] == ["best so far"]
    assert "&lt;b&gt;try&lt;/b&gt; this [for=phone]" in LivePages(folder.parent, None, {}).index()


def test_what_is_noted_while_a_driver_writes_is_kept_with_all_that_it_writes(folder: Path) -> None:
    uid = SweepRecord.read(folder).front().knee().uid
    with Journal(folder) as journal:
        threads = [
            threading.Thread(target=lambda n=n: [annotate(folder, uid, None, {f"{n}-{i}": "x"}) for i in range(40)])
            for n in range(2)
        ]
        for thread in threads:
            thread.start()
        for step in range(40):
            journal.progress(uid, {"stage": "train", "epoch": step})
        for thread in threads:
            thread.join()
    written = [event for event, _ in events(folder)]
    assert SweepRecord.read(folder).annotation(uid).tags.keys() == {f"{n}-{i}" for n in range(2) for i in range(40)}
    epochs = [
        event["message"].get("epoch") for event in written if event["event"] == "progress" and event["uid"] == uid
    ]
    assert epochs[-40:] == list(range(40))


def test_a_full_disk_of_the_driver_takes_no_note_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noting = threading.Thread(target=annotate, args=(folder, None, "kept", {}))
    with Journal(folder) as journal:
        inner = journal._file

        class Full:
            def __getattr__(self, name: str) -> object:
                return getattr(inner, name)

            def write(self, line: bytes) -> int:
                if noting.ident is None:
                    noting.start()  # asks for its turn within the driver's line
                    return inner.write(line[:10])
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(journal, "_file", Full())
        with pytest.raises(OSError, match="No space left"):
            journal.end("failed", "x" * 100)
        noting.join()
    record = SweepRecord.read(folder)
    assert (record.annotation().note, record.status) == ("kept", "done")


def test_a_line_that_a_crash_cut_short_does_not_spoil_a_note(folder: Path) -> None:
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"event": "progr')
    annotate_sweep(folder, note="after the crash")
    assert SweepRecord.read(folder).annotation().note == "after the crash"


def test_earlier_versions_are_told_that_a_later_one_wrote_a_note(folder: Path) -> None:
    annotate_sweep(folder, note="x")
    line = (folder / "journal.jsonl").read_bytes().splitlines()[-1]
    assert json.loads(line)["schema"] == 4
    with pytest.raises(ValueError, match="written in schema 5 by a later paretta; this one reads schemas up to 4"):
        parse_event(line.replace(b'"schema": 4', b'"schema": 5'))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s@0099", "x"], "s@0099: no trial is called '0099'"),
        (["s", "x" * 2001], "TEXT: a note is text of at most 2000 characters; got '2001 characters'"),
        (["s", "a\x1b[2J"], "TEXT: a note is text"),
        (["s", "--tag", "phone"], "--tag: a tag is KEY=VALUE, with a value of 1 to 200 characters"),
        (["s", "--tag", "a="], "--tag: a tag is KEY=VALUE"),
        (["s", "--tag", "sweep.id=x"], "--tag: a tag's key is 1 to 50 letters, digits, - and _"),
        (["s", "--untag", "pareto"], "--untag: a tag's key is 1 to 50 letters"),
    ],
)
def test_what_cannot_be_noted_is_refused_in_one_line(folder: Path, arguments: list[str], message: str) -> None:
    before = (folder / "journal.jsonl").read_bytes()
    done = CliRunner().invoke(main, ["note", *arguments, "--home", str(folder.parent)])
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
    assert message in done.output
    assert (folder / "journal.jsonl").read_bytes() == before


def test_equals_signs_after_the_first_belong_to_the_value() -> None:
    assert parse_tags(["a=b=c"]) == {"a": "b=c"}


def test_mlflow_has_the_notes_and_tags_and_keeps_what_was_set_there_by_hand(home: Path) -> None:
    folder, client = home / "first", MlflowClient(default_uri(home), default_uri(home))
    uid = SweepRecord.read(folder).front().knee().uid

    def runs() -> dict[str, Run]:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, "tags.`sweep.name` = 'first'")
        return {run.data.tags.get("trial.uid", ""): run for run in found}

    client.set_tag(runs()[uid].info.run_id, "mine", "by hand")
    annotate_sweep(folder, note="for the *watch*", tags={"owner": "ann"})
    annotate_sweep(folder, uid, note="ship it", tags={"draft": "yes", "device": "m4"})
    assert annotate_sweep(folder, uid, tags={"draft": None}) == f"first@{uid}: ship it [device=m4]"
    parent, trial = runs()[""].data.tags, runs()[uid].data.tags
    assert parent["owner"] == "ann"
    assert parent["mlflow.note.content"].startswith("for the *watch*\n\n")
    assert trial["mlflow.note.content"].startswith("ship it\n\n")
    assert {key: value for key, value in trial.items() if key in ("draft", "device", "mine")} == {
        "device": "m4",
        "mine": "by hand",
    }
    annotate_sweep(folder, uid, note="", tags={"device": None})
    publish_sweep(folder)
    assert not runs()[uid].data.tags["mlflow.note.content"].startswith("ship it")
    assert "device" not in runs()[uid].data.tags
    assert len(runs()) == 6
