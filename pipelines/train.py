"""The one training loop: optimiser, schedule, loss and tweaks, the same on one rank and on many."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from pipelines.bench import Bench, Progress, derived_seed, seeded
from pipelines.task import num_samples, take
from pipelines.validation import scores
from search_spaces.errors import Problem, TrialFailed, WrongInput

Schedule = Literal["constant", "step", "cosine", "one-cycle"]
BatchLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

# an epoch whose mean loss is this many times that of the untrained first batch is lost: healthy training, even with
# a rough start, stays far below, and exploding runs pass it within an epoch or two on their way to inf
EXPLOSION = 100.0


class TrainSettings(BaseModel):
    """How to train. Shared by every stage that does."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(1, ge=1, description="a number of passes over the training split, such as 5")
    batch_size: int = Field(128, ge=1, description="the samples per step over all workers together, such as 128")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("adamw", description="sgd, adam or adamw")
    lr: float = Field(1e-3, gt=0, description="the highest learning rate of the schedule, such as 0.001")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd) or beta 1 (adam, adamw), such as 0.9")
    weight_decay: float = Field(0.0, ge=0, description="decay of weights, such as 0.01; biases and norms are exempt")
    schedule: Schedule = Field("cosine", description="constant, step, cosine or one-cycle")
    warmup: float = Field(0.0, ge=0, lt=1, description="the share of steps with a rising learning rate, such as 0.05")
    gradient_clip: float | None = Field(None, gt=0, description="the largest norm of the whole gradient, such as 1.0")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="float32, or bfloat16 for autocast")

    @model_validator(mode="after")
    def _one_warmup(self) -> "TrainSettings":
        if self.schedule == "one-cycle" and self.warmup > 0:
            raise ValueError("one-cycle has its own warm-up; set `warmup` to 0 or choose another `schedule`")
        return self


class Tweak:
    """Something that acts during training. The defaults do nothing; a subclass overrides what it needs."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return a scalar to add to every step's loss, or None."""
        return None

    def after_step(self, step: int, model: nn.Module) -> None:
        """Change `model` after the optimiser's step number `step`, counted from 1 over all epochs."""


def fit(
    model: nn.Module,
    bench: Bench,
    settings: TrainSettings,
    *,
    loss: BatchLoss | None = None,
    tweaks: Sequence[Tweak] = (),
) -> tuple[float, ...]:
    """Train `model` in place on the task's train split and leave it in evaluation mode (collective).

    Global batch k of an epoch is the same for any number of ranks: a slice of a permutation that follows from the
    bench's seed and the epoch. The last, incomplete batch of an epoch is left out. Each rank takes its shard, shares
    are weighted by size, and gradients are averaged, so that every step follows the gradient of the global batch's
    mean loss. Random layers such as dropout draw differently on each rank.

    Args:
        model: on any device; it is moved to the ranks' device.
        bench: gives task, ranks, seed and progress callback.
        settings: see `TrainSettings`.
        loss: ``loss(outputs, targets, indices)``, the mean over this rank's samples, whose places in the train split
            are `indices` [n]; the task's own loss by default.
        tweaks: what acts during training.

    Returns:
        The mean loss of each epoch over its global batches, without penalties; equal on all ranks.

    Raises:
        TrialFailed: the loss is nan or inf or explodes; on all ranks in the same epoch.
        WrongInput: the device cannot do what the settings ask.
    """
    _check_device(bench.ranks.device, settings)
    model.to(bench.ranks.device)
    batch_size = min(settings.batch_size, num_samples(bench.task.train))
    _check_batch(batch_size, bench)
    job = _Job(bench, settings, batch_size, loss or _task_loss(bench), tuple(tweaks))
    with (
        seeded(derived_seed(bench.seed, "fit", str(bench.ranks.rank))),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        bench.ranks.wrap(model),
    ):
        model.train()
        losses = tuple(job.epochs(model))
        model.eval()
    if bench.ranks.any(not all(bool(torch.isfinite(p).all()) for p in model.parameters())):
        raise TrialFailed(f"diverged: a weight is not finite after {settings.epochs} epochs")
    return losses


def lr_factor(schedule: Schedule, step: int, num_steps: int, warmup_steps: int = 0) -> float:
    """Return the learning rate of `step` (0-based) as a share of the highest.

    constant: 1. step: 1, then 0.1 from half and 0.01 from three quarters of the steps (He et al., 2016). cosine:
    ``(1 + cos(pi t)) / 2`` (Loshchilov and Hutter, 2017). one-cycle: cosine up from 1/25 over the first 30 %, cosine
    down to 1/250000 (Smith and Topin, 2018). A linear warm-up comes before the first three.

    >>> [round(lr_factor("cosine", step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    if schedule == "one-cycle":
        return _one_cycle(step, num_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 1.0


def _one_cycle(step: int, num_steps: int) -> float:
    peak = 0.3 * num_steps - 1
    start, end = 1 / 25, 1 / 25e4
    if step <= peak:
        return start + (1 - start) * (1 - math.cos(math.pi * step / peak)) / 2
    return end + (1 - end) * (1 + math.cos(math.pi * (step - peak) / (num_steps - 1 - peak))) / 2


@dataclass(frozen=True, slots=True)
class _Job:
    bench: Bench
    settings: TrainSettings
    batch_size: int
    loss: BatchLoss
    tweaks: tuple[Tweak, ...]

    @property
    def steps_per_epoch(self) -> int:
        return num_samples(self.bench.task.train) // self.batch_size

    def epochs(self, model: nn.Module) -> Iterator[float]:
        optimizer = _optimizer(model, self.settings)
        started, first_loss = time.perf_counter(), math.nan
        for epoch in range(self.settings.epochs):
            total = torch.zeros((), device=self.bench.ranks.device)
            for index, batch in enumerate(self._global_batches(epoch)):
                step = epoch * self.steps_per_epoch + index
                loss = self._step(model, optimizer, batch, step)
                total += loss
                if step == 0:
                    first_loss = self._over_ranks(loss)
            mean = self._over_ranks(total / self.steps_per_epoch)
            _check_loss(mean, first_loss, epoch + 1)
            seconds = time.perf_counter() - started
            found = scores(model, self.bench.task, self.bench.ranks) if self.bench.scored else {}
            self.bench.report(Progress(self.bench.stage, epoch + 1, self.settings.epochs, mean, seconds, found))
            yield mean

    def _global_batches(self, epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(derived_seed(self.bench.seed, "epoch", str(epoch)))
        order = torch.randperm(num_samples(self.bench.task.train), generator=generator)
        for index in range(self.steps_per_epoch):
            yield order[index * self.batch_size : (index + 1) * self.batch_size]

    def _step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor, step: int) -> Tensor:
        """Take one step; return this rank's part of the global mean loss, scaled so that its mean over ranks is it."""
        ranks = self.bench.ranks
        self._set_lr(optimizer, step)
        indices = ranks.shard(batch)
        inputs, targets = (part.to(ranks.device) for part in take(self.bench.task.train, indices))
        with _autocast(ranks.device, self.settings):
            outputs = model(inputs)
        loss = self.loss(outputs.float(), targets, indices) * (len(indices) * ranks.world_size / len(batch))
        optimizer.zero_grad()
        self._penalised(loss, model).backward()  # type: ignore[no-untyped-call]
        ranks.average_gradients(model)
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.settings.gradient_clip)
        optimizer.step()
        for tweak in self.tweaks:
            tweak.after_step(step + 1, model)
        return loss.detach()

    def _penalised(self, loss: Tensor, model: nn.Module) -> Tensor:
        penalties = [penalty for tweak in self.tweaks if (penalty := tweak.penalty(model)) is not None]
        return torch.stack([loss, *penalties]).sum() if penalties else loss

    def _set_lr(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        num_steps = self.steps_per_epoch * self.settings.epochs
        warmup_steps = round(self.settings.warmup * num_steps)
        factor = lr_factor(self.settings.schedule, step, num_steps, warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = self.settings.lr * factor

    def _over_ranks(self, loss: Tensor) -> float:
        return float(self.bench.ranks.all_reduce_mean(loss))


def _task_loss(bench: Bench) -> BatchLoss:
    return lambda outputs, targets, indices: bench.task.loss(outputs, targets)


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Decay weights only: on scales, biases and norms decay costs accuracy and saves nothing."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    adam = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return adam(groups, lr=settings.lr, betas=(settings.momentum, 0.999))


def _autocast(device: torch.device, settings: TrainSettings) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16")


def _check_device(device: torch.device, settings: TrainSettings) -> None:
    if settings.precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise WrongInput(Problem("precision", "the device must support bfloat16", str(device), "use float32"))


def _check_batch(batch_size: int, bench: Bench) -> None:
    if batch_size < bench.ranks.world_size:
        rule = f"a global batch must hold a sample for each of the {bench.ranks.world_size} workers"
        raise WrongInput(Problem("batch_size", rule, batch_size, "raise it or use fewer workers"))


def _check_loss(loss: float, first_loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise TrialFailed(f"diverged: loss is {loss} at epoch {epoch}")
    if loss > EXPLOSION * max(first_loss, 1.0):
        raise TrialFailed(f"diverged: loss rose from {first_loss:.3g} to {loss:.3g} at epoch {epoch}")
