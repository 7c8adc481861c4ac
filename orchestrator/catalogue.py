"""What a sweep file may name, by noun, with one line about each; nothing heavy is imported to know it."""

from orchestrator.sweep import SAMPLERS, presets
from search_spaces.registry import Registry

REGISTRIES = {
    "stages": Registry("stage", "pipelines.stages"),
    "importances": Registry("importance", "pipelines.importance"),
    "quantizers": Registry("quantizer", "pipelines.quantizers"),
    "sensitivities": Registry("sensitivity", "pipelines.sensitivities"),
    "tweaks": Registry("tweak", "pipelines.tweaks"),
    "meters": Registry("meter", "pipelines.meters"),
    "samplers": SAMPLERS,
    "tasks": Registry("task", "pipelines.tasks", attribute="make"),
}


def entries(noun: str) -> dict[str, str]:
    """Return every known name of `noun` with its story."""
    if noun == "presets":
        return presets()
    registry = REGISTRIES[noun]
    return {name: registry.describe(name) for name in registry.names()}
