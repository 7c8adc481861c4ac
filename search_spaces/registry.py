"""Names that a YAML file may mention, and the objects they stand for: one file per extension, found by folder scan."""

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean


@dataclass(frozen=True, slots=True)
class Registry:
    """The extensions of one noun.

    A file ``x_y.py`` in `package` offers the class ``XY``, or the object called `attribute` where one is given. Other
    distributions join through the entry point `group`; ``package.module:Thing`` needs no registration at all.

    Args:
        noun: what one extension is called in messages, such as ``stage``.
        package: the dotted package whose files are scanned.
        attribute: the name every file offers its object under; by default the file's own name in CamelCase.

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

    def load(self, name: str) -> object:
        """Return the object called `name`. Raises `WrongInput` for an unknown name; import errors are not hidden."""
        if ":" in name:
            return self._from_path(name)
        if name in self._entry_points():
            return entry_points(group=self.group)[name].load()
        if name not in self._files():
            raise WrongInput(Problem(self.noun, did_you_mean(name, self.names(), self.noun)))
        module = importlib.import_module(f"{self.package}.{name}")
        return getattr(module, self.attribute or "".join(part.capitalize() for part in name.split("_")))

    def describe(self, name: str) -> str:
        """Return the first line of the file's docstring, read without importing it."""
        path = self._files().get(name)
        if path is None:
            return f"from {self._entry_points()[name]}"
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return text.partition("\n")[0]

    def _files(self) -> Mapping[str, Path]:
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        modules = [module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")]
        return {name: Path(folder) / f"{name}.py" for folder in folders for name in modules}

    def _entry_points(self) -> Mapping[str, str]:
        return {point.name: point.value for point in entry_points(group=self.group)}

    def _from_path(self, name: str) -> object:
        module_name, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not module_name.startswith(error.name):
                raise
            rule = f"`{name}` names the module {module_name!r}, which is not installed"
            raise WrongInput(Problem(self.noun, rule, mend="install it or correct the name")) from None
        except AttributeError:
            rule = f"the module {module_name!r} has no {attribute!r}"
            raise WrongInput(Problem(self.noun, rule, mend="correct the name after the colon")) from None


# What a sweep file may name, known here without importing any of it; each is used by the package that it lists.
STAGES = Registry("stage", "paretta.pipelines.stages")
IMPORTANCES = Registry("importance", "paretta.pipelines.importance")
QUANTIZERS = Registry("quantizer", "paretta.pipelines.quantizers")
SENSITIVITIES = Registry("sensitivity", "paretta.pipelines.sensitivities")
TWEAKS = Registry("tweak", "paretta.pipelines.tweaks")
METERS = Registry("meter", "paretta.pipelines.meters")
SAMPLERS = Registry("sampler", "paretta.orchestrator.samplers", attribute="make")
STOPPERS = Registry("stopper", "paretta.orchestrator.stoppers", attribute="make")
TASKS = Registry("task", "paretta.pipelines.tasks", attribute="make")
