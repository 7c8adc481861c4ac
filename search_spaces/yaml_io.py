"""YAML 1.2 in, YAML out; every value keeps the line it stood on."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput

_MAX_DEPTH: Final = 40
_MAX_VALUES: Final = 100_000  # aliases can multiply a short text into any number of values


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

    Raises `WrongInput` naming file, line and mend for a missing or unreadable file, broken syntax, a key given twice,
    or a tag.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WrongInput(Problem(str(path), "there is no such file", mend="check the path")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(Problem(str(path), f"the file cannot be read: {error}")) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> Located:
    r"""Read a YAML 1.2 document from a string; `file` is its name in messages.

    >>> parse_yaml("lr: 1e-4\nactivation: no\n", "sweep.yaml").data
    {'lr': 0.0001, 'activation': 'no'}
    """
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise WrongInput(Problem(f"{file}{line}", f"not valid YAML: {error.problem or error.context}")) from None
    lines: dict[str, int] = {}
    first = text.lstrip().partition("\n")[0]
    opening = first.lstrip("# ") if first.startswith("#") else ""
    return Located(_plain(document, "", file, lines, ()), file, lines, opening)


def _plain(node: Any, path: str, file: str, lines: dict[str, int], parents: tuple[int, ...]) -> Json:
    if id(node) in parents or len(parents) > _MAX_DEPTH:
        raise WrongInput(Problem(f"{file} {path}", f"nesting must end within {_MAX_DEPTH} levels"))
    if len(lines) > _MAX_VALUES:
        raise WrongInput(Problem(file, f"a document may hold {_MAX_VALUES} values at most"))
    here = (*parents, id(node))
    if isinstance(node, CommentedMap):
        plain: dict[str, Json] = {}
        for key, value in node.items():
            inner = f"{path}.{key}" if path else str(key)
            lines[inner] = node.lc.key(key)[0] + 1 if node.lc.data and key in node.lc.data else 0
            plain[str(key)] = _plain(value, inner, file, lines, here)
        return plain
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            lines[f"{path}[{index}]"] = node.lc.item(index)[0] + 1
        return [_plain(value, f"{path}[{index}]", file, lines, here) for index, value in enumerate(node)]
    return _scalar(node, path, file)


def _scalar(node: Any, path: str, file: str) -> Json:
    match node:
        case ScalarBoolean() | bool():
            return bool(node)
        case ScalarInt() | int():
            return int(node)
        case ScalarFloat() | float():
            return float(node)
        case str():
            return str(node)
        case None:
            return None
        case TaggedScalar():
            raise WrongInput(Problem(f"{file} {path}", "YAML tags have no meaning here", str(node.tag.value)))
        case _:
            rule = "only text, numbers, true, false, null, lists and mappings are read; quote it to make it text"
            raise WrongInput(Problem(f"{file} {path}", rule, str(node)))


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
