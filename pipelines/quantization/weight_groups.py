"""Groups of weights that share a step: one size, or a size per name pattern."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator
from torch import nn

from paretta.pipelines.model.name_patterns import by_pattern

SIZES: Final = (16, 32, 64, 128, 256)  # those of ONNX Runtime's MatMulNBits
GROUPED: Final = (nn.Linear, nn.Embedding)
_RULE: Final = f"must be one of {', '.join(map(str, SIZES))}, or null"


def _groups(value: object) -> object:
    if not isinstance(value, Mapping):
        return _size(value)
    if not value:
        raise ValueError("needs at least one pattern")
    for size in value.values():
        try:
            _size(size)
        except ValueError:
            raise ValueError(f"each pattern's group {_RULE}") from None
    return {str(pattern): size for pattern, size in value.items()}


def _size(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value not in SIZES):
        raise ValueError(_RULE)
    return value


Groups = Annotated[int | dict[str, int | None] | None, BeforeValidator(_groups)]


def packed_block(columns: int, group: int | None) -> int:
    """Return how many weights of a row stand in a block of a packed layer: a group, or the longest that fills rows up.

    >>> packed_block(576, None), packed_block(72, None), packed_block(72, 32)
    (64, 16, 32)
    """
    return group or min(SIZES, key=lambda size: (-columns % size, -size))


def asked_groups(setting: int | Mapping[str, int | None] | None, model: nn.Module) -> dict[str, int]:
    """Return the group size that is asked for each module, by name; without those for which none is.

    Raises:
        WrongInput: a pattern matches no module.

    >>> asked_groups({"fc*": 32}, nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "fc": nn.Linear(64, 2)}))
    {'fc': 32}
    """
    names = [name for name, _ in model.named_modules()]
    sizes = by_pattern(setting if isinstance(setting, Mapping) else {"*": setting}, names, "quantize.group")
    return {name: size for name, size in sizes.items() if size is not None}


def group_words(setting: int | Mapping[str, int | None] | None) -> str:
    """Describe the setting in a few words that follow a width, such as `` in groups of 32``.

    >>> group_words(32), group_words({"head": None, "*": 64}), group_words(None)
    (' in groups of 32', ' in groups (head: none, *: 64)', '')
    """
    if setting is None:
        return ""
    if isinstance(setting, int):
        return f" in groups of {setting}"
    sizes = ", ".join(f"{pattern}: {size or 'none'}" for pattern, size in setting.items())
    return f" in groups ({sizes})"
