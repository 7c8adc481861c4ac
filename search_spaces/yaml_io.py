"""YAML 1.2 in, YAML out; every value keeps the line it stood on."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput, first_line

MAX_BYTES: Final = 2**18  # of a file, which takes seconds to parse; a long sweep has some thousand
_MAX_DEPTH: Final = 40
_MAX_VALUES: Final = 100_000  # aliases can multiply a short text into any number of values
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"


@dataclass(frozen=True, slots=True)
class Located:
    """Plain data read from a file, the line of each path in it, and the comment it opens with, if it opens with one."""

    data: Json
    file: str
    lines: Mapping[str, int]
    opening: str = ""

    def where(self, path: str) -> str:
        """Say where `path` stands, such as ``sweep.yaml:7 space[0].sparsity``.

        A path that is not in the file is placed at its nearest parent.
        """
        parent = path
        while parent and parent not in self.lines:
            parent = parent[: max(parent.rfind("."), parent.rfind("["), 0)]
        line = self.lines.get(parent)
        return f"{self.file}:{line} {path}".rstrip() if line else f"{self.file} {path}".rstrip()


def read_yaml(path: Path) -> Located:
    """Read one YAML 1.2 document: ``1e-4`` is a number, ``no`` and ``on`` are words.

    Raises `WrongInput` naming file, line and mend for a missing, unreadable or large file, broken syntax, a key given
    twice, or a tag.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise WrongInput(Problem(str(path), "there is no such file", mend="check the path")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(Problem(str(path), f"the file cannot be read: {error}")) from None
    if len(content) > MAX_BYTES:
        rule = f"a YAML file may have {MAX_BYTES} bytes at most"
        raise WrongInput(Problem(str(path), rule, mend="write long lists of numbers as ranges"))
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
    except (YAMLError, ValueError, OverflowError) as error:  # the last two of escapes that stand for no character
        raise WrongInput(Problem(file, f"not valid YAML: {first_line(error)}")) from None
    except RecursionError:
        raise WrongInput(Problem(file, f"nesting must end within {_MAX_DEPTH} levels")) from None
    reader = _Reader(file)
    data = None if document is None else reader.value(document, "", ())
    first = text.lstrip().partition("\n")[0]
    opening = first.lstrip("# ") if first.startswith("#") else ""
    return Located(data, file, reader.lines, opening)


@dataclass(slots=True)
class _Reader:
    """Turns composed nodes into plain data, and keeps the line of each path."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)
    num_values: int = 0

    def value(self, node: Node, path: str, parents: tuple[Node, ...]) -> Json:
        self.num_values += 1
        if self.num_values > _MAX_VALUES:
            raise WrongInput(Problem(self.file, f"a document may hold {_MAX_VALUES} values at most"))
        if node in parents or len(parents) > _MAX_DEPTH:
            raise self._refused(node, path, f"nesting must end within {_MAX_DEPTH} levels")
        match node:
            case MappingNode() if node.tag == f"{_TAG}map":
                return self._mapping(node, path, (*parents, node))
            case SequenceNode() if node.tag == f"{_TAG}seq":
                return self._sequence(node, path, (*parents, node))
            case ScalarNode():
                return self._scalar(node, path)
            case _:
                raise self._refused(node, path, "YAML tags have no meaning here", str(node.tag))

    def _mapping(self, node: MappingNode, path: str, parents: tuple[Node, ...]) -> Json:
        plain: dict[str, Json] = {}
        for key, value in self._entries(node, path, parents):
            inner = f"{path}.{key.value}" if path else str(key.value)
            self.lines[inner] = key.start_mark.line + 1
            plain[self._text(key, path)] = self.value(value, inner, parents)
        return plain

    def _entries(self, node: MappingNode, path: str, parents: tuple[Node, ...]) -> Iterator[tuple[ScalarNode, Node]]:
        """Yield a mapping's keys and values: its own, then those that it merges and does not have."""
        own: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._refused(key, path, "a key must be text")
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, SequenceNode) else [value]
            elif key.value in own:
                raise self._refused(key, path, "not valid YAML: a key is given once", str(key.value), "remove one")
            else:
                own[str(key.value)] = (key, value)
        for other in merged:
            if not isinstance(other, MappingNode) or other in parents or len(parents) > _MAX_DEPTH:
                rule = "`<<` takes another mapping, or a list of mappings, and never its own"
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
                    return int(_digits(text), 0)
                case "float":
                    return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        except (ValueError, KeyError):
            raise self._refused(node, path, "not a number that can be read", text[:40]) from None
        if node.tag == f"{_TAG}timestamp":
            rule = "only text, numbers, true, false, null, lists and mappings are read; quote it to make it text"
            raise self._refused(node, path, rule, text)
        raise self._refused(node, path, "YAML tags have no meaning here", str(node.tag))

    def _text(self, node: ScalarNode, path: str) -> str:
        text = str(node.value)
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            raise self._refused(node, path, "text must not hold NUL or half a character", text)
        return text

    def _refused(self, node: Node, path: str, rule: str, value: object = None, mend: str = "") -> WrongInput:
        return WrongInput(Problem(f"{self.file}:{node.start_mark.line + 1} {path}".rstrip(), rule, value, mend))


def _digits(text: str) -> str:
    """Write a whole number as Python reads it: a leading zero means nothing in YAML 1.2.

    >>> _digits("-010"), _digits("0o17"), _digits("1_000"), _digits("00")
    ('-10', '0o17', '1000', '0')
    """
    text = text.replace("_", "")
    sign, number = (text[0], text[1:]) if text[:1] in "+-" else ("", text)
    return sign + (number.lstrip("0") or "0" if number.isdigit() else number)


def write_yaml(data: Json) -> str:
    """Write plain data as YAML 1.2, keys in their given order, equal data as equal text.

    >>> print(write_yaml({"seed": 1, "stages": [{"kind": "prune", "sparsity": 0.5}]}), end="")
    seed: 1
    stages:
      - kind: prune
        sparsity: 0.5
    """
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    buffer = io.StringIO()
    yaml.dump(_mutable(data), buffer)
    return buffer.getvalue()


def _mutable(value: Json) -> Any:
    if isinstance(value, Mapping):
        return {key: _mutable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_mutable(item) for item in value]
    return value
