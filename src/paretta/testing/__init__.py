"""Contract tests for extensions: subclass the class for your kind, override its fixture, and run pytest.

Needs pytest, which `paretta` itself does not install. See ``docs/plugins.md``.
"""

import importlib
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from paretta.testing.importances import ImportanceContract
    from paretta.testing.meters import MeterContract
    from paretta.testing.quantizers import QuantizerContract
    from paretta.testing.runtimes import RuntimeContract
    from paretta.testing.samplers import SamplerContract
    from paretta.testing.sensitivities import SensitivityContract
    from paretta.testing.stages import StageContract
    from paretta.testing.stoppers import StopperContract
    from paretta.testing.tasks import TaskContract
    from paretta.testing.tweaks import TweakContract

_HOMES: Final = {
    "ImportanceContract": "importances",
    "MeterContract": "meters",
    "QuantizerContract": "quantizers",
    "RuntimeContract": "runtimes",
    "SamplerContract": "samplers",
    "SensitivityContract": "sensitivities",
    "StageContract": "stages",
    "StopperContract": "stoppers",
    "TaskContract": "tasks",
    "TweakContract": "tweaks",
}

__all__ = [
    "ImportanceContract",
    "MeterContract",
    "QuantizerContract",
    "RuntimeContract",
    "SamplerContract",
    "SensitivityContract",
    "StageContract",
    "StopperContract",
    "TaskContract",
    "TweakContract",
]

for _home in _HOMES.values():
    pytest.register_assert_rewrite(f"paretta.testing.{_home}")  # so that a failed check shows its values


def __getattr__(name: str) -> object:
    """Import a contract on first use, so that testing a stage does not import what samplers need."""
    if name not in _HOMES:
        raise AttributeError(f"module 'paretta.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"paretta.testing.{_HOMES[name]}"), name)
