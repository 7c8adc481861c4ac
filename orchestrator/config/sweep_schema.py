"""The JSON schema of the sweep file, with the settings of every known stage, tweak and meter, and with holes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from pydantic import BaseModel

from paretta.orchestrator.config.sections import SweepConfig
from paretta.pipelines.meter import Meter
from paretta.pipelines.stage import Stage
from paretta.pipelines.tweak import TweakSettings
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.registry import (
    IMPORTANCES,
    METERS,
    QUANTIZERS,
    RUNTIMES,
    SAMPLERS,
    SENSITIVITIES,
    STAGES,
    STOPPERS,
    TWEAKS,
    Registry,
)

Schema: TypeAlias = dict[str, Json]

_CODE: Final[Schema] = {"type": "string", "pattern": ":", "description": "code: ./file.py:Thing or module:Thing"}
_NAMED: Final[Mapping[str, Registry]] = {  # settings that name an extension
    "importance": IMPORTANCES,
    "runtime": RUNTIMES,
    "weights": QUANTIZERS,
    "sensitivity": SENSITIVITIES,
}
_TOLD: Final = ("description", "default", "examples")
_PARTS: Final = {"Stage": "stage", "TweakSettings": "tweak"}  # base classes of what a setting may hold
_KINDS: Final[Mapping[str, tuple[type[BaseModel], Registry]]] = {
    "stage": (Stage, STAGES),
    "tweak": (TweakSettings, TWEAKS),
    "meter": (Meter, METERS),
}
_IS_HOLE: Final[Schema] = {
    "type": "object",
    "anyOf": [{"required": [name]} for name in ("choice", "int", "float")],
    "not": {"required": ["kind"]},
}
_BOUND: Final[Schema] = {
    "anyOf": [
        {"type": ["number", "string"]},
        *(
            {
                "type": "object",
                "properties": {relation: {"type": ["number", "string"]}},
                "required": [relation],
                "additionalProperties": False,
            }
            for relation in ("of_baseline", "below_baseline", "above_baseline")
        ),
    ]
}
_LIMIT: Final[Schema] = {
    "type": "object",
    "properties": {"meter": {"type": "string"}, "at_least": _BOUND, "at_most": _BOUND},
    "required": ["meter"],
    "oneOf": [{"required": ["at_least"]}, {"required": ["at_most"]}],
    "additionalProperties": False,
}


def sweep_schema() -> Schema:
    """Return the schema. Kinds that name code, such as ``./mine.py:Stage``, may have any settings."""
    schema = cast(Schema, SweepConfig.model_json_schema())
    settings, sections = _in(schema, "properties"), _in(schema, "$defs")
    plain, holed = _Parts("plain"), _Parts("space", holes=True)
    _in(settings, "baseline")["items"] = plain.any_of("stage")
    _in(settings, "space")["items"] = holed.step()
    _in(_in(_in(sections, "DeliverConfig"), "properties"), "variants")["items"] = {
        "type": "array",
        "items": plain.any_of("stage"),
    }
    _in(settings, "objectives")["items"] = {"if": {"type": "string"}, "else": plain.any_of("meter")}
    for name in ("limits", "reference"):
        _in(settings, name)["items"] = _LIMIT
    search = _in(_in(sections, "SearchConfig"), "properties")
    for name, registry in (("sampler", SAMPLERS), ("stopper", STOPPERS)):
        search[name] = {**_in(search, name), **_name_of(registry)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "$defs": {**sections, **plain.defs, **holed.defs},
    }


@dataclass(slots=True)
class _Parts:
    """Builds definitions of stages, tweaks and meters, whose names start with `prefix`.

    Args:
        holes: whether a value may be a hole, as in `space`.
    """

    prefix: str
    holes: bool = False
    defs: Schema = field(default_factory=dict)

    def any_of(self, noun: str) -> Schema:
        """Refer to any stage, tweak or meter: its kind decides which settings it has."""
        name = f"{self.prefix}.{noun}"
        if name not in self.defs:
            self.defs[name] = {}  # while it is built: a stage may hold stages
            self.defs[name] = self._by_kind(name, noun)
        return _ref(name)

    def step(self) -> Schema:
        """Refer to a step of the space: a stage, or a choice of steps and null."""
        name = f"{self.prefix}.step"
        options: Schema = {"type": "array", "minItems": 1, "items": {"if": {"type": "null"}, "else": _ref(name)}}
        self.defs[name] = {"if": _IS_HOLE, "then": _only({"choice": options}), "else": self.any_of("stage")}
        return _ref(name)

    def _by_kind(self, name: str, noun: str) -> Schema:
        base, registry = _KINDS[noun]
        kinds = registry.names()
        for kind in kinds:
            self.defs[f"{name}.{kind}"] = self._settings(registry.load_class(kind, base), f"{name}.{kind}")
        known: Schema = {"type": "string"} if noun == "meter" else _name_of(registry)  # metrics are the task's own
        branches: list[Json] = [
            {"if": {"required": ["kind"], "properties": {"kind": {"const": kind}}}, "then": _ref(f"{name}.{kind}")}
            for kind in kinds
        ]
        return {"type": "object", "required": ["kind"], "properties": {"kind": known}, "allOf": branches}

    def _settings(self, part: type[BaseModel], name: str) -> Schema:
        schema = cast(Schema, part.model_json_schema())
        inner = cast(Schema, schema.get("$defs", {}))
        fields = cast(dict[str, Schema], schema["properties"])
        properties: Schema = {
            "kind": {"type": "string", "description": str(schema.get("description", "")).split("\n")[0]}
        }
        for setting, value in fields.items():
            if setting != "kind":
                properties[setting] = self._value(_named(setting, value), f"{name}.{setting}", inner)
        required = [setting for setting in cast(list[str], schema.get("required", [])) if setting != "kind"]
        return {**_only(properties, required=["kind", *required]), "type": "object"}

    def _value(self, schema: Schema, name: str, inner: Schema) -> Schema:
        """Return a schema of a value, or of a hole that is filled with such a value."""
        value = self._inside(schema, name, inner)
        if not self.holes:
            return value
        value = {key: part for key, part in value.items() if key not in _TOLD}
        options: Schema = {"type": "array", "minItems": 1, "items": _ref(name)}
        ways: list[Json] = [_only({"choice": options}, required=["choice"])]
        log: Schema = {"log": {"type": "boolean"}}
        types = set(_types(value))
        if types & {"integer", "number"}:
            ways.append(
                _only(
                    {"int": _range("integer", value), **log, "step": {"type": "integer", "minimum": 1}},
                    required=["int"],
                )
            )
        if "number" in types:
            ways.append(_only({"float": _range("number", value), **log}, required=["float"]))
        self.defs[name] = {"if": _IS_HOLE, "then": {"anyOf": ways}, "else": value}
        return {**_ref(name), **{key: schema[key] for key in _TOLD if key in schema}}

    def _inside(self, schema: Schema, name: str, inner: Schema) -> Schema:
        """Return the schema with everything below it turned into values; a part stands for its own definition."""
        reference = str(schema.get("$ref", "")).rpartition("/")[2]
        if reference in _PARTS:
            return self.any_of(_PARTS[reference])
        if reference:
            return self._inside(_in(inner, reference), name, inner)
        found = {key: value for key, value in schema.items() if key not in ("title", "$defs")}
        if "anyOf" in found:
            branches = cast(list[Schema], found["anyOf"])
            found["anyOf"] = [self._inside(branch, f"{name}.{i}", inner) for i, branch in enumerate(branches)]
        for key, below in (("items", "item"), ("additionalProperties", "each")):
            if isinstance(found.get(key), dict):
                found[key] = self._value(_in(found, key), f"{name}.{below}", inner)
        if "properties" in found:
            found["properties"] = {
                key: self._value(_named(key, cast(Schema, value)), f"{name}.{key}", inner)
                for key, value in _in(found, "properties").items()
            }
        return found


def _in(schema: Schema, key: str) -> Schema:
    return cast(Schema, schema[key])


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _only(properties: Schema, *, required: Iterable[str] = ()) -> Schema:
    return {"properties": properties, "required": list(required), "additionalProperties": False}


def _range(kind: str, value: Schema) -> Schema:
    """Return the schema of two bounds, each of which the setting takes as its value."""
    return {"type": "array", "minItems": 2, "maxItems": 2, "items": {"allOf": [{"type": kind}, value]}}


def _name_of(registry: Registry) -> Schema:
    return {"anyOf": [{"enum": list(registry.names())}, _CODE]}


def _named(setting: str, schema: Schema) -> Schema:
    """Let a setting that names an extension take the known names, or code."""
    if setting not in _NAMED or schema.get("type") != "string":
        return schema
    return {**{key: value for key, value in schema.items() if key != "type"}, **_name_of(_NAMED[setting])}


def _types(schema: Schema) -> Iterable[str]:
    """Yield the JSON types that a schema takes at its top."""
    if isinstance(schema.get("type"), str):
        yield str(schema["type"])
    for branch in cast(list[Schema], schema.get("anyOf", [])):
        yield from _types(branch)
