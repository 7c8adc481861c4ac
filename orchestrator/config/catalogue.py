"""List what a sweep file may name, by kind, with one line about each, without heavy imports."""

from paretta.orchestrator.config.sections import SearchConfig
from paretta.orchestrator.config.sweep import presets
from paretta.search_spaces import registry

REGISTRIES = {
    "stages": registry.STAGES,
    "importances": registry.IMPORTANCES,
    "quantizers": registry.QUANTIZERS,
    "sensitivities": registry.SENSITIVITIES,
    "tweaks": registry.TWEAKS,
    "meters": registry.METERS,
    "runtimes": registry.RUNTIMES,
    "samplers": registry.SAMPLERS,
    "stoppers": registry.STOPPERS,
    "tasks": registry.TASKS,
}


def entries(noun: str) -> dict[str, str]:
    """Return every known name of `noun` with its one-line description."""
    if noun == "presets":
        return presets()
    known = REGISTRIES[noun]
    return {name: known.describe(name) for name in known.names()}


def origins(noun: str) -> dict[str, str]:
    """Return the origins of each known name of `noun`; a name that several packages offer has several."""
    if noun == "presets":
        return dict.fromkeys(presets(), registry.BUILT_IN)
    known = REGISTRIES[noun]
    return {name: ", ".join(known.origins(name)) for name in known.names()}


def default_name(noun: str) -> str | None:
    """Return the name that a sweep file which says nothing uses; None for what has no such default."""
    settings = {"samplers": "sampler", "stoppers": "stopper"}
    return str(SearchConfig.model_fields[settings[noun]].default) if noun in settings else None
