"""A stage: its fields are the settings, its one method turns a model into a smaller or better one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.loading.digests import model_digest
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.pydantic_errors import problems_of
from paretta.search_spaces.registry import STAGES
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note, verdict_of
from paretta.search_spaces.space.plan import Plan

Shape: TypeAlias = Literal["kept", "settled", "stored by value", "widths by value", "chosen by value"]


class Stage(BaseModel, ABC):
    """One step of a plan. A subclass sets ``kind: Literal["its_name"] = "its_name"`` and adds its settings as fields.

    The description of a field completes the sentence "give ..." when its value is refused. A stage is a function of
    the model, its settings and the bench: with equal seeds it gives equal results, and it keeps no state of its own.

    Facts of the class, all of which may be left as they are:
        usual: settings that the field knows to be good, by the beginning of their names; a search tries a stage that
            has some first, alone and together with the others that do.
        idle: settings with which the stage does least, by the beginning of their names.
        calibrates: whether it fits grids to the values and activations of the model as it is, so that what changes
            those must come before it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    usual: ClassVar[Mapping[str, float]] = {}
    idle: ClassVar[Mapping[str, float]] = {}
    calibrates: ClassVar[bool] = False

    kind: str

    @abstractmethod
    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return the changed model; the one given may be changed in place. Called on every rank.

        Layers that are asked for and stay as they are, and a stage that changes nothing, are told by `Bench.note`.
        """

    def conflict(self, earlier: Sequence["Stage"], *, in_baseline: bool) -> str | None:
        """Say why this stage cannot follow the `earlier` ones of its plan, and what to do; None: it can.

        Args:
            earlier: the stages before this one, those of the baseline first.
            in_baseline: whether this stage helps to make the uncompressed model.
        """
        return None

    @property
    def holds_values(self) -> bool:
        """Whether layers hold single weights to something from this stage on, such as a mask or a grid."""
        return False

    @property
    def shape(self) -> Shape:
        """Say what this stage does to the model's structure, which decides what is known of it before any training.

        ``kept``: only values change, as by training. ``settled``: the structure changes in the same way whatever the
        values are. ``stored by value``: likewise, but how many bytes a value takes depends on it. ``widths by value``:
        likewise, and so do the widths of the layers. ``chosen by value``: the values choose the structure; what is true
        of a stage that does not say.
        """
        return "chosen by value"

    def sketch(self) -> Self:
        """Return the cheapest stage that leaves the same structure as this one; never asked of a kept one."""
        return self

    def rehearsal(self) -> Self:
        """Return the cheapest stage that uses the model, the task and every name as this one does, to see it work."""
        return self

    def words(self) -> str:
        """Say in a few words what this stage does with its settings."""
        return self.kind


def noted(stage: Stage, model: nn.Module, bench: Bench) -> nn.Module:
    """Apply `stage`, and note that it changed nothing where it does not say so and the model is the same after it."""
    before = _content(model)
    model = stage.apply(model, bench)
    if not verdict_of(bench.notes) and _content(model) == before:
        reason = "no module, parameter or buffer is different after it"
        bench.note(Note(stage.kind, reason, verdict=CHANGED_NOTHING))
    return model


def _content(model: nn.Module) -> tuple[str, list[bool]]:
    return model_digest(model), [parameter.requires_grad for parameter in model.parameters()]


def stages_of(plan: Plan) -> tuple[Stage, ...]:
    """Parse all documents of `plan`, baseline first. Raises `WrongInput` with every problem found."""
    stages: list[Stage] = []
    problems: list[Problem] = []
    for where, document in _located(plan):
        try:
            stages.append(stage_of(document, where=where))
        except WrongInput as error:
            problems += error.problems
    problems = problems or list(_conflicts(plan, stages))
    if problems:
        raise WrongInput(*problems)
    return tuple(stages)


def _conflicts(plan: Plan, stages: Sequence[Stage]) -> Iterable[Problem]:
    for index, ((where, _), stage) in enumerate(zip(_located(plan), stages, strict=True)):
        with blaming(f"{where} ({stage.kind})", "asking what conflicts with it"):
            reason = stage.conflict(stages[:index], in_baseline=index < len(plan.baseline))
        if reason is not None:
            yield Problem(f"{where} ({stage.kind})", reason)


def stage_of(document: Document, *, where: str = "stage") -> Stage:
    """Parse one document such as ``{"kind": "prune", "sparsity": 0.5}``. Raises `WrongInput`.

    Args:
        document: the stage's kind and settings.
        where: the document's place in its file, for messages.
    """
    kind = document.get("kind")
    if not isinstance(kind, str):
        raise WrongInput(Problem(where, "a stage needs a `kind`", kind, f"one of: {', '.join(STAGES.names())}"))
    stage_class = STAGES.load_class(kind, Stage, where=f"{where}.kind")  # type: ignore[type-abstract]  # it loads a complete one
    settings = {name: value for name, value in document.items() if name != "kind"}
    place = f"{where} ({kind})"
    with blaming(place, "parsing its settings"):
        try:
            return stage_class.model_validate(settings)
        except ValidationError as error:
            raise WrongInput(*problems_of(error, stage_class, lambda path: f"{place}.{path}")) from None


def _located(plan: Plan) -> Iterable[tuple[str, Document]]:
    for name, documents in (("baseline", plan.baseline), ("stages", plan.stages)):
        for index, document in enumerate(documents):
            yield f"{name}[{index}]", document
