"""Tweaks: what acts during training, one file a kind; their settings stand in a `train` or `distill` stage."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.pydantic_errors import problems_of
from paretta.search_spaces.registry import TWEAKS


class Tweak:
    """Something that acts during one training. The defaults do nothing; a subclass overrides what it needs.

    Its state must live in the model's buffers, and its random draws must depend on the step number, so that a resumed
    training continues as before.
    """

    def before_step(self, step: int, model: nn.Module) -> None:
        """Change `model` before the forward pass of step number `step`, counted from 1 over all epochs."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return a scalar to add to every step's loss, or None."""
        return None

    def after_step(self, step: int, model: nn.Module) -> None:
        """Change `model` after the optimiser's step number `step`."""

    def finish(self, model: nn.Module) -> None:
        """Remove what must not stay in the trained model."""


class TweakSettings(BaseModel, ABC):
    """What a sweep file says of a tweak. A subclass sets ``kind: Literal["its_name"]`` and adds its settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    kind: str

    @abstractmethod
    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Prepare `model` for a training of `num_steps` steps, equally on all ranks, and return what acts on it."""

    @property
    def holds_values(self) -> bool:
        """Whether layers hold single weights to something afterwards, see `Stage.holds_values`."""
        return False

    def words(self) -> str:
        """Say in a few words what it does."""
        return self.kind


def tweak_of(document: Mapping[str, Any]) -> TweakSettings:
    """Parse one document such as ``{"kind": "l1_penalty", "strength": 1e-4}``. Raises ValueError in plain words."""
    kind = document.get("kind")
    if not isinstance(kind, str):
        raise ValueError(f"a tweak needs a `kind`, one of: {', '.join(TWEAKS.names())}")
    try:
        tweak_class = TWEAKS.load_class(kind, TweakSettings)  # type: ignore[type-abstract]  # it loads a complete one
    except WrongInput as error:
        raise ValueError("; ".join(problem.message() for problem in error.problems)) from error
    try:
        return tweak_class.model_validate({key: value for key, value in document.items() if key != "kind"})
    except ValidationError as error:
        problems = problems_of(error, tweak_class, lambda path: f"{kind}.{path}")
        raise ValueError("; ".join(map(str, problems))) from None


def _parsed(value: object) -> object:
    return tweak_of(value) if isinstance(value, Mapping) else value


TweakField = Annotated[SerializeAsAny[TweakSettings], BeforeValidator(_parsed)]
