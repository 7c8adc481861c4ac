"""The one training loop: loss, tweaks and checkpoints, the same on one rank and on many."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from paretta.pipelines.batches.request import BatchRequest, is_in_memory
from paretta.pipelines.bench import Bench, TrainingProgress, derived_seed, seeded
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.loading.check_targets import require_sound_batch
from paretta.pipelines.losses.class_scores import class_axis, counted, masked_mean, smoothing_term
from paretta.pipelines.losses.global_loss import GlobalLoss, Shares
from paretta.pipelines.state.checkpoint import same_structure
from paretta.pipelines.state.state_file import State, copied
from paretta.pipelines.stream import Passes, steps_of
from paretta.pipelines.training.averages import AveragedWeights
from paretta.pipelines.training.backward import Backward
from paretta.pipelines.training.batch import Batch, BatchLoss
from paretta.pipelines.training.epoch_times import EpochTimes
from paretta.pipelines.training.epochs_done import (
    BestEpoch,
    EpochsDone,
    WithinEpoch,
    packed_generators,
    restore_generators,
)
from paretta.pipelines.training.evaluate import mean_loss, scores
from paretta.pipelines.training.optimizers import ParameterGroup, frozen, groups_by_name, lr_factor, optimizer_for
from paretta.pipelines.training.requirements import require_batch, require_precision
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.tweak import Tweak
from paretta.search_spaces.canonical import Json, digest
from paretta.search_spaces.errors import TrialFailed

_log = logging.getLogger("paretta")

# a training whose mean loss is this many times that of the untrained first batch has diverged: healthy training, even
# with a rough start, stays far below, and exploding runs pass it within an epoch or two on their way to inf
EXPLOSION = 100.0
# steps between two checks of the loss; each is a collective and makes a GPU wait
CHECK_EVERY = 16


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
    `paretta.pipelines.losses.global_loss`. Random views of samples are the same for any number of ranks and loaders;
    random layers such as dropout draw differently on each rank. If the task
    streams its training split, each rank reads its share as it arrives, so the batches depend on the number of ranks
    and on timing.

    If the bench has a checkpoint, rank 0 saves the state after each epoch, and within epochs too where the checkpoint
    has a period. A training with equal seed and settings continues from there, and ends with the same result as without
    the interruption.

    With `patience`, the training ends once the validation loss has not become smaller for that many epochs, and the
    model of the best epoch is kept. With `ema`, averaged weights are judged and kept.

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
    require_precision(bench.ranks.device, settings)
    model.to(bench.ranks.device)
    batch_size = min(settings.batch_size, bench.task.num_train)
    require_batch(batch_size, settings.accumulate, bench)
    num_steps = settings.epochs * (bench.task.num_train // batch_size)
    active = [*(tweak.start(model, bench, num_steps) for tweak in settings.tweaks), *tweaks]
    trained = nn.ModuleList([model] if beside is None else [model, beside.to(bench.ranks.device)])
    groups = groups_by_name(model, settings.groups)
    backward = Backward(
        model,
        trained,
        task=bench.task,
        ranks=bench.ranks,
        settings=settings,
        loss=loss or task_loss(bench, settings),
        tweaks=active,
    )
    with (
        torch.backends.cudnn.flags(
            enabled=True, benchmark=not settings.deterministic, deterministic=settings.deterministic
        ),
        frozen(model, groups),
        backward.ready(),
    ):
        trained.train()
        losses = _Job(bench, settings, batch_size, num_steps, tuple(active), trained, groups, backward).run(model)
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
    global_loss = GlobalLoss(task, bench.ranks, settings.accumulate)

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
class _Job:
    bench: Bench
    settings: TrainSettings
    batch_size: int
    num_steps: int
    tweaks: tuple[Tweak, ...]
    trained: nn.ModuleList
    groups: Mapping[str, ParameterGroup]
    backward: Backward
    average: AveragedWeights | None = None
    saved: float = field(default_factory=time.monotonic)

    def run(self, model: nn.Module) -> tuple[float, ...]:
        optimizer = self._optimizer(model)
        if self.settings.ema is not None:
            trainable = [p for p in self.trained.parameters() if p.requires_grad]
            self.average = AveragedWeights(trainable, self.settings.ema)
        done, started = self._resumed(optimizer), time.perf_counter()
        while len(done.losses) < self.settings.epochs and not self._is_over(done):
            epoch, times = len(done.losses), EpochTimes()
            # seeded anew for each epoch, so that checkpoints between epochs need no generator states
            with seeded(derived_seed(self.bench.seed, "fit", str(self.bench.ranks.rank), str(epoch))):
                done.losses.append(self._epoch(model, optimizer, epoch, done, times))
            trained_s = time.perf_counter() - times.begun
            with self.average.in_place() if self.average is not None else nullcontext():
                self._judge(model, done)
                found = self._scores(model) if self.bench.scored else {}
            times.measuring = time.perf_counter() - times.begun - trained_s
            self._save(optimizer, done)
            self.bench.report(
                TrainingProgress(
                    self.bench.stage,
                    epoch + 1,
                    self.settings.epochs,
                    done.losses[-1],
                    time.perf_counter() - started,
                    found,
                    samples_per_second=times.num_samples / max(trained_s, 1e-9),
                    gradient_norm=sum(times.norms) / max(len(times.norms), 1),
                    shares=times.shares(),
                    loaders=None if self._reads_tensors else self.bench.loaders.running,
                )
            )
        self._finish(done)
        return tuple(done.losses)

    @property
    def _reads_tensors(self) -> bool:
        return self.bench.passes is not None or is_in_memory(self.bench.task, "train")

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        beside = [] if len(self.trained) == 1 else self.trained[1].named_parameters(prefix="beside")
        named = {name: p for name, p in [*model.named_parameters(), *beside] if p.requires_grad}
        chosen = self.settings
        return optimizer_for(
            named,
            chosen.optimizer,
            lr=chosen.lr,
            momentum=chosen.momentum,
            weight_decay=chosen.weight_decay,
            groups=self.groups,
            layer_decay=chosen.layer_decay,
        )

    def _judge(self, model: nn.Module, done: EpochsDone) -> None:
        """Keep the model if its validation loss is the smallest so far (collective)."""
        if self.settings.patience is None:
            return
        loss = mean_loss(model, self.bench.task, self.bench.ranks, loaders=self.bench.loaders)
        self.trained.train()
        if done.best is None or loss < done.best.loss:
            done.best = BestEpoch(loss, len(done.losses), copied(self.trained.state_dict()))

    def _is_over(self, done: EpochsDone) -> bool:
        patience = self.settings.patience
        return patience is not None and done.best is not None and len(done.losses) - done.best.epoch >= patience

    def _finish(self, done: EpochsDone) -> None:
        if self.average is not None:
            self.average.copy()
        if done.best is not None:
            self.trained.load_state_dict(cast(Mapping[str, Any], done.best.model))
            _log.info("%s keeps epoch %d of %d", self.bench.stage, done.best.epoch, len(done.losses))

    def _scores(self, model: nn.Module) -> dict[str, float]:
        return scores(model, self.bench.task, self.bench.ranks, loaders=self.bench.loaders)

    def _epoch(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, done: EpochsDone, times: EpochTimes
    ) -> float:
        device, ranks = self.bench.ranks.device, self.bench.ranks
        total, recent = torch.zeros((), device=device), torch.zeros((), device=device)
        steps, start, within = self.num_steps // self.settings.epochs, 0, done.within
        if within is not None:
            start, (total, recent) = within.step, within.sums[ranks.rank].to(device)
            restore_generators(within.generators[ranks.rank].cpu(), device)
            done.within = None
        waited = self.backward.seconds_between_ranks
        for index, batch in enumerate(times.timed(self._batches(epoch, start)), start=start):
            checked = index % CHECK_EVERY == 0
            loss = self._step(model, optimizer, batch, epoch * steps + index, times.norms if checked else None)
            total, recent = total + loss, recent + loss
            times.num_samples += self.batch_size
            if checked:
                begun = time.perf_counter()
                mean = self._over_ranks(recent / (CHECK_EVERY if index else 1))
                times.communication += time.perf_counter() - begun if ranks.world_size > 1 else 0.0
                done.first_loss = mean if epoch == index == 0 else done.first_loss
                check_loss(mean, done.first_loss, f"epoch {epoch + 1}, step {index + 1}")
                recent = torch.zeros_like(recent)
                if self._is_due():
                    self._save(optimizer, done, self._place(index + 1, total, recent))
        times.communication += self.backward.seconds_between_ranks - waited
        mean = self._over_ranks(total / steps)
        check_loss(mean, done.first_loss, f"epoch {epoch + 1}")
        return mean

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield this rank's part of each global batch from step `start` of the epoch on."""
        task, ranks = self.bench.task, self.bench.ranks
        if self.bench.passes is not None:
            yield from islice(self._streamed(self.bench.passes, epoch), start, None)
            return
        views = derived_seed(self.bench.seed, "views", str(epoch))
        places = islice(self._global_batches(epoch), start, None)
        requests = (BatchRequest("train", ranks.shard(part), views) for part in places)
        for request, batch in self.bench.loaders.read(task, requests):
            inputs, targets = task.parts(batch, training=True)
            if epoch == 0:  # each sample is checked once
                require_sound_batch(task, inputs, targets, request.indices.tolist(), "task.train")
            yield Batch(inputs, targets, request.indices, Shares.of(task, ranks, targets, self.batch_size))
        if epoch == 0 and not is_in_memory(task, "train"):
            self._look_at_the_rest(views)

    def _look_at_the_rest(self, views: int) -> None:
        """Check the samples that the first epoch leaves out, since a later one trains on them."""
        task, ranks = self.bench.task, self.bench.ranks
        rest = ranks.shard(self._order(0)[self.num_steps // self.settings.epochs * self.batch_size :])
        if len(rest):
            for request, batch in self.bench.loaders.read(task, iter([BatchRequest("train", rest, views)])):
                inputs, targets = task.parts(batch, training=True)
                require_sound_batch(task, inputs, targets, request.indices.tolist(), "task.train")

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
            yield Batch(inputs, targets, nowhere, shares)

    def _global_batches(self, epoch: int) -> Iterator[Tensor]:
        order = self._order(epoch)
        for index in range(self.num_steps // self.settings.epochs):
            yield order[index * self.batch_size : (index + 1) * self.batch_size]

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derived_seed(self.bench.seed, "epoch", str(epoch)))
        return torch.randperm(num_samples(self.bench.task.train), generator=generator)

    def _step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, step: int, norms: list[float] | None
    ) -> Tensor:
        """Take one step; return this rank's part of the loss, scaled so that the mean over ranks is the global loss.

        The gradient's norm is appended to `norms`, unless that is None.
        """
        ranks, settings, scaler = self.bench.ranks, self.settings, self.backward.scaler
        warmup = round(settings.warmup * self.num_steps)
        factor = lr_factor(settings.schedule, step, self.num_steps, warmup, settings.power)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * factor * group.get("lr_factor", 1.0)
        for tweak in self.tweaks:
            tweak.before_step(step + 1, model)
        seen: list[Tensor] = []

        def evaluate() -> Tensor:
            loss, whole = self.backward(batch, optimizer)
            seen.append(loss)
            scaler.unscale_(optimizer)
            if settings.gradient_clip is not None:
                norm = nn.utils.clip_grad_norm_(self.trained.parameters(), settings.gradient_clip)
            elif norms is not None:
                norm = nn.utils.get_total_norm(p.grad for p in self.trained.parameters() if p.grad is not None)
            if norms is not None and len(seen) == 1:
                norms.append(float(norm))
            return ranks.all_reduce_mean(whole) if settings.optimizer == "lbfgs" else whole

        if scaler.is_enabled():
            evaluate()
            scaler.step(optimizer)
            scaler.update()
        else:
            # torch annotates the closure's value as float, but all optimisers accept a tensor
            optimizer.step(cast(Callable[[], float], evaluate))
        for tweak in self.tweaks:
            tweak.after_step(step + 1, model)
        if self.average is not None:
            self.average.update()
        return seen[0]

    def _over_ranks(self, loss: Tensor) -> float:
        return float(self.bench.ranks.all_reduce_mean(loss))

    # --- resuming -----------------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        facts: list[Json] = [self.bench.seed, self.settings.model_dump(mode="json"), self.bench.task.num_train]
        return f"{self.bench.stage or 'fit'}-{digest(facts)[:32]}"

    def _is_due(self) -> bool:
        """Return whether the state must be saved now, within the epoch, by rank 0's clock (collective)."""
        checkpoint = self.bench.checkpoint
        if checkpoint is None or checkpoint.every_s is None:
            return False
        return self.bench.ranks.any(self.bench.ranks.is_first and time.monotonic() - self.saved >= checkpoint.every_s)

    def _place(self, step: int, total: Tensor, recent: Tensor) -> WithinEpoch:
        """Return where the training is within its epoch (collective)."""
        ranks = self.bench.ranks
        generators = packed_generators(ranks.device).to(ranks.device)
        return WithinEpoch(step, ranks.all_rows(torch.stack([total, recent])[None]), ranks.all_rows(generators[None]))

    def _save(self, optimizer: torch.optim.Optimizer, done: EpochsDone, within: WithinEpoch | None = None) -> None:
        self.saved = time.monotonic()
        if self.bench.checkpoint is None or not self.bench.ranks.is_first:
            return
        state: dict[str, State] = {
            **done.state(within),
            "model": self.trained.state_dict(),
            "optimizer": cast(State, optimizer.state_dict()),
        }
        if self.average is not None:
            state["average"] = self.average.values
        if self.backward.scaler.is_enabled():
            state["scaler"] = cast(State, self.backward.scaler.state_dict())
        self.bench.checkpoint.save(self._key, state)

    def _resumed(self, optimizer: torch.optim.Optimizer) -> EpochsDone:
        """Load the newest state if all ranks found the same one; otherwise start at the first epoch."""
        checkpoint, ranks = self.bench.checkpoint, self.bench.ranks
        if checkpoint is None:
            return EpochsDone()
        state = checkpoint.load(self._key) or {}
        fits = same_structure(self.trained.state_dict(), state.get("model"))
        losses = cast(list[float], state["losses"]) if fits else []
        within = cast(Mapping[str, Any], state.get("within")) if fits else None
        if within is not None and len(within["sums"]) != ranks.world_size:
            losses, within = [], None  # another number of workers cannot go on within an epoch
        place = len(losses) * self.num_steps + (within["step"] if within is not None else 0)
        found = torch.tensor(float(place), device=ranks.device, dtype=torch.float64)
        if ranks.any(place != int(ranks.broadcast(found))) or not place:
            return EpochsDone()
        self.trained.load_state_dict(cast(Mapping[str, Any], state["model"]))
        optimizer.load_state_dict(cast(dict[str, Any], state["optimizer"]))
        if self.average is not None:
            self.average.values = [tensor.to(ranks.device) for tensor in cast(list[Tensor], state["average"])]
        if "scaler" in state:
            self.backward.scaler.load_state_dict(cast(dict[str, Any], state["scaler"]))
        step = f", step {within['step']}" if within is not None else ""
        _log.info("%s goes on after epoch %d of %d%s", self.bench.stage, len(losses), self.settings.epochs, step)
        return EpochsDone.restored(state)


def check_loss(loss: float, first_loss: float, place: str) -> None:
    """Raise `TrialFailed` if `loss` is not finite or has exploded since the first batch."""
    if not math.isfinite(loss):
        raise TrialFailed(f"diverged: loss is {loss} at {place}")
    if loss > EXPLOSION * max(first_loss, 1.0):
        raise TrialFailed(f"diverged: loss rose from {first_loss:.3g} to {loss:.3g} at {place}")
