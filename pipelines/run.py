"""Run one plan: untrained model, baseline stages, compression stages, delivered artifact."""

import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from paretta.pipelines import artifact
from paretta.pipelines.batches.loaders import Loaders
from paretta.pipelines.bench import Bench, ProgressReport, derived_seed, seeded, silent
from paretta.pipelines.data.trees import input_names, tensors
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.outcome import Reused, RunOutcome, StageClock, StageCost
from paretta.pipelines.quantization.layer_facts import LayerFacts, layer_facts
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.reuse.prefixes import Prefix, packed, prefix_keys, unpacked
from paretta.pipelines.runtime import storage_for
from paretta.pipelines.stage import Stage, noted, stages_of, unmet_needs
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.state.state_file import State
from paretta.pipelines.stream import Passes
from paretta.pipelines.task import Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import ParettaError, TrialFailed, WrongInput, out_of_memory
from paretta.search_spaces.space.plan import Plan

Layers: TypeAlias = Mapping[str, LayerFacts]


def run(
    plan: Plan,
    task: Task,
    *,
    seed: int,
    ranks: Ranks,
    folder: Path,
    cache: Cache | None = None,
    report: ProgressReport = silent,
    scored: bool = False,
    checkpoint: Checkpoint | None = None,
    origin: Document | None = None,
    passes: Passes | None = None,
    loaders: Loaders | None = None,
    by_products: Sequence[tuple[Plan, Path]] = (),
    name: str = "",
    runtimes: tuple[str, ...] = (),
) -> RunOutcome:
    """Train and compress one model, and write its artifact (collective).

    The longest prefix of the plan in the cache is fetched from it. Every stage's seed is derived from `seed` and the
    plan up to that stage, so fetched and computed prefixes lead to the same result.

    Args:
        plan: the stages to apply.
        task: the model to compress, with its data.
        seed: of the whole run.
        ranks: the workers of this run; all call this function with equal arguments.
        folder: where rank 0 writes the artifact.
        cache: shared by the runs of a sweep.
        report: called after each epoch, see `paretta.pipelines.bench.Bench`.
        scored: whether the last stage that trains reports scores on the validation split after each epoch.
        checkpoint: where the states of trainings are stored; a run with equal arguments continues from them.
        origin: how this run's task is made; stored with the plan in the artifact.
        passes: reads this rank's share of a streamed training split.
        loaders: read the batches of the task's splits; by default this process does.
        by_products: plans that extend this one, each with its folder. They start from the same trained model and give
            the same result as if run separately. If one fails, the others and this run continue.
        name: of this run, recorded where others reuse its stages.
        runtimes: those that the artifact must run on beside ONNX Runtime; stored with the plan.

    Raises:
        WrongInput: the plan is not valid; raised before anything is computed.
        TrialFailed: a stage failed, which the reason names. If the cause is an error in code, `detail` has its
            traceback.
    """
    stages = stages_of(plan)
    if lacking := unmet_needs(plan, stages, task):
        raise WrongInput(*lacking)
    bench = Bench(
        task,
        ranks,
        cache=cache or Cache(),
        report=report,
        checkpoint=checkpoint,
        passes=passes,
        loaders=loaders or Loaders(),
    )
    origin = {**(origin or {}), "workers": ranks.world_size}
    told = {**origin, "runtimes": list(runtimes)} if runtimes else origin
    job = _Job(plan, stages, seed, bench, name, told, runtimes, shares=cache is not None, scored=scored)
    model = job.new_model()
    job = replace(job, keys=prefix_keys(plan, task, model, seed, origin))
    num_baseline = len(plan.baseline)
    model = job.made(model.to(ranks.device).eval(), 0, num_baseline)
    if plan.stages:
        job = replace(job, bench=replace(job.bench, teacher=_frozen(model), teacher_key=job.keys[num_baseline]))
    model = job.made(model, num_baseline, len(stages))
    trained = deepcopy(model) if by_products else model
    layers = job.deliver(model, folder)
    others = tuple(job.go_on(deepcopy(trained), longer, place) for longer, place in by_products)
    return job.outcome(folder, layers, others)


def last_training(stages: Sequence[Stage], num_baseline: int) -> int | None:
    """Return the index of the last stage after the baseline that trains, or None if none does."""
    trained = [index for index, stage in enumerate(stages) if isinstance(stage, TrainSettings)]
    return trained[-1] if trained and trained[-1] >= num_baseline else None


@dataclass(frozen=True, slots=True)
class _Job:
    plan: Plan
    stages: Sequence[Stage]
    seed: int
    bench: Bench
    name: str
    origin: Document
    runtimes: tuple[str, ...]
    shares: bool
    scored: bool
    keys: Sequence[str] = ()  # of the untrained model and after each stage
    costs: list[StageCost] = field(default_factory=list)
    reused: list[Reused] = field(default_factory=list)
    makers: list[str] = field(default_factory=list)  # of each stage so far
    spent: list[StageCost] = field(default_factory=list)  # of each stage so far, including reused ones

    def new_model(self) -> nn.Module:
        with seeded(derived_seed(self.seed, "model")):
            return self.bench.task.new_model()

    def made(self, model: nn.Module, start: int, end: int) -> nn.Module:
        """Apply the stages from `start` to `end` to `model`, reusing the longest prefix in the cache."""
        if not self.shares:
            for index in range(start, end):
                model = self.apply(index, model)
            return model
        for known in range(end, start, -1):
            fetched = self._fetched(known, self.bench.cache.fetch(self._place(known)))
            if fetched is not None:
                model, start = fetched, known
                break
        for index in range(start, end):
            model = self._shared(index, model)
        return model

    def _place(self, num_stages: int) -> str:
        return f"prefix-{self.keys[num_stages]}"

    def _fetched(self, num_stages: int, state: Mapping[str, State] | None) -> nn.Module | None:
        """Return the model after the first `num_stages` if every rank can restore it, otherwise None (collective)."""
        clock, ranks, done = StageClock(), self.bench.ranks, len(self.makers)
        prefix = unpacked(state, self.new_model)
        if ranks.any(prefix is None) or prefix is None:
            return None
        model = prefix.model.to(ranks.device)
        self.makers[done:], self.spent[done:] = prefix.makers[done:], prefix.costs[done:]
        names = [stage.kind for stage in self.stages[done:num_stages]]
        for index in range(done, num_stages):
            in_baseline = index < len(self.plan.baseline)
            self.reused.append(Reused(self.makers[index], self.spent[index], in_baseline))
        self.costs.append(clock.cost("shared", f"fetch {', '.join(names)}", model, ranks))
        return model

    def _shared(self, index: int, model: nn.Module) -> nn.Module:
        """Apply a stage and cache the result, or wait for another run that is computing it (collective)."""
        place = self._place(index + 1)
        with self.bench.sharing(place) as known:
            fetched = self._fetched(index + 1, known)
            if fetched is not None:
                return fetched
            model = self.apply(index, model)
            if known is None:
                only_values = all(stage.shape == "kept" for stage in self.stages[: index + 1])
                prefix = Prefix(model, tuple(self.makers), tuple(self.spent))
                state = packed(prefix, self.new_model, only_values=only_values)
                self.bench.cache.store(place, state, write=self.bench.ranks.is_first)
            return model

    def apply(self, index: int, model: nn.Module) -> nn.Module:
        stage, clock = self.stages[index], StageClock()
        seed = derived_seed(self.seed, self.plan.prefixes()[index])
        last = last_training(self.stages, len(self.plan.baseline))
        bench = replace(self.bench, seed=seed, stage=stage.kind, scored=self.scored and index == last, notes=[])
        with _naming(stage.kind), seeded(seed):
            model = noted(stage, model, bench).eval()
        self.costs.append(clock.cost(stage.kind, stage.words(), model, bench.ranks, bench.notes))
        self.makers.append(self.name)
        self.spent.append(self.costs[-1])
        return model

    def go_on(self, model: nn.Module, plan: Plan, folder: Path) -> RunOutcome | str:
        """Apply the stages of `plan` beyond this job's and deliver it, or return why that fails (collective)."""
        done = len(self.stages)
        try:
            longer = replace(self, plan=plan, stages=stages_of(plan), scored=False, shares=False, costs=[], reused=[])
            longer = replace(longer, makers=[*self.makers], spent=[*self.spent])
            layers = longer.deliver(longer.made(model, done, len(longer.stages)), folder)
        except (TrialFailed, WrongInput) as error:
            return str(error)
        return longer.outcome(folder, layers)

    def outcome(self, folder: Path, layers: Layers, by_products: tuple[RunOutcome | str, ...] = ()) -> RunOutcome:
        key = self.keys[len(self.plan.baseline)]
        return RunOutcome(folder, tuple(self.costs), key, by_products, layers, tuple(self.reused), self.compressed())

    def compressed(self) -> tuple[StageCost, ...]:
        """Return the costs of the compression stages, reused ones too; for the baseline those of its own stages."""
        return tuple(self.spent[len(self.plan.baseline) if self.plan.stages else 0 :])

    def deliver(self, model: nn.Module, folder: Path) -> Layers:
        """Let rank 0 write the artifact, and return facts of each layer, on rank 0 also how it runs (collective)."""
        ranks, clock = self.bench.ranks, StageClock()
        asked = {layer: note.bits for cost in self.spent for note in cost.notes if note.bits for layer in note.layers}
        layers = layer_facts(model, self.bench.task.example_input, asked)
        ranks.first_does(lambda: self._write(model, layers, folder), "export: rank 0 could not write the artifact")
        self.costs.append(clock.cost("export", "write the artifact", model, ranks))
        return layers

    def _write(self, model: nn.Module, layers: dict[str, LayerFacts], folder: Path) -> None:
        """Write the artifact, and add to `layers` how ONNX Runtime runs them."""
        from paretta.pipelines.export.agreement import checked_export  # noqa: PLC0415 - a second of CPU, on the first rank alone and at the end
        from paretta.pipelines.kernels.layer_kernels import facts_that_ran  # noqa: PLC0415 - likewise

        task = self.bench.task
        with _naming("export"):
            exported = checked_export(model, task, storage=storage_for(self.runtimes))
            layers.update(facts_that_ran(exported, layers))
            artifact.write(
                folder,
                exported.content,
                plan=self.plan,
                seed=self.seed,
                data_digest=data_digest(task),
                layers={name: facts.to_document() for name, facts in layers.items()},
                origin=self.origin,
                notes=[note.to_document() for cost in self.compressed() for note in cost.notes],
                sample=_sample(model, task),
                files=task.files,
            )


class _naming:  # noqa: N801 - reads as a verb in a with statement
    """Turn exceptions inside the block into TrialFailed with the stage's name; errors in code keep their traceback."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and (told := out_of_memory(error)):
            raise TrialFailed(self._named(told), "".join(traceback.format_exception(error))) from error
        if isinstance(error, TrialFailed):
            raise TrialFailed(self._named(error.reason), error.detail, error.by_input) from error
        if isinstance(error, WrongInput):
            failed = TrialFailed.of(error)
            raise TrialFailed(self._named(failed.reason), failed.detail, failed.by_input) from error
        if isinstance(error, Exception) and not isinstance(error, ParettaError):
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise TrialFailed(self._named(reason), "".join(traceback.format_exception(error))) from error

    def _named(self, reason: str) -> str:
        return reason if reason.startswith(f"{self._stage}: ") else f"{self._stage}: {reason}"


def _sample(model: nn.Module, task: Task) -> bytes:
    """Return the first input of the validation split, [1, ...] by name, as an ``.npz`` file; the same in every run."""
    with seeded(0):
        inputs, _ = task.batch(task.validation, torch.arange(1))
    names, content = input_names(model, task.example_input), BytesIO()
    arrays = [tensor.cpu().numpy() for tensor in tensors(inputs)]
    np.savez(content, allow_pickle=False, **dict(zip(names, arrays, strict=True)))
    return content.getvalue()


def _frozen(model: nn.Module) -> nn.Module:
    return deepcopy(model).eval().requires_grad_(False)
