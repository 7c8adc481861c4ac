"""Registries of extensions: the names that a YAML file may use and the objects they refer to."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, TypeVar

from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.user_code import load_object

T = TypeVar("T")

BUILT_IN: Final = "built in"


@dataclass(frozen=True, slots=True)
class Registry:
    """All extensions of one kind, such as all stages.

    A file ``x_y.py`` in `package` offers the class ``XY``, or the object called `attribute` if one is given. Other
    distributions add theirs through the entry point `group`; ``package.module:Thing`` and ``./file.py:Thing`` need no
    registration at all, see `paretta.search_spaces.user_code`.

    Args:
        noun: what one extension is called in messages, such as ``stage``.
        package: the dotted package whose files are scanned.
        attribute: the name of the object in every file; by default the file's own name in CamelCase.

    >>> Registry("preset", "paretta.search_spaces.presets").group
    'paretta.preset'
    """

    noun: str
    package: str
    attribute: str | None = None

    @property
    def group(self) -> str:
        """The entry point group for other distributions."""
        return f"paretta.{self.noun}"

    def names(self) -> tuple[str, ...]:
        """List every known name, sorted, without importing any of them."""
        return tuple(sorted({*self._files(), *self._entry_points()}))

    def require(self, name: str, where: str) -> None:
        """Raise `WrongInput`, placed at `where`, for a name that is neither known nor a reference to code."""
        if ":" not in name and name not in self.names():
            raise WrongInput(Problem(where, did_you_mean(name, self.names(), self.noun)))

    def load(self, name: str, *, where: str | None = None) -> object:
        """Return the object called `name`; import errors in built-in files propagate unchanged.

        Args:
            name: a known name, ``package.module:Thing`` or ``./file.py:Thing``.
            where: the name's place in its file, for messages; the noun by default.

        Raises:
            WrongInput: the name is unknown, offered more than once, or its code cannot be imported.
        """
        place = where or self.noun
        if ":" in name:
            return load_object(name, place)
        self.require(name, place)
        if len(origins := self.origins(name)) > 1:
            rule = f"the {self.noun} {name!r} is offered more than once: {', '.join(origins)}"
            raise WrongInput(Problem(place, rule, hint="write module:Thing for the one you mean, or uninstall one"))
        if name in self._files():
            module = importlib.import_module(f"{self.package}.{name}")
            return getattr(module, self.attribute or "".join(part.capitalize() for part in name.split("_")))
        (point,) = self._entry_points()[name]
        with blaming(place, f"loading {name} {_origin(point)}"):
            loaded: object = point.load()
        return loaded

    def load_class(self, name: str, base: type[T], *, where: str | None = None) -> type[T]:
        """Return the class called `name`.

        Raises `WrongInput` as `load` does, and if it is not a subclass of `base` or lacks one of its abstract methods.
        """
        place, found = where or self.noun, self.load(name, where=where)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise WrongInput(Problem(place, f"must name a subclass of {base.__module__}.{base.__qualname__}", name))
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise WrongInput(Problem(place, f"the class must define {missing}", name))
        return found

    def known(self, name: str, base: type) -> str:
        """Validate a setting that names a class without settings: return it, or raise ValueError with the problem."""
        try:
            found: type[object] = self.load_class(name, base)
            with blaming(self.noun, f"making {name}"):
                found()
        except WrongInput as error:
            told = (replace(problem, value=None).message() for problem in error.problems)  # the caller tells the value
            raise ValueError("; ".join(told)) from error
        return name

    def origins(self, name: str) -> tuple[str, ...]:
        """Return where a known name comes from, such as ``from clash 1.0 (module:Thing)``; more than one is a clash."""
        built_in = (BUILT_IN,) if name in self._files() else ()
        return (*built_in, *map(_origin, self._entry_points().get(name, ())))

    def reference(self, name: str) -> str:
        """Return the ``module:Thing`` that an entry point's name refers to; any other name is returned unchanged."""
        points = self._entry_points().get(name, ())
        return points[0].value if points and name not in self._files() else name

    def describe(self, name: str) -> str:
        """Return the first line of the file's docstring without importing the file; empty for an entry point."""
        path = self._files().get(name)
        text = "" if path is None else ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return text.partition("\n")[0]

    def _files(self) -> Mapping[str, Path]:
        return _modules_of(self.package, tuple(sys.path))

    def _entry_points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _points(self.group, tuple(sys.path))


@cache
def _modules_of(package: str, path: tuple[str, ...]) -> Mapping[str, Path]:
    """Return a package's files by module name, read once, as a check loads thousands of stages; `path` is its key."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    modules = [module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")]
    return {name: Path(folder) / f"{name}.py" for folder in folders for name in modules}


@cache
def _points(group: str, path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name, each object once; `path` is part of the cache key."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, {})[point.value] = point
    return {name: tuple(sorted(points.values(), key=_origin)) for name, points in found.items()}


def _origin(point: EntryPoint) -> str:
    home = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
    return f"from {home} ({point.value})"


# Everything that a sweep file may name. Listing the names imports none of the packages.
STAGES = Registry("stage", "paretta.pipelines.stages")
IMPORTANCES = Registry("importance", "paretta.pipelines.importance")
QUANTIZERS = Registry("quantizer", "paretta.pipelines.quantizers")
SENSITIVITIES = Registry("sensitivity", "paretta.pipelines.sensitivities")
TWEAKS = Registry("tweak", "paretta.pipelines.tweaks")
METERS = Registry("meter", "paretta.pipelines.meters")
RUNTIMES = Registry("runtime", "paretta.pipelines.runtimes")
SAMPLERS = Registry("sampler", "paretta.orchestrator.samplers", attribute="make")
STOPPERS = Registry("stopper", "paretta.orchestrator.stoppers", attribute="make")
TASKS = Registry("task", "paretta.pipelines.tasks", attribute="make")
