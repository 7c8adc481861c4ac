"""The documentation's site is built without a warning, and what its pages say to type can be typed."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from paretta.orchestrator.cli import main
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.yaml_io import parse_yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
CODE = [
    *(
        path
        for room in ("orchestrator", "pipelines", "search_spaces", "dashboards")
        for path in ROOT.glob(f"{room}/**/*.py")
    )
]


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the code blocks of a language on a page, without the indentation of a list that they stand in."""
    for indent, text in re.findall(
        rf"^( *)```{language}\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        yield re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


def typed(page: Path) -> list[str]:
    """Return the lines that begin with `paretta` in the shell blocks of a page, continued lines joined."""
    lines = [line for text in blocks(page, "bash") for line in text.replace("\\\n", " ").splitlines()]
    return [line.strip() for line in lines if line.strip().startswith("paretta ")]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site needs mkdocs-material and mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    python = (tmp_path / "site" / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    assert "Run a sweep and return its front." in python  # what the docstrings say has been read


@pytest.mark.parametrize("page", [page for page in PAGES if typed(page)], ids=lambda page: page.name)
def test_every_command_on_a_page_is_one_that_paretta_takes(page: Path) -> None:
    for line in typed(page):
        words = shlex.split(line, comments=True)[1:]
        words = words[: words.index("&")] if "&" in words else words
        verb = main.get_command(click.Context(main), words[0])
        assert verb is not None, line
        parent = click.Context(main, **main.context_settings)  # a verb keeps the help option of the first one
        verb.make_context(words[0], words[1:], parent=parent, resilient_parsing="DIR" in line).close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_sweep_file_and_every_program_on_a_page_is_valid(page: Path) -> None:
    for text in blocks(page, "yaml"):
        if re.search(r"^task:", text, re.MULTILINE):
            Sweep.parse(parse_yaml(text, page.name), "sweep", ROOT / "examples" / "own_model")
    for text in blocks(page, "python"):
        compile(text, page.name, "exec")


def test_every_message_that_is_explained_is_one_that_paretta_says() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*", page, re.MULTILINE)
    explained = [match[1] for row in rows if (match := re.match(r"\| `([^`]+)`", row))]
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in CODE))
    assert len(explained) > 20
    assert [message for message in explained if message not in said] == []
