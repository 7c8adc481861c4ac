"""Translation of pydantic's validation errors into problems with place, rule, value and fix."""

import re
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Final, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from paretta.search_spaces.errors import Problem, did_you_mean

_HOLES: Final = {"choice", "int", "float"}  # the keys of holes in a space, which lies above
_INSTANCE: Final = re.compile(r"a valid dictionary( or instance of \w+)?")
_Location: TypeAlias = tuple[int | str, ...]


def problems_of(error: ValidationError, model: type[BaseModel], where: Callable[[str], str]) -> list[Problem]:
    """Translate every error; a field's description, which completes "give ...", becomes the advice to fix it.

    Of a field that takes one type or another, what each type says becomes one problem.

    Args:
        error: what pydantic raised.
        model: the class that was validated.
        where: turns a path such as ``workers.cpus`` into its place in the file.
    """
    found: dict[_Location, dict[str, object]] = {}
    for finding in error.errors():
        found.setdefault(_without_type(tuple(finding["loc"]), model), {})[finding["msg"]] = finding["input"]
    return [
        _problem(location, message, value, model, where)
        for location, said in found.items()
        if not any(other[: len(location)] == location for other in found if other != location)
        for message, value in _one_or_other(said).items()
    ]


def _one_or_other(said: Mapping[str, object]) -> Mapping[str, object]:
    """Join what was said of one value."""
    return {", or ".join(said): next(iter(said.values()))}


def _without_type(location: _Location, model: type[BaseModel]) -> _Location:
    """Leave out which of a field's types speaks, such as ``constrained-int``, which pydantic writes after its name."""
    for end in range(1, len(location)):
        owner, name = _owner(model, location[:end]), location[end - 1]
        if owner is not None and isinstance(name, str) and name in owner.model_fields:
            kind = owner.model_fields[name].annotation
            types = [one for one in get_args(kind) if one is not NoneType]
            if get_origin(kind) in (Union, UnionType) and len(types) > 1:
                return location[:end] + location[end + 1 :]
    return location


def _problem(
    location: _Location,
    message: str,
    value: object,
    model: type[BaseModel],
    where: Callable[[str], str],
) -> Problem:
    place = where(_path(location))
    owner = _owner(model, location)
    if message == "Extra inputs are not permitted":
        known = set(owner.model_fields) - {"kind"} if owner else set()
        return Problem(place, did_you_mean(str(location[-1]), known, "setting"), value)
    named = next((part for part in reversed(location) if isinstance(part, str)), "")
    field = (owner or model).model_fields.get(named) or model.model_fields.get(str(location[0]) if location else "")
    hint = f"give {field.description}" if field is not None and field.description else ""
    if message == "Field required":
        return Problem(place, "this setting is required", hint=hint)
    rule = message.removeprefix("Value error, ").replace("Input should be", "must be").replace("Field", "setting")
    rule = _INSTANCE.sub("a mapping", rule)
    if isinstance(value, Mapping) and len(_HOLES & set(value)) == 1:
        hint = "write one value; only the stages of `space` have holes"
    return Problem(place, rule, value, hint)


def _path(location: _Location) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _owner(model: type[BaseModel], location: _Location) -> type[BaseModel] | None:
    """Return the nested model that has the last name of `location` as a field, or None if it cannot be found."""
    owner: type[BaseModel] | None = model
    for part in location[:-1]:
        if owner is None or not isinstance(part, str) or part not in owner.model_fields:
            return None
        kind = owner.model_fields[part].annotation
        owner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return owner
