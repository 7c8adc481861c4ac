"""Reading YAML 1.2 with the line number of every value, and writing it."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import RoundTripRepresenter

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput, first_line

MAX_BYTES: Final = 2**18  # a file of this size takes seconds to parse; a long sweep file has a few thousand bytes
_MAX_DEPTH: Final = 40
_SHORT: Final = 96  # characters of a list or mapping, as Python writes it, that is written on one line
_MAX_VALUES: Final = 100_000  # aliases can multiply a short text into any number of values
_MAX_WHOLE: Final = 2**63 - 1
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"


@dataclass(frozen=True, slots=True)
class Located:
    """Plain data read from a file, the line number of each path in it, and the comment on its first line, if any."""

    data: Json
    file: str
    lines: Mapping[str, int]
    opening: str = ""

    def where(self, path: str) -> str:
        """Return the place of `path`, such as ``sweep.yaml:7 space[0].sparsity``.

        A path that is not in the file gets the line of its nearest parent.
        """
        parent = path
        while parent and parent not in self.lines:
            parent = parent[: max(parent.rfind("."), parent.rfind("["), 0)]
        line = self.lines.get(parent)
        return f"{self.file}:{line} {path}".rstrip() if line else f"{self.file} {path}".rstrip()


def read_yaml(path: Path) -> Located:
    """Read one YAML 1.2 document: ``1e-4`` is a number, ``no`` and ``on`` are strings.

    Raises `WrongInput`, which names the file, the line and the fix, for a missing, unreadable or too large file,
    invalid syntax, a duplicate key or a tag.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise WrongInput(Problem(str(path), "there is no such file", hint="check the path")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(Problem(str(path), f"the file cannot be read: {error}")) from None
    if len(content) > MAX_BYTES:
        rule = f"a YAML file may have at most {MAX_BYTES} bytes"
        raise WrongInput(Problem(str(path), rule, hint="write long lists of numbers as ranges"))
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> Located:
    r"""Read a YAML 1.2 document from a string; `file` is its name in messages.

    >>> parse_yaml("lr: 1e-4\nactivation: no\n", "sweep.yaml").data
    {'lr': 0.0001, 'activation': 'no'}
    """
    try:
        document = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise WrongInput(Problem(f"{file}{line}", f"not valid YAML: {error.problem or error.context}")) from None
    except (YAMLError, ValueError, OverflowError) as error:  # the last two come from invalid escapes
        raise WrongInput(Problem(file, f"not valid YAML: {first_line(error)}")) from None
    except RecursionError:
        raise WrongInput(Problem(file, f"nesting must not exceed {_MAX_DEPTH} levels")) from None
    reader = _Reader(file)
    data = None if document is None else reader.value(document, "", ())
    return Located(data, file, reader.lines, _opening(text))


def _opening(text: str) -> str:
    """Return the first line of the opening comment that speaks to people and not to an editor."""
    comments = (line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), text.lstrip().splitlines()))
    return next((line for line in comments if not line.startswith("yaml-language-server:")), "")


@dataclass(slots=True)
class _Reader:
    """Converts composed YAML nodes into plain data and records the line of each path."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)
    num_values: int = 0

    def value(self, node: Node, path: str, parents: tuple[Node, ...]) -> Json:
        self.num_values += 1
        if self.num_values > _MAX_VALUES:
            raise WrongInput(Problem(self.file, f"a document may have at most {_MAX_VALUES} values"))
        if node in parents or len(parents) > _MAX_DEPTH:
            raise self._refused(node, path, f"nesting must not exceed {_MAX_DEPTH} levels")
        match node:
            case MappingNode() if node.tag == f"{_TAG}map":
                return self._mapping(node, path, (*parents, node))
            case SequenceNode() if node.tag == f"{_TAG}seq":
                return self._sequence(node, path, (*parents, node))
            case ScalarNode():
                return self._scalar(node, path)
            case _:
                raise self._refused(node, path, "YAML tags are not supported", str(node.tag))

    def _mapping(self, node: MappingNode, path: str, parents: tuple[Node, ...]) -> Json:
        plain: dict[str, Json] = {}
        for key, value in self._entries(node, path, parents):
            inner = f"{path}.{key.value}" if path else str(key.value)
            self.lines[inner] = key.start_mark.line + 1
            plain[self._text(key, path)] = self.value(value, inner, parents)
        return plain

    def _entries(self, node: MappingNode, path: str, parents: tuple[Node, ...]) -> Iterator[tuple[ScalarNode, Node]]:
        """Yield a mapping's own keys and values, then the merged ones (``<<``) that it does not define itself."""
        own: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._refused(key, path, "a key must be text")
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, SequenceNode) else [value]
            elif key.value in own:
                raise self._refused(
                    key, path, "not valid YAML: a key may be given only once", str(key.value), "remove one"
                )
            else:
                own[str(key.value)] = (key, value)
        for other in merged:
            if not isinstance(other, MappingNode) or other in parents or len(parents) > _MAX_DEPTH:
                rule = "`<<` takes another mapping or a list of mappings, never its own mapping"
                raise self._refused(other, path, rule)
            for key, value in self._entries(other, path, (*parents, other)):
                own.setdefault(str(key.value), (key, value))
        self.num_values += len(own)
        yield from own.values()

    def _sequence(self, node: SequenceNode, path: str, parents: tuple[Node, ...]) -> Json:
        plain: list[Json] = []
        for index, item in enumerate(node.value):
            inner = f"{path}[{index}]"
            self.lines[inner] = item.start_mark.line + 1
            plain.append(self.value(item, inner, parents))
        return plain

    def _scalar(self, node: ScalarNode, path: str) -> Json:
        text = str(node.value)
        try:
            match str(node.tag).removeprefix(_TAG):
                case "str" | "value" | "merge":
                    return self._text(node, path)
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return self._whole(node, path)
                case "float":
                    return self._finite(node, path)
        except (ValueError, KeyError):
            raise self._refused(node, path, "not a readable number", text[:40]) from None
        if node.tag == f"{_TAG}timestamp":
            rule = "only text, numbers, true, false, null, lists and mappings are supported; quote it to make it text"
            raise self._refused(node, path, rule, text)
        raise self._refused(node, path, "YAML tags are not supported", str(node.tag))

    def _whole(self, node: ScalarNode, path: str) -> int:
        text = str(node.value)
        number = int(_digits(text), 0)
        if abs(number) > _MAX_WHOLE:
            raise self._refused(node, path, "whole numbers must fit into 64 bits", text[:40])
        return number

    def _finite(self, node: ScalarNode, path: str) -> float:
        """Read a number. None of our documents has a use for `.inf` and `.nan`, and JSON has no such numbers."""
        text = str(node.value)
        number = float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(number):
            raise self._refused(node, path, "numbers must be finite", text[:40])
        return number

    def _text(self, node: ScalarNode, path: str) -> str:
        text = str(node.value)
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            raise self._refused(node, path, "text must not contain NUL or a lone surrogate", text)
        return text

    def _refused(self, node: Node, path: str, rule: str, value: object = None, hint: str = "") -> WrongInput:
        return WrongInput(Problem(f"{self.file}:{node.start_mark.line + 1} {path}".rstrip(), rule, value, hint))


def _digits(text: str) -> str:
    """Rewrite a YAML 1.2 integer, in which leading zeros have no meaning, so that Python can parse it.

    >>> _digits("-010"), _digits("0o17"), _digits("1_000"), _digits("00")
    ('-10', '0o17', '1000', '0')
    """
    text = text.replace("_", "")
    sign, number = (text[0], text[1:]) if text[:1] in "+-" else ("", text)
    return sign + (number.lstrip("0") or "0" if number.isdigit() else number)


def write_yaml(data: Json, *, compact: bool = False) -> str:
    """Write plain data as YAML 1.2 with keys in their given order; equal data give equal text.

    Args:
        data: what is written.
        compact: whether short lists and mappings below the top are written on one line, for people who go on with it.

    >>> print(write_yaml({"seed": 1, "stages": [{"kind": "prune", "sparsity": 0.5}]}), end="")
    seed: 1
    stages:
      - kind: prune
        sparsity: 0.5
    >>> print(write_yaml({"seed": 1, "stages": [{"kind": "prune", "sparsity": 0.5}, None]}, compact=True), end="")
    seed: 1
    stages: [{kind: prune, sparsity: 0.5}, null]
    """
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    if compact:
        yaml.Representer = _CompactRepresenter
    buffer = io.StringIO()
    yaml.dump(_mutable(data), buffer)
    return buffer.getvalue()


class _CompactRepresenter(RoundTripRepresenter):
    """Writes short lists and mappings below the top on one line, and null as a word."""

    def represent(self, data: Any) -> None:
        self.top = data
        super().represent(data)

    def represent_data(self, data: Any) -> Node:
        node: Node = super().represent_data(data)
        if isinstance(node, SequenceNode | MappingNode):
            node.flow_style = data is not self.top and len(str(data)) <= _SHORT
        return node


_CompactRepresenter.add_representer(type(None), lambda self, _: self.represent_scalar(f"{_TAG}null", "null"))


def _mutable(value: Json) -> Any:
    if isinstance(value, Mapping):
        return {key: _mutable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_mutable(item) for item in value]
    return value
