"""Data-parallel operations: on one rank without a process group, or on all ranks of a torch.distributed group."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.search_spaces.errors import TrialFailed


class BatchRange(nn.Module):
    """The smallest and the largest value of a tensor; within `Ranks.wrap`, in training, over all ranks."""

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as scalars, without a gradient; of no values, zeros."""
        if not values.numel():
            return values.new_zeros(()), values.new_zeros(())
        low, high = values.detach().aminmax()
        return low, high


def use_threads(count: int) -> None:
    """Compute with `count` threads in this process; more than there are free cores makes training slower."""
    torch.set_num_threads(count)


def connect_ranks(device: torch.device) -> None:
    """Make the process group that torchrun's environment variables describe; *collective*."""
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The workers that train one model together, seen from one of them.

    Every method is a no-op on a single rank, so that one code path serves a laptop and a cluster. Methods marked
    *collective* must be called by all ranks in the same order.
    """

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def alone(cls, device: str | torch.device = "cpu") -> "Ranks":
        """One rank, no process group."""
        return cls(0, 1, torch.device(device))

    @classmethod
    def joined(cls, device: str | torch.device = "cpu") -> "Ranks":
        """The current torch.distributed process group, or one rank where there is none."""
        if not dist.is_initialized():
            return cls.alone(device)
        return cls(dist.get_rank(), dist.get_world_size(), torch.device(device))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes files."""
        return self.rank == 0

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return the element-wise sum over ranks (collective)."""
        total = tensor.detach().clone()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    def all_reduce_mean(self, tensor: Tensor) -> Tensor:
        """Return the element-wise mean over ranks (collective)."""
        return self.all_reduce_sum(tensor) / self.world_size

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Return rank 0's values on every rank; shapes must agree (collective)."""
        values = tensor.detach().clone()
        if self.world_size > 1:
            dist.broadcast(values, src=0)
        return values

    def broadcast_model(self, model: nn.Module) -> None:
        """Give every rank rank 0's parameters and buffers, in place (collective)."""
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data.copy_(self.broadcast(tensor.data))

    def any(self, flag: bool) -> bool:
        """Return True if `flag` is true on at least one rank (collective)."""
        return bool(self.all_reduce_sum(torch.tensor(float(flag), device=self.device)) > 0)

    def first_does(self, act: Callable[[], None], otherwise: str) -> None:
        """Let rank 0 act; where that fails with `TrialFailed` all ranks fail, the others with `otherwise` (collective).

        So the other ranks do not wait forever.
        """
        failure: TrialFailed | None = None
        if self.is_first:
            try:
                act()
            except TrialFailed as error:
                failure = error
        if self.any(failure is not None):
            raise failure or TrialFailed(otherwise)

    def all_rows(self, rows: Tensor) -> Tensor:
        """Return the rows [n, ...] of all ranks one after the other, [sum of n, ...] (collective).

        Differentiable for what all ranks compute alike from the result: the mean over ranks of the gradients is then
        that of one rank with all rows.
        """
        if self.world_size == 1:
            return rows
        counts = torch.zeros(self.world_size, dtype=torch.long, device=self.device)
        counts[self.rank] = len(rows)
        ends = self.all_reduce_sum(counts).cumsum(0).tolist()
        place = slice(ends[self.rank] - len(rows), ends[self.rank])
        numbers = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
        gathered: Tensor = _AllRows.apply(numbers, place, ends[-1], self.world_size)  # type: ignore[no-untyped-call]
        return gathered.to(rows.dtype)

    def barrier(self) -> None:
        """Wait until all ranks are here (collective)."""
        if self.world_size > 1:
            dist.barrier()

    def shard(self, indices: Tensor) -> Tensor:
        """Return this rank's part of a global batch: contiguous, sizes differ by one at most.

        >>> Ranks(1, 2, torch.device("cpu")).shard(torch.arange(5)).tolist()
        [3, 4]
        """
        return torch.tensor_split(indices, self.world_size)[self.rank]

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over ranks, in one flat all-reduce (collective).

        A parameter without a gradient on this rank counts as zero, so that unused branches need no declaration.
        """
        if self.world_size == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    @contextmanager
    def wrap(self, model: nn.Module) -> Iterator[nn.Module]:
        """Prepare `model` for training on all ranks: equal start, batch norm over the global batch (collective).

        Batch statistics are taken over all ranks, so that the number of ranks does not change what is learned: by
        torch's SyncBatchNorm on GPUs, and by our own on CPUs, whose tensors it refuses. So is each `BatchRange`. The
        model is as it was, layer for layer, once the block ends.
        """
        if self.world_size == 1:
            yield model
            return
        self.broadcast_model(model)
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            over_ranks = _global_batch_norm if self.device.type == "cpu" else _torch_batch_norm(norm)
            norm.forward = partial(over_ranks, norm)  # type: ignore[method-assign]
        ranges = [module for module in model.modules() if isinstance(module, BatchRange)]
        for extremes in ranges:
            extremes.forward = partial(_global_range, extremes)  # type: ignore[method-assign]
        try:
            yield model
        finally:
            for changed in (*norms, *ranges):
                del changed.forward


def _torch_batch_norm(norm: _BatchNorm) -> Callable[[_BatchNorm, Tensor], Tensor]:
    """Return the forward of a SyncBatchNorm that shares the layer's parameters and running moments."""
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]

    def forward(norm: _BatchNorm, inputs: Tensor) -> Tensor:
        shared.training = norm.training
        normal: Tensor = shared(inputs)
        return normal

    return forward


def _global_batch_norm(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy, 2015) with moments over all ranks; inputs: [n, channels, ...]."""
    if not norm.training:
        return type(norm).forward(norm, inputs)
    original_type = inputs.dtype
    # as torch does under autocast: moments of half-precision inputs are taken in float32
    inputs = inputs.to(torch.promote_types(original_type, torch.float32))
    axes = [axis for axis in range(inputs.dim()) if axis != 1]
    shape = [1, -1] + [1] * (inputs.dim() - 2)
    count, mean = _global_mean(inputs, axes)
    variance = _global_mean((inputs - mean.view(shape)).square(), axes)[1]
    _update_running_moments(norm, mean.detach(), variance.detach(), count)
    normal = (inputs - mean.view(shape)) * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.weight is not None:
        normal = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return normal.to(original_type)


def _global_range(extremes: BatchRange, values: Tensor) -> tuple[Tensor, Tensor]:
    low, high = BatchRange.forward(extremes, values)
    if extremes.training:
        both = torch.stack([-low, high])
        dist.all_reduce(both, dist.ReduceOp.MAX)
        low, high = -both[0], both[1]
    return low, high


def _global_mean(values: Tensor, axes: list[int]) -> tuple[float, Tensor]:
    """Return how many values each channel has on all ranks, and their mean [channels], differentiable."""
    local = values.sum(axes)
    count = values.new_tensor([values.numel() / values.shape[1]])
    total: Tensor = _SumOverRanks.apply(torch.cat([local, count]))  # type: ignore[no-untyped-call]
    num_values = float(total[-1].detach())
    return num_values, total[:-1] / num_values


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks; each rank's input moves every rank's result, so gradients are summed over ranks as well."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _AllRows(torch.autograd.Function):
    """The rows of all ranks in one tensor; the gradient is times the number of ranks, as means over ranks follow."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, rows: Tensor, place: slice, total: int, world_size: int
    ) -> Tensor:
        ctx.place, ctx.world_size = place, world_size  # type: ignore[attr-defined]
        table = rows.new_zeros(total, *rows.shape[1:])
        table[place] = rows
        dist.all_reduce(table)
        return table

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return gradients[0][ctx.place] * ctx.world_size, None, None, None  # type: ignore[attr-defined]


@torch.no_grad()
def _update_running_moments(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: float) -> None:
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * count / (count - 1), momentum)
