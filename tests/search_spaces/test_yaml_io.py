"""YAML 1.2: what scalars mean, where values stand, what is refused."""

from pathlib import Path

import pytest

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.yaml_io import parse_yaml, read_yaml, write_yaml


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
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, rule: str) -> None:
    with pytest.raises(WrongInput, match=r"f\.yaml") as caught:
        parse_yaml(text, "f.yaml")
    assert rule in str(caught.value)


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
