"""Replace the model's activation function by another one."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from pydantic import Field
from torch import nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.stage import Shape, Stage
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note

Name: TypeAlias = Literal["relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "tanh"]

FUNCTIONS: Final[dict[Name, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
}


class SwapActivation(Stage):
    """Replace activation modules by another function, such as hardswish by relu, which integer kernels fuse.

    Only modules can be replaced, not functions that a forward method calls directly. Train afterwards.
    """

    kind: Literal["swap_activation"] = "swap_activation"
    to: Name = Field(default="relu", description=f"one of {', '.join(FUNCTIONS)}")
    of: Name | Literal["any"] = Field(default="any", description="the function to replace, or any of them")

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with the other function. Raises `WrongInput` if there is no module to replace."""
        old = tuple(FUNCTIONS.values()) if self.of == "any" else (FUNCTIONS[self.of],)
        found = [
            name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, old) and name
        ]
        if not found:
            hint = "write nn.ReLU() as a module of the model where its forward calls torch.relu"
            raise WrongInput(Problem("swap_activation", f"the model has no module of {self.of} activation", None, hint))
        if all(type(model.get_submodule(name)) is FUNCTIONS[self.to] for name in found):
            reason = f"all {len(found)} selected activations are {self.to}"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
        for name in found:
            model.set_submodule(name, FUNCTIONS[self.to]())
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a stage after calibration, whose grids fit only the old activations."""
        if fitted := [stage.kind for stage in earlier if stage.calibrates]:
            return f"would change what `{fitted[0]}` has calibrated; put `swap_activation` before it"
        return None

    @property
    def shape(self) -> Shape:
        """The structure changes independently of the weights."""
        return "settled"

    def words(self) -> str:
        """Describe the stage: the old and the new function."""
        return f"{self.of if self.of != 'any' else 'activations'} to {self.to}"
