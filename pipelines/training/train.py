"""The one training loop: loss, tweaks and checkpoints, the same on one rank and on many."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, TrainingProgress, derived_seed, seeded
from paretta.pipelines.loading.check_data import require_sound
from paretta.pipelines.losses.class_scores import class_axis, counted, masked_mean, smoothing_term
from paretta.pipelines.losses.global_loss import GlobalLoss, Shares
from paretta.pipelines.model.torch_private import has_bfloat16_instructions
from paretta.pipelines.samples import num_samples
from paretta.pipelines.state.checkpoint import same_structure
from paretta.pipelines.state.state_file import State
from paretta.pipelines.stream import Passes, steps_of
from paretta.pipelines.training.evaluate import scores
from paretta.pipelines.training.optimizers import OptimizerName, Schedule, lr_factor, optimizer_for
from paretta.pipelines.trees import TensorTree, call_model, mapped, moved
from paretta.pipelines.tweak import Tweak, TweakField
from paretta.search_spaces.canonical import Json, digest
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput
from paretta.search_spaces.faults import blaming

_log = logging.getLogger("paretta")

# a training whose mean loss is this many times that of the untrained first batch has diverged: healthy training, even
# with a rough start, stays far below, and exploding runs pass it within an epoch or two on their way to inf
EXPLOSION = 100.0
# steps between two checks of the loss; each is a collective and makes a GPU wait
CHECK_EVERY = 16


class TrainSettings(BaseModel):
    """How to train. Shared by every stage that does."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    epochs: int = Field(default=1, ge=1, description="a number of passes over the training split, such as 5")
    batch_size: int = Field(
        default=128, ge=1, description="the samples per step over all workers together, such as 128"
    )
    optimizer: OptimizerName = Field(default="adamw", description="sgd, adam, adamw, adagrad or lbfgs")
    lr: float = Field(default=1e-3, gt=0, description="the highest learning rate of the schedule, such as 0.001")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum (sgd) or beta 1 (adam, adamw), such as 0.9")
    weight_decay: float = Field(
        default=0.0, ge=0, description="decay of weights, such as 0.01; biases and norms are exempt"
    )
    schedule: Schedule = Field(default="cosine", description="constant, step, cosine or one-cycle")
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="the share of steps with a rising learning rate, such as 0.05"
    )
    gradient_clip: float | None = Field(
        default=None, gt=0, description="the largest norm of the whole gradient, such as 1.0"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="the share of the uniform class in targets, such as 0.1"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32, or bfloat16 for autocast"
    )
    tweaks: tuple[TweakField, ...] = Field(
        default=(), strict=False, description="what acts meanwhile, such as [{kind: l1_penalty}]"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.schedule == "one-cycle" and self.warmup > 0:
            raise ValueError("one-cycle has its own warm-up; set `warmup` to 0 or choose another `schedule`")
        if self.optimizer == "lbfgs" and self.weight_decay > 0:
            raise ValueError("lbfgs has no weight decay; set `weight_decay` to 0 and add the tweak l2_penalty")
        return self

    @property
    def holds_values(self) -> bool:
        """Whether a tweak constrains single weights after the training, see `Tweak.holds_values`."""
        return any(tweak.holds_values for tweak in self.tweaks)

    def rehearsal(self) -> Self:
        """Return settings for one epoch with steps so small that values hardly change."""
        return self.model_copy(update={"epochs": 1, "lr": min(self.lr, 1e-5)})

    def tweaks_in_words(self) -> str:
        """Describe the tweaks, each after a comma."""
        return "".join(f", {tweak.words()}" for tweak in self.tweaks)


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's part of a global batch.

    Args:
        inputs: what the model is called with, a tree of [n, ...].
        targets: what the loss takes after the outputs, a tree of [n, ...].
        indices: [n], positions in the train split; empty if it is streamed.
        shares: its weight in the global batch.
    """

    inputs: TensorTree
    targets: TensorTree
    indices: Tensor
    shares: Shares = field(default_factory=Shares)


BatchLoss: TypeAlias = Callable[[TensorTree, Batch], Tensor]


def fit(
    model: nn.Module,
    bench: Bench,
    settings: TrainSettings,
    *,
    loss: BatchLoss | None = None,
    tweaks: Sequence[Tweak] = (),
    beside: nn.Module | None = None,
) -> tuple[float, ...]:
    """Train `model` in place on the task's train split and leave it in evaluation mode (collective).

    Global batch k of an epoch is the same for any number of ranks: a slice of a permutation derived from the bench's
    seed and the epoch. The last, incomplete batch of an epoch is dropped. Each rank computes the weighted loss of its
    shard, and gradients are averaged, so that every step follows the gradient of the global batch's loss, see
    `paretta.pipelines.losses.global_loss`. Random layers such as dropout draw differently on each rank. If the task
    streams its training split, each rank reads its share as it arrives, so the batches depend on the number of ranks
    and on timing.

    If the bench has a checkpoint, rank 0 saves the state after each epoch, and a training with equal seed and settings
    continues from there: it repeats at most one epoch and ends with the same result as without the interruption.

    Args:
        model: on any device; it is moved to the ranks' device.
        bench: provides task, ranks, seed, progress callback and checkpoint.
        settings: see `TrainSettings`.
        loss: ``loss(outputs, batch)``, this rank's part of the global batch's loss: the mean over this rank's samples
            times ``batch.shares.samples``, so that the mean over ranks is the global loss. The task's loss by default.
        tweaks: applied in addition to those of the settings.
        beside: trained with the model and then discarded, such as projections between feature widths.

    Returns:
        The mean loss of each epoch over its global batches, without penalties; equal on all ranks.

    Raises:
        TrialFailed: the loss is nan or inf or explodes; on all ranks at the same step.
        WrongInput: the device does not support the settings.
    """
    _check_device(bench.ranks.device, settings)
    model.to(bench.ranks.device)
    batch_size = min(settings.batch_size, bench.task.num_train)
    _check_batch(batch_size, bench)
    num_steps = settings.epochs * (bench.task.num_train // batch_size)
    active = [*(tweak.start(model, bench, num_steps) for tweak in settings.tweaks), *tweaks]
    trained = nn.ModuleList([model] if beside is None else [model, beside.to(bench.ranks.device)])
    job = _Job(bench, settings, batch_size, num_steps, loss or task_loss(bench, settings), tuple(active), trained)
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        bench.ranks.wrap(trained),
    ):
        trained.train()
        losses = job.run(model)
        trained.eval()
    for tweak in active:
        tweak.finish(model)
    if bench.ranks.any(not all(bool(torch.isfinite(p).all()) for p in model.parameters())):
        raise TrialFailed(f"diverged: a weight is not finite after {settings.epochs} epochs")
    return losses


def task_loss(bench: Bench, settings: TrainSettings) -> BatchLoss:
    """Return the task's own loss, with smoothed labels if the settings ask for them.

    ``(1 - e) loss + e * mean over classes of -log p``, which for cross entropy is training on targets mixed with the
    uniform distribution (Szegedy et al., 2016, "Rethinking the inception architecture"). Ignored labels are
    left out, and so are classes with a score of -inf.
    """
    share, task = settings.label_smoothing, bench.task
    global_loss = GlobalLoss(task, bench.ranks)

    def loss(outputs: TensorTree, batch: Batch) -> Tensor:
        hard = global_loss(outputs, batch.targets, batch.shares)
        if share == 0:
            return hard
        class_scores = task.scores_of(outputs)
        axis = class_axis(task, class_scores.shape, batch.targets, where="label_smoothing")
        smooth = masked_mean(smoothing_term(class_scores, axis), counted(task, batch.targets))
        return (1 - share) * hard + share * smooth * batch.shares.labels

    return loss


@dataclass(slots=True)
class _Done:
    """The progress of a training."""

    losses: list[float] = field(default_factory=list)
    first_loss: float = math.nan


@dataclass(frozen=True, slots=True)
class _Job:
    bench: Bench
    settings: TrainSettings
    batch_size: int
    num_steps: int
    loss: BatchLoss
    tweaks: tuple[Tweak, ...]
    trained: nn.ModuleList

    def run(self, model: nn.Module) -> tuple[float, ...]:
        parameters = [p for p in self.trained.parameters() if p.requires_grad]
        chosen = self.settings
        optimizer = optimizer_for(
            parameters, chosen.optimizer, lr=chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay
        )
        done, started = self._resumed(optimizer), time.perf_counter()
        for epoch in range(len(done.losses), self.settings.epochs):
            # seeded anew for each epoch, so that checkpoints need no generator states
            with seeded(derived_seed(self.bench.seed, "fit", str(self.bench.ranks.rank), str(epoch))):
                done.losses.append(self._epoch(model, optimizer, epoch, done))
            self._save(optimizer, done)
            found = scores(model, self.bench.task, self.bench.ranks) if self.bench.scored else {}
            seconds = time.perf_counter() - started
            self.bench.report(
                TrainingProgress(self.bench.stage, epoch + 1, chosen.epochs, done.losses[-1], seconds, found)
            )
        return tuple(done.losses)

    def _epoch(self, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, done: _Done) -> float:
        device = self.bench.ranks.device
        total, recent = torch.zeros((), device=device), torch.zeros((), device=device)
        steps = self.num_steps // self.settings.epochs
        for index, batch in enumerate(self._batches(epoch)):
            loss = self._step(model, optimizer, batch, epoch * steps + index)
            total, recent = total + loss, recent + loss
            if index % CHECK_EVERY == 0:
                mean = self._over_ranks(recent / (CHECK_EVERY if index else 1))
                done.first_loss = mean if epoch == index == 0 else done.first_loss
                check_loss(mean, done.first_loss, f"epoch {epoch + 1}, step {index + 1}")
                recent = torch.zeros_like(recent)
        mean = self._over_ranks(total / steps)
        check_loss(mean, done.first_loss, f"epoch {epoch + 1}")
        return mean

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield this rank's part of each global batch."""
        task, ranks = self.bench.task, self.bench.ranks
        if self.bench.passes is not None:
            yield from self._streamed(self.bench.passes, epoch)
            return
        for places in self._global_batches(epoch):
            indices = ranks.shard(places)
            inputs, targets = task.batch(task.train, indices, training=True, name="task.train")
            if epoch == 0:  # each sample is checked once
                require_sound(task, inputs, targets, indices.tolist(), "task.train")
            shares = Shares.of(task, ranks, targets, len(places))
            yield Batch(moved(inputs, ranks.device), moved(targets, ranks.device), indices, shares)

    def _streamed(self, passes: Passes, epoch: int) -> Iterator[Batch]:
        ranks, like = self.bench.ranks, self.bench.task.example_input
        seed = derived_seed(self.bench.seed, "epoch", str(epoch), str(ranks.rank))
        nowhere = torch.empty(0, dtype=torch.long)
        steps = self.num_steps // self.settings.epochs
        for inputs, targets in steps_of(passes, self.batch_size // ranks.world_size, seed, steps):
            if inputs.shape[1:] != like.shape[1:] or inputs.dtype != like.dtype:
                looks = f"{list(inputs.shape[1:])} of {inputs.dtype}"
                raise TrialFailed(f"stream: inputs must look like example_input, and are {looks}")
            shares = Shares.of(self.bench.task, ranks, targets, len(targets) * ranks.world_size)
            yield Batch(inputs.to(ranks.device), targets.to(ranks.device), nowhere, shares)

    def _global_batches(self, epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(derived_seed(self.bench.seed, "epoch", str(epoch)))
        order = torch.randperm(num_samples(self.bench.task.train), generator=generator)
        for index in range(self.num_steps // self.settings.epochs):
            yield order[index * self.batch_size : (index + 1) * self.batch_size]

    def _step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, step: int) -> Tensor:
        """Take one step; return this rank's part of the loss, scaled so that the mean over ranks is the global loss."""
        ranks, settings = self.bench.ranks, self.settings
        factor = lr_factor(settings.schedule, step, self.num_steps, round(settings.warmup * self.num_steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * factor
        for tweak in self.tweaks:
            tweak.before_step(step + 1, model)
        seen: list[Tensor] = []

        def evaluate() -> Tensor:
            with blaming(lambda: _named(batch), "training on it"):
                with _autocast(ranks.device, settings):
                    outputs = call_model(model, batch.inputs)
                loss = self.loss(mapped(_full_precision, outputs), batch)
            seen.append(loss.detach())
            whole = self._penalised(loss, model)
            optimizer.zero_grad()
            whole.backward()  # type: ignore[no-untyped-call]
            ranks.average_gradients(self.trained)
            if settings.gradient_clip is not None:
                nn.utils.clip_grad_norm_(self.trained.parameters(), settings.gradient_clip)
            return ranks.all_reduce_mean(whole) if settings.optimizer == "lbfgs" else whole

        # torch annotates the closure's value as float, but all optimisers accept a tensor
        optimizer.step(cast(Callable[[], float], evaluate))
        for tweak in self.tweaks:
            tweak.after_step(step + 1, model)
        return seen[0]

    def _penalised(self, loss: Tensor, model: nn.Module) -> Tensor:
        penalties = [penalty for tweak in self.tweaks if (penalty := tweak.penalty(model)) is not None]
        return torch.stack([loss, *penalties]).sum() if penalties else loss

    def _over_ranks(self, loss: Tensor) -> float:
        return float(self.bench.ranks.all_reduce_mean(loss))

    # --- resuming -----------------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        facts: list[Json] = [self.bench.seed, self.settings.model_dump(mode="json"), self.bench.task.num_train]
        return f"{self.bench.stage or 'fit'}-{digest(facts)[:32]}"

    def _save(self, optimizer: torch.optim.Optimizer, done: _Done) -> None:
        if self.bench.checkpoint is None or not self.bench.ranks.is_first:
            return
        self.bench.checkpoint.save(
            self._key,
            {
                "losses": done.losses,
                "first_loss": done.first_loss,
                "model": self.trained.state_dict(),
                "optimizer": cast(State, optimizer.state_dict()),
            },
        )

    def _resumed(self, optimizer: torch.optim.Optimizer) -> _Done:
        """Load the newest state if all ranks found the same one; otherwise start at the first epoch."""
        checkpoint, ranks = self.bench.checkpoint, self.bench.ranks
        if checkpoint is None:
            return _Done()
        state = checkpoint.load(self._key) or {}
        fits = same_structure(self.trained.state_dict(), state.get("model"))
        losses = cast(list[float], state["losses"]) if fits else []
        epochs = torch.tensor(float(len(losses)), device=ranks.device)
        if ranks.any(len(losses) != int(ranks.broadcast(epochs))) or not losses:
            return _Done()
        self.trained.load_state_dict(cast(Mapping[str, Any], state["model"]))
        optimizer.load_state_dict(cast(dict[str, Any], state["optimizer"]))
        _log.info("%s goes on after epoch %d of %d", self.bench.stage, len(losses), self.settings.epochs)
        return _Done(list(losses), cast(float, state["first_loss"]))


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _autocast(device: torch.device, settings: TrainSettings) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16")


def _check_device(device: torch.device, settings: TrainSettings) -> None:
    if settings.precision != "bfloat16":
        return
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise WrongInput(Problem("precision", "the device must support bfloat16", str(device), "use float32"))
    if device.type == "cpu" and not has_bfloat16_instructions():
        _log.warning("this CPU has no bfloat16 instructions: they are emulated, which is slower than float32")


def _check_batch(batch_size: int, bench: Bench) -> None:
    if batch_size < bench.ranks.world_size:
        rule = f"a global batch must hold a sample for each of the {bench.ranks.world_size} workers"
        raise WrongInput(Problem("batch_size", rule, batch_size, "raise it or use fewer workers"))
    if bench.task.stream is None:
        return
    if bench.passes is None:
        raise TrialFailed("stream: a streamed training split can be read only by the workers of a cluster")
    if batch_size % bench.ranks.world_size:
        rule = f"a streamed batch is shared equally by the {bench.ranks.world_size} workers"
        raise WrongInput(Problem("batch_size", rule, batch_size, "give a multiple of the number of workers"))


def _named(batch: Batch) -> str:
    """Describe a batch by the indices of its samples."""
    places = batch.indices.tolist()
    some = ", ".join(map(str, places[:8]))
    return f"a batch of task.train, samples {some}{', ...' if len(places) > 8 else ''}" if places else "a batch"


def check_loss(loss: float, first_loss: float, place: str) -> None:
    """Raise `TrialFailed` if `loss` is not finite or has exploded since the first batch."""
    if not math.isfinite(loss):
        raise TrialFailed(f"diverged: loss is {loss} at {place}")
    if loss > EXPLOSION * max(first_loss, 1.0):
        raise TrialFailed(f"diverged: loss rose from {first_loss:.3g} to {loss:.3g} at {place}")
