"""Replace the model by an untrained variant of the task."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Literal

from pydantic import Field
from torch import nn

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.stage import Shape, Stage
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

Variant = nn.Module | Callable[..., nn.Module]
Option = bool | int | float | str


class Student(Stage):
    """Start again with a variant of the task: another width, depth, activation function or architecture.

    The variant is untrained: train it with `distill`, which has the baseline as teacher, or copy matching parameters
    with `transfer` (Hinton, Vinyals and Dean, 2015: the student's architecture may differ from its teacher's).
    """

    kind: Literal["student"] = "student"
    variant: str = Field(examples=["perceptron"], description="the name of one of the task's variants")
    options: dict[str, Option] = Field(
        default={}, description="keyword arguments of the variant's function, such as {width: 16}"
    )

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return the variant instead of `model`.

        Raises:
            WrongInput: the task has no such variant, or it takes no such options.
        """
        make = self._made_by(bench.task.variants)
        if isinstance(make, nn.Module):
            return bench.task.with_shapes(deepcopy(make)).to(bench.ranks.device).eval()
        try:
            inspect.signature(make).bind(**self.options)
        except TypeError as error:
            raise WrongInput(Problem("student.options", f"must fit {self.variant}: {error}", self.options)) from None
        with seeded(bench.seed):
            student = bench.task.with_shapes(make(**self.options))
        return student.to(bench.ranks.device).eval()

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report stages before this one, whose results the student would discard."""
        lost = [stage.kind for stage in earlier if stage.shape != "kept" and not isinstance(stage, Student)]
        return f"would throw away what `{lost[-1]}` did; put `student` before it" if lost else None

    @property
    def shape(self) -> Shape:
        """The variant's structure."""
        return "settled"

    def words(self) -> str:
        """Name the variant with its options."""
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        return f"student {self.variant}" + (f" with {options}" if options else "")

    def _made_by(self, variants: Mapping[str, Variant]) -> Variant:
        if self.variant not in variants:
            raise WrongInput(Problem("student.variant", did_you_mean(self.variant, variants, "variant of the task")))
        return variants[self.variant]
