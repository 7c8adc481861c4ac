"""Run one plan: untrained model, baseline stages, compression stages, delivered artifact."""

import time
import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines import artifact
from pipelines.bench import Bench, Cache, Report, derived_seed, seeded, silent
from pipelines.checkpoint import Checkpoint
from pipelines.energy_counters import nvml, rapl
from pipelines.export import to_bytes
from pipelines.layers import LayerFacts, layer_facts
from pipelines.provenance import code_digest
from pipelines.ranks import Ranks
from pipelines.stage import Stage, stages_of
from pipelines.task import Task, data_digest, take, update_digest
from pipelines.train import TrainSettings
from search_spaces.errors import ParettaError, TrialFailed, WrongInput
from search_spaces.plan import Document, Json, Plan, digest


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage took and left.

    Args:
        kind: of the stage, or ``baseline`` where the cache gave all of them, or ``export``.
        words: the stage in words.
        seconds: wall time on rank 0.
        cpu_seconds: CPU time, summed over ranks.
        gpu_seconds: wall time during which ranks held a GPU, summed over them; 0 without.
        joules: of rank 0's machine or device meanwhile, other work on it included, by counter: ``rapl`` or ``nvml``.
        num_parameters: of the model after the stage.
    """

    kind: str
    words: str
    seconds: float
    cpu_seconds: float
    num_parameters: int
    gpu_seconds: float = 0.0
    joules: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run delivered. Equal on all ranks, but for `seconds`.

    Args:
        folder: the artifact's folder, written by rank 0.
        costs: of each stage, in order; the export last.
        baseline_key: names task, baseline plan and seed by content: equal keys share baseline and teacher.
        by_products: what came of each plan that goes on where this one ends, or why it failed.
        layers: what became of each layer of the delivered model, by its name.
    """

    folder: Path
    costs: tuple[StageCost, ...]
    baseline_key: str
    by_products: tuple["Outcome | str", ...] = ()
    layers: Mapping[str, LayerFacts] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all stages on all ranks."""
        return sum(cost.cpu_seconds for cost in self.costs)

    @property
    def facts(self) -> dict[str, float]:
        """What making the artifact took, for meters: ``train_wall_s``, ``train_cpu_s``, and what there are of others.

        ``train_gpu_s`` where GPUs were held; ``train_rapl_j`` and ``train_nvml_j`` where such a counter can be read.
        """
        found = {"train_wall_s": self.seconds, "train_cpu_s": self.cpu_seconds}
        if gpu_seconds := sum(cost.gpu_seconds for cost in self.costs):
            found["train_gpu_s"] = gpu_seconds
        for source in {source for cost in self.costs for source in cost.joules}:
            found[f"train_{source}_j"] = sum(cost.joules.get(source, 0.0) for cost in self.costs)
        return found

    @property
    def num_parameters(self) -> int:
        """Parameters of the delivered model."""
        return self.costs[-1].num_parameters


def run(
    plan: Plan,
    task: Task,
    *,
    seed: int,
    ranks: Ranks,
    folder: Path,
    cache: Cache | None = None,
    report: Report = silent,
    scored: bool = False,
    checkpoint: Checkpoint | None = None,
    origin: Document | None = None,
    by_products: Sequence[tuple[Plan, Path]] = (),
) -> Outcome:
    """Train and compress one model, and write its artifact (collective).

    The baseline is fetched from the cache where it has it. Every stage is seeded by `seed` and the plan up to it, so
    that fetched and computed prefixes lead to the same result.

    Args:
        plan: what to do.
        task: what to do it to.
        seed: of the whole run.
        ranks: the workers of this run; all call this function with equal arguments.
        folder: where rank 0 writes the artifact.
        cache: shared by the runs of a sweep.
        report: told after each epoch, see `pipelines.bench.Bench`.
        scored: let the last stage that trains tell after each epoch how good the model is on the validation split.
        checkpoint: where trainings keep their states; a run with equal arguments goes on from them.
        origin: how this run's task is made; kept with the plan in the artifact.
        by_products: plans that begin with all of this one and go on, each with its folder: they are made of the same
            trained model, and equal what each would be if it were run by itself. One that fails fails alone.

    Raises:
        WrongInput: the plan is not valid; before anything is computed.
        TrialFailed: a stage failed, named in the reason. Where the cause is a fault in code, `detail` has its
            traceback.
    """
    stages = stages_of(plan)
    job = _Job(
        plan,
        stages,
        seed,
        Bench(task, ranks, cache=cache or Cache(), report=report, checkpoint=checkpoint),
        costs=[],
        scored=scored,
    )
    model = job.new_model()
    key = baseline_key(plan, task, model, seed, origin)
    model = job.baseline(model, key)
    if plan.stages:
        job = replace(job, bench=replace(job.bench, teacher=_frozen(model), teacher_key=key))
    for index in range(len(plan.baseline), len(stages)):
        model = job.apply(index, model)
    origin = {**(origin or {}), "workers": ranks.world_size}
    trained = deepcopy(model) if by_products else model
    layers = job.deliver(model, folder, origin)
    others = tuple(job.go_on(deepcopy(trained), longer, place, key, origin) for longer, place in by_products)
    return Outcome(folder, tuple(job.costs), key, others, layers)


def baseline_key(plan: Plan, task: Task, model: nn.Module, seed: int, origin: Document | None = None) -> str:
    """Name the baseline by content (SHA-256, hex): data, code, untrained model and what it answers, stages and seed.

    A key too many costs a training, a wrong one a sweep: whatever may change the result is in it, so the task's options
    and source files are, and what model and loss compute on a batch stands for what files cannot tell.

    Args:
        plan: only its baseline stages count.
        task: its data and loss.
        model: the untrained model under `seed`.
        seed: of the run.
        origin: how the task is made.
    """
    state = sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        state.update(name.encode())
        update_digest(state.update, tensor)
    facts: list[Json] = [
        data_digest(task),
        state.hexdigest(),
        _probe(task, model),
        code_digest(task),
        dict(origin or {}),
        plan.baseline_plan().fingerprint,
        seed,
    ]
    return digest(facts)


@torch.no_grad()
def _probe(task: Task, model: nn.Module) -> str:
    """Return outputs and loss on the first samples, to the three digits that all machines agree on."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    inputs, targets = (part.to(device) for part in take(task.train, torch.arange(1)))
    training = model.training
    outputs: Tensor = model.eval()(inputs)
    loss = task.loss(outputs, targets)
    model.train(training)
    return f"{float(outputs.double().norm()):.2e} {float(loss):.2e}"


def last_training(stages: Sequence[Stage], num_baseline: int) -> int | None:
    """Return the place of the last stage after the baseline that trains, None where none does."""
    trained = [index for index, stage in enumerate(stages) if isinstance(stage, TrainSettings)]
    return trained[-1] if trained and trained[-1] >= num_baseline else None


@dataclass(frozen=True, slots=True)
class _Job:
    plan: Plan
    stages: Sequence[Stage]
    seed: int
    bench: Bench
    costs: list[StageCost]
    scored: bool = False

    def new_model(self) -> nn.Module:
        with seeded(derived_seed(self.seed, "model")):
            return self.bench.task.new_model()

    def baseline(self, model: nn.Module, key: str) -> nn.Module:
        """Return the trained baseline, from the cache where it is there on every rank."""
        ranks = self.bench.ranks
        if not self.plan.baseline:
            return model.to(ranks.device).eval()
        name = f"baseline-{key}"
        with self.bench.sharing(name) as known:
            if known is not None:
                clock = _Clock()
                model.load_state_dict(dict(known))
                self.costs.append(clock.cost("baseline", "fetched from the cache", model, ranks))
                return model.to(ranks.device).eval()
            shapes = _shapes(model)
            for index in range(len(self.plan.baseline)):
                model = self.apply(index, model)
            # a baseline that changed shape cannot be loaded into a fresh model, so it is made again each time
            if _shapes(model) == shapes:
                self.bench.cache.store(name, model.state_dict(), write=ranks.is_first)
            return model.eval()

    def apply(self, index: int, model: nn.Module) -> nn.Module:
        stage, clock = self.stages[index], _Clock()
        seed = derived_seed(self.seed, self.plan.prefixes()[index])
        last = last_training(self.stages, len(self.plan.baseline))
        bench = replace(self.bench, seed=seed, stage=stage.kind, scored=self.scored and index == last)
        with _naming(stage.kind), seeded(seed):
            model = stage.apply(model, bench)
        self.costs.append(clock.cost(stage.kind, stage.words(), model, bench.ranks))
        return model

    def go_on(self, model: nn.Module, plan: Plan, folder: Path, key: str, origin: Document) -> Outcome | str:
        """Carry out what `plan` has beyond this job's, and deliver it; the reason where that fails (collective)."""
        done = len(self.stages)
        try:
            longer = replace(self, plan=plan, stages=stages_of(plan), costs=[], scored=False)
            for index in range(done, len(longer.stages)):
                model = longer.apply(index, model)
            layers = longer.deliver(model, folder, origin)
        except (TrialFailed, WrongInput) as error:
            return str(error)
        return Outcome(folder, tuple(longer.costs), key, layers=layers)

    def deliver(self, model: nn.Module, folder: Path, origin: Document) -> dict[str, LayerFacts]:
        """Let rank 0 write the artifact, and return what became of each layer (collective)."""
        ranks, clock = self.bench.ranks, _Clock()
        layers = layer_facts(model, self.bench.task.example_input)
        failure: TrialFailed | None = None
        if ranks.is_first:
            try:
                with _naming("export"):
                    self._write(model, layers, folder, origin)
            except TrialFailed as error:
                failure = error
        # the other ranks must not wait for a file that will never come
        if ranks.any(failure is not None):
            raise failure or TrialFailed("export: rank 0 could not write the artifact")
        self.costs.append(clock.cost("export", "write the artifact", model, ranks))
        return layers

    def _write(self, model: nn.Module, layers: Mapping[str, LayerFacts], folder: Path, origin: Document) -> None:
        task = self.bench.task
        exported = to_bytes(model, task.example_input)
        artifact.write(
            folder,
            exported,
            plan=self.plan,
            seed=self.seed,
            data_digest=data_digest(task),
            layers={name: facts.to_document() for name, facts in layers.items()},
            origin=origin,
        )


class _Clock:
    """Wall and CPU time and energy since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        counters = {"rapl": rapl(), "nvml": nvml()}
        self._counters = {name: (joules, joules()) for name, joules in counters.items() if joules is not None}

    def cost(self, kind: str, words: str, model: nn.Module, ranks: Ranks) -> StageCost:
        seconds, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        held = seconds if ranks.device.type == "cuda" else 0.0
        mine = torch.tensor([cpu, held], dtype=torch.float64, device=ranks.device)
        cpu_seconds, gpu_seconds = ranks.all_reduce_sum(mine).tolist()
        joules = {name: count() - before for name, (count, before) in self._counters.items()}
        size = sum(p.numel() for p in model.parameters())
        return StageCost(kind, words, seconds, cpu_seconds, size, gpu_seconds, joules)


class _naming:  # noqa: N801 - reads as a verb in a with statement
    """Turn what goes wrong inside the block into TrialFailed with the stage's name; faults keep their traceback."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, TrialFailed):
            raise TrialFailed(self._named(error.reason), error.detail) from error
        if isinstance(error, WrongInput):
            raise TrialFailed(self._named(str(error))) from error
        if isinstance(error, Exception) and not isinstance(error, ParettaError):
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise TrialFailed(self._named(reason), "".join(traceback.format_exception(error))) from error

    def _named(self, reason: str) -> str:
        return reason if reason.startswith(f"{self._stage}: ") else f"{self._stage}: {reason}"


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _frozen(model: nn.Module) -> nn.Module:
    return deepcopy(model).eval().requires_grad_(False)
