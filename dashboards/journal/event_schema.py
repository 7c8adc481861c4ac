"""The schema of journal events, with which damaged lines are rejected before they are used."""

import json
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from paretta.search_spaces.canonical import Document

ANNOTATED_SCHEMA: Final = 4  # of the event that notes something, which earlier versions cannot read
EXTENDED_SCHEMA: Final = 3  # of the event that extends a sweep, which earlier versions cannot read
SCHEMA_VERSION: Final = 2  # schema 1 called trials that were stopped early `pruned`
_MAX_DEPTH: Final = 64
_LAST_TIME: Final = 253402300799.0  # the end of the year 9999, the last that `datetime` can represent


def _one_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise ValueError("must be the name of one file or folder")
    return name


def _path_inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not path.isprintable():
        raise ValueError("must be a path inside the sweep's folder")
    return path


_Name: TypeAlias = Annotated[str, AfterValidator(_one_name)]
_Inside: TypeAlias = Annotated[str, AfterValidator(_path_inside)]
_Time: TypeAlias = Annotated[float, Field(ge=0.0, le=_LAST_TIME)]
_Object: TypeAlias = dict[str, object]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Search(_Part):
    trials: int | None = None


class _Config(_Part):
    search: _Search = _Search()
    limits: list[object] = []
    reference: list[object] = []
    wishes: dict[str, _Object] = {}


class _Facts(_Part):
    folder: str = ""
    storage: str | None = None


class _Objective(_Part):
    meter: str
    goal: Literal["min", "max"]
    unit: str


class _Reading(_Part):
    value: FiniteFloat | None
    unit: str
    low: FiniteFloat | None
    high: FiniteFloat | None
    num_samples: int
    reason: str | None
    details: dict[str, float | int | str | bool]


class _Plan(_Part):
    baseline: list[_Object]
    stages: list[_Object]


class _Note(_Part):
    stage: str
    reason: str
    layers: list[str] = []
    verdict: str = ""
    bits: int | None = None


class _Trial(_Part):
    uid: _Name
    number: Annotated[int, Field(ge=0)]
    role: str
    status: str
    reason: str | None
    detail: str
    plan: _Plan
    seed: int
    knobs: _Object
    words: str
    readings: dict[str, _Reading]
    test_readings: dict[str, _Reading]
    artifact: _Inside | None
    cost: dict[str, FiniteFloat]
    started: _Time
    finished: _Time
    of: str | None = None
    layers: dict[str, _Object] = {}
    reused: list[_Object] = []
    notes: list[_Note] = []


class _Message(_Part):
    stage: str = ""
    scores: dict[str, float | None] = {}


class _Event(_Part):
    time: _Time


class _SweepEvent(_Event):
    event: Literal["sweep"]
    name: str
    config: _Config
    objectives: list[_Objective]
    facts: _Facts
    lessons: _Object = {}


class _ResumedEvent(_Event):
    event: Literal["resumed"]
    facts: _Object


class _ExtendedEvent(_Event):
    event: Literal["extended"]
    trials: Annotated[int, Field(ge=1)]


class _TrialEvent(_Event):
    event: Literal["trial"]
    trial: _Trial


class _ProgressEvent(_Event):
    event: Literal["progress"]
    uid: _Name
    message: _Message


class _FrontEvent(_Event):
    event: Literal["front"]
    members: list[_Name]


class _AnnotatedEvent(_Event):
    event: Literal["annotated"]
    uid: _Name | None = None
    note: str | None = None
    tags: dict[str, str | None] = {}


class _EndEvent(_Event):
    event: Literal["end"]
    status: Literal["done", "stopped", "failed"]
    reason: str | None


_EVENTS: Final[TypeAdapter[object]] = TypeAdapter(
    Annotated[
        _SweepEvent
        | _ResumedEvent
        | _ExtendedEvent
        | _TrialEvent
        | _ProgressEvent
        | _FrontEvent
        | _AnnotatedEvent
        | _EndEvent,
        Field(discriminator="event"),
    ]
)


def parse_event(line: bytes) -> Document:
    """Parse one line of a journal.

    Raises `ValueError` with a one-line message if the line is not valid JSON, lacks a field, has a field of the wrong
    type, names a path outside the sweep's folder, or was written in a later schema.
    """
    try:
        event = json.loads(line.decode(), parse_constant=_refuse_number, parse_float=_finite)
        json.dumps(event, ensure_ascii=False).encode()  # a lone surrogate could not be written again
    except RecursionError:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"not Unicode: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if _depth(event) > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    _require_known_schema(event)
    try:
        _EVENTS.validate_python(event)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in found["loc"][1:])
        message = found["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        raise ValueError(f"{where}: {message}" if where else message) from None
    return cast(Document, event)


def _require_known_schema(event: object) -> None:
    schema = event.get("schema", SCHEMA_VERSION) if isinstance(event, dict) else SCHEMA_VERSION
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ValueError(f"schema: must be a whole number from 1 to {ANNOTATED_SCHEMA}")
    if schema > ANNOTATED_SCHEMA:
        rule = f"written in schema {schema} by a later paretta; this one reads schemas up to {ANNOTATED_SCHEMA}"
        raise ValueError(f"{rule}; read it with that version")


def _refuse_number(name: str) -> float:
    raise ValueError(f"not JSON: {name} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inner if isinstance(item, dict | list)), default=0)
