"""The table of a front: values with their times, marks of disturbed readings, and the machine they are of."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from paretta.orchestrator.monitor.front_text import limits_note, machine_note
from paretta.orchestrator.monitor.terminal import front_table
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


def front(latency: Reading, *limits: dict[str, str]) -> Front:
    readings = {"size": Reading(4000.0, "B"), "latency": latency}
    trial = Trial("0001-abc", 1, Plan(), 0, "complete", words="prune 75 %", readings=readings)
    return Front.of([trial], OBJECTIVES, limits=parse_limits(limits))


def drawn(of: Front) -> str:
    stream = StringIO()
    Console(file=stream, width=160).print(front_table(of))
    return " ".join(stream.getvalue().split())


def test_the_time_stands_beside_the_ratio() -> None:
    text = drawn(front(LATENCY))
    assert "0.356 ±0.008x, 9.8 µs " in text
    assert "9.8 µs !" not in text
    assert "disturbed" not in text


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
