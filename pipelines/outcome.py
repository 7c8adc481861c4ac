"""The outcome of a run: what it delivered, and the cost of each stage."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from paretta.pipelines.measuring.energy_counters import nvml, rapl
from paretta.pipelines.quantization.layer_facts import LayerFacts
from paretta.pipelines.ranks import Ranks
from paretta.search_spaces.results.note import Note, verdict_of, words_of_stages


@dataclass(frozen=True, slots=True)
class StageCost:
    """The cost of one stage, with the number of parameters and the notes after it.

    Args:
        kind: of the stage, or ``shared`` for fetching the result of earlier stages, or ``export``.
        words: a description of the stage.
        seconds: wall time on rank 0.
        cpu_seconds: CPU time, summed over ranks.
        gpu_seconds: wall time during which ranks held a GPU, summed over them; 0 without.
        joules: energy of rank 0's machine or device, including other work on it, by counter: ``rapl`` or ``nvml``.
        num_parameters: of the model after the stage.
        notes: what the stage left unchanged, and why.
    """

    kind: str
    words: str
    seconds: float
    cpu_seconds: float
    num_parameters: int
    gpu_seconds: float = 0.0
    joules: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Reused:
    """A stage whose earlier result was reused.

    Args:
        trial: the trial that computed it.
        cost: its cost when it was computed.
        in_baseline: whether it is one of the baseline's stages.
    """

    trial: str
    cost: StageCost
    in_baseline: bool


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run delivered. Equal on all ranks except `seconds` and how layers run, which only rank 0 knows.

    Args:
        folder: the artifact's folder, written by rank 0.
        costs: of each stage that was computed, in order, then of the export.
        reused: the stages that were not computed, since their results existed already.
        baseline_key: identifies task, baseline plan and seed by content: runs with equal keys share baseline and
            teacher.
        by_products: the outcome of each plan that extends this one, or why it failed.
        layers: facts of each layer of the delivered model, by name.
        made: the costs of the compression stages in order, reused ones included; for the baseline those of its own
            stages.
    """

    folder: Path
    costs: tuple[StageCost, ...]
    baseline_key: str
    by_products: tuple["RunOutcome | str", ...] = ()
    layers: Mapping[str, LayerFacts] = field(default_factory=dict)
    reused: tuple[Reused, ...] = ()
    made: tuple[StageCost, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the stages left unchanged, and why."""
        return tuple(note for cost in self.made for note in cost.notes)

    @property
    def words(self) -> str:
        """Descriptions of the stages, marking those that changed nothing."""
        return words_of_stages((cost.words, verdict_of(cost.notes)) for cost in self.made)

    @property
    def seconds(self) -> float:
        """Wall time of this run."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this run on all ranks."""
        return sum(cost.cpu_seconds for cost in self.costs)

    @property
    def facts(self) -> dict[str, float]:
        """The cost of making the artifact, for meters: ``train_wall_s``, ``train_cpu_s``, and others if known.

        ``train_gpu_s`` if GPUs were held; ``train_rapl_j`` and ``train_nvml_j`` if such a counter can be read. Reused
        compression stages count with their cost when they were computed, so that a candidate's cost does not depend on
        the order of trials.
        """
        costs = [*self.costs, *(stage.cost for stage in self.reused if not stage.in_baseline)]
        found = {
            "train_wall_s": sum(cost.seconds for cost in costs),
            "train_cpu_s": sum(cost.cpu_seconds for cost in costs),
        }
        if gpu_seconds := sum(cost.gpu_seconds for cost in costs):
            found["train_gpu_s"] = gpu_seconds
        for source in {source for cost in costs for source in cost.joules}:
            found[f"train_{source}_j"] = sum(cost.joules.get(source, 0.0) for cost in costs)
        return found

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the delivered model."""
        return self.costs[-1].num_parameters


class StageClock:
    """Measures wall time, CPU time and energy since its creation."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        counters = {"rapl": rapl(), "nvml": nvml()}
        self._counters = {name: (joules, joules()) for name, joules in counters.items() if joules is not None}

    def cost(self, kind: str, words: str, model: nn.Module, ranks: Ranks, notes: Sequence[Note] = ()) -> StageCost:
        """Return the cost of a stage that started with this clock and ended with `model` and `notes` (collective)."""
        seconds, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        held = seconds if ranks.device.type == "cuda" else 0.0
        mine = torch.tensor([cpu, held], dtype=torch.float64, device=ranks.device)
        cpu_seconds, gpu_seconds = ranks.all_reduce_sum(mine).tolist()
        joules = {name: count() - before for name, (count, before) in self._counters.items()}
        size = sum(p.numel() for p in model.parameters())
        return StageCost(kind, words, seconds, cpu_seconds, size, gpu_seconds, joules, tuple(notes))
