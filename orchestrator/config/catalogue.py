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


def origins(noun: str) -> dict[str, str]:
    """Return where each known name of `noun` comes from; a name that is offered more than once has several origins."""
    if noun == "presets":
        return dict.fromkeys(presets(), registry.BUILT_IN)
    known = REGISTRIES[noun]
    return {name: ", ".join(known.origins(name)) for name in known.names()}
