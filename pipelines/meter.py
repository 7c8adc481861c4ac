"""A meter: measures one number of a finished artifact, with its unit and whether more is better."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from paretta.pipelines.data.feeds import Feeds
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.pydantic_errors import problems_of
from paretta.search_spaces.registry import METERS

if TYPE_CHECKING:  # the measuring process imports this file and must not import torch
    from paretta.pipelines import task
    from paretta.pipelines.losses.metric_scores import SplitScore


@dataclass(frozen=True, slots=True)
class MeterBench:
    """What a meter may use besides the artifact.

    Args:
        baseline: the uncompressed model's artifact folder, if there is one.
        inputs: the first samples of the split in use, [n, ...] by input name of the file.
        scored: the scores of the artifact's outputs in ONNX Runtime by the task's metrics, or why there are none; only
            for meters with `judges_answers`.
        facts: numbers known only to the run that made the artifact, by name with unit, such as ``train_cpu_s``.
        expected: by folder, the answers of the machine that judges the model to the first of `inputs`, where another
            one measures; see `paretta.pipelines.measuring.runtime_agreement.reference_answers`.
    """

    baseline: Path | None
    inputs: Feeds
    scored: "Mapping[str, SplitScore | str]" = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[Path, Sequence[NDArray[np.generic]]] = field(default_factory=dict)


class Meter(BaseModel, ABC):
    """Measures one number. A subclass fixes ``kind``, ``unit`` and ``goal`` as literals, so they cannot be set wrong.

    Meters run in a fresh process without torch, except those with `judges_answers`, which need the task.

    Class attributes, all of which have defaults:
        judges_answers: whether it needs the artifact's outputs.
        changed_by: shapes of stages (`paretta.pipelines.stage.Shape`) that make the reading depend on training. If a
            plan has none of them, a reading of the untrained structure is exact. None: any training may change it.
        is_timed: whether the reading depends only on the kernels that run and their shapes, so that two structures with
            the same kernels are timed once.
        is_verified: whether each reading is verified independently before the artifact counts as delivered.
        compares: whether it compares times, so that artifacts are compared best when measured in the same rounds.
        unchecked: why `second_look` has nothing to compare a claimed reading with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    judges_answers: ClassVar[bool] = False
    changed_by: ClassVar[frozenset[str] | None] = None
    is_timed: ClassVar[bool] = False
    is_verified: ClassVar[bool] = False
    unchecked: ClassVar[str] = "it depends on the machine and the moment"
    compares: ClassVar[bool] = False

    kind: str
    unit: str
    goal: Goal

    @property
    def label(self) -> str:
        """The objective's name in a sweep."""
        return self.kind

    @abstractmethod
    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the reading of the artifact in folder `artifact`, or `Reading.not_measured` with the reason."""

    def unfit(self, task: "task.Task") -> str | None:
        """Return why it cannot be read of models of `task`, in one line for `check`; None if it can."""
        return None

    def read_together(self, artifacts: Sequence[Path], bench: MeterBench) -> list[Reading]:
        """Return the reading of each artifact, measured in the same rounds if the meter `compares`."""
        return [self.read(artifact, bench) for artifact in artifacts]

    @classmethod
    def second_look(cls, claim: Reading, artifact: Path, *, model_bytes: int, elsewhere: bool) -> float | None:
        """Return the value that a claimed reading of a delivered artifact must have; None if it cannot be known.

        Args:
            claim: the reading that the artifact claims.
            artifact: the delivered folder.
            model_bytes: size of its model file, measured by the isolated check.
            elsewhere: whether this may be another machine than the one that made the artifact.
        """
        return None


def meter_of(objective: str | Document, metrics: Mapping[str, "task.Metric"], *, where: str = "objective") -> Meter:
    """Return the meter of an objective: a meter's name, a metric's name, or a document with settings.

    Args:
        objective: such as ``size``, ``accuracy``, ``latency@openvino`` or ``{"kind": "latency", "batch_size": 8}``.
        metrics: the task's, by name.
        where: the objective's place in its file, for messages.

    Raises:
        WrongInput: no such meter, metric or setting exists.
    """
    settings = {"kind": objective} if isinstance(objective, str) else dict(objective)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str):
        rule = "an objective needs its `kind`, the name of a meter or of a metric"
        raise WrongInput(Problem(where, rule, objective, "such as size, latency or accuracy"))
    if kind not in metrics and (at := on_runtime(kind)):
        kind, settings = at[0], {**settings, "runtime": at[1]}
    name = settings.pop("name", None) if kind == "metric" else kind
    if isinstance(name, str) and name in metrics:
        kind, settings = "metric", {"name": name, "unit": metrics[name].unit, "goal": metrics[name].goal, **settings}
    elif kind == "metric" or (":" not in kind and kind not in METERS.names()):
        known = {*metrics, *METERS.names()} - {"metric"}
        raise WrongInput(Problem(where, did_you_mean(str(name), known, "meter or metric")))
    meter_class = METERS.load_class(kind, Meter, where=where)  # type: ignore[type-abstract]  # it loads a complete one
    with blaming(where, f"parsing the settings of {kind}"):
        try:
            return meter_class.model_validate(settings)
        except ValidationError as error:
            raise WrongInput(*problems_of(error, meter_class, lambda path: f"{where}.{path}")) from None


def on_runtime(name: str) -> tuple[str, str] | None:
    """Split ``meter@runtime`` where the first part is a meter's name or code; otherwise return None.

    >>> on_runtime("latency@openvino"), on_runtime("latency@./mine.py:Mine"), on_runtime("recall@10")
    (('latency', 'openvino'), ('latency', './mine.py:Mine'), None)
    """
    kind, at, runtime = name.partition("@")
    return (kind, runtime) if at and (":" in kind or kind in METERS.names()) else None
