"""The settings of a training, shared by every stage that trains."""

from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paretta.pipelines.training.optimizers import OptimizerName, ParameterGroup, Schedule
from paretta.pipelines.tweak import TweakField

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]


class TrainSettings(BaseModel):
    """How to train. Shared by every stage that does."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    epochs: int = Field(default=1, ge=1, description="a number of passes over the training split, such as 5")
    batch_size: int = Field(
        default=128, ge=1, description="the samples per step over all workers together, such as 128"
    )
    optimizer: OptimizerName = Field(default="adamw", description="sgd, adam, adamw, adagrad or lbfgs")
    lr: float = Field(default=1e-3, gt=0, description="the highest learning rate of the schedule, such as 0.001")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum (sgd) or beta 1 (adam, adamw), such as 0.9")
    weight_decay: float = Field(
        default=0.0, ge=0, description="decay of weights, such as 0.01; biases and norms are exempt"
    )
    schedule: Schedule = Field(default="cosine", description="constant, step, linear, polynomial, cosine or one-cycle")
    power: float = Field(default=0.9, gt=0, description="the exponent of the polynomial schedule, such as 0.9")
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="the share of steps with a rising learning rate, such as 0.05"
    )
    gradient_clip: float | None = Field(
        default=None, gt=0, description="the largest norm of the whole gradient, such as 1.0"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="the share of the uniform class in targets, such as 0.1"
    )
    precision: Precision = Field(
        default="float32", description="float32; bfloat16, or float16 with loss scaling, for autocast"
    )
    accumulate: int = Field(default=1, ge=1, description="the parts that a batch is computed in one by one, such as 4")
    recompute: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="modules that forget their activations until the backward pass, such as [layer*]",
    )
    channels_last: bool = Field(default=False, description="true to keep images channels-last, which many GPUs prefer")
    compile: bool = Field(
        default=False, description="true to train through torch.compile; what is delivered never is compiled"
    )
    deterministic: bool = Field(
        default=True, description="false to let cuDNN choose faster kernels that do not repeat exactly"
    )
    groups: tuple[ParameterGroup, ...] = Field(
        default=(),
        strict=False,
        description="parameters trained in another way, such as [{names: [stem.*], frozen: true}]",
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="the learning rate of each layer as a share of the next's"
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="the decay of averaged weights, which are kept, such as 0.999"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="epochs without a smaller validation loss that end the training; the best is kept",
    )
    tweaks: tuple[TweakField, ...] = Field(
        default=(), strict=False, description="what acts meanwhile, such as [{kind: l1_penalty}]"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.schedule == "one-cycle" and self.warmup > 0:
            raise ValueError("one-cycle has its own warm-up; set `warmup` to 0 or choose another `schedule`")
        if self.optimizer == "lbfgs" and self.weight_decay > 0:
            raise ValueError("lbfgs has no weight decay; set `weight_decay` to 0 and add the tweak l2_penalty")
        if self.optimizer == "lbfgs" and (self.groups or self.layer_decay < 1 or self.precision == "float16"):
            raise ValueError("lbfgs takes no `groups`, no `layer_decay` and no float16; choose another `optimizer`")
        if self.batch_size % self.accumulate:
            near = self.batch_size // self.accumulate * self.accumulate or self.accumulate
            raise ValueError(
                f"`accumulate` must divide `batch_size`; {self.batch_size} in {self.accumulate} parts leaves "
                f"{self.batch_size % self.accumulate}, so set `batch_size` to {near}, or another `accumulate`"
            )
        return self

    @property
    def holds_values(self) -> bool:
        """Whether a tweak constrains single weights after the training, see `Tweak.holds_values`."""
        return any(tweak.holds_values for tweak in self.tweaks)

    def rehearsal(self) -> Self:
        """Return settings for one epoch with steps so small that values hardly change, and two parts of a batch."""
        precision = "float32" if self.precision == "float16" else self.precision  # which needs a GPU
        parts = min(self.accumulate, 2)
        return self.model_copy(
            update={
                "epochs": 1,
                "lr": min(self.lr, 1e-5),
                "precision": precision,
                "accumulate": parts,
                "batch_size": max(self.batch_size // self.accumulate, 1) * parts,  # parts of one sample stay so
            }
        )

    def epochs_in_words(self) -> str:
        """Say how long it trains, such as ``3 epochs``."""
        return "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"

    def tweaks_in_words(self) -> str:
        """Describe the tweaks, each after a comma."""
        return "".join(f", {tweak.words()}" for tweak in self.tweaks)
