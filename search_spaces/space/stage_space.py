"""A stage whose settings have holes, as Python code writes it: ``Prune(sparsity=Float(0, 0.8))``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretta.search_spaces.space.holes import Choice, Float, Int


@dataclass(frozen=True, slots=True)
class StageSpace:
    """All stages of one class that its settings describe.

    Args:
        stage: the class, whose settings have these names.
        settings: plain values, holes, or lists and mappings of them.
    """

    stage: type
    settings: Mapping[str, object]

    def __repr__(self) -> str:
        """Write it as the call that makes it."""
        return f"{self.stage.__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"


def has_holes(value: object) -> bool:
    """Return whether a setting holds a hole at any depth.

    >>> has_holes({"conv*": Int(2, 8)}), has_holes({"conv*": 8})
    (True, False)
    """
    match value:
        case Choice() | Int() | Float() | StageSpace():
            return True
        case Mapping():
            return any(map(has_holes, value.values()))
        case _:
            return isinstance(value, Sequence) and not isinstance(value, str) and any(map(has_holes, value))
