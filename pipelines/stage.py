"""A stage: its fields are the settings; its method `apply` makes a model smaller or better."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.loading.digests import model_digest
from paretta.pipelines.task import Task
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.pydantic_errors import problems_of
from paretta.search_spaces.registry import STAGES
from paretta.search_spaces.results.note import CHANGED_NOTHING, Note, verdict_of
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.stage_space import StageSpace, has_holes

Shape: TypeAlias = Literal["kept", "settled", "stored by value", "widths by value", "chosen by value"]
Norms: TypeAlias = Literal["kept", "stale", "fresh"]


class Stage(BaseModel, ABC):
    """One step of a plan. A subclass sets ``kind: Literal["its_name"] = "its_name"`` and adds its settings as fields.

    The description of a field completes the sentence "give ..." when its value is rejected. A stage is a function of
    the model, its settings and the bench: it keeps no state, and equal seeds give equal results.

    Class attributes, all of which have defaults:
        usual: settings known to work well, by prefix of their names; a search begins with the stages that have some,
            alone and combined.
        idle: settings with which the stage changes the model least, by prefix of their names.
        calibrates: whether it fits grids to the model's current weights and activations, so that stages which change
            those must come before it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    usual: ClassVar[Mapping[str, float]] = {}
    idle: ClassVar[Mapping[str, float]] = {}
    calibrates: ClassVar[bool] = False

    kind: str

    if not TYPE_CHECKING:  # an editor shows the settings

        def __new__(cls, *_: object, **settings: object) -> "Self | StageSpace":
            """Return a stage, or if a setting has a hole, the `StageSpace` that takes its place in a space."""
            if has_holes(settings):
                return StageSpace(cls, settings)
            return super().__new__(cls)

    @abstractmethod
    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return the changed model; `model` may be modified in place. Called on every rank.

        A stage calls `Bench.note` for requested layers that it leaves unchanged, and if it changes nothing.
        """

    def conflict(self, earlier: Sequence["Stage"], *, in_baseline: bool) -> str | None:
        """Return why this stage cannot follow the `earlier` ones of its plan and what to do, or None if it can.

        Args:
            earlier: the stages before this one, starting with the baseline's.
            in_baseline: whether this stage is one of the baseline's.
        """
        return None

    def unmet(self, task: Task) -> str | None:
        """Return what this stage needs that `task` lacks, such as calibration samples, and what to do; None if nothing.

        It is asked before anything is computed.
        """
        return None

    def advice(self, earlier: Sequence["Stage"], later: Sequence["Stage"]) -> str | None:
        """Return which order of stages loses less accuracy than this plan's, and why; None if none is known.

        Args:
            earlier: the stages before this one, starting with the baseline's.
            later: the stages after this one.
        """
        return None

    @property
    def norms(self) -> Norms:
        """The effect on the running statistics of batch norms.

        ``stale``: those of layers whose inputs have changed stay, so that they are those of another model. ``fresh``:
        they fit the model afterwards, as after training. ``kept``: neither.
        """
        return "fresh" if self.shape == "kept" else "kept"

    @property
    def holds_values(self) -> bool:
        """Whether this stage constrains single weights from then on, such as by a mask or a grid."""
        return False

    @property
    def shape(self) -> Shape:
        """How this stage changes the model's structure, which determines what can be known before any training.

        ``kept``: only values change, as in training. ``settled``: the structure changes independently of the values.
        ``stored by value``: likewise, but the bytes that a value takes depend on it. ``widths by value``: likewise, and
        the widths of the layers depend on the values too. ``chosen by value``: the structure depends on the values; the
        default.
        """
        return "chosen by value"

    def sketch(self) -> Self:
        """Return the cheapest stage that results in the same structure; not called if `shape` is ``kept``."""
        return self

    def rehearsal(self) -> Self:
        """Return the cheapest stage that uses the model, the task and every name as this one does, for a rehearsal."""
        return self

    def words(self) -> str:
        """Describe in a few words what this stage does with its settings."""
        return self.kind


def noted(stage: Stage, model: nn.Module, bench: Bench) -> nn.Module:
    """Apply `stage`; if the model is unchanged and the stage did not note it, note that it changed nothing."""
    before = _content(model)
    changed: object = stage.apply(model, bench)
    if not isinstance(changed, nn.Module):
        rule = "apply must return the changed model, a torch.nn.Module"
        raise WrongInput(Problem(type(stage).__name__, rule, type(changed).__name__, "end it with `return model`"))
    model = changed
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


def require_answers(stage: Stage, where: str) -> None:
    """Raise `WrongInput` if a stage fails when it is asked what it does, or answers something else."""
    with blaming(f"{where} ({stage.kind})", "asking what it does"):
        answers: dict[str, tuple[object, type]] = {
            "words": (stage.words(), str),
            "rehearsal": (stage.rehearsal(), Stage),
            **({} if stage.shape == "kept" else {"sketch": (stage.sketch(), Stage)}),
        }
        chosen: dict[str, tuple[str, tuple[str, ...]]] = {
            "shape": (stage.shape, get_args(Shape)),
            "norms": (stage.norms, get_args(Norms)),
        }
    for name, (answer, kind) in answers.items():
        if not isinstance(answer, kind):
            rule = f"its {name} must return {'a text' if kind is str else 'a stage'}"
            raise WrongInput(Problem(f"{where} ({stage.kind})", rule, answer))
    for name, (answer, known) in chosen.items():
        if answer not in known:
            raise WrongInput(
                Problem(f"{where} ({stage.kind})", f"its {name} must be one of {', '.join(known)}", answer)
            )


def unmet_needs(plan: Plan, stages: Sequence[Stage], task: Task) -> list[Problem]:
    """Return what the stages of `plan`, parsed by `stages_of`, need and `task` lacks."""
    problems = []
    for (where, _), stage in zip(_located(plan), stages, strict=True):
        with blaming(f"{where} ({stage.kind})", "asking what it needs"):
            need = stage.unmet(task)
        if need is not None:
            problems.append(Problem(f"{where} ({stage.kind})", need))
    return problems


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
            raise WrongInput(*problems_of(error, stage_class, lambda path: f"{place}.{path}".rstrip("."))) from None


def _located(plan: Plan) -> Iterable[tuple[str, Document]]:
    for name, documents in (("baseline", plan.baseline), ("stages", plan.stages)):
        for index, document in enumerate(documents):
            yield f"{name}[{index}]", document
