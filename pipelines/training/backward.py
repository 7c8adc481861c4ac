"""The gradient of a global batch: forward and backward passes, in parts and over ranks, in any precision."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache, partial
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from paretta.pipelines.data.trees import TensorTree, call_model, mapped
from paretta.pipelines.model.name_patterns import by_pattern
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task
from paretta.pipelines.training.batch import Batch, BatchLoss
from paretta.pipelines.training.settings import Precision, TrainSettings
from paretta.pipelines.tweak import Tweak
from paretta.search_spaces.errors import ParettaError, Problem, WrongInput
from paretta.search_spaces.faults import blaming, fault_of

# parameters from which torch's DistributedDataParallel takes the place of one flat all-reduce after the backward pass:
# on two ranks over gloo it had 0.86 of the samples a second with 0.5 M parameters, and 1.43 times as many with 1.6 M
# (benchmarks/training/gradients.py, 4 rounds)
DDP_FROM: Final = 1_000_000

_TYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Backward:
    """Computes the gradient of global batches; use it inside its ``with`` block (collective).

    Over ranks, gradients are averaged by torch's DistributedDataParallel, which sends them in buckets while the
    backward pass goes on; networks below `DDP_FROM` parameters by one all-reduce after it. A batch in several parts
    communicates once, with its last part.

    Args:
        model: the model in training, which is called.
        trained: the model and whatever is trained beside it.
        task: of the batches.
        ranks: of the training.
        settings: of the training.
        loss: this rank's part of the global loss.
        tweaks: whose penalties are added.
    """

    def __init__(
        self,
        model: nn.Module,
        trained: nn.ModuleList,
        *,
        task: Task,
        ranks: Ranks,
        settings: TrainSettings,
        loss: BatchLoss,
        tweaks: Sequence[Tweak] = (),
    ) -> None:
        self.model, self.trained, self.task, self.ranks = model, trained, task, ranks
        self.settings, self.loss, self.tweaks = settings, loss, tweaks
        self.called: Callable[..., object] = torch.compile(model) if settings.compile else model
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.precision == "float16")
        self.seconds_between_ranks = 0.0
        self._whole: DistributedDataParallel | _Whole = _Whole(self, trained)
        self._compiles = settings.compile  # until the first pass has succeeded

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Prepare the model, and leave it as it was after the block."""
        with ExitStack() as stack:
            stack.enter_context(self.ranks.wrap(self.trained))
            stack.enter_context(recomputed(self.model, self.settings.recompute))
            if self.settings.channels_last:
                stack.enter_context(_kept_channels_last(self.model))
            whole = self._whole
            assert isinstance(whole, _Whole)
            size = sum(p.numel() for p in self.trained.parameters() if p.requires_grad)
            if self.ranks.world_size > 1 and size >= DDP_FROM:
                self._whole = _distributed(whole, self.ranks.device)
            yield
            self._whole = whole

    def __call__(self, batch: Batch, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
        """Set the gradients to those of the global batch's loss and the penalties.

        Returns:
            This rank's part of the loss without penalties, and of the whole that was differentiated.
        """
        optimizer.zero_grad()
        parts = [batch] if self.settings.accumulate == 1 else [*batch.in_parts(self.task, self.settings.accumulate)]
        losses, wholes = [], []
        for number, part in enumerate(parts, start=1):
            with self._communicating(number == len(parts)):
                whole, loss = self._pass(part, last=number == len(parts))
                self.scaler.scale(whole).backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
            wholes.append(whole.detach())
        if isinstance(self._whole, _Whole) and self.ranks.world_size > 1:
            begun = time.perf_counter()
            self.ranks.average_gradients(self.trained)
            self.seconds_between_ranks += time.perf_counter() - begun
        return _sum(losses), _sum(wholes)

    def _pass(self, batch: Batch, *, last: bool) -> tuple[Tensor, Tensor]:
        batch = batch.on(self.ranks.device, channels_last=self.settings.channels_last)
        with blaming(lambda: _named(batch), "training on it"):
            result: tuple[Tensor, Tensor] = self._whole(batch, penalised=last)
            return result

    def _communicating(self, last: bool) -> AbstractContextManager[None]:
        if last or isinstance(self._whole, _Whole):
            return nullcontext()
        silent: AbstractContextManager[None] = self._whole.no_sync()
        return silent

    def compute(self, batch: Batch, *, penalised: bool) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch with penalties if asked for, and the loss alone without its graph."""
        with autocast(self.ranks.device, self.settings.precision):
            outputs = self._outputs(batch.inputs)
        loss = self.loss(mapped(_full_precision, outputs), batch)
        penalties = [p for tweak in self.tweaks if (p := tweak.penalty(self.model)) is not None] if penalised else []
        return (torch.stack([loss, *penalties]).sum() if penalties else loss), loss.detach()

    def _outputs(self, inputs: TensorTree) -> TensorTree:
        if not self._compiles:
            return call_model(self.called, inputs)
        try:
            outputs = call_model(self.called, inputs)
        except ParettaError:
            raise
        except Exception as error:  # whatever the compiler raises, its many layers have their own kinds
            rule = f"torch.compile cannot train this model here: {fault_of(error)}"
            raise WrongInput(Problem("compile", rule, True, "set compile: false")) from error
        self._compiles = False
        return outputs


class _Whole(nn.Module):
    """The model, its loss and the penalties as one module, so that DDP sees every use of every parameter."""

    def __init__(self, backward: Backward, trained: nn.ModuleList) -> None:
        super().__init__()
        self.trained = trained
        self.compute = partial(backward.compute)
        # one that no step uses, so that DDP, which looks for such as any step may leave a branch out, always finds one:
        # where it finds none in its first step, it warns that the look costs time
        self.left_out = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch, *, penalised: bool) -> tuple[Tensor, Tensor]:
        return self.compute(batch, penalised=penalised)


def _distributed(whole: _Whole, device: torch.device) -> DistributedDataParallel:
    return DistributedDataParallel(
        whole,
        process_group=_group() if device.type == "cpu" else None,
        forward_sync_buffers=False,  # batch norms are taken over all ranks
        find_unused_parameters=True,  # a branch that a step leaves out needs no declaration
        gradient_as_bucket_view=True,
        init_sync=False,  # done by `Ranks.wrap`
    )


@cache
def _group() -> dist.ProcessGroup | None:
    """Return the group of DDP's own messages, whose order may differ from that of the batch norms on other ranks."""
    group: dist.ProcessGroup | None = dist.new_group()
    return group


@contextmanager
def recomputed(model: nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """Let the modules whose names match forget their activations, and compute them again in the backward pass.

    Their buffers, such as the running moments of batch norms, are left as the first pass left them.

    Raises:
        WrongInput: a pattern matches no module.
    """
    named = {name: module for name, module in model.named_modules() if name}
    chosen = [named[name] for name in by_pattern(dict.fromkeys(patterns, True), named, "recompute", "module")]
    own = {module: module.__dict__.get("forward") for module in chosen}
    for module in chosen:
        module.forward = partial(_checkpointed, module, module.forward)
    try:
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _checkpointed(module: nn.Module, forward: Callable[..., object], *args: object, **kwargs: object) -> object:
    if not (module.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    call, contexts = partial(forward, **kwargs), partial(_contexts, module)
    outputs: object = checkpoint(call, *args, use_reentrant=False, context_fn=contexts)
    return outputs


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _buffers_kept(module)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(kept[name])


@contextmanager
def _kept_channels_last(model: nn.Module) -> Iterator[None]:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return the context in which a model computes in `precision`."""
    return torch.autocast(device.type, dtype=_TYPES[precision], enabled=precision != "float32")


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack([*parts]).sum()


def _named(batch: Batch) -> str:
    """Describe a batch by the indices of its samples."""
    places = batch.indices.tolist()
    some = ", ".join(map(str, places[:8]))
    return f"a batch of task.train, samples {some}{', ...' if len(places) > 8 else ''}" if places else "a batch"
