"""Keep parameters near the transferred ones while the model learns its new task."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.pretrained import Source, matching, source_parameters
from paretta.pipelines.model.weights import plain_name
from paretta.pipelines.tweak import Tweak, TweakSettings
from paretta.search_spaces.errors import Problem, WrongInput


class L2Sp(TweakSettings):
    """Add ``strength / 2 * sum (w - w0)^2`` over parameters that the source has, ``fresh / 2 * sum w^2`` over others.

    Source: Li, Grandvalet and Davoine, 2018, "Explicit inductive bias for transfer learning with convolutional
    networks" (L2-SP, alpha and beta there).
    """

    kind: Literal["l2_sp"] = "l2_sp"
    strength: float = Field(
        default=0.01, gt=0, description="how strongly parameters are held to the source's, such as 0.01"
    )
    fresh: float = Field(
        default=0.0, ge=0, description="how strongly parameters without a source are held to 0, such as 0.01"
    )
    source: Source = Field(default="baseline", description="baseline, or the absolute path of a .safetensors file")

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Load the source's parameters, and return the penalty's hook. Raises `WrongInput` if none matches."""
        pairs = matching(model, source_parameters(self.source, bench, "l2_sp.source"))
        if not pairs:
            rule = "no parameter of the model has its name and shape in the source"
            raise WrongInput(Problem("l2_sp.source", rule, self.source))
        goals = {name: values.to(parameter.device) for name, (parameter, values) in pairs.items()}
        return _Hold(self, goals)

    def words(self) -> str:
        """Describe the tweak: its strength."""
        return f"held to {self.source} by {self.strength:g}"


class _Hold(Tweak):
    def __init__(self, settings: L2Sp, goals: dict[str, Tensor]) -> None:
        self.settings, self.goals = settings, goals

    def penalty(self, model: nn.Module) -> Tensor:
        parts = []
        for name, parameter in model.named_parameters():
            goal = self.goals.get(plain_name(name))
            if goal is not None:
                parts.append(self.settings.strength / 2 * (parameter - goal).square().sum())
            elif self.settings.fresh > 0:
                parts.append(self.settings.fresh / 2 * parameter.square().sum())
        return torch.stack(parts).sum()
