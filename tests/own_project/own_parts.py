"""One extension of each kind, as a user writes them beside a sweep file."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from beside import SMALLEST
from pydantic import Field
from torch import Tensor, nn

from paretta.orchestrator.search.interfaces import NeverStop, Strategy, Verdict
from paretta.orchestrator.search.spec import Search
from paretta.pipelines.bench import Bench
from paretta.pipelines.grid import Grid
from paretta.pipelines.importance import Importance, Rows
from paretta.pipelines.meter import Meter, MeterBench
from paretta.pipelines.quantizers.symmetric import Symmetric
from paretta.pipelines.runtimes.onnxruntime import Onnxruntime
from paretta.pipelines.sensitivities import WIDTHS, Sensitivity, Subject
from paretta.pipelines.stage import Shape, Stage
from paretta.pipelines.tweak import Tweak, TweakSettings
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan


class ScaleBias(Stage):
    """Scales every bias."""

    kind: Literal["scale_bias"] = "scale_bias"
    factor: float = Field(0.5, ge=0, le=1, description="the factor, such as 0.5")

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Scale them in place."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.mul_(self.factor)
        return model


class NumFiles(Meter):
    """Counts the files of an artifact."""

    kind: Literal["num_files"] = "num_files"
    unit: Literal["files"] = "files"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return how many there are."""
        return Reading(float(len(list(artifact.iterdir()))), self.unit)


class Renamed(Onnxruntime):
    """ONNX Runtime under another name."""

    title = "Renamed"
    devices = ("cpu",)


class Spread(Importance):
    """Scores a row by its standard deviation."""

    def scores(self, rows: Rows) -> Tensor:
        """Return it, [out]."""
        return rows.weight.flatten(1).std(1, correction=0)


class Plain(Symmetric):
    """Clips nothing."""

    kind: Literal["plain"] = "plain"  # type: ignore[assignment]

    def fit(self, values: Tensor) -> Grid:
        """Cover the whole range."""
        return super().fit(values)


class Even(Sensitivity):
    """Takes every layer for equally sensitive."""

    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return a quarter for each bit more, [layers, widths]."""
        return torch.tensor([[4.0 ** (SMALLEST - bits) for bits in WIDTHS]] * len(subject.layers))


class Shrink(TweakSettings):
    """Shrinks all weights after each step."""

    kind: Literal["shrink"] = "shrink"
    by: float = Field(1e-4, ge=0, lt=1, description="the share that each step takes away, such as 1e-4")

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Return what does it."""
        return _Shrinking(self.by)


class _Shrinking(Tweak):
    def __init__(self, by: float) -> None:
        self.by = by

    @torch.no_grad()
    def after_step(self, step: int, model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.mul_(1 - self.by)


class _InOrder:
    """Proposes the two ends of each knob in turn."""

    advisor = None

    def __init__(self, search: Search) -> None:
        self.search, self.asked = search, 0

    def ask(self, pinned: Mapping[str, Label] | None = None) -> tuple[int, Plan, Mapping[str, Label]]:
        self.asked += 1
        _interrupt_once(self.asked)
        knobs: dict[str, Label] = dict.fromkeys(_names(self.search), (0.0, 1.0)[self.asked % 2])
        return self.asked, self.search.plan(knobs), knobs

    def report(self, number: int, rung: int, scores: Mapping[str, float]) -> None:
        pass

    def tell(self, number: int, verdict: Verdict, losses: Sequence[float] | None) -> None:
        pass

    def add_point(self, losses: Sequence[float]) -> None:
        pass


def _names(search: Search) -> list[str]:
    return [knob.name for knob in search.space.knobs()]


def _interrupt_once(asked: int) -> None:
    """Act like Ctrl-C at the second plan of the first sweep's search, if the environment names a marker file.

    The check that comes before asks for plans as well, when the sweep has no journal yet.
    """
    marker = os.environ.get("INTERRUPT_ONCE")
    if marker and asked == 2 and not Path(marker).exists() and Path("sweeps", "sweep", "journal.jsonl").exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGINT)


def in_order(search: Search) -> Strategy:
    """Make the sampler."""
    return _InOrder(search)


def patient(search: Search, strategy: Strategy) -> NeverStop:
    """Make the stopper."""
    return NeverStop()
