"""``python -m orchestrator`` is ``paretta``."""

from orchestrator.cli import main

main(prog_name="paretta")
