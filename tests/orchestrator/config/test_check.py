"""What is wrong with a sweep is found before any compute, wherever in its space it lies."""

from pathlib import Path

import pytest
import random_views
from click.testing import CliRunner

from paretta.orchestrator.cli import main
from paretta.orchestrator.config import check_warnings, outlook
from paretta.orchestrator.config.check import MAX_TRIED, check, check_report
from paretta.orchestrator.config.check_warnings import core_warnings, loader_warnings
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.meter import meter_of
from paretta.pipelines.runtime import runtime_of
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.space.space import MAX_OPTIONS
from paretta.search_spaces.yaml_io import parse_yaml

SOUND = """
task: {use: digits, options: {width: 4, hidden: 8}}
baseline: [{kind: train, epochs: 1}]
space: [{kind: train}]
"""


def refused(text: str) -> str:
    """Check a sweep that must be refused, and return the message."""
    with pytest.raises(WrongInput) as caught:
        check(Sweep.parse(parse_yaml(text, "s.yaml"), "s", Path()))
    return str(caught.value)


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("{kind: quantize, bits: {float: [2, 8]}}", "s.yaml:4 space[0] (quantize).bits: must be a whole number"),
        ("{kind: quantize, bits: {'conv*': {float: [2, 8]}}}", "space[0] (quantize).bits"),
        ("{choice: [null, {kind: quantize, bits: {choice: [8, {float: [2, 4]}]}}]}", "(quantize).bits"),
        ("{kind: train, epochs: {float: [1, 3]}}", "(train).epochs: must be a valid integer"),
        ("{kind: train, epochs: {choice: [1, 2, three, 4, 5]}}", "(train).epochs"),
        ("{choice: [{kind: train}, {choice: [null, {kind: trian}, {kind: train, lr: 1}]}]}", "did you mean 'train'"),
        ('{kind: train, epochs: "2"}', "must be a valid integer; got '2'"),
    ],
)
def test_every_branch_and_inner_points_of_ranges_are_parsed(stage: str, told: str) -> None:
    message = refused(SOUND.replace("{kind: train}]", f"{stage}]"))
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("training", "workers", "told"),
    [
        ("{kind: train, batch_size: 1}", 2, "batch_size: a global batch must hold a sample for each of the 2 workers"),
        ("{kind: train, batch_size: 4, accumulate: 4}", 2, "accumulate: each of the 2 workers has 2 of a batch's"),
        (
            "{kind: iterate, prune: {kind: prune, sparsity: 0.5}, retrain: {kind: train, batch_size: 1}}",
            2,
            "batch_size: a global batch must hold",
        ),
        ("{kind: train}", 400, "task.validation: must hold a sample for each of the 400 workers of a trial; got 359"),
    ],
)
def test_workers_without_a_sample_are_told(training: str, workers: int, told: str) -> None:
    message = refused(SOUND.replace("{kind: train}]", f"{training}]") + f"workers: {{per_trial: {workers}}}\n")
    assert told in message
    assert "\n" not in message


def test_a_runtime_that_is_not_installed_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(runtime_of("openvino")), "distribution", "no-such-distribution")
    objectives = "objectives: [size, latency, latency@openvino]\n"
    assert refused(f"{SOUND}{objectives}") == (
        "s.yaml:5 objectives[2]: OpenVINO is not installed here; got 'latency@openvino'; pip install "
        "'paretta[openvino]'; to measure where it is installed, name that node in `measuring`"
    )
    elsewhere = f"{SOUND}{objectives}measuring: {{resources: {{edge: 1}}}}\n"
    checked = check(Sweep.parse(parse_yaml(elsewhere, "s.yaml"), "s", Path()))
    assert [objective.meter for objective in checked.objectives] == ["size", "latency", "latency@openvino"]


def test_a_device_that_the_runtime_lacks_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    objectives = "objectives: [size, {kind: latency, device: cuda}]\n"
    assert refused(f"{SOUND}{objectives}") == (
        "s.yaml:5 objectives[1]: ONNX Runtime as it is installed here does not compute on cuda; got 'latency'; pip "
        "install onnxruntime-gpu; to measure where it is installed, name that node in `measuring`"
    )


def test_a_meter_of_generating_text_is_refused_for_a_model_that_generates_none() -> None:
    assert refused(f"{SOUND}objectives: [size, tokens_per_second]\n") == (
        "s.yaml:5 objectives[1]: it cannot be read of this task: the model takes no cache of keys and values; "
        "causal_lm(..., cache=True) delivers one that does; got 'tokens_per_second'"
    )


@pytest.mark.parametrize("lanes", ["0", "-3", "true", "1.5", "many"])
def test_lanes_are_at_least_one(lanes: str) -> None:
    message = refused(f"{SOUND}workers: {{lanes: {lanes}}}\n")
    assert message.startswith("s.yaml:5 workers.lanes: must be ")
    assert ", or must be 'auto'; got " in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["knee", "smallest", "most-accurate", "baseline"])
def test_a_wish_is_not_called_like_a_role(name: str) -> None:
    message = refused(f"{SOUND}wishes: {{{name}: {{prefer: size}}}}\n")
    assert f"wishes.{name}: a wish's name must not be that of a role" in message


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (
            "[{kind: prune, sparsity: {float: [0, 0.5]}}, {kind: quantize}, {kind: train}]",
            ["comes before the model has"],
        ),
        (
            "[{kind: prune, sparsity: 0.5}, {choice: [null, {kind: train}]}]",
            ["`prune` leaves batch norms the statistics"],
        ),
        ("[{kind: prune, sparsity: 0.5}, {kind: train}, {kind: quantize}, {kind: train}]", []),
    ],
)
def test_an_order_that_loses_is_warned_of(space: str, told: list[str]) -> None:
    sweep = Sweep.parse(parse_yaml(SOUND.replace("[{kind: train}]\n", f"{space}\n"), "s.yaml"), "s", Path())
    report = check_report(sweep, check(sweep))
    warned = [line for line in report.splitlines() if line.startswith("warning: `")]
    assert [text in line for text, line in zip(told, warned, strict=True)] == [True] * len(told)


def test_limits_and_wishes_out_of_reach_are_warned_of() -> None:
    text = SOUND.replace("[{kind: train}]", "[{kind: prune, sparsity: {float: [0, 0.5]}}]") + (
        "objectives: [size, macs, accuracy]\n"
        "limits: [{meter: size, at_most: 10B}, {meter: size, at_most: {of_baseline: 0.001}}, "
        "{meter: size, at_most: 1MB}]\n"
        "wishes: {few: {at_most: {macs: 3}}, some: {at_most: {macs: 1e12}, at_least: {accuracy: 1}}}\n"
    )
    sweep = Sweep.parse(parse_yaml(text, "s.yaml"), "s", Path())
    ahead = outlook.look_ahead(sweep, check(sweep))
    smallest = min(size.reading.value or 0 for size in ahead.sizes)
    ten, part, few = ahead.unmet
    assert ten.startswith("s.yaml:6 limits[0]: size at most 10 B is out of reach: the nearest of 2 structures has ")
    assert ten.endswith(f" has {format_quantity(smallest, 'B')} before training")
    assert part.startswith("s.yaml:6 limits[1]: size at most 0.001 of the baseline is out of reach: ")
    assert few.startswith("s.yaml:7 wishes.few: macs at most 3 ")
    assert f"warning: {few}" in str(ahead).splitlines()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("search: {trials: {int: [1, 3]}}", "search.trials: must be a valid integer; got {'int': [1, 3]}; write one"),
        ("workers: 5", "s.yaml:5 workers: must be a mapping; got 5"),
        ("objectives: [size, {choice: [accuracy]}]", "objectives[1]: an objective needs its `kind`"),
        ("objectives: [size, {kind: latency, thread: 1}]", "objectives[1].thread: no setting is called 'thread'"),
        ("search: {trials: 0, sampler: random, seed: .nan}", "s.yaml:5 search.seed: numbers must be finite"),
        (f"workers: [{'1, ' * 5000}]", "workers: must be a mapping; got [1, 1, 1"),
    ],
)
def test_a_wrong_setting_is_told_in_one_short_line(more: str, told: str) -> None:
    message = refused(f"{SOUND}{more}\n")
    assert told in message
    assert "\n" not in message
    assert len(message) < 400


def test_wrong_names_and_limits_are_told_together() -> None:
    more = "search: {sampler: greybox, stopper: indx}\nlimits: [{meter: size, at_most: 3kg}]\n"
    sampler, stopper, limit = refused(SOUND + more).splitlines()
    assert sampler.startswith("s.yaml:5 search.sampler: no sampler is called 'greybox'; did you mean 'grey_box'?")
    assert stopper.startswith("s.yaml:5 search.stopper: no stopper is called 'indx'; did you mean 'index'?")
    assert limit.startswith("s.yaml:6 limits[0]")


def test_of_a_thousand_problems_the_first_are_told() -> None:
    lines = refused(SOUND.replace("[{kind: train}]", f"[{', '.join(['{kind: trian}'] * 1000)}]")).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 980 more problems"


def test_a_report_names_the_first_of_many_knobs() -> None:
    steps = ", ".join(["{kind: train, epochs: {choice: [1, 2]}}"] * 60)
    sweep = Sweep.parse(parse_yaml(SOUND.replace("[{kind: train}]", f"[{steps}]"), "s.yaml"), "s", Path())
    assert "train@step20.epochs, and 40 more)" in check_report(sweep, check(sweep))


def test_sizes_of_plans_with_many_changes_are_not_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "MAX_CHANGES", 1)
    space = "[{kind: prune, sparsity: {float: [0, 0.1]}}, {kind: quantize, bits: 8}]"
    sweep = Sweep.parse(parse_yaml(SOUND.replace("[{kind: train}]", space), "s.yaml"), "s", Path())
    ahead = outlook.look_ahead(sweep, check(sweep))
    assert ahead.sizes == ahead.dead == ()
    assert "size: not foreseen for plans with more than 1 stages that change the structure" in str(ahead)


TASK = """
import sys
import torch
from torch import nn
from paretta import Metric, Task

def right(outputs, targets):
    return (outputs.argmax(1) == targets).float()

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

class Branch(Net):
    def forward(self, values):
        if values.sum() > 0:
            return super().forward(values)
        return super().forward(-values)

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError

def raising(error):
    def fail(*_):
        raise error
    return fail

def endless(outputs, targets):
    return endless(outputs, targets)

def make(fault="none"):
    data = torch.utils.data.TensorDataset(torch.randn(40, 6), torch.arange(40) % 3)
    loss, model = nn.functional.cross_entropy, Net
    if fault == "making":
        sys.exit("no data here")
    if fault == "model":
        model = raising(MemoryError())
    if fault == "branch":
        model = Branch
    if fault == "loss":
        loss = raising(SystemExit(3))
    if fault == "unspeakable":
        loss = raising(Unspeakable())
    if fault == "lines":
        loss = raising(KeyError("first\\nsecond"))
    if fault == "endless":
        loss = endless
    if fault == "interrupt":
        loss = raising(KeyboardInterrupt())
    return Task(model=model, train=data, validation=data, test=data, loss=loss,
                metrics={"accuracy": Metric(right)}, example_input=torch.zeros(1, 6))
"""


def checked(folder: Path, fault: str, **environment: str) -> tuple[int, str]:
    """Run `paretta check` on a task with a fault, and return the exit code and what it says."""
    (folder / "mine.py").write_text(TASK)
    (folder / "s.yaml").write_text(
        f"task: {{use: './mine.py:make', options: {{fault: {fault}}}}}\nspace: [{{kind: train}}]\n"
    )
    result = CliRunner().invoke(main, ["check", str(folder / "s.yaml")], env=environment)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("making", "making the task failed: SystemExit: no data here"),
        ("model", "making the model failed: MemoryError"),
        ("branch", "exporting it to ONNX failed"),
        ("loss", "failed: SystemExit: 3"),
        ("unspeakable", "failed: Unspeakable"),
        ("lines", "failed: KeyError: 'first"),
        ("endless", "failed: RecursionError"),
    ],
)
def test_whatever_a_users_code_raises_is_one_line_with_its_place(tmp_path: Path, fault: str, told: str) -> None:
    code, output = checked(tmp_path, fault)
    (line,) = output.splitlines()
    assert code == 2
    assert line.startswith(f"error: {tmp_path / 's.yaml'}:1 task.use: ")
    assert told in line
    assert f"(at {tmp_path / 'mine.py'}:" in line


def test_an_interrupt_in_a_users_code_is_one(tmp_path: Path) -> None:
    code, output = checked(tmp_path, "interrupt")
    assert code not in (0, 2)
    assert "error:" not in output


def test_the_traceback_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    _, output = checked(tmp_path, "making", PARETTA_TRACEBACK="1")
    assert "Traceback (most recent call last)" in output
    assert 'sys.exit("no data here")' in output


def test_each_step_is_told_before_it_begins() -> None:
    steps: list[str] = []
    check(Sweep.parse(parse_yaml(SOUND, "s.yaml"), "s", Path()), tell=steps.append)
    assert [step.partition(":")[0] for step in steps] == [
        "settings", "task", "model", "data", "data", "data", "model", "model", "model", "stages",
    ]  # fmt: skip


def test_a_space_of_thousands_of_options_is_sampled_and_said_to_be() -> None:
    options = ", ".join(str(n / 10000) for n in range(5000))
    text = SOUND.replace("[{kind: train}]", f"[{{kind: prune, sparsity: {{choice: [{options}]}}}}]")
    sweep = Sweep.parse(parse_yaml(text, "s.yaml"), "s", Path())
    checked = check(sweep)
    assert len(checked.corners) <= 2 * MAX_OPTIONS
    assert checked.num_tried <= MAX_TRIED
    assert "sampled from 5000 options" in check_report(sweep, checked)


def test_a_space_of_many_stages_is_parsed_in_few_plans() -> None:
    steps = ", ".join(["{kind: train, epochs: {choice: [1, 2, 3]}}"] * 200)
    text = SOUND.replace("[{kind: train}]", f"[{steps}]").replace("[{kind: train, epochs: 1}]", "[{kind: trian}]")
    assert "baseline[0].kind: no stage is called 'trian'" in refused(text)


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 2), (3600.0, 3)])
def test_sizes_of_few_structures_are_foreseen_whatever_the_space(
    seconds: float, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A knob whose ends differ in size is alive, so nothing between them is exported for that."""
    monkeypatch.setattr(outlook, "SIZES_SECONDS", seconds)
    monkeypatch.setattr(outlook, "MAX_STRUCTURES", 3)
    options = ", ".join(str(n / 1000) for n in range(500))
    text = SOUND.replace("[{kind: train}]", f"[{{kind: prune, sparsity: {{choice: [{options}]}}}}]")
    sweep, steps = Sweep.parse(parse_yaml(text, "s.yaml"), "s", Path()), list[str]()
    ahead = outlook.look_ahead(sweep, check(sweep), tell=steps.append)
    assert len(ahead.sizes) == most
    assert sum(step.startswith("size") for step in steps) <= most + 2  # and the knob's two ends
    assert ahead.dead == ()
    assert min(ahead.sizes, key=lambda size: size.reading.value or 0) == ahead.sizes[1]  # the last option prunes most
    assert "changed nothing" not in caplog.text  # what stages leave as it was is told in the report


def test_a_model_without_norms_is_not_advised_about_them(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    text = 'task: {use: "./plain.py:make"}\nspace: [{kind: prune, sparsity: 0.5}]\nobjectives: [size, accuracy]\n'
    sweep = Sweep.parse(parse_yaml(text, "s.yaml"), "s", tmp_path)
    assert not [warning for warning in check(sweep).warnings if "norms" in warning]


PLAIN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from paretta.pipelines.task import Metric, Task

def make():
    data = TensorDataset(torch.randn(32, 8), torch.arange(32) % 3)
    score = Metric(lambda outputs, targets: outputs.argmax(1) == targets)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    return Task(model=model, train=data, validation=data, test=data, loss=nn.functional.cross_entropy,
                metrics={"accuracy": score}, example_input=torch.zeros(1, 8))
"""


def warned_of(loaders: str, cpus: int, task: Task) -> list[str]:
    text = f"{SOUND}workers: {{loaders: {loaders}, cpus: {cpus}}}\n"
    return [*loader_warnings(Sweep.parse(parse_yaml(text, "s.yaml"), "s", Path()), task)]


def test_loaders_without_work_or_cores_are_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_warnings, "num_cores", lambda: 64)
    digits, views = make(width=4), random_views.make()
    (idle,) = warned_of("2", 1, digits)
    assert idle.startswith("s.yaml:5 workers.loaders: every split is held in tensors")
    (crowded,) = warned_of("2", 2, views)
    assert crowded.endswith("otherwise set cpus: 3")
    monkeypatch.setattr(check_warnings, "num_cores", lambda: 2)
    (small,) = warned_of("2", 2, views)
    assert small.endswith("otherwise set loaders: 1, since this machine has 2 cores")
    monkeypatch.setattr(check_warnings, "num_cores", lambda: 64)
    assert [*warned_of("2", 3, views), *warned_of("auto", 1, views), *warned_of("0", 1, digits)] == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "workers: {threads: 4}",
            "workers.threads: 4 threads of a worker share the 1 CPU that it reserves; set cpus: 4",
        ),
        ("workers: {threads: 4, cpus: 4}", "workers: 1 lane(s) of 1 worker(s) with 4 CPU need 4 CPU, and this machine"),
        (
            "workers: {lanes: 3}",
            "workers: 3 lane(s) of 1 worker(s) with 1 CPU need 3 CPU, and this machine has 2 cores",
        ),
        ("workers: {per_trial: 9}", "workers: 1 lane(s) of 9 worker(s) with 1 CPU need 9 CPU, and this machine has 2"),
        ("objectives: [size, {kind: latency, threads: 3}]", "objectives[1]: latency computes on 3 threads, and this"),
        ("workers: {cpus: 2, threads: 2}", None),
    ],
)
def test_threads_and_workers_without_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, more: str, told: str | None
) -> None:
    monkeypatch.setattr(check_warnings, "num_cores", lambda: 2)
    sweep = Sweep.parse(parse_yaml(f"{SOUND}{more}\n", "s.yaml"), "s", Path())
    meters = [meter_of(objective, {}) for objective in sweep.config.objectives if objective["kind"] != "accuracy"]
    warned = [*core_warnings(sweep, meters)]
    assert len(warned) == (told is not None)
    assert told is None or told in warned[0]


@pytest.mark.parametrize("more", ["workers: {threads: 100000}", "objectives: [{kind: latency, threads: 100000}]"])
def test_numbers_of_threads_that_no_machine_has_are_refused(more: str) -> None:
    assert "must be less than or equal to 1024; got 100000" in refused(f"{SOUND}{more}\n")


def test_a_time_limit_that_the_training_cannot_keep_is_told() -> None:
    text = f"{SOUND}workers: {{time_limit_s: LIMIT}}\n"

    def told(limit: str) -> list[str]:
        sweep = Sweep.parse(parse_yaml(text.replace("LIMIT", limit), "s.yaml"), "s", Path())
        return [*outlook.too_long(sweep, 100.0, 140.0)]

    baseline, plan = told("90")
    assert baseline == (
        "s.yaml:5 workers.time_limit_s: training the baseline takes about 1.67 min on one core of this machine, "
        "longer than the 90 s that a candidate may train; allow more, or train less"
    )
    assert "training the longest plan takes about 2.33 min on one core" in plan
    assert len(told("120")) == 1
    assert told("150") == []
    assert "must be greater than 0; got 0" in refused(text.replace("LIMIT", "0"))


def test_float16_without_a_gpu_is_told_where_the_file_is_read() -> None:
    told = refused(SOUND.replace("[{kind: train}]", "[{kind: train, precision: {choice: [float32, float16]}}]"))
    assert told.startswith("s.yaml:4 space: in a plan of it, precision: float16 is for GPUs, and the workers have none")
    assert told.endswith("set bfloat16 or float32, or workers.gpus")
