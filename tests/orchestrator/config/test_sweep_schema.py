"""The schema of the sweep file takes every file that is shipped, and refuses what a sweep file may not say."""

import json
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from paretta.orchestrator.cli import main
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.yaml_io import parse_yaml, read_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "search_spaces" / "presets" / "sweep.schema.json"
FILES = sorted(
    path
    for folder in ("benchmarks", "examples", "search_spaces", "tests")
    for path in (ROOT / folder).rglob("*.yaml")
    if re.search(r"^space:", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(text, id=f"{page.name}-{index}")
    for page in PAGES
    for index, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    if re.search(r"^space:", text, flags=re.MULTILINE)
]
SOUND = """
task: {use: digits}
baseline: [{kind: train, epochs: 1}]
space:
  - {kind: prune, sparsity: {"conv*": {float: [0, 0.5]}, "*": {choice: [0.1, {float: [0.2, 0.3], log: true}]}}}
  - choice: [null, {kind: quantize, bits: {int: [2, 8], step: 2}}, {choice: [{kind: fold_norms}, null]}]
  - {kind: iterate, prune: {kind: prune, sparsity: 0.5}, retrain: {kind: train, epochs: {int: [1, 9], log: true}}}
  - {kind: distill, tweaks: {choice: [[], [{kind: l1_penalty, strength: {float: [1.0e-5, 1.0e-3], log: true}}]]}}
  - {kind: "./mine.py:Mine", anything: {float: [0, 1]}}
objectives: [size, {kind: latency, budget_seconds: 3}, my_metric]
limits: [{meter: size, at_most: 50kB}, {meter: accuracy, at_least: {below_baseline: 1%}}]
search: {sampler: "./mine.py:make", stopper: none}
deliver: {variants: [[{kind: quantize, bits: 8}]]}
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(CliRunner().invoke(main, ["schema"]).output)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def places(validator: Draft202012Validator, document: Json) -> list[str]:
    return sorted(
        {"".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in e.path)[1:] for e in _errors(validator, document)}
    )


def _errors(validator: Draft202012Validator, document: Json) -> Iterator[object]:
    return validator.iter_errors(document)


def test_the_schema_is_frozen_where_it_is_shipped() -> None:
    shown = CliRunner().invoke(main, ["schema"]).output
    if os.environ.get("PARETTA_WRITE_GOLDEN"):
        SHIPPED.write_text(shown, encoding="utf-8")
    assert json.loads(shown) == json.loads(SHIPPED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_file_is_taken(path: Path, validator: Draft202012Validator) -> None:
    assert places(validator, read_yaml(path).data) == []


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_sweep_file_of_the_documentation_is_taken(text: str, validator: Draft202012Validator) -> None:
    assert places(validator, parse_yaml(text, "sweep.yaml").data) == []


@pytest.mark.parametrize("path", [path for path in FILES if "tests" not in path.parts], ids=lambda path: path.stem)
def test_the_header_of_a_shipped_file_names_the_schema(path: Path) -> None:
    (schema,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert (path.parent / schema).resolve() == SHIPPED
    assert "schema" not in read_yaml(path).opening


def test_holes_parts_and_code_are_taken_wherever_they_may_stand(validator: Draft202012Validator) -> None:
    assert places(validator, parse_yaml(SOUND, "sweep.yaml").data) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (("kind: prune, sparsity: {", "kind: prune, sparsty: {"), "space[0]"),
        (("kind: fold_norms", "kind: fold_norm"), "space[1].choice[2].choice[0].kind"),
        (("kind: train, epochs: 1", "kind: train, epochs: 0"), "baseline[0].epochs"),
        (("kind: train, epochs: 1}]", "kind: train, epochs: {int: [1, 2]}}]"), "baseline[0].epochs"),
        (("{float: [0, 0.5]}", "{float: [0, half]}"), "space[0].sparsity"),
        (("{float: [0, 0.5]}", "{floot: [0, 0.5]}"), "space[0].sparsity"),
        (("log: true}]}}}", "lg: true}]}}}"), "space[0].sparsity"),
        (("{int: [2, 8], step: 2}", "{float: [2, 8]}"), "space[1].choice[1].bits"),
        (("step: 2", "step: 0"), "space[1].choice[1].bits"),
        (("strength: {float", "strenght: {float"), "space[3].tweaks"),
        (("int: [1, 9]", "int: [0, 9]"), "space[2].retrain"),
        (("kind: iterate, prune: {kind: prune", "kind: iterate, prune: {kind: prun"), "space[2].prune.kind"),
        (("budget_seconds", "budget_second"), "objectives[1]"),
        (("at_most: 50kB", "most: 50kB"), "limits[0]"),
        (("below_baseline", "under_baseline"), "limits[1].at_least"),
        (('sampler: "./mine.py:make"', "sampler: gray_box"), "search.sampler"),
        (("stopper: none", "stoper: none"), "search"),
        (("kind: quantize, bits: 8}]]", "kind: quantize, bit: 8}]]"), "deliver.variants[0][0]"),
        (("task:", "tusk:"), ""),
    ],
)
def test_typos_are_refused_where_they_stand(
    change: tuple[str, str], place: str, validator: Draft202012Validator
) -> None:
    assert SOUND.count(change[0]) >= 1
    found = places(validator, parse_yaml(SOUND.replace(*change, 1), "sweep.yaml").data)
    assert place in found
    assert all(other.startswith(place) for other in found)


def test_names_of_scores_and_quantizers_are_known(validator: Draft202012Validator) -> None:
    document = deepcopy(parse_yaml(SOUND, "sweep.yaml").data)
    assert isinstance(document, dict)
    document["space"] = [
        {"kind": "prune", "sparsity": 0.5, "importance": {"choice": ["l1", "./mine.py:Score"]}},
        {"kind": "prune", "sparsity": 0.5, "importance": "tailor"},
        {"kind": "quantize", "weights": "symetric"},
    ]
    assert places(validator, document) == ["space[1].importance", "space[2].weights"]


def test_a_line_for_editors_is_not_the_story_of_a_sweep() -> None:
    text = "# yaml-language-server: $schema=sweep.schema.json\n# A story.\ntask: {use: digits}\n"
    assert parse_yaml(text, "sweep.yaml").opening == "A story."
