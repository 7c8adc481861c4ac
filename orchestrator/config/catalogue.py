"""What a sweep file may name, by noun, with one line about each; nothing heavy is imported to know it."""

from paretta.orchestrator.config.sweep import presets
from paretta.search_spaces import registry

REGISTRIES = {
    "stages": registry.STAGES,
    "importances": registry.IMPORTANCES,
    "quantizers": registry.QUANTIZERS,
    "sensitivities": registry.SENSITIVITIES,
    "tweaks": registry.TWEAKS,
    "meters": registry.METERS,
    "samplers": registry.SAMPLERS,
    "stoppers": registry.STOPPERS,
    "tasks": registry.TASKS,
}


def entries(noun: str) -> dict[str, str]:
    """Return every known name of `noun` with its story."""
    if noun == "presets":
        return presets()
    known = REGISTRIES[noun]
    return {name: known.describe(name) for name in known.names()}
