"""Prune in steps with training in between, and roll a step back if it costs too much accuracy."""

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator
from torch import nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.model.masks import Mask
from paretta.pipelines.pruning.schedules import cubic
from paretta.pipelines.stage import Norms, Shape, Stage, stage_of
from paretta.pipelines.stages.prune import Prune, PruningStep
from paretta.pipelines.training.evaluate import mean_loss
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.results.note import REMOVED_NOTHING, Note

_log = logging.getLogger("paretta")


def _stage(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    try:
        return stage_of(value, where="stage")
    except WrongInput as error:
        raise ValueError("; ".join(map(str, error.problems))) from None


StageField = Annotated[SerializeAsAny[Stage], BeforeValidator(_stage)]


class Iterate(Stage):
    """Reach a sparsity in steps: prune a little, train, compute the validation loss, keep the step or roll it back.

    After step k of n the sparsity is that of `prune` times ``k / n`` (linear) or ``1 - (1 - k / n)^3`` (cubic, Zhu and
    Gupta, 2017). A step is rolled back, and no further one is tried, if the validation loss has risen by more than
    `max_rise` from its value before the first step (prune and retrain as in Han et al., 2015). Without `max_rise` every
    step is kept, so the model is pruned gradually during training, and later epochs train a smaller model and cost
    less. The final widths are the same as with pruning at once.
    """

    kind: Literal["iterate"] = "iterate"
    prune: StageField = Field(
        examples=[{"kind": "prune", "sparsity": 0.5}],
        description="the stage with the final sparsity, such as {kind: prune, sparsity: 0.7} or {kind: sparsify, ...}",
    )
    retrain: StageField | None = Field(
        default=None, description="the stage that trains after each step, such as {kind: train}"
    )
    steps: int = Field(default=4, ge=1, le=1000, description="how many steps lead to the final sparsity, such as 4")
    curve: Literal["linear", "cubic"] = Field(
        default="cubic", description="linear (equal steps) or cubic (large ones first)"
    )
    max_rise: float | None = Field(
        default=None, ge=0, description="the highest rise of the mean validation loss that is kept, such as 0.05"
    )

    @field_validator("prune")
    @classmethod
    def _has_sparsity(cls, stage: Stage) -> Stage:
        if not _has_shares(stage):
            raise ValueError("must be a stage with a `sparsity` that is a share, such as prune or sparsify")
        return stage

    @model_validator(mode="after")
    def _trains_values_only(self) -> Self:
        if self.retrain is not None and (self.retrain.shape != "kept" or self.retrain.holds_values):
            raise ValueError("`retrain` must be a stage that only trains, such as train or distill")
        return self

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return the model after the last step kept."""
        limit = None if self.max_rise is None else _loss(model, bench) + self.max_rise
        done, parts, start, outer = 0.0, dict[str, int](), _num_left(model), bench
        bench = replace(bench, notes=[])
        for step in range(1, self.steps + 1):
            before = deepcopy(model) if limit is not None else None
            model = self._take(step, self._pruned(step, done, parts), model, bench)
            if limit is not None and before is not None:
                loss = _loss(model, bench)
                # one decision for all ranks, whose rounding may differ
                if bench.ranks.any(not loss <= limit):
                    _log.info("iterate: step %d is rolled back: loss %.4g is above %.4g", step, loss, limit)
                    model = before
                    break
            done = self._share(step)
        for note in bench.notes:
            if not note.verdict:  # what holds for a step need not hold for all
                outer.note(note)
        if _num_left(model) == start:
            trained = "" if self.retrain is None else ", it only trained"
            outer.note(Note(self.kind, f"no step is kept that removes anything{trained}", verdict=REMOVED_NOTHING))
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Return the conflicts of the inner stages."""
        inside = [self.prune] if self.retrain is None else [self.prune, self.retrain]
        return next((r for stage in inside if (r := stage.conflict(earlier, in_baseline=in_baseline))), None)

    def advice(self, earlier: Sequence[Stage], later: Sequence[Stage]) -> str | None:
        """Return the advice of the inner stage, unless training follows each step."""
        return self.prune.advice(earlier, later) if self.retrain is None else None

    @property
    def holds_values(self) -> bool:
        """True if the inner stage does."""
        return self.prune.holds_values

    @property
    def round_to(self) -> int:
        """The number that the resulting widths are multiples of; 0 if widths do not change."""
        return int(getattr(self.prune, "round_to", 0))

    @property
    def norms(self) -> Norms:
        """Training after each step renews the statistics; a step that is rolled back leaves none that are stale."""
        return self.prune.norms if self.retrain is None else "kept"

    @property
    def shape(self) -> Shape:
        """The inner stage's shape, unless a step may be rolled back."""
        return self.prune.shape if self.max_rise is None else "chosen by value"

    def sketch(self) -> Self:
        """Take all steps without training."""
        return self.model_copy(update={"prune": self.prune.sketch(), "retrain": None, "max_rise": None})

    def rehearsal(self) -> Self:
        """Take one step."""
        retrain = None if self.retrain is None else self.retrain.rehearsal()
        return self.model_copy(update={"steps": 1, "prune": self.prune.rehearsal(), "retrain": retrain})

    def words(self) -> str:
        """Describe the stage: what is pruned and in how many steps."""
        train = f", each followed by {self.retrain.words()}" if self.retrain else ""
        limit = f", while the loss rises by no more than {self.max_rise:g}" if self.max_rise is not None else ""
        return f"{self.prune.words()} in {self.steps} steps{train}{limit}"

    def _share(self, step: int) -> float:
        progress = step / self.steps
        return cubic(progress) if self.curve == "cubic" else progress

    def _pruned(self, step: int, done: float, parts: dict[str, int]) -> Stage:
        """Return the stage that prunes from the fraction `done` to the end of `step`."""
        share = self._share(step)
        if isinstance(self.prune, Prune):
            rounded = step == self.steps or self.max_rise is not None
            return self.prune.step(PruningStep(share, rounded, parts))
        return _scaled(self.prune, done, share)

    def _take(self, step: int, prune: Stage, model: nn.Module, bench: Bench) -> nn.Module:
        seed = derived_seed(bench.seed, "iterate", str(step))
        bench = replace(bench, seed=seed, stage=f"iterate-{step}", scored=False)
        model = prune.apply(model, bench)
        return model if self.retrain is None else self.retrain.apply(model, bench)


def _num_left(model: nn.Module) -> int:
    """Count the parameters that are not masked."""
    masks = [module.keep for module in model.modules() if isinstance(module, Mask)]
    return sum(p.numel() for p in model.parameters()) - sum(int((~keep).sum()) for keep in masks)


def _has_shares(stage: Stage) -> bool:
    """Return True if a stage's `sparsity` is a share, or one share per pattern."""
    sparsity = getattr(stage, "sparsity", None)
    shares = list(sparsity.values()) if isinstance(sparsity, Mapping) else [sparsity]
    return all(isinstance(share, float) for share in shares)


def _scaled(stage: Stage, done: float, share: float) -> Stage:
    """Return `stage` with the sparsity that leads from the fraction `done` to the fraction `share` of its sparsity.

    Removed channels no longer count, so the remaining share is relative to what is left; masked weights still count.
    """

    def rest(final: float) -> float:
        return share * final if stage.holds_values else 1 - (1 - share * final) / (1 - done * final)

    sparsity = getattr(stage, "sparsity", 0.0)
    amount = {p: rest(s) for p, s in sparsity.items()} if isinstance(sparsity, Mapping) else rest(sparsity)
    return stage.model_copy(update={"sparsity": amount})


def _loss(model: nn.Module, bench: Bench) -> float:
    return mean_loss(model, bench.task, bench.ranks, loaders=bench.loaders)
