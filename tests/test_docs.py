"""Generated pages are up to date, the README's sweep is valid, and paths and names on the pages exist."""

import pkgutil
import re
import tomllib
from itertools import combinations, product
from pathlib import Path

import pytest

from docs.generate.__main__ import pages
from docs.generate.method_pages import EFFECTS, method_pages
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


@pytest.mark.parametrize("folder", ["orchestrator", "pipelines", "dashboards", "search_spaces"])
def test_the_architecture_names_every_room_in_the_order_of_its_imports(folder: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {folder}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)
    named = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)]
    row_of = {room: place for place, row in enumerate(named) for room in row}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [item["layers"] for item in contracts if item.get("containers") == [f"paretta.{folder}"]]
    rooms = [room for layer in layers for room in layer.split(" | ") if (ROOT / folder / room).is_dir()]
    assert [room for room in rooms if room not in row_of] in ([], ["presets"])
    assert {room for room in row_of if not (ROOT / folder / room).is_dir()} == set()
    of_layer = [[row_of[room] for room in layer.split(" | ") if room in row_of] for layer in layers]
    pairs = (pair for above, below in combinations(of_layer, 2) for pair in product(above, below))
    assert [(above, below) for above, below in pairs if above > below] == []


def test_effects_of_another_day_or_processor_tell_it_below_their_table() -> None:
    flags = re.DOTALL | re.MULTILINE
    text = "\n".join(method_pages().values())
    (common,) = {(effect["date"], effect["cpu"]) for effect in EFFECTS["effects"]["baseline"]}
    told = {}
    for method, effects in EFFECTS["effects"].items():
        (section,) = re.findall(rf"^###? (?:Stage )?`{method.partition('/')[2]}`\n(.*?)(?=^##|\Z)", text, flags) or [""]
        told[method] = re.findall(
            r"^Measured on (\S+), on (.+), against a baseline of that day\.$", section, re.MULTILINE
        )
        unlike = {(effect["date"], effect["cpu"] or "a processor that was not noted") for effect in effects}
        assert set(told[method]) == (set() if (effects[0]["date"], effects[0]["cpu"]) == common else unlike)
    assert any(told.values())
    assert text.count(f"on {common[0]}, on {common[1] or 'a processor that was not noted'}, where a table") == 5


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
