"""The generated page says what the code says, and the README's sweep is sound."""

import re
from pathlib import Path

from docs.build import PAGE, page
from orchestrator.sweep import Sweep
from search_spaces.documents import parse_yaml

README = Path(__file__).parents[1] / "README.md"


def test_the_reference_is_what_make_docs_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_sweep_file_in_the_readme_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(# sweep\.yaml.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    sweep = Sweep.parse(parse_yaml(text, "sweep.yaml"), "sweep", README.parent)
    assert [knob.name for knob in sweep.space.knobs()] == [
        "prune.sparsity",
        "quantize.bits.conv*",
        "distill.temperature",
    ]
