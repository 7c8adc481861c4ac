"""The sweep document of what Python code gives: stages, holes, meters and wishes as objects or as plain data."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

from pydantic import BaseModel

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.registry import METERS, STAGES, TWEAKS
from paretta.search_spaces.space.holes import Choice, Float, Int
from paretta.search_spaces.space.stage_space import StageSpace
from paretta.search_spaces.user_code import reference_to


def as_document(value: object, where: str) -> Json:
    """Return plain data, as a sweep file would say it; settings with their default value are left out.

    Raises `WrongInput`, placed at `where`, for an object that has no place in a sweep file.

    >>> as_document({"kind": "quantize", "bits": {"conv*": Int(2, 8)}}, "space[0]")
    {'kind': 'quantize', 'bits': {'conv*': {'int': [2, 8]}}}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    found: Json = None
    match value:
        case Choice():
            found = {"choice": _list(value.options, where)}
        case Int() | Float():
            found = _range(value)
        case StageSpace():
            found = {"kind": _kind_of(value.stage, where), **_mapping(value.settings, where)}
        case BaseModel():
            found = {**_kind(value, where), **_mapping(_given(value), where)}
        case Mapping():
            found = _mapping(value, where)
        case os.PathLike():
            found = str(os.fspath(value))
        case Sequence():
            found = _list(value, where)
        case _ if is_dataclass(value) and not isinstance(value, type):
            found = _mapping({field.name: getattr(value, field.name) for field in fields(value)}, where)
        case _:
            hint = "give a stage, a hole, text, numbers, true, false, None, or lists and mappings of them"
            raise WrongInput(Problem(where, "cannot be part of a sweep", repr(value)[:80], hint))
    return found


def _list(values: Sequence[object], where: str) -> list[Json]:
    return [as_document(item, f"{where}[{index}]") for index, item in enumerate(values)]


def _range(hole: Int | Float) -> Json:
    name = "int" if isinstance(hole, Int) else "float"
    step = {"step": hole.step} if isinstance(hole, Int) and hole.step != 1 else {}
    return {name: [hole.low, hole.high], **({"log": True} if hole.log else {}), **step}


def _mapping(values: Mapping[str, object], where: str) -> dict[str, Json]:
    return {str(name): as_document(value, f"{where}.{name}") for name, value in values.items()}


def _given(part: BaseModel) -> dict[str, object]:
    names = [name for name in type(part).model_fields if name in part.model_fields_set and name != "kind"]
    return {name: getattr(part, name) for name in names}


def _kind(part: BaseModel, where: str) -> dict[str, Json]:
    return {"kind": _kind_of(type(part), where)} if "kind" in type(part).model_fields else {}


def _kind_of(part: type, where: str) -> str:
    """Return the registered name of a stage, tweak or meter, or a reference to its class."""
    default = part.model_fields["kind"].default if issubclass(part, BaseModel) else None
    for registry in (STAGES, TWEAKS, METERS):
        if default in registry.names() and registry.load(default) is part:
            return str(default)
    if part.__module__ == "__main__":
        hint = "put the class into a file beside your program and import it from there"
        raise WrongInput(Problem(where, "only a class of a module reaches the workers", part.__name__, hint))
    return reference_to(part)
