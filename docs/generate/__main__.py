"""Generates docs/reference and docs/methods from the code: names, settings and docstrings."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from docs.generate.command_line import command_line_pages
from docs.generate.method_pages import method_pages
from paretta.orchestrator.config.catalogue import REGISTRIES, entries
from paretta.orchestrator.config.sections import (
    BudgetConfig,
    DeliverConfig,
    GainConfig,
    SearchConfig,
    SweepConfig,
    TaskConfig,
    WorkersConfig,
)
from paretta.orchestrator.monitor.status import status_document

PAGE = Path(__file__).parents[1] / "reference" / "sweep-file.md"


def page() -> str:
    """Return the whole page."""
    return (
        "\n".join([*_head(), *_sweep_file(), *_json_output(), *(line for noun in REGISTRIES for line in _noun(noun))])
        + "\n"
    )


def _head() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Generated from the code by `make docs`; a test checks that it is up to date."


def _json_output() -> Iterator[str]:
    yield from ("", "## JSON output", "")
    yield "`schema` increases when a key changes its meaning or is removed; new keys may be added at any time."
    yield "`paretta front --json` is described by `dashboards/schemas/front.schema.json`. `paretta status --json`:"
    yield from ("", *_as_text(inspect.getdoc(status_document) or ""))


def _sweep_file() -> Iterator[str]:
    yield from ("", "## The sweep file", "")
    yield "`paretta schema > sweep.schema.json` writes its JSON schema, with the settings of every stage and meter."
    yield "Editors complete and check a file that begins with `# yaml-language-server: $schema=sweep.schema.json`."
    for title, section in (
        ("", SweepConfig),
        ("task", TaskConfig),
        ("search", SearchConfig),
        ("budget", BudgetConfig),
        ("budget.gain", GainConfig),
        ("deliver", DeliverConfig),
        ("workers", WorkersConfig),
    ):
        yield from ("", f"### {title or 'top level'}", "")
        yield from _fields(section)


def _noun(noun: str) -> Iterator[str]:
    yield from ("", f"## {noun.capitalize()}")
    for name, story in entries(noun).items():
        yield from ("", f"### {name}", "", story)
        thing = REGISTRIES[noun].load(name)
        text = inspect.getdoc(thing)
        if text and text != inspect.getdoc(BaseModel):
            yield from ("", *_as_text(text))
        if isinstance(thing, type) and issubclass(thing, BaseModel):
            yield from ("", *_fields(thing))


def _as_text(docstring: str) -> Iterator[str]:
    yield "```text"
    yield from docstring.splitlines()
    yield "```"


def _fields(model: type[BaseModel]) -> Iterator[str]:
    yield "| setting | default | give |"
    yield "|---|---|---|"
    for name, field in model.model_fields.items():
        if name == "kind":
            continue
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        yield f"| `{name}` | {default} | {(field.description or '').replace('|', '/')} |"


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    return {PAGE: page(), **command_line_pages(), **method_pages()}


if __name__ == "__main__":
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"out of date, run `make docs`: {', '.join(path.name for path in stale)}" if stale else 0)
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path], encoding="utf-8")
