"""A run repeats itself, shares its baseline, and fails with a reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from paretta.pipelines.artifact import open_artifact, verify_files
from paretta.pipelines.bench import TrainingProgress
from paretta.pipelines.data.feeds import load_feeds
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.measuring.artifact_answers import artifact_answers
from paretta.pipelines.outcome import RunOutcome
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.reuse.prefixes import baseline_key
from paretta.pipelines.run import run
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import ParettaError, TrialFailed, WrongInput
from paretta.search_spaces.space.plan import Plan

BASELINE: tuple[Document, ...] = ({"kind": "train", "epochs": 2, "lr": 0.01, "batch_size": 64},)
SMALLER: tuple[Document, ...] = (
    {"kind": "prune", "sparsity": 0.5, "importance": "taylor"},
    {"kind": "distill", "epochs": 2, "lr": 0.01, "batch_size": 64},
)


@pytest.fixture
def task() -> Task:
    return make(width=4, hidden=16)


def ran(task: Task, folder: Path, plan: Plan | None = None, **settings: object) -> RunOutcome:
    return run(plan or Plan(BASELINE, SMALLER), task, seed=3, ranks=Ranks.alone(), folder=folder, **settings)


def model_bytes(outcome: RunOutcome) -> bytes:
    return (outcome.folder / "model.onnx").read_bytes()


def test_a_plan_becomes_an_artifact_with_its_costs(task: Task, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    outcome = ran(task, tmp_path / "a", report=told.append)
    assert [cost.kind for cost in outcome.costs] == ["train", "prune", "distill", "export"]
    assert outcome.costs[0].num_parameters > outcome.costs[1].num_parameters == outcome.num_parameters
    assert outcome.seconds == pytest.approx(sum(cost.seconds for cost in outcome.costs))
    assert outcome.cpu_seconds > 0
    delivered = open_artifact(tmp_path / "a")
    assert (delivered.plan, delivered.seed) == (Plan(BASELINE, SMALLER), 3)
    assert delivered.data_digest == data_digest(task)
    assert isinstance(task.validation, TensorDataset)
    assert np.array_equal(load_feeds(tmp_path / "a" / "sample.npz")["input"], task.validation.tensors[0][:1].numpy())
    assert verify_files(tmp_path / "a")["layers"] == {
        name: facts.to_document() for name, facts in outcome.layers.items()
    }
    assert {facts.in_floats for facts in outcome.layers.values()} == {"its weight is not quantized"}
    assert [(progress.stage, progress.epoch) for progress in told] == [
        ("train", 1),
        ("train", 2),
        ("distill", 1),
        ("distill", 2),
    ]


def test_equal_beginnings_of_plans_are_carried_out_once_and_lead_to_the_same_bytes(task: Task, tmp_path: Path) -> None:
    def shared(name: str, *stages: Document) -> RunOutcome:
        return ran(task, tmp_path / name, Plan(BASELINE, stages), cache=Cache(tmp_path / "cache"), name=name)

    quantize: Document = {"kind": "quantize", "bits": 4}
    first = shared("first", *SMALLER)
    assert [cost.kind for cost in first.costs] == ["train", "prune", "distill", "export"]
    longer = shared("longer", *SMALLER, quantize, SMALLER[1])
    assert [cost.kind for cost in longer.costs] == ["shared", "shared", "quantize", "distill", "export"]
    assert [(stage.cost.kind, stage.trial) for stage in longer.reused] == [
        ("train", "first"),
        ("prune", "first"),
        ("distill", "first"),
    ]
    other = shared("other", *SMALLER, quantize, {**SMALLER[1], "temperature": 2})
    assert [cost.kind for cost in other.costs] == ["shared", "shared", "distill", "export"]
    assert [stage.trial for stage in other.reused] == ["first", "first", "first", "longer"]
    whole = shared("whole", *SMALLER, quantize, SMALLER[1])
    alone = ran(task, tmp_path / "alone", Plan(BASELINE, (*SMALLER, quantize, SMALLER[1])))
    assert model_bytes(longer) == model_bytes(whole) == model_bytes(alone)
    assert whole.seconds < whole.facts["train_wall_s"], "a candidate's cost does not depend on which came first"


def test_a_model_that_cannot_be_kept_is_made_each_time(task: Task, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.once = task.new_model(), object()  # equal to no other object

        def forward(self, images: Tensor) -> Tensor:
            return self.inside(images)

    odd, cache = replace(task, model=Odd), Cache(tmp_path / "cache")
    kinds = [[cost.kind for cost in ran(odd, tmp_path / name, cache=cache).costs] for name in "ab"]
    assert kinds == [["train", "prune", "distill", "export"], ["shared", "prune", "distill", "export"]]


def test_a_file_that_a_stage_reads_counts_by_its_content(task: Task, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"

    def kept(value: float) -> RunOutcome:
        save_file({"fc2.bias": torch.full((10,), value)}, file)
        plan = Plan(BASELINE, ({"kind": "transfer", "source": str(file)},))
        return ran(task, tmp_path / "a", plan, cache=Cache(tmp_path / "cache"))

    assert [cost.kind for cost in kept(1.0).costs] == ["train", "transfer", "export"]
    assert [cost.kind for cost in kept(2.0).costs] == ["shared", "transfer", "export"]
    assert [cost.kind for cost in kept(2.0).costs] == ["shared", "shared", "export"]


def test_a_by_product_equals_its_plan_run_alone_and_fails_alone(task: Task, tmp_path: Path) -> None:
    longer = [Plan(BASELINE, (*SMALLER, {"kind": "quantize", "bits": bits})) for bits in (8, {"none*": 4})]
    places = [tmp_path / "eight", tmp_path / "none"]
    outcome = ran(task, tmp_path / "a", by_products=list(zip(longer, places, strict=True)))
    assert model_bytes(outcome) == model_bytes(ran(task, tmp_path / "b"))
    eight, failed = outcome.by_products
    assert isinstance(eight, RunOutcome)
    assert [cost.kind for cost in eight.costs] == ["quantize", "export"]
    assert model_bytes(eight) == model_bytes(ran(task, tmp_path / "c", longer[0]))
    assert open_artifact(places[0]).plan == longer[0]
    assert isinstance(failed, str)
    assert "no layer" in failed


def test_the_answers_are_those_of_the_trained_model(task: Task, tmp_path: Path) -> None:
    cache = Cache()
    outcome = ran(task, tmp_path / "a", Plan(BASELINE), cache=cache)
    model = task.new_model()
    model.load_state_dict(cache.memory[f"prefix-{outcome.baseline_key}"]["values"])
    images = task.test.tensors[0]
    with torch.no_grad():
        expected = model.eval()(images).numpy()
    found = torch.cat([outputs for outputs, _ in artifact_answers(tmp_path / "a", task, "test")])
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_the_baseline_s_name_follows_what_it_is_made_of(task: Task) -> None:
    torch.manual_seed(0)
    model = task.new_model()
    plan = Plan(BASELINE, SMALLER)
    known = baseline_key(plan, task, model, 0)
    images, labels = task.train.tensors
    other_data = replace(task, train=TensorDataset(images.flip(0), labels.flip(0)))
    assert known == baseline_key(Plan(BASELINE), task, model, 0), "the compression after it does not matter"
    others = [
        baseline_key(plan, task, model, 1),
        baseline_key(Plan((), SMALLER), task, model, 0),
        baseline_key(plan, other_data, model, 0),
        baseline_key(plan, replace(task, loss=lambda y, t: 2 * task.loss(y, t)), model, 0),
        baseline_key(plan, task, nn.Sequential(model, nn.Tanh()), 0),
    ]
    assert len({known, *others}) == 6


def test_a_pretrained_model_needs_no_baseline_stages(task: Task, tmp_path: Path) -> None:
    outcome = ran(replace(task, model=task.new_model()), tmp_path / "a", Plan((), SMALLER))
    assert [cost.kind for cost in outcome.costs] == ["prune", "distill", "export"]


def test_a_plan_that_is_not_valid_is_refused_before_anything_is_made(task: Task, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="must be less than 1"):
        ran(task, tmp_path / "a", Plan(BASELINE, ({"kind": "prune", "sparsity": 1.2},)))
    assert not (tmp_path / "a").exists()


def test_divergence_names_the_stage(task: Task, tmp_path: Path) -> None:
    broken = replace(task, loss=lambda outputs, targets: outputs.sum() * torch.nan)
    with pytest.raises(TrialFailed) as caught:
        ran(broken, tmp_path / "a")
    assert caught.value.reason == "train: diverged: loss is nan at epoch 1, step 1"


def test_a_fault_keeps_its_traceback(task: Task, tmp_path: Path) -> None:
    calls: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 5:
            raise KeyError("the sixth call")
        return task.loss(outputs, targets)

    with pytest.raises(TrialFailed) as caught:
        ran(replace(task, loss=loss), tmp_path / "a")
    assert caught.value.reason.startswith("train: a batch of task.train, samples ")
    assert f"training on it failed: KeyError: 'the sixth call' (at {__file__}:" in caught.value.reason
    assert "calls.append" not in caught.value.reason
    assert 'raise KeyError("the sixth call")' in caught.value.detail


def test_a_lack_of_memory_is_said_with_the_mend(task: Task, tmp_path: Path) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss(outputs, targets) if len(targets) < 64 else torch.empty(2**48).sum()  # 1 PiB

    with pytest.raises(TrialFailed) as caught:
        ran(replace(task, loss=loss), tmp_path / "a")
    told = "train: out of memory: tried to allocate 1125899906842624 bytes; give a smaller batch_size"
    assert caught.value.reason.startswith(told)
    assert "torch.empty(2**48)" in caught.value.detail


def test_distilling_without_a_teacher_is_refused_before_anything_runs(task: Task, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="needs a teacher"):
        ran(task, tmp_path / "a", Plan(({"kind": "distill"},)))


def test_who_is_told_may_stop_the_run(task: Task, tmp_path: Path) -> None:
    class Enough(ParettaError):
        pass

    def report(progress: TrainingProgress) -> None:
        raise Enough

    with pytest.raises(Enough):
        ran(task, tmp_path / "a", report=report)


def test_the_callers_random_state_is_left_alone(task: Task, tmp_path: Path) -> None:
    small = replace(task, train=Subset(task.train, list(range(64))))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    ran(small, tmp_path / "a", Plan(BASELINE))
    assert torch.equal(torch.rand(1), expected)


def test_a_run_that_was_killed_goes_on_and_delivers_the_same_bytes(task: Task, tmp_path: Path) -> None:
    class Killed(ParettaError):
        pass

    steps: Document = {"kind": "iterate", "prune": SMALLER[0], "retrain": {"kind": "train"}, "steps": 2}
    plan, told = Plan(BASELINE, (steps, SMALLER[1])), []

    def report(progress: TrainingProgress) -> None:
        told.append((progress.stage, progress.epoch))
        if told == [*undisturbed[:5]]:
            raise Killed

    undisturbed: list[tuple[str, int]] = []
    expected = ran(task, tmp_path / "a", plan, report=lambda told: undisturbed.append((told.stage, told.epoch)))
    kept = Checkpoint(tmp_path / "states")
    with pytest.raises(Killed):
        ran(task, tmp_path / "b", plan, report=report, checkpoint=kept)
    again = ran(task, tmp_path / "b", plan, report=report, checkpoint=kept)
    assert told == undisturbed, "no epoch is trained twice"
    assert model_bytes(again) == model_bytes(expected)
