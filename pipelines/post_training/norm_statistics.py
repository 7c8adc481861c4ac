"""Keep the running statistics of batch norms in step with the model's structure."""

import logging

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.samples import draw
from paretta.pipelines.data.trees import call_model, moved

BATCH = 128
NUM_SAMPLES = 1024
_CHANGED_AT = "structure_changed_at"
_log = logging.getLogger("paretta")


def tracking_norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """Return the batch norms with running statistics, by name."""
    norms = ((name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm))
    return [(name, norm) for name, norm in norms if norm.running_mean is not None and norm.running_var is not None]


def mark_stale(model: nn.Module) -> None:
    """Record that the structure changed, so that the running statistics are those of another model.

    A norm keeps the number of batches that it had seen by then; once it has seen more, its statistics are current.
    """
    for _, norm in tracking_norms(model):
        setattr(norm, _CHANGED_AT, _num_batches(norm))


def stale_norms(model: nn.Module) -> tuple[str, ...]:
    """Name the norms that have seen no batch since the structure changed.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> mark_stale(model)
    >>> stale_norms(model)
    ('1',)
    >>> seen = model(torch.ones(2, 2))
    >>> stale_norms(model)
    ()
    """
    return tuple(name for name, norm in tracking_norms(model) if getattr(norm, _CHANGED_AT, None) == _num_batches(norm))


def refresh(model: nn.Module, bench: Bench, *, num_samples: int) -> None:
    """Recalibrate the norms if any of them is stale, as must be done before they are folded into weights."""
    if stale := stale_norms(model):
        few = f"{', '.join(stale[:3])}{', ...' * (len(stale) > 3)}"
        _log.info("%s: recalibrates batch norms first, since channels were removed before %s", bench.stage, few)
        recalibrate(model, bench, num_samples=num_samples, seed=derived_seed(bench.seed, "norms"))


def recalibrate(model: nn.Module, bench: Bench, *, num_samples: int, seed: int) -> None:
    """Replace running means and variances by averages over samples, equal on all ranks; leaves evaluation mode on.

    Every batch has the same weight. Source: Li et al., "EagleEye: fast sub-net evaluation for efficient neural network
    pruning", 2020 (adaptive batch normalisation).

    Args:
        model: on the bench's device.
        bench: provides the samples, see `paretta.pipelines.task.Task.statistics_samples`.
        num_samples: how many of them to use.
        seed: selects them.
    """
    model.eval()
    norms = [norm for _, norm in tracking_norms(model)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch weights all batches equally
        norm.train()
        if hasattr(norm, _CHANGED_AT):
            delattr(norm, _CHANGED_AT)
    chosen = draw(bench.task.statistics_samples, num_samples, seed)
    whole = chosen[: len(chosen) - len(chosen) % BATCH] if len(chosen) >= BATCH else chosen
    with torch.no_grad(), bench.ranks.wrap(model):
        for batch in torch.split(whole, BATCH):
            inputs = bench.task.calibration_inputs(bench.ranks.shard(batch))
            call_model(model, moved(inputs, bench.ranks.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _num_batches(norm: _BatchNorm) -> int:
    return int(norm.num_batches_tracked) if isinstance(norm.num_batches_tracked, Tensor) else 0
