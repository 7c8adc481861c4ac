"""Extensions that a sweep file names are found beside it or installed; problems are reported before any compute."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from paretta.orchestrator.cli import main
from paretta.orchestrator.config.build_search import try_search
from paretta.orchestrator.config.check import check
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.meter import meter_of
from paretta.pipelines.task import Metric
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.registry import SAMPLERS, STOPPERS
from paretta.search_spaces.user_code import look_in
from paretta.search_spaces.yaml_io import parse_yaml

PROJECT = Path(__file__).parents[2] / "own_project"
THEIRS = [
    ("stage", "ScaleBias"),
    ("importance", "Spread"),
    ("sensitivity", "Even"),
    ("quantizer", "Plain"),
    ("tweak", "Shrink"),
    ("meter", "NumFiles"),
    ("runtime", "Renamed"),
    ("sampler", "in_order"),
    ("stopper", "patient"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not the current one, with one extension of each kind beside the sweep file."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module in ("own_parts", "beside"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for file in ("own_parts.py", "beside.py", "sweep.yaml"):
        shutil.copy(PROJECT / file, tmp_path)
    return tmp_path


def test_each_kind_of_extension_is_found_beside_the_sweep_file(folder: Path) -> None:
    checked = check(Sweep.read(str(folder / "sweep.yaml")))
    assert [objective.meter for objective in checked.objectives] == [
        "size",
        "num_files",
        "throughput@Renamed",
        "accuracy",
    ]
    assert checked.epochs == 1


def test_each_kind_of_extension_is_found_by_its_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the same name in the sweep file as its class or function has, after ``their_``."""
    text, points = (folder / "sweep.yaml").read_text(), []
    for group, name in THEIRS:
        points.append(f"[paretta.{group}]\ntheir_{name} = their_parts:{name}\n")
        text = re.sub(rf'"(\./own_parts\.py|own_parts):{name}"', f"their_{name}", text)
    assert "own_parts" not in text
    (folder / "sweep.yaml").unlink()
    (folder / "own_parts.py").rename(folder / "their_parts.py")
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(points))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "their_parts", raising=False)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "sweep.yaml").write_text(text)
    checked = check(Sweep.read(str(folder / "elsewhere" / "sweep.yaml")))
    assert [meter.unit for meter in checked.meters] == ["B", "files", "samples/s", "share"]
    assert [stage["kind"] for stage in checked.corners[0].stages] == ["their_ScaleBias", "prune", "quantize", "train"]
    listed = json.loads(CliRunner().invoke(main, ["list", "stages", "--json"]).output)
    homes = {row["name"]: row["from"] for row in listed}
    assert (homes["their_ScaleBias"], homes["prune"]) == ("from theirs 1.0 (their_parts:ScaleBias)", "built in")


UNKNOWN = [
    ("./own_parts.py:ScaleBias", "sweep.yaml:5 space[0]"),
    ("./own_parts.py:Spread", "sweep.yaml:6 space[1]"),
    ("./own_parts.py:Even", "sweep.yaml:7 space[2]"),
    ("own_parts:Plain", "sweep.yaml:7 space[2]"),
    ("./own_parts.py:Shrink", "sweep.yaml:8 space[3]"),
    ("./own_parts.py:NumFiles", "sweep.yaml:11 objectives[1]"),
    ("./own_parts.py:Renamed", "sweep.yaml:12 objectives[2].runtime"),
    ("./own_parts.py:in_order", "sweep.yaml:14 search.sampler"),
    ("own_parts:patient", "sweep.yaml:14 search.stopper"),
]
WRONG = [
    ("own_parts:Nothing", "own_parts has no 'Nothing'"),
    ("./absent.py:Thing", "the file must exist"),
    ("no_such:thing", "No module named 'no_such'"),
    ("./broken.py:Thing", "importing it failed: KeyError: 'here'"),
    ("./own_parts.py:SMALLEST", "must name a"),
]


@pytest.mark.parametrize(("named", "place"), UNKNOWN)
@pytest.mark.parametrize(("wrong", "told"), WRONG)
def test_one_that_cannot_be_used_is_told_with_file_and_line(
    folder: Path, named: str, place: str, wrong: str, told: str
) -> None:
    (folder / "broken.py").write_text("{}['here']\n")
    file = folder / "sweep.yaml"
    file.write_text(file.read_text().replace(f'"{named}"', f'"{wrong}"'))
    with pytest.raises(WrongInput) as caught:
        check(Sweep.read(str(file)))
    assert place in str(caught.value)
    assert told in str(caught.value)


APPLY = "apply = lambda self, model, bench: model"


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ("pass", "the class must define apply"),
        (f"{APPLY}; words = lambda self: 1 / 0", "asking what it does failed: ZeroDivisionError"),
        (f"{APPLY}; words = lambda self: 7", "sweep.yaml:2 space[0] (wrong): its words must return a text; got 7"),
        (f"{APPLY}; rehearsal = lambda self: 0", "its rehearsal must return a stage; got 0"),
        (f"{APPLY}; sketch = lambda self: 0", "its sketch must return a stage; got 0"),
        (f"{APPLY}; norms = property(lambda self: 'new')", "its norms must be one of kept, stale, fresh; got 'new'"),
        (f"{APPLY}; shape = property(lambda self: [])", "its shape must be one of kept, settled,"),
        (f"{APPLY}; conflict = lambda self, *_, **__: {{}}[1]", "asking what conflicts with it failed: KeyError: 1"),
        (f"{APPLY}; model_post_init = lambda self, _: {{}}[1]", "parsing its settings failed: KeyError: 1"),
    ],
)
def test_a_stage_that_fails_while_it_is_asked_is_told(folder: Path, methods: str, told: str) -> None:
    head = "from typing import Literal\nfrom paretta.pipelines.stage import Stage\n"
    (folder / "wrong.py").write_text(
        f'{head}class Wrong(Stage):\n    kind: Literal["wrong"] = "wrong"\n    {methods}\n'
    )
    (folder / "sweep.yaml").write_text('task: {use: digits}\nspace: [{kind: "./wrong.py:Wrong"}]\n')
    with pytest.raises(WrongInput) as caught:
        check(Sweep.read(str(folder / "sweep.yaml")))
    assert "sweep.yaml:2 space" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(("key", "takes"), [("sampler", "search"), ("stopper", "search, strategy")])
def test_a_function_that_takes_something_else_is_told(folder: Path, key: str, takes: str) -> None:
    (folder / "wrong.py").write_text("def make(a, b, c):\n    pass\n")
    text = f'task: {{use: digits}}\nspace: [{{kind: train}}]\nsearch: {{{key}: "./wrong.py:make"}}\n'
    (folder / "sweep.yaml").write_text(text)
    with pytest.raises(WrongInput) as caught:
        check(Sweep.read(str(folder / "sweep.yaml")))
    assert f"sweep.yaml:3 search.{key}: must name a function make({takes}); got './wrong.py:make'" in str(caught.value)


PARTS = """
from paretta.orchestrator.samplers.random import make as make_random

class Asks:
    report = tell = lambda self, *_: None
    def ask(self, pinned=None):
        return 0, {"stages": []}, {}

def number(*_): return 7
def silent(search): return Asks()
def failing(*_): return {}["no"]
"""
CALLED = "calling it failed: TypeError"


@pytest.mark.parametrize(
    ("key", "named", "told"),
    [
        ("sampler", "os:system", CALLED),
        ("sampler", "json:dumps", CALLED),
        ("sampler", "builtins:max", CALLED),
        ("sampler", "builtins:repr", "its strategy must have ask, report, tell; got 'builtins:repr: str'"),
        ("sampler", "./parts.py:number", "its strategy must have ask, report, tell; got"),
        ("sampler", "./parts.py:silent", "its strategy's ask must return a number, a plan and its knobs"),
        ("sampler", "./parts.py:failing", "calling it failed: KeyError: 'no' (at "),
        ("sampler", "./parts.py:silent, warm_start: [s]", "its strategy must have add_point; got"),
        ("stopper", "os:link", CALLED),
        ("stopper", "operator:eq", "must make an object that has begin, goes_on, tell; got 'operator:eq: bool'"),
        ("stopper", "./parts.py:number", "must make an object that has begin, goes_on, tell"),
        ("stopper", "./parts.py:failing", "calling it failed: KeyError: 'no' (at "),
    ],
)
def test_what_is_no_sampler_or_stopper_is_refused_before_any_compute(
    folder: Path, key: str, named: str, told: str
) -> None:
    (folder / "parts.py").write_text(PARTS)
    text = f"task: {{use: digits}}\nspace: [{{kind: quantize, bits: {{int: [4, 8]}}}}]\nsearch: {{{key}: {named}}}\n"
    (folder / "sweep.yaml").write_text(text)
    sweep = Sweep.read(str(folder / "sweep.yaml"))
    look_in(folder)
    (problem,) = try_search(sweep, [meter_of("size", {}), meter_of("macs", {})], 3)
    assert problem.where == f"{folder / 'sweep.yaml'}:3 search.{key}"
    assert told in problem.message()
    assert f"name a function make(search{', strategy' * (key == 'stopper')}) that returns a" in problem.hint
    assert "\n" not in str(problem)


LATE = """
from paretta.orchestrator.samplers.random import make as make_random
from paretta.orchestrator.search.interfaces import NeverStop

class Late:
    def __init__(self, search): self.known = make_random(search)
    def __getattr__(self, name): return getattr(self.known, name)

class Reports(Late):
    def report(self, number, rung, scores): return scores["f1"]

class Tells(Late):
    def tell(self, number, verdict, losses): return sum(losses)

class Pins(Late):
    def ask(self): return self.known.ask()

class Points(Late):
    def add_point(self, losses): raise NotImplementedError

class Goes(NeverStop):
    def __init__(self, search, strategy): pass
    def goes_on(self, number, rung, scores): return scores["f1"] > 0

class Decides(Goes):
    def goes_on(self, number, rung, scores): return None

class Begins(Goes):
    def goes_on(self, number, rung, scores): return True
    def begin(self, number, knobs): knobs["lr"]

class Ends(Goes):
    def goes_on(self, number, rung, scores): return True
    def tell(self, number, losses): pass
"""


@pytest.mark.parametrize(
    ("key", "named", "told"),
    [
        ("sampler", "Reports", "telling its strategy what a trial scores failed: KeyError: 'f1' (at "),
        ("sampler", "Tells", "telling its strategy of a trial that is failed failed: TypeError"),
        ("sampler", "Pins", "asking ./late.py:Pins for a plan with given knobs failed: TypeError"),
        ("sampler", "Points", "telling ./late.py:Points a point that it did not propose failed: NotImplementedError"),
        ("stopper", "Goes", "asking its stopper whether a trial goes on failed: KeyError: 'f1' (at "),
        ("stopper", "Decides", "its goes_on must return True or False"),
        ("stopper", "Begins", "telling its stopper of a trial that begins failed: KeyError: 'lr' (at "),
        ("stopper", "Ends", "telling its stopper of a trial that is complete failed: TypeError"),
    ],
)
def test_one_that_fails_only_once_trials_run_is_refused_before_any_compute(
    folder: Path, key: str, named: str, told: str
) -> None:
    (folder / "late.py").write_text(LATE)
    more = ", warm_start: [s]" if named == "Points" else ""
    text = (
        f"task: {{use: digits}}\nspace: [{{kind: quantize, bits: {{int: [4, 8]}}}}]\nsearch: {{{key}: ./late.py:{named}"
    )
    sweep = Sweep.parse(parse_yaml(f"{text}{more}}}\n", "s.yaml"), "s", folder)
    look_in(folder)
    accuracy = {"accuracy": Metric(lambda outputs, _: outputs.argmax(1))}
    (problem,) = try_search(sweep, [meter_of("size", {}), meter_of("accuracy", accuracy)], 3)
    assert problem.where == f"s.yaml:3 search.{key}"
    assert told in problem.message()
    assert "\n" not in str(problem)


def test_every_sampler_and_stopper_of_ours_is_tried_and_found_sound(folder: Path) -> None:
    accuracy = {"accuracy": Metric(lambda outputs, _: outputs.argmax(1))}
    for key, registry in (("sampler", SAMPLERS), ("stopper", STOPPERS)):
        for name in registry.names():
            text = (
                f"task: {{use: digits}}\nspace: [{{kind: train, epochs: {{int: [1, 8]}}}}]\nsearch: {{{key}: {name}}}\n"
            )
            sweep = Sweep.parse(parse_yaml(text, "s.yaml"), "s", folder)
            assert [*try_search(sweep, [meter_of("size", {}), meter_of("accuracy", accuracy)], 3)] == []


def test_a_meter_that_fails_is_told_before_training(folder: Path) -> None:
    (folder / "own_parts.py").write_text(
        (folder / "own_parts.py").read_text().replace("return Reading(float", "return {}['here'] or Reading(float")
    )
    (folder / "sweep.yaml").write_text(
        "task: {use: digits, options: {width: 4, hidden: 16}}\nspace: [{kind: quantize, bits: 4}]\n"
        'objectives: [size, "./own_parts.py:NumFiles"]\n'
    )
    with pytest.raises(WrongInput) as caught:
        check(Sweep.read(str(folder / "sweep.yaml")))
    told = "sweep.yaml:3 objectives[1]: reading num_files of the untrained model failed: KeyError: 'here' (at "
    assert str(caught.value).startswith(f"{folder}/{told}{folder}/own_parts.py:")


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (2, "sweep.yaml:1 version: this paretta reads sweep files of version 1; got 2; install a newer paretta"),
        (0, "sweep.yaml:1 version: this paretta reads sweep files of version 1; got 0; write version: 1"),
        ("new", "sweep.yaml:1 version: must be a valid integer"),
    ],
)
def test_a_sweep_file_of_another_version_is_refused_before_all_else(tmp_path: Path, version: object, told: str) -> None:
    (tmp_path / "sweep.yaml").write_text(f"version: {version}\nwhat: this version does not know\n")
    with pytest.raises(WrongInput) as caught:
        Sweep.read(str(tmp_path / "sweep.yaml"))
    assert str(caught.value).startswith(f"{tmp_path}/{told}")


def test_a_sweep_file_may_say_its_version(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("version: 1\ntask: {use: digits}\nspace: [{kind: train}]\n")
    read = Sweep.read(str(tmp_path / "sweep.yaml"))
    assert read.document()["version"] == read.config.version == 1
