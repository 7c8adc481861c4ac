"""Quantities as people write them."""

import pytest

from paretta.search_spaces.quantities import format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("50kB", 5e4, "B"),
        ("1.5 MiB", 1572864.0, "B"),
        ("2ms", 2e-3, "s"),
        ("7 µs", 7e-6, "s"),
        ("97%", 0.97, "share"),
        ("0.5x", 0.5, "ratio"),
        ("3", 3.0, None),
        (0.25, 0.25, None),
        ("1e-3 s", 1e-3, "s"),
        ("2mJ", 2e-3, "J"),
    ],
)
def test_values_with_units(text: str | float, value: float, unit: str | None) -> None:
    assert parse_quantity(text) == (pytest.approx(value), unit)


@pytest.mark.parametrize("text", ["", "kB", "5 parsecs", "1..2", "five", "1,5 kB"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="known units"):
        parse_quantity(text)


@pytest.mark.parametrize(("value", "unit"), [(123456.0, "B"), (0.0021, "s"), (0.974, "share"), (0.333, "ratio")])
def test_what_is_written_can_be_read(value: float, unit: str) -> None:
    assert parse_quantity(format_quantity(value, unit)) == (pytest.approx(value, rel=5e-3), unit)


@pytest.mark.parametrize("text", ["1e400kB", "1e999", float("inf")])
def test_an_infinite_quantity_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_quantity(text)
