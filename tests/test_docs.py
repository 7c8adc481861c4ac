"""The generated pages say what the code says, and the README's sweep is sound."""

import re
from pathlib import Path

import pytest

from docs.build import pages
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.yaml_io import parse_yaml

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("path", sorted(pages()), ids=lambda path: path.name)
def test_every_generated_page_is_what_make_docs_writes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == pages()[path]


def test_the_sweep_file_in_the_readme_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(# sweep\.yaml.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    sweep = Sweep.parse(parse_yaml(text, "sweep.yaml"), "sweep", README.parent)
    assert [knob.name for knob in sweep.space.knobs()] == [
        "prune.sparsity",
        "quantize.bits.conv*",
        "distill.temperature",
    ]
