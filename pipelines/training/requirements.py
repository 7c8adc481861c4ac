"""What a training needs of its device and of its batches."""

import logging

import torch

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.torch_private import has_bfloat16_instructions
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput

_log = logging.getLogger("paretta")


def require_precision(device: torch.device, settings: TrainSettings) -> None:
    """Raise `WrongInput` if the device does not support the precision; warn where it is emulated."""
    if settings.precision == "float16" and device.type == "cpu":
        _log.warning("float16 is emulated on a CPU, which is slower than float32; use it on a GPU")
    if settings.precision != "bfloat16":
        return
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise WrongInput(Problem("precision", "the device must support bfloat16", str(device), "use float32"))
    if device.type == "cpu" and not has_bfloat16_instructions():
        _log.warning("this CPU has no bfloat16 instructions: they are emulated, which is slower than float32")


def require_batch(batch_size: int, parts: int, bench: Bench) -> None:
    """Check that every worker gets samples in each part of a global batch, and that a stream can be shared.

    Raises:
        WrongInput: it does not.
        TrialFailed: the split is streamed, and there is no cluster to read it.
    """
    problem = batch_problem(batch_size, parts, bench.ranks.world_size, is_streamed=bench.task.stream is not None)
    if problem is not None:
        raise WrongInput(problem)
    if bench.task.stream is not None and bench.passes is None:
        raise TrialFailed("stream: a streamed training split can be read only by the workers of a cluster")


def batch_problem(batch_size: int, parts: int, num_workers: int, *, is_streamed: bool) -> Problem | None:
    """Return why so many workers cannot share a global batch that each computes in `parts`; None if they can."""
    each = batch_size // num_workers
    if each == 0:
        rule = f"a global batch must hold a sample for each of the {num_workers} workers"
        return Problem("batch_size", rule, batch_size, "raise it or use fewer workers")
    if each < parts:
        rule = f"each of the {num_workers} workers has {each} of a batch's samples, and a part must have one"
        return Problem("accumulate", rule, parts, "lower it or raise batch_size")
    if is_streamed and batch_size % num_workers:
        rule = f"a streamed batch is shared equally by the {num_workers} workers"
        return Problem("batch_size", rule, batch_size, "give a multiple of the number of workers")
    return None
