"""``python -m paretta`` is the command ``paretta``."""

from paretta.orchestrator.cli import main

main(prog_name="paretta")
