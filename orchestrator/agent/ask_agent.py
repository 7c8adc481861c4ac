"""Ask an agent whether it can measure what a sweep needs, before any compute is spent."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from paretta.dashboards.server.server_process import is_loopback
from paretta.orchestrator.agent.agent_client import AgentAddress, AgentClient, AgentLost, AgentRefused
from paretta.orchestrator.agent.protocol import AgentFacts
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.search_spaces.errors import Problem, WrongInput, first_line
from paretta.search_spaces.registry import METERS


def agent_facts(agent: AgentAddress, *, where: str) -> AgentFacts:
    """Return what the agent is.

    Args:
        agent: its address.
        where: the setting that names it, for messages.

    Raises:
        WrongInput: it does not answer, the token is wrong, or it runs another version.
    """
    try:
        return AgentClient(agent).facts()
    except AgentLost as error:
        port = urlsplit(agent.url).port or 7711
        hint = f"start `paretta agent --listen 127.0.0.1:{port}` there, and the tunnel that leads to it"
        raise WrongInput(Problem(where, first_line(error), hint=hint)) from None
    except AgentRefused as error:
        raise WrongInput(Problem(where, first_line(error))) from None


def meter_problems(facts: AgentFacts, meters: Mapping[str, ServedMeter]) -> Iterator[Problem]:
    """Find the meters that an agent cannot read, by the place in the sweep file that names them."""
    there = facts.machine.get("machine", "the agent's machine")
    for where, meter in meters.items():
        if meter.kind not in METERS.names() or ":" in meter.runtime:
            rule = "an agent imports no code that a sweep names"
            hint = "offer it through an entry point of a package, and install that on both machines"
            yield Problem(where, rule, meter.label, hint)
            continue
        runtime = facts.runtimes.get(meter.runtime)
        if runtime is None:
            hint = "install the package that offers it there, and start the agent again"
            yield Problem(where, f"{there} has no runtime {meter.runtime}", meter.label, hint)
        elif runtime.missing:
            rule, _, command = runtime.missing.partition(": ")
            yield Problem(where, f"{there}: {rule}", meter.label, f"there: {command}, and start the agent again")


def agent_warnings(agent: AgentAddress, facts: AgentFacts, meters: Mapping[str, ServedMeter]) -> Iterator[str]:
    """Yield what is likely not meant, or worth knowing, of measuring by this agent."""
    place = urlsplit(agent.url)
    if place.scheme == "http" and not is_loopback(place.hostname or ""):
        yield (
            f"the agent's token and the models go to {place.hostname} unencrypted; better a tunnel, such as "
            f"`ssh -L {place.port or 80}:127.0.0.1:{place.port or 80} {place.hostname}`, or https"
        )
    for where, meter in meters.items():
        if meter.threads > facts.cores:
            there = facts.machine.get("machine", "the agent's machine")
            yield f"{where}: {meter.label} computes on {meter.threads} threads, and {there} has {facts.cores} cores"
