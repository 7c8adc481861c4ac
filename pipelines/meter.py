"""A meter: one number of a finished artifact, with its unit and the direction of better."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from paretta.pipelines.feeds import Feeds
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import METERS

if TYPE_CHECKING:  # torch stays out of the measuring process, which imports this file
    from paretta.pipelines import task
    from paretta.pipelines.losses.metric_scores import SplitScore


@dataclass(frozen=True, slots=True)
class MeterBench:
    """What a meter may use beside the artifact.

    Args:
        baseline: the uncompressed model's artifact folder, where there is one.
        inputs: the first samples of the split that is measured on, [n, ...] by name of the file's inputs.
        scored: what the task's metrics say of the artifact's answers in ONNX Runtime; or why they
            cannot judge them; only for meters that judge answers.
        facts: what only the run that made the artifact knows, by name with the unit, such as ``train_cpu_s``.
    """

    baseline: Path | None
    inputs: Feeds
    scored: "Mapping[str, SplitScore | str]" = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)


class Meter(BaseModel, ABC):
    """Reads one number. A subclass fixes ``kind``, ``unit`` and ``goal`` as literals, so that no sign can be set wrong.

    Meters run in a fresh process without torch, except those that judge answers, which need the task.

    Facts of the class, all of which may be left as they are:
        judges_answers: whether it needs what the artifact answers.
        changed_by: shapes of stages (`paretta.pipelines.stage.Shape`) after which training changes the reading. Where
            a plan has none of them, a reading of the untrained structure is exact. None: any training may change it.
        is_timed: whether the reading follows the kernels that run and their shapes, and nothing else, so that two
            structures with the same kernels are timed once.
        is_verified: whether each reading is found again by other means before the artifact counts as delivered.
        compares: whether it compares times, so that artifacts are best told apart when read in the same rounds.
        unchecked: why `second_look` finds nothing to compare a claimed reading with.
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

    def read_together(self, artifacts: Sequence[Path], bench: MeterBench) -> list[Reading]:
        """Return the reading of each artifact, taken side by side where the meter `compares`."""
        return [self.read(artifact, bench) for artifact in artifacts]

    @classmethod
    def second_look(cls, claim: Reading, artifact: Path, *, model_bytes: int, elsewhere: bool) -> float | None:
        """Return what a delivered artifact's reading must be, to hold a claim against; None where nothing tells.

        Args:
            claim: the reading that the artifact claims.
            artifact: the delivered folder.
            model_bytes: of its model file, weighed by a process that knows nothing of us.
            elsewhere: whether this may be another machine than the one that made it.
        """
        return None


def meter_of(objective: str | Document, metrics: Mapping[str, "task.Metric"], *, where: str = "objective") -> Meter:
    """Return the meter of an objective: a meter's name, a metric's name, or a document with settings.

    Args:
        objective: such as ``size``, ``accuracy`` or ``{"kind": "latency", "batch_size": 8}``.
        metrics: the task's, by name.
        where: the objective's place in its file, for messages.

    Raises:
        WrongInput: there is no such meter, metric or setting.
    """
    settings = {"kind": objective} if isinstance(objective, str) else dict(objective)
    kind = str(settings.pop("kind", ""))
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
            findings = ((".".join(map(str, finding["loc"])), finding) for finding in error.errors())
            raise WrongInput(*(Problem(f"{where}.{path}", f["msg"], f["input"]) for path, f in findings)) from None
