"""The command line: each verb reads its arguments, calls one function, and prints what it returns."""

import click

from paretta.orchestrator.cli import artifacts, device, housekeeping, results, start, sweeps, words
from paretta.orchestrator.cli.shared import Verbs


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="paretta")
def main() -> None:
    """Search for smaller, faster versions of a trained model, and pull the best ones.

    Exit codes: 0 done; 1 the sweep ran but something failed; 2 wrong input, nothing was computed or written;
    130 stopped by a signal, to be resumed.
    """


for verbs in (start, sweeps, results, artifacts, device, housekeeping, words):
    for verb in vars(verbs).values():
        if isinstance(verb, click.Command):
            main.add_command(verb)
