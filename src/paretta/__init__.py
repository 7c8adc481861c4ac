"""Search for smaller, faster models: a Pareto front of size, latency and accuracy of delivered, measured artifacts.

>>> from paretta import Float, Int, Prune, Quantize, Sweep, launch
>>> space = [Prune(sparsity=Float(0, 0.8)), Quantize(bits={"conv*": Int(2, 8), "*": 8})]
>>> front = launch(Sweep("digits", space, baseline=[{"kind": "train", "epochs": 8}]))  # doctest: +SKIP
>>> front.pick(at_most={"size": "20kB"})  # doctest: +SKIP

Everything in `__all__` is stable: it changes only with a note in the change log. The subpackages are not stable, except
for the names that ``docs/plugins.md`` lists.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    __version__: str

    from collections.abc import Sequence
    from typing import Any

    from paretta.orchestrator.config.check import check
    from paretta.orchestrator.config.sweep import Sweep
    from paretta.orchestrator.sweeps.launcher import extend, launch, resume
    from paretta.pipelines.stages.cluster import Cluster
    from paretta.pipelines.stages.distill import Distill
    from paretta.pipelines.stages.equalize import Equalize
    from paretta.pipelines.stages.fold_norms import FoldNorms
    from paretta.pipelines.stages.iterate import Iterate
    from paretta.pipelines.stages.prune import Prune
    from paretta.pipelines.stages.quantize import Quantize
    from paretta.pipelines.stages.recalibrate_norms import RecalibrateNorms
    from paretta.pipelines.stages.sparsify import Sparsify
    from paretta.pipelines.stages.student import Student
    from paretta.pipelines.stages.swap_activation import SwapActivation
    from paretta.pipelines.stages.train import Train
    from paretta.pipelines.stages.transfer import Transfer
    from paretta.pipelines.stream import Stream
    from paretta.pipelines.task import Metric, Task
    from paretta.search_spaces.errors import DamagedArtifact, ParettaError, StorageError, TrialFailed, WrongInput
    from paretta.search_spaces.results.front import Front

    # A hole stands for a value of any type, so that editors accept it in a stage's setting; see
    # `paretta.search_spaces.space.holes` for the classes that they are.
    def Choice(options: Sequence[object]) -> Any:  # noqa: N802
        """One of several options; an option may be a value, a stage with holes of its own, or None for no stage."""

    def Float(low: float, high: float, *, log: bool = False) -> Any:  # noqa: N802
        """A real number from `low` to `high`, both included."""

    def Int(low: int, high: int, *, log: bool = False, step: int = 1) -> Any:  # noqa: N802
        """An integer from `low` to `high`, both included, in steps of `step`."""


_HOMES: Final = {
    "orchestrator.config.check": ("check",),
    "orchestrator.config.sweep": ("Sweep",),
    "orchestrator.sweeps.launcher": ("extend", "launch", "resume"),
    "pipelines.stages.cluster": ("Cluster",),
    "pipelines.stages.distill": ("Distill",),
    "pipelines.stages.equalize": ("Equalize",),
    "pipelines.stages.fold_norms": ("FoldNorms",),
    "pipelines.stages.iterate": ("Iterate",),
    "pipelines.stages.prune": ("Prune",),
    "pipelines.stages.quantize": ("Quantize",),
    "pipelines.stages.recalibrate_norms": ("RecalibrateNorms",),
    "pipelines.stages.sparsify": ("Sparsify",),
    "pipelines.stages.student": ("Student",),
    "pipelines.stages.swap_activation": ("SwapActivation",),
    "pipelines.stages.train": ("Train",),
    "pipelines.stages.transfer": ("Transfer",),
    "pipelines.stream": ("Stream",),
    "pipelines.task": ("Metric", "Task"),
    "search_spaces.errors": ("DamagedArtifact", "ParettaError", "StorageError", "TrialFailed", "WrongInput"),
    "search_spaces.results.front": ("Front",),
    "search_spaces.space.holes": ("Choice", "Float", "Int"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Choice",
    "Cluster",
    "DamagedArtifact",
    "Distill",
    "Equalize",
    "Float",
    "FoldNorms",
    "Front",
    "Int",
    "Iterate",
    "Metric",
    "ParettaError",
    "Prune",
    "Quantize",
    "RecalibrateNorms",
    "Sparsify",
    "StorageError",
    "Stream",
    "Student",
    "SwapActivation",
    "Sweep",
    "Task",
    "Train",
    "Transfer",
    "TrialFailed",
    "WrongInput",
    "__version__",
    "check",
    "extend",
    "launch",
    "resume",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `import paretta` itself is fast."""
    if name == "__version__":
        return _version()
    if name not in _HOME_OF:
        raise AttributeError(f"module 'paretta' has no attribute {name!r}")
    return getattr(importlib.import_module(f"paretta.{_HOME_OF[name]}"), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - half of the time of `import paretta`

    try:
        return version("paretta")
    except PackageNotFoundError:  # on the import path without being installed, as on Ray's workers
        return "0+unknown"


def __dir__() -> list[str]:
    """List the public names, for completion."""
    return __all__
