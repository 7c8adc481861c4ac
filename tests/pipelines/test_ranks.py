"""One rank needs no process group, two agree, and batch statistics are those of the global batch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from attention_models import Residual, bench
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from two_ranks import be_a_rank, run_on_two_ranks

from paretta.pipelines.bench import Bench, ProgressReport, TrainingProgress, silent
from paretta.pipelines.pruning.gradient_pass import activities, gradients
from paretta.pipelines.quantization.fake_quantize import DynamicQuantizer
from paretta.pipelines.ranks import Ranks, _torch_batch_norm
from paretta.pipelines.stages.distill import teacher_scores
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training import backward
from paretta.pipelines.training.batch import Batch
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.tweak import Tweak
from paretta.search_spaces.errors import TrialFailed


def test_alone_every_collective_is_the_identity() -> None:
    ranks, values = Ranks.alone(), torch.tensor([1.0, 2.0])
    for result in (ranks.all_reduce_sum(values), ranks.all_reduce_mean(values), ranks.broadcast(values)):
        assert torch.equal(result, values)
        assert result is not values
    assert ranks.is_first
    assert ranks.any(True)
    assert not ranks.any(False)
    ranks.barrier()


def test_without_a_process_group_joined_is_alone() -> None:
    assert Ranks.joined() == Ranks.alone()


@given(size=st.integers(0, 50), world_size=st.integers(1, 7))
def test_shards_are_a_fair_partition(size: int, world_size: int) -> None:
    shards = [Ranks(rank, world_size, torch.device("cpu")).shard(torch.arange(size)) for rank in range(world_size)]
    assert torch.cat(shards).tolist() == list(range(size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_batch_norm_of_gpus_is_torchs_and_keeps_the_layers_moments() -> None:
    """On one rank here, since it refuses CPU tensors on several."""
    plain, mine = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    shared, images = _torch_batch_norm(mine), torch.randn(4, 3, 5, 5)
    for training in (True, False):
        plain.train(training)
        mine.train(training)
        assert torch.equal(shared(mine, images), plain(images))
    assert all(map(torch.equal, mine.buffers(), plain.buffers()))
    assert not torch.equal(mine.running_mean, torch.zeros(3))


CHECKS = [
    "collectives",
    "batch_norm",
    "dynamic",
    "unused",
    "divergence",
    "teacher",
    "data_pass",
    "heads",
    "resume",
    "step",
    "ddp",
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of both ranks, by check; the two processes are started once."""
    folder = tmp_path_factory.mktemp("ranks")
    run_on_two_ranks(__file__, folder)
    lines = [(folder / f"{rank}").read_text(encoding="utf-8").splitlines() for rank in range(2)]
    return {check: f"{first} {second}" for check, first, second in zip(CHECKS, *lines, strict=True)}


@pytest.mark.parametrize("check", CHECKS)
def test_on_two_ranks(told: dict[str, str], check: str) -> None:
    assert told[check] == "ok ok"


def check_collectives(ranks: Ranks, folder: Path) -> bool:
    mine = torch.tensor([float(ranks.rank), 1.0])
    sums = ranks.all_reduce_sum(mine).tolist() == [1.0, 2.0]
    means = ranks.all_reduce_mean(mine).tolist() == [0.5, 1.0]
    first = ranks.broadcast(mine).tolist() == [0.0, 1.0]
    return sums and means and first and ranks.any(ranks.rank == 1) and not ranks.any(False)


def check_batch_norm(ranks: Ranks, folder: Path) -> bool:
    """Outputs, gradients and running moments are torch's own on the whole batch; shards of 3 and 2 samples."""
    images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, mine = nn.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    pull = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = images.clone().requires_grad_()
    (whole(expected) * pull).sum().backward()
    part = ranks.shard(torch.arange(5))
    inputs = images[part].clone().requires_grad_()
    with ranks.wrap(mine):
        outputs = mine(inputs)
        (outputs * pull[part]).sum().backward()
    inside = torch.allclose(inputs.grad, expected.grad[part])
    weights = torch.allclose(ranks.all_reduce_sum(mine.weight.grad), whole.weight.grad)
    moments = all(torch.allclose(a, b) for a, b in zip(mine.buffers(), whole.buffers(), strict=True))
    plain = type(mine).forward is nn.BatchNorm2d.forward and "forward" not in vars(mine)
    return inside and weights and moments and plain and torch.allclose(outputs, whole.train()(images)[part])


def check_dynamic(ranks: Ranks, folder: Path) -> bool:
    """In training, activations are rounded by the range of the whole batch; in evaluation by that of their shard."""
    values = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 6.0)[:, None]
    mine = DynamicQuantizer()
    whole, part = mine(values), values[ranks.shard(torch.arange(5))]
    with ranks.wrap(mine):
        trained = mine.train()(part)
        evaluated = mine.eval()(part)
    shared = torch.equal(trained, whole[ranks.shard(torch.arange(5))])
    own = torch.equal(evaluated, mine(part)) and "forward" not in vars(mine.range)
    apart = ranks.all_reduce_sum((evaluated != trained).float().sum())  # one of the shards has the whole range
    return shared and own and bool(apart > 0)


def check_unused(ranks: Ranks, folder: Path) -> bool:
    """A parameter that only one rank used counts as zero on the other."""
    model = nn.ModuleList([nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)])
    model[ranks.rank](torch.full((1, 1), 4.0)).sum().backward()
    ranks.average_gradients(model)
    return all(parameter.grad.item() == 2.0 for parameter in model.parameters())


def check_divergence(ranks: Ranks, folder: Path) -> bool:
    """Both ranks give up together, though the loss is nan on one of them only."""
    task = make(width=2, hidden=4)

    def loss(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return outputs.sum() * (torch.nan if ranks.rank == 1 else 0.0)

    try:
        fit(task.new_model(), Bench(task, ranks), TrainSettings(), loss=loss)
    except TrialFailed as error:
        return "loss is nan at epoch 1" in error.reason
    return False


def check_teacher(ranks: Ranks, folder: Path) -> bool:
    """Each rank computes half of the scores; a file that only one rank finds does not part them."""
    task = make(width=2, hidden=4)
    torch.manual_seed(0)
    teacher = task.new_model().eval()
    cache = Cache(folder / f"cache{ranks.rank}")
    scores = teacher_scores(Bench(task, ranks, teacher=teacher, teacher_key="key", cache=cache))
    again = teacher_scores(Bench(task, ranks, teacher=teacher, teacher_key="key", cache=Cache(cache.folder)))
    written = (folder / f"cache{ranks.rank}" / "teacher-key.safetensors").exists() == ranks.is_first
    with torch.no_grad():
        expected = teacher(task.train.tensors[0])
    return written and torch.allclose(scores, expected, atol=1e-5) and torch.allclose(again, expected, atol=1e-5)


def check_data_pass(ranks: Ranks, folder: Path) -> bool:
    """Gradients, their sizes and activities are those of one rank; 130 samples leave a batch of 2."""
    task = make(width=2, hidden=4)
    torch.manual_seed(0)
    model = task.new_model().eval()
    here, alone = Bench(task, ranks), Bench(task, Ranks.alone())
    found, expected = gradients(model, here, 130), gradients(model, alone, 130)
    same = [
        torch.allclose(mine, theirs, atol=1e-6)
        for parameter in model.parameters()
        for mine, theirs in zip(found.of(parameter), expected.of(parameter), strict=True)
    ]
    same += [torch.allclose(found.gates[module], gate, rtol=1e-4, atol=1e-5) for module, gate in expected.gates.items()]
    heard, all_heard = activities(model, here, 130), activities(model, alone, 130)
    same += [torch.allclose(heard[layer], values, atol=1e-6) for layer, values in all_heard.items()]
    return len(same) == 2 * 10 + 6 + 4 and all(same)


def check_heads(ranks: Ranks, folder: Path) -> bool:
    """Both ranks take the same heads out of a fused attention as one does."""

    def pruned(ranks: Ranks) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Residual("input").eval()
        Prune(sparsity=0.5, importance="taylor").apply(model, bench(lambda: Residual("input"), ranks))
        return [*model.state_dict().values()]

    return all(map(torch.equal, pruned(ranks), pruned(Ranks.alone())))


def check_resume(ranks: Ranks, folder: Path) -> bool:
    """A training that is stopped after its first epoch continues on both ranks with a bit-identical result."""
    task, settings = make(width=2, hidden=4), TrainSettings(epochs=2, batch_size=256)

    class Stopped(Exception):
        pass

    def stop(progress: TrainingProgress) -> None:
        if progress.epoch == 1:
            raise Stopped

    def trained(report: ProgressReport, checkpoint: Checkpoint | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = task.new_model()
        fit(model, Bench(task, ranks, report=report, checkpoint=checkpoint), settings)
        return [*model.state_dict().values()]

    undisturbed, kept = trained(silent, None), Checkpoint(folder / "checkpoint")
    try:
        trained(stop, kept)
    except Stopped:
        ranks.barrier()
        return all(map(torch.equal, undisturbed, trained(silent, kept)))
    return False


def check_step(ranks: Ranks, folder: Path) -> bool:
    """A training that is stopped within an epoch continues there on both ranks, with each rank's own dropout."""

    def dropping() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    task, settings = replace(make(width=2, hidden=4), model=dropping), TrainSettings(batch_size=32)

    class Stopped(Exception):
        pass

    class Stop(Tweak):
        def __init__(self, at: int) -> None:
            self.at, self.steps = at, list[int]()

        def before_step(self, step: int, model: nn.Module) -> None:
            self.steps.append(step)
            if step == self.at:
                raise Stopped

    def trained(stop: Stop, checkpoint: Checkpoint | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = task.new_model()
        fit(model, Bench(task, ranks, checkpoint=checkpoint), settings, tweaks=[stop])
        return [*model.state_dict().values()]

    undisturbed, kept, last = trained(Stop(0), None), Checkpoint(folder / "steps", every_s=0.0), Stop(0)
    try:
        trained(Stop(24), kept)
    except Stopped:
        ranks.barrier()
        return all(map(torch.equal, undisturbed, trained(last, kept))) and last.steps[0] == 18
    return False


def check_ddp(ranks: Ranks, folder: Path) -> bool:
    """DistributedDataParallel gives what one flat all-reduce gives; with branches, batch norm, parts and penalties."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(64, 8), nn.BatchNorm1d(8)
            self.even, self.odd, self.never = nn.Linear(8, 10), nn.Linear(8, 10), nn.Linear(8, 10)
            self.calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            last = self.even if (self.calls + ranks.rank) % 2 else self.odd  # the ranks use different branches
            result: torch.Tensor = last(self.norm(self.first(images.flatten(1))))
            return result

    task = replace(make(width=2, hidden=4), model=Branches)

    def trained(start: int, ranks: Ranks, **settings: object) -> list[torch.Tensor]:
        backward.DDP_FROM = start
        torch.manual_seed(0)
        model = task.new_model()
        chosen = {"epochs": 2, "batch_size": 128, "optimizer": "sgd", "lr": 0.1, **settings}
        fit(model, Bench(task, ranks), TrainSettings.model_validate(chosen))
        return [*model.state_dict().values()]

    def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
        return all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(one, other, strict=True))

    tweaks = [{"kind": "l2_penalty", "strength": 0.01}]
    return all(
        same(trained(0, ranks, **more), trained(10**9, ranks, **more))
        for more in (
            {},
            {"accumulate": 2},
            {"tweaks": tweaks, "gradient_clip": 0.5},
            {"optimizer": "lbfgs", "epochs": 1},
        )
    )


def work(ranks: Ranks, folder: Path) -> None:
    """Do every check as one of the two ranks."""
    lines = ["ok" if globals()[f"check_{check}"](ranks, folder) else "wrong" for check in CHECKS]
    (folder / f"{ranks.rank}").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    be_a_rank(work)
