"""Optimisers and learning rates of the training loop."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Self, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from paretta.pipelines.model.name_patterns import by_pattern

OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "adagrad", "lbfgs"]
Schedule: TypeAlias = Literal["constant", "step", "linear", "polynomial", "cosine", "one-cycle"]
Closure: TypeAlias = Callable[[], Tensor]

LBFGS_EVALUATIONS = 10
LBFGS_MEMORY = 10


class ParameterGroup(BaseModel):
    """Parameters that are trained in another way than the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    names: tuple[str, ...] = Field(
        min_length=1, strict=False, description="patterns of parameter names, such as [stem.*]; the first group wins"
    )
    lr: float = Field(default=1.0, gt=0, description="their learning rate as a multiple of the stage's, such as 0.1")
    weight_decay: float | None = Field(
        default=None, ge=0, description="their decay instead of the stage's, biases included"
    )
    frozen: bool = Field(default=False, description="true to keep them as they are during this training")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.frozen and (self.lr != 1.0 or self.weight_decay is not None):
            raise ValueError("frozen parameters have no `lr` and no `weight_decay`; remove these, or `frozen`")
        if not self.frozen and self.lr == 1.0 and self.weight_decay is None:
            raise ValueError("a group changes something; set `lr`, `weight_decay` or `frozen`")
        return self


def groups_by_name(model: nn.Module, groups: Sequence[ParameterGroup]) -> dict[str, ParameterGroup]:
    """Return the group of each parameter that is in one, by name. Raises `WrongInput` for a pattern without a match."""
    patterns: dict[str, ParameterGroup] = {}
    for group in groups:
        for pattern in group.names:
            patterns.setdefault(pattern, group)
    names = [name for name, _ in model.named_parameters()]
    return by_pattern(patterns, names, "groups", "parameter") if patterns else {}


@contextmanager
def frozen(model: nn.Module, groups: Mapping[str, ParameterGroup]) -> Iterator[None]:
    """Keep the parameters of frozen groups out of the training inside the block."""
    named = dict(model.named_parameters())
    chosen = [named[name] for name, group in groups.items() if group.frozen and named[name].requires_grad]
    for parameter in chosen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(True)


def layer_of(name: str) -> str:
    """Return the layer that a parameter belongs to: its name up to the first number, otherwise its module.

    >>> [layer_of(name) for name in ("blocks.3.attn.qkv.weight", "head.bias", "scale")]
    ['blocks.3', 'head', '']
    """
    numbered = re.match(r"(?:[^.]+\.)*?\d+(?=\.)", name)
    return numbered.group() if numbered else name.rpartition(".")[0]


def layer_factors(names: Sequence[str], decay: float) -> dict[str, float]:
    """Return each parameter's share of the learning rate: 1 in the last layer, `decay` times less in each one before.

    The layers are in the order of the names; see `layer_of` (layer-wise decay: Clark et al., 2020, "ELECTRA").

    >>> layer_factors(["stem.weight", "blocks.0.weight", "blocks.1.weight"], 0.5)
    {'stem.weight': 0.25, 'blocks.0.weight': 0.5, 'blocks.1.weight': 1.0}
    """
    places = {layer: place for place, layer in enumerate(dict.fromkeys(map(layer_of, names)))}
    return {name: decay ** (len(places) - 1 - places[layer_of(name)]) for name in names}


def _optimized(
    named: Mapping[str, nn.Parameter], groups: Mapping[str, ParameterGroup], weight_decay: float, layer_decay: float
) -> list[dict[str, object]]:
    """Return torch's parameter groups, each with the ``lr_factor`` of its parameters."""
    factors = layer_factors(list(named), layer_decay)
    found: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        group, decays = groups.get(name), parameter.dim() >= 2
        decay = weight_decay if decays else 0.0
        decay = group.weight_decay if group is not None and group.weight_decay is not None else decay
        factor = factors[name] * (group.lr if group else 1.0)
        found.setdefault((factor, decay, decays), []).append(parameter)
    matrices_first = sorted(found.items(), key=lambda item: not item[0][2])
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (factor, decay, _), parameters in matrices_first
    ]


def optimizer_for(
    named: Mapping[str, nn.Parameter],
    name: OptimizerName,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    groups: Mapping[str, ParameterGroup] | None = None,
    layer_decay: float = 1.0,
) -> torch.optim.Optimizer:
    """Return torch's optimiser called `name`. Scales, biases and norms do not decay, since that costs accuracy.

    Each of its groups has an ``lr_factor``, by which the learning rate of a step is multiplied. `named` are the
    parameters to train, and `groups` says which of them are in a group.

    ``momentum`` is the momentum of sgd and beta 1 of adam and adamw; adagrad (Duchi et al., 2011) ignores it. A step of
    lbfgs (Liu and Nocedal, 1989) evaluates a batch up to ten times, with a strong Wolfe line search.
    """
    if name == "lbfgs":
        return torch.optim.LBFGS(
            list(named.values()),
            lr=lr,
            max_iter=LBFGS_EVALUATIONS,
            max_eval=LBFGS_EVALUATIONS,
            history_size=LBFGS_MEMORY,
            line_search_fn="strong_wolfe",
        )
    chosen = _optimized(named, groups or {}, weight_decay, layer_decay)
    match name:
        case "sgd":
            return torch.optim.SGD(chosen, lr=lr, momentum=momentum)
        case "adagrad":
            return torch.optim.Adagrad(chosen, lr=lr)
        case "adam":
            return torch.optim.Adam(chosen, lr=lr, betas=(momentum, 0.999))
        case "adamw":
            return torch.optim.AdamW(chosen, lr=lr, betas=(momentum, 0.999))


def lr_factor(schedule: Schedule, step: int, num_steps: int, warmup_steps: int = 0, power: float = 1.0) -> float:
    """Return the learning rate of `step` (0-based) as a share of the highest.

    With t from 0 to 1 over the steps: constant: 1. step: 1, then 0.1 from half and 0.01 from three quarters of the
    steps (He et al., 2016). linear: ``1 - t``. polynomial: ``(1 - t)^power``. cosine: ``(1 + cos(pi t)) / 2``
    (Loshchilov and Hutter, 2017). one-cycle: cosine up from 1/25 over the first 30 %, cosine down to 1/250000 (Smith
    and Topin, 2018). A linear warm-up comes before all but the last.

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
    if schedule in ("linear", "polynomial"):
        return math.pow(1 - progress, power if schedule == "polynomial" else 1.0)
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 1.0


def _one_cycle(step: int, num_steps: int) -> float:
    peak = 0.3 * num_steps - 1
    start, end = 1 / 25, 1 / 25e4
    if step <= peak:
        return start + (1 - start) * (1 - math.cos(math.pi * step / peak)) / 2
    return end + (1 - end) * (1 + math.cos(math.pi * (step - peak) / (num_steps - 1 - peak))) / 2
