"""YAML 1.2: types of scalars, lines of values, and rejected documents."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.yaml_io import MAX_BYTES, parse_yaml, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("0o10", 8),
        ("010", 10),
        ("12:30:45", "12:30:45"),
        ("'7'", "7"),
        (".5", 0.5),
        ("-3", -3),
        ("1_000", 1000),
        ("!!str 3", "3"),
        ("=", "="),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    data = parse_yaml(f"value: {text}", "f.yaml").data
    assert data == {"value": value}
    assert type(data["value"]) is type(value)


def test_every_value_knows_its_line() -> None:
    located = parse_yaml("a:\n  b: 1\nspace:\n  - kind: x\n  - kind: y\n    n: 2\n", "f.yaml")
    assert located.where("a.b") == "f.yaml:2 a.b"
    assert located.where("space[1].n") == "f.yaml:6 space[1].n"
    assert located.where("space[1].missing.deep") == "f.yaml:5 space[1].missing.deep"
    assert located.where("") == "f.yaml"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: [1", "not valid YAML"),
        ("a: 1\na: 2", "not valid YAML"),
        ("a: !!python/object:os.system x", "tags"),
        ("a: 2020-01-01", "quote it"),
        ("a: " + "[" * 60 + "]" * 60, "nesting"),
        ("a: " + "[" * 600 + "]" * 600, "nesting"),
        ("a: " + "{a: " * 500 + "1" + "}" * 500, "nesting"),
        ("- " * 5000, "nesting"),
        ("a: &a [*a]", "nesting"),
        ("a: !!python/object/apply:os.system [x]", "tags"),
        ("a: !!set {x}", "tags"),
        ("a: !mine x", "tags"),
        ("a: &a {<<: *a, b: 1}", "never its own"),
        ("a: {<<: 5}", "takes another mapping"),
        ('a: "\0"', "not valid YAML"),
        ('a: "\\0"', "NUL"),
        ('a: "\\ud800"', "a lone surrogate"),
        ('a: "\\U99999999"', "not valid YAML"),
        ('a: 1\n"a": 2', "given only once; got 'a'"),
        ("? [1, 2]\n: 3", "a key must be text"),
        ("a: " + "9" * 5000, "not a readable number"),
        ("a: .nan", "numbers must be finite; got '.nan'"),
        ("a: -.INF", "numbers must be finite; got '-.INF'"),
        ("a: 1e400", "numbers must be finite; got '1e400'"),
        ("a: 9223372036854775808", "whole numbers must fit into 64 bits; got '9223372036854775808'"),
        ("a: -0xffffffffffffffff", "whole numbers must fit into 64 bits"),
        ("a: *b", "not valid YAML"),
        ("a: 1\n---\nb: 1", "another document"),
        ("%YAML 9.9\n---\na: 1", "not valid YAML"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, rule: str) -> None:
    with pytest.raises(WrongInput, match=r"f\.yaml") as caught:
        parse_yaml(text, "f.yaml")
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merged_mappings_give_what_is_not_there() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\nd: {<<: *b, y: 3}"
    data = parse_yaml(text, "f.yaml").data
    assert data["c"] == {"x": 0, "y": 1, "z": 2}
    assert data["d"] == {"y": 3, "z": 2}


WORDS = [
    "a:",
    "1",
    ": ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "<<: ",
    "!!set ",
    "!x ",
    "'",
    '"',
    "\n",
    "\n  ",
]
WORDS += ["#", "%", "0x", ".", "e", "\\", "\0", "---\n"]


@given(st.lists(st.sampled_from(WORDS)))
def test_any_text_is_read_or_refused_in_a_line(parts: list[str]) -> None:
    told = ""
    try:
        parse_yaml("".join(parts), "f.yaml")
    except WrongInput as error:
        told = str(error)
    assert "\n" not in told


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("#" * MAX_BYTES + "\na: 1\n")
    with pytest.raises(WrongInput, match=r"large\.yaml: a YAML file may have at most \d+ bytes"):
        read_yaml(tmp_path / "large.yaml")


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(WrongInput, match="values"):
        parse_yaml("\n".join(lines), "f.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"none\.yaml: there is no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_writing_and_reading_gives_the_same() -> None:
    data = {"a": [1, 2.5, None, True, "no", "1e-4"], "b": {"c": [], "d": {}}, "e": "two\nlines"}
    assert parse_yaml(write_yaml(data), "f.yaml").data == data
