"""The table of a front: values with their times, marks of disturbed readings, the machine, and the terminal's width."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from paretta.orchestrator.monitor.front_table import FrontTable, print_front
from paretta.orchestrator.monitor.front_text import limits_note, machine_note
from paretta.search_spaces.objectives.limits import parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

OBJECTIVES = (Objective("size", "min", "B"), Objective("latency", "min", "ratio"))
LATENCY = Reading(
    0.356,
    "ratio",
    0.348,
    0.364,
    details={"seconds": 9.8e-6, "machine": "node-3", "cpu": "AMD EPYC", "contended": False},
)


WORDS = "prune 50% of channels by l2, quantize conv* to 2, fc* to 2 bits, distill 6 epochs at temperature 1.32"


def front(latency: Reading, *limits: dict[str, str]) -> Front:
    readings = {"size": Reading(4000.0, "B"), "latency": latency}
    trial = Trial("0001-abc", 1, Plan(), 0, "complete", words="prune 75 %", readings=readings)
    return Front.of([trial], OBJECTIVES, limits=parse_limits(limits))


def drawn(of: Front) -> str:
    stream = StringIO()
    Console(file=stream, width=160).print(FrontTable(of))
    return " ".join(stream.getvalue().split())


def test_the_time_stands_beside_the_ratio() -> None:
    text = drawn(front(LATENCY))
    assert "0.356 ±0.008x, 9.8 µs " in text
    assert "9.8 µs !" not in text
    assert "disturbed" not in text


def test_a_unit_of_a_metric_is_named_once_and_may_be_none() -> None:
    objectives = (Objective("score", "max", "points"), Objective("cosine", "max", ""))
    readings = {"score": Reading(12.3456, "points", 12.0, 12.5), "cosine": Reading(0.99871, "", 0.99866, 0.99876)}
    trial = Trial("0001-abc", 1, Plan(), 0, "complete", words="prune 75 %", readings=readings)
    assert "12.35 ±0.25 points 0.9987 ±5e-05 prune" in drawn(Front.of([trial], objectives))


def test_a_disturbed_reading_is_marked_and_the_mark_is_explained() -> None:
    text = drawn(front(replace(LATENCY, details={**LATENCY.details, "contended": True})))
    assert "0.356 ±0.008x, 9.8 µs !" in text
    assert "! read while other work disturbed it" in text


def test_the_machine_stands_below_the_front_where_anything_was_timed() -> None:
    assert machine_note(front(LATENCY)) == "times are of node-3, AMD EPYC"
    assert machine_note(front(Reading(0.5, "ratio"))) is None


def test_a_missed_limit_in_milliseconds_is_told_in_them() -> None:
    note = limits_note(front(LATENCY, {"meter": "latency", "at_most": "5us"}))
    assert note is not None
    assert note.endswith("misses it by least (latency 9.8 µs, the bound is 5 µs)")


def of_two(words: str = WORDS) -> Front:
    """Return a front with the widest numbers: intervals, times, marks, test readings, the knee."""
    trials = []
    for number, size in ((15, 4630.0), (11, 5430.0)):
        share = Reading(0.9 + size / 1e5, "share", 0.9, 0.99)
        marked = replace(LATENCY, value=1000 / size, details={**LATENCY.details, "contended": True})
        readings = {"size": Reading(size, "B"), "latency": marked, "accuracy": share}
        name = f"{number:04d}-f09afa"
        trials.append(Trial(name, number, Plan(), 0, "complete", words=words, readings=readings))
    goals = (*OBJECTIVES, Objective("accuracy", "max", "share"))
    return Front.of([trial.with_test_readings({"accuracy": trial.readings["accuracy"]}) for trial in trials], goals)


def lines(of: Front, width: int) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width).print(FrontTable(of))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_eighty_columns_hold_the_numbers_of_a_trial_in_a_line_and_the_plans_below() -> None:
    drawn_lines = lines(of_two(), 80)
    assert max(map(len, drawn_lines)) <= 80
    (numbers,) = [line for line in drawn_lines if line.startswith("0011-f09afa ◆")]
    assert numbers.split("  ")[1].strip() == "5.43 kB"
    assert "±0.008x, 9.8 µs !" in numbers
    assert numbers.endswith(" %")
    below = drawn_lines[drawn_lines.index(numbers) + 2 :]
    assert " ".join("\n".join(below).split()).count(WORDS) == 2
    assert len(drawn_lines) < 14


def test_wide_terminal_has_the_plan_beside_the_numbers() -> None:
    (row,) = [line for line in lines(of_two(), 200) if "0011-f09afa" in line]
    assert row.endswith(WORDS)


def test_narrow_terminal_has_one_line_a_value() -> None:
    drawn_lines = lines(of_two(), 42)
    assert max(map(len, drawn_lines)) <= 42
    assert [line.split()[0] for line in drawn_lines if line and not line.startswith(" ")][:6] == [
        "trial",
        "size",
        "latency",
        "accuracy",
        "accuracy",
        "plan",
    ]
    assert drawn_lines.count("size             4.63 kB") == 1


def test_words_with_brackets_are_no_markup() -> None:
    assert "conv[0] [bold]" in " ".join(lines(of_two("conv[0] [bold]"), 80))


def test_a_pipe_has_one_line_for_each_trial_and_columns_bound_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_front(of_two(WORDS * 5))
    assert capsys.readouterr().out.count(WORDS * 5) == 2
    monkeypatch.setenv("COLUMNS", "78")
    print_front(of_two())
    assert max(map(len, capsys.readouterr().out.splitlines())) == 78
