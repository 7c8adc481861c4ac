"""Optimisers and learning rates of the training loop."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "adagrad", "lbfgs"]
Schedule: TypeAlias = Literal["constant", "step", "cosine", "one-cycle"]
Closure: TypeAlias = Callable[[], Tensor]

LBFGS_EVALUATIONS = 10
LBFGS_MEMORY = 10


def optimizer_for(
    parameters: Sequence[nn.Parameter], name: OptimizerName, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return torch's optimiser called `name`. Scales, biases and norms do not decay, since that costs accuracy.

    ``momentum`` is the momentum of sgd and beta 1 of adam and adamw; adagrad (Duchi et al., 2011) ignores it. A step of
    lbfgs (Liu and Nocedal, 1989) evaluates a batch up to ten times, with a strong Wolfe line search.
    """
    if name == "lbfgs":
        return torch.optim.LBFGS(
            parameters,
            lr=lr,
            max_iter=LBFGS_EVALUATIONS,
            max_eval=LBFGS_EVALUATIONS,
            history_size=LBFGS_MEMORY,
            line_search_fn="strong_wolfe",
        )
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    match name:
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=momentum)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=lr)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=(momentum, 0.999))
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))


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
