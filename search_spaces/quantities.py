"""Quantities with units, as people write them: ``50kB``, ``2ms``, ``97%``."""

import math
import re
from collections.abc import Mapping
from typing import Final

_UNITS: Final[Mapping[str, tuple[str, float]]] = {
    "B": ("B", 1.0),
    "kB": ("B", 1e3),
    "MB": ("B", 1e6),
    "GB": ("B", 1e9),
    "KiB": ("B", 2.0**10),
    "MiB": ("B", 2.0**20),
    "GiB": ("B", 2.0**30),
    "ns": ("s", 1e-9),
    "us": ("s", 1e-6),
    "µs": ("s", 1e-6),
    "ms": ("s", 1e-3),
    "s": ("s", 1.0),
    "%": ("share", 0.01),
    "x": ("ratio", 1.0),
    "J": ("J", 1.0),
    "mJ": ("J", 1e-3),
}
_NUMBER: Final = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ%]*)\s*")


def parse_quantity(text: str | float) -> tuple[float, str | None]:
    """Return the value in its base unit (B, s, share, ratio, J) and that unit; the unit of a bare number is None.

    Raises `ValueError`, which names the text, the rule and the known units.

    >>> parse_quantity("50kB"), parse_quantity("97%"), parse_quantity(0.5)
    ((50000.0, 'B'), (0.97, 'share'), (0.5, None))
    """
    match = _NUMBER.fullmatch(str(text))
    if match is None or isinstance(text, bool):
        raise ValueError(f"{text!r} is not a number with an optional unit; known units: {', '.join(_UNITS)}")
    number, unit = match.groups()
    if not math.isfinite(float(number)):
        raise ValueError(f"{text!r} is not a finite number")
    if not unit:
        return float(number), None
    if unit not in _UNITS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r}; known units: {', '.join(_UNITS)}")
    base, factor = _UNITS[unit]
    return float(number) * factor, base


def format_quantity(value: float, unit: str) -> str:
    """Format a value given in base units for people, to three digits.

    >>> format_quantity(50210, "B"), format_quantity(0.97, "share"), format_quantity(0.00213, "s")
    ('50.2 kB', '97.00 %', '2.13 ms')
    >>> format_quantity(0.5, "ratio")
    '0.500x'
    """
    match unit:
        case "B":
            return _scaled(value, (("MB", 1e6), ("kB", 1e3), ("B", 1.0)))
        case "s":
            return _scaled(value, (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)))
        case "J":
            return _scaled(value, (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)))
        case "share":
            return f"{value:.2%}".replace("%", " %")
        case "ratio":
            return f"{value:.3f}x"
        case _:
            return f"{value:.4g} {unit}".rstrip()


def _scaled(value: float, scales: tuple[tuple[str, float], ...]) -> str:
    name, factor = next((scale for scale in scales if abs(value) >= scale[1]), scales[-1])
    return f"{value / factor:.0f} {name}" if factor == 1.0 and name == "B" else f"{value / factor:.3g} {name}"
