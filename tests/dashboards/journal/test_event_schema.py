import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.event_schema import parse_event
from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.journal_tail import Tail
from paretta.dashboards.tracking.sync_status import SYNC_STATUS_FILE, SyncStatus, read_sync_status, write_sync_status
from paretta.search_spaces.errors import DamagedRecord

Event = dict[str, Any]


def _set(path: str, value: object) -> Callable[[Event], None]:
    *parents, last = path.split(".")

    def change(event: Event) -> None:
        for name in parents:
            event = event[name]
        event[last] = value

    return change


def _drop(path: str) -> Callable[[Event], None]:
    *parents, last = path.split(".")

    def change(event: Event) -> None:
        for name in parents:
            event = event[name]
        del event[last]

    return change


# the event's line (0: the sweep's, 7: a complete trial's, 9: progress), the change, what is said
WRONG: dict[str, tuple[int, Callable[[Event], None], str]] = {
    "no event": (7, _drop("event"), "Unable to extract tag using discriminator"),
    "unknown event": (7, _set("event", "future"), "does not match any of the expected tags"),
    "no time": (9, _drop("time"), "time: Field required"),
    "time as text": (9, _set("time", "noon"), "time: must be a valid number"),
    "time beyond dates": (9, _set("time", 1e300), "time: must be less than"),
    "no uid": (9, _drop("uid"), "uid: Field required"),
    "message as text": (9, _set("message", "x"), "message: "),
    "scores as text": (9, _set("message.scores", "x"), "message.scores: must be a valid dictionary"),
    "no readings": (7, _drop("trial.readings"), "trial.readings: Field required"),
    "value as text": (
        7,
        _set("trial.readings.size.value", "1 kB"),
        "trial.readings.size.value: must be a valid number",
    ),
    "true is no number": (7, _set("trial.readings.size.value", True), "trial.readings.size.value: must be a valid num"),
    "value left out": (7, _set("trial.readings.size.value", None), "a reading without a value needs its `reason`"),
    "number as text": (7, _set("trial.number", "1"), "trial.number: must be a valid integer"),
    "unknown status": (7, _set("trial.status", "completed"), "trial.status: no status is called 'completed'; did you"),
    "unknown role": (7, _set("trial.role", "king"), "trial.role: no role is called 'king'"),
    "plan as list": (7, _set("trial.plan", []), "trial.plan: must be a valid dictionary"),
    "stages as text": (7, _set("trial.plan.stages", "prune"), "trial.plan.stages: must be a valid list"),
    "name that is a path": (7, _set("trial.uid", "../../x"), "trial.uid: must be the name of one file or folder"),
    "path that leaves": (
        7,
        _set("trial.artifact", "../../../etc"),
        "trial.artifact: must be a path inside the",
    ),
    "path from the root": (7, _set("trial.artifact", "/etc"), "trial.artifact: must be a path inside the"),
    "half a character": (7, _set("trial.words", "\ud800"), "not Unicode: surrogates not allowed"),
    "later schema": (0, _set("schema", 99), "written in schema 99 by a later paretta; this one reads schemas up to"),
    "schema as text": (0, _set("schema", "one"), "schema: must be a whole number"),
    "goal": (
        0,
        _set("objectives", [{"meter": "size", "goal": "less", "unit": "B"}]),
        "objectives.0.goal: must be 'min'",
    ),
    "config as list": (0, _set("config", []), "config: must be a valid dictionary"),
    "trials as text": (0, _set("config.search.trials", "ten"), "config.search.trials: must be a valid integer"),
    "limit": (0, _set("config.limits", [5]), "limits[0]"),
    "wishes": (0, _set("config.wishes", {"phone": 5}), "config.wishes.phone: must be a valid dictionary"),
    "facts": (0, _set("facts", 5), "facts: must be a valid dictionary"),
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = write_sweep(tmp_path_factory.mktemp("sweep"), trials=6, artifacts=False).folder
    return (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


def _damage_told(folder: Path, lines: list[bytes], at: int, line: bytes) -> str:
    """Return the message about `lines` with `line` at index `at`, which must name file and line."""
    (folder / "journal.jsonl").write_bytes(b"".join([*lines[:at], line, *lines[at + 1 :]]))
    with pytest.raises(DamagedRecord) as found:
        SweepRecord.read(folder)
    where, _, rest = str(found.value).partition(": this sweep's record is damaged: ")
    assert where == f"{folder / 'journal.jsonl'}:{at + 1}"
    assert "\n" not in rest
    tail = Tail.of(folder)
    for _ in range(2):  # as often as one asks
        with pytest.raises(DamagedRecord) as again:
            tail.read()
        assert str(again.value) == str(found.value)
    return rest


@pytest.mark.parametrize("case", WRONG)
def test_wrong_line_is_one_message_with_file_and_line(tmp_path: Path, lines: list[bytes], case: str) -> None:
    at, change, said = WRONG[case]
    at = (
        at
        if at in (0, 9)
        else next(i for i, line in enumerate(lines) if b'"status": "complete", "reason": null' in line)
    )
    event = json.loads(lines[at])
    change(event)
    assert said in _damage_told(tmp_path, lines, at, json.dumps(event).encode() + b"\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"event": "progress", "time": 1.0, "ui\n', "not JSON: "),
        (b"\0" * 40 + b"\n", "not JSON: Expecting value"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"\n", "not JSON"),
        (b"5\n", "must be a valid dictionary"),
        (b"null\n", "must be a valid dictionary"),
        (b'{"event": "end", "time": NaN, "status": "done", "reason": null}\n', "not JSON: NaN is not a number"),
        (b'{"event": "end", "time": 1e999, "status": "done", "reason": null}\n', "the number 1e999 is too large"),
        (
            b'{"event":"progress","time":1,"uid":"a","message":{"x":' + b"[" * 100 + b"]" * 100 + b"}}\n",
            "nested deeper",
        ),
        (
            b'{"event":"progress","time":1,"uid":"a","message":{"x":' + b"[" * 9**5 + b"]" * 9**5 + b"}}\n",
            "nested deeper",
        ),
        (b'{"event": "end", "time": ' + b"9" * 5000 + b"}\n", "4300 digits"),
    ],
)
def test_line_that_is_no_event_is_told_alike(tmp_path: Path, lines: list[bytes], line: bytes, said: str) -> None:
    assert said in _damage_told(tmp_path, lines, 5, line)


def test_a_line_longer_than_any_of_ours_is_told_unread(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paretta.dashboards.journal.journal.LARGEST_FILE", 2**16)
    assert _damage_told(tmp_path, lines, 2, b"x" * 2**17 + b"\n") == "a line of 65536 bytes or more"


def test_journal_whose_opening_is_missing_is_damaged(tmp_path: Path, lines: list[bytes]) -> None:
    assert "the event that opens a sweep is missing before this line" in _damage_told(tmp_path, lines[1:], 0, lines[1])


def test_every_cut_of_any_line_is_told_or_read_as_before(tmp_path: Path, lines: list[bytes]) -> None:
    whole = [parse_event(line) for line in lines]
    for at, line in enumerate(lines[:12]):
        for end in range(0, len(line) - 1, 97):
            with pytest.raises(ValueError, match=r"."):
                parse_event(line[:end] + b"\n")
        assert parse_event(line) == whole[at]


def test_line_still_being_written_is_left_out_and_dropped_by_the_next(tmp_path: Path, lines: list[bytes]) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b"".join(lines)[:-9])
    before = SweepRecord.read(tmp_path)
    assert before.status == "running"
    with Journal(tmp_path) as again:
        again.end("stopped")
    assert SweepRecord.read(tmp_path).status == "stopped"


def test_what_later_versions_add_to_an_event_is_ignored(tmp_path: Path, lines: list[bytes]) -> None:
    event = json.loads(lines[0]) | {"new": 1}
    (tmp_path / "journal.jsonl").write_bytes(b"".join([json.dumps(event).encode() + b"\n", *lines[1:]]))
    assert SweepRecord.read(tmp_path).status == "done"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"position": -1}', '{"position": "x"}', "\0\0"])
def test_a_damaged_sync_status_counts_as_missing(tmp_path: Path, lines: list[bytes], content: str) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines))
    (tmp_path / SYNC_STATUS_FILE).write_text(content)
    assert read_sync_status(tmp_path) == SyncStatus(behind=7)


def test_a_sync_status_of_a_journal_that_was_edited_since_counts_from_the_beginning(
    tmp_path: Path, lines: list[bytes]
) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines))
    whole = SyncStatus("sqlite:///m.db", "1", "a", position=sum(map(len, lines)))
    write_sync_status(tmp_path, whole)
    assert read_sync_status(tmp_path) == whole
    edited = [lines[0].replace(b'"time": ', b'"time":  '), *lines[1:], lines[-1]]  # one byte and one event longer
    (tmp_path / "journal.jsonl").write_bytes(b"".join(edited))
    assert read_sync_status(tmp_path) == replace(whole, position=0, behind=7)


def test_an_extended_sweep_runs_again_with_more_trials_and_its_front_is_open(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=6, artifacts=False).folder
    before = SweepRecord.read(folder)
    assert before.frozen is not None
    with Journal(folder) as journal:
        journal.resumed({})
        event = journal.extended(16)
    record = SweepRecord.read(folder)
    assert (record.status, record.frozen, record.extended) == ("running", None, event["time"])
    assert record.config["search"] == {"sampler": "tpe", "trials": 16, "seed": 0}
    assert record.trials == before.trials
    assert event["schema"] == 3  # earlier versions say that a later one wrote it
