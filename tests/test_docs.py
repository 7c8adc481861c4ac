"""Generated pages are up to date, the README's sweep is valid, and paths and names on the pages exist."""

import pkgutil
import re
from pathlib import Path

import pytest

from docs.generate.__main__ import pages
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces import registry
from paretta.search_spaces.yaml_io import parse_yaml

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    *sorted((ROOT / "docs").glob("**/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]
FOLDERS = "benchmarks|dashboards|deploy|docs|examples|orchestrator|pipelines|search_spaces|src|tests"
GROUPS = {value.group for value in vars(registry).values() if isinstance(value, registry.Registry)}


@pytest.mark.parametrize("path", sorted(pages()), ids=lambda path: path.name)
def test_every_generated_page_is_what_make_docs_writes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == pages()[path]


def test_the_sweep_file_in_the_readme_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(# sweep\.yaml.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    sweep = Sweep.parse(parse_yaml(text, "sweep.yaml"), "sweep", README.parent)
    assert [knob.name for knob in sweep.space.knobs()] == [
        "prune.sparsity",
        "quantize.bits.conv*",
        "distill@step4.temperature",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_repository_path_on_a_page_exists(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    code = [word for word in _code_words(page) if re.fullmatch(rf"(({FOLDERS})/[\w./-]+)|[\w./-]+\.md", word)]
    paths = [path.removesuffix("/x.py") for path in (*links, *code)]  # x.py stands for any new file
    assert [path for path in paths if not any((folder / path).exists() for folder in (ROOT, page.parent))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_dotted_name_on_a_page_can_be_imported(page: Path) -> None:
    imported = re.findall(r"^from (paretta[\w.]*) import ([\w, ]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    names = [f"{module}.{name.strip()}" for module, parts in imported for name in parts.split(",")]
    names += [text.removesuffix("()") for text in _code_words(page) if re.fullmatch(r"paretta(\.\w+)+(\(\))?", text)]
    assert [name for name in names if name not in GROUPS and not _is_importable(name)] == []


def _code_words(page: Path) -> list[str]:
    """Return the words of all inline code on a page."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [word.strip("`,;") for code in re.findall(r"`([^`]+)`", prose) for word in code.split()]


def _is_importable(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
