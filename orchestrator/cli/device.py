"""Verbs on the machine that runs the models: agent."""

from pathlib import Path

import click

from paretta.orchestrator.cli.shared import DONE, exits
from paretta.search_spaces.errors import Problem, WrongInput


@click.command()
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:7711", show_default=True, help="Port 0: a free one.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The secret of its clients; made if missing.  [default: $PARETTA_AGENT_TOKEN]",
)
@click.option("--limit", metavar="SIZE", default="2GB", show_default=True, help="How much it keeps of what it is sent.")
@exits
def agent_command(listen: str, token_file: Path | None, limit: str) -> int:
    """Measure models on this machine for sweeps elsewhere, which name it in `measuring`; Ctrl-C ends it.

    It needs numpy and a runtime, and neither torch nor Ray. It listens on loopback: reach it through a tunnel.
    """
    from paretta.orchestrator.agent.agent_server import serve_agent
    from paretta.orchestrator.agent.agent_token import make_token, read_token

    host, port = _place(listen)
    most_bytes = _bytes(limit)
    if token_file is not None and not token_file.exists():
        make_token(token_file)
        click.echo(f"a new token is in {token_file}: copy it to the machine of the sweep")
    token = read_token(token_file, where="--token-file")
    serve_agent(
        host, port, token, most_bytes=most_bytes, say=click.echo, warn=lambda warning: click.echo(warning, err=True)
    )
    return DONE


def _place(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise WrongInput(Problem("--listen", "an address is HOST:PORT", listen, "such as 127.0.0.1:7711"))
    return host.removeprefix("[").removesuffix("]"), int(port)


def _bytes(limit: str) -> int:
    from paretta.search_spaces.quantities import parse_quantity

    try:
        value, unit = parse_quantity(limit)
    except ValueError as error:
        raise WrongInput(Problem("--limit", str(error), hint="write it like 2GB")) from None
    if unit not in (None, "B") or value < 1:
        raise WrongInput(Problem("--limit", "must be a number of bytes", limit, "write it like 2GB"))
    return int(value)
