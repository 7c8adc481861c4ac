"""The sweep: one document, from a YAML file or from Python, validated as a whole before anything starts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pydantic import ValidationError

from paretta.orchestrator.config.carried_task import TASK_FOLDER, CarriedTask, GivenTask, reference_of
from paretta.orchestrator.config.python_sweep import as_document
from paretta.orchestrator.config.sections import (
    SWEEP_VERSION,
    BudgetConfig,
    CheckpointConfig,
    DeliverConfig,
    MeasuringConfig,
    SearchConfig,
    SweepConfig,
    WorkersConfig,
)
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.limits import Limit, parse_limits
from paretta.search_spaces.pydantic_errors import problems_of
from paretta.search_spaces.registry import SAMPLERS, STOPPERS
from paretta.search_spaces.space.space import Space
from paretta.search_spaces.yaml_io import Located, read_yaml, write_yaml

if TYPE_CHECKING:
    from paretta.pipelines.meter import Meter
    from paretta.pipelines.stage import Stage
    from paretta.search_spaces.objectives.wish import Wish

PRESETS = "paretta.search_spaces.presets"
SCHEMA_LINE: Final = "# yaml-language-server: $schema=sweep.schema.json"  # made by `paretta schema`


@dataclass(frozen=True, init=False)
class Sweep:
    """A sweep that was read and validated by itself; made by `read` from a file, or by its constructor from Python.

    >>> sweep = Sweep("digits", [{"kind": "prune", "sparsity": {"float": [0, 0.5]}}], trials=20)
    >>> sweep.config.search.trials, [knob.name for knob in sweep.space.knobs()]
    (20, ['prune.sparsity'])

    Attributes:
        name: the file's name without its extension.
        limits: bounds that a model must meet; reference: the reference point of the hypervolume.
        source: the document with the line of every value, for error messages.
        folder: the base of relative paths in it.
        carried: the task, if it is an object that no module offers.
    """

    name: str
    config: SweepConfig
    space: Space
    source: Located
    folder: Path
    limits: tuple[Limit, ...] = ()
    reference: tuple[Limit, ...] = ()
    carried: CarriedTask | None = None

    def __init__(
        self,
        task: GivenTask,
        space: "Sequence[Stage | Mapping[str, object]]",
        *,
        options: Mapping[str, object] | None = None,
        baseline: "Sequence[Stage | Mapping[str, object]]" = (),
        objectives: "Sequence[str | Meter | Mapping[str, object]]" = ("size", "latency", "accuracy"),
        limits: Sequence[Mapping[str, object]] = (),
        wishes: "Mapping[str, Wish | Mapping[str, object]] | None" = None,
        reference: Sequence[Mapping[str, object]] = (),
        trials: int = 16,
        sampler: str = "grey_box",
        stopper: str = "none",
        seed: int = 0,
        confirm: int = 0,
        good_plans: bool = True,
        warm_start: Sequence[str] = (),
        learn_from: str | Sequence[str] = "none",
        budget: BudgetConfig | Mapping[str, object] | None = None,
        deliver: DeliverConfig | Mapping[str, object] | None = None,
        workers: WorkersConfig | Mapping[str, object] | None = None,
        checkpoint: CheckpointConfig | Mapping[str, object] | None = None,
        measuring: MeasuringConfig | Mapping[str, object] | None = None,
        name: str = "sweep",
    ) -> None:
        """Describe a sweep in Python; each argument means what the sweep file's entry of this name means.

        Args:
            task: a function that returns a `Task`, a `Task`, or a name as in a sweep file. A function of a notebook,
                and a `Task`, are sent to the workers by cloudpickle.
            space: the stages to search, with holes: ``[Prune(sparsity=Float(0, 0.8)), Quantize(bits=8)]``; or
                mappings as in a sweep file.
            options: keyword arguments of the task's function.
            baseline: the stages that train the uncompressed model; none if it comes trained.
            objectives: meters, or metrics of the task.
            limits: bounds that a model must meet, such as ``{"meter": "size", "at_most": "50kB"}``.
            wishes: by name, which member ``paretta pull SWEEP@NAME`` selects.
            reference: from where the hypervolume is measured.
            trials: how many candidates are tried.
            sampler: how candidates are suggested; see ``paretta list samplers``.
            stopper: which trials end early; see ``paretta list stoppers``.
            seed: of the search and of all training.
            confirm: with how many new seeds the front is trained again.
            good_plans: whether plans that the field knows to be good come first.
            warm_start: earlier sweeps of the same task and baseline whose points are taken over.
            learn_from: ``home``, earlier sweeps, a file of results, or ``none``.
            budget: such as ``{"hours": 2}``.
            deliver: by-products of every candidate.
            workers: such as ``{"per_trial": 2, "gpus": 1}``.
            checkpoint: when states are saved within an epoch, such as ``{"every_minutes": 10}``.
            measuring: where artifacts are measured.
            name: of the sweep's folder.

        Raises:
            WrongInput: with every problem found.
        """
        use, folder, carried = reference_of(task)
        search = {"trials": trials, "sampler": sampler, "stopper": stopper, "seed": seed, "confirm": confirm}
        given: dict[str, object] = {
            "task": {"use": use, **({"options": options} if options else {})},
            "baseline": baseline,
            "space": space,
            "objectives": objectives,
            "limits": limits,
            "wishes": wishes or {},
            "reference": reference,
            "search": {**search, "good_plans": good_plans, "warm_start": warm_start, "learn_from": learn_from},
        }
        parts = {
            "budget": budget,
            "deliver": deliver,
            "workers": workers,
            "checkpoint": checkpoint,
            "measuring": measuring,
        }
        given |= {part: value for part, value in parts.items() if value is not None}
        document = {part: as_document(value, part) for part, value in given.items()}
        read = self.parse(Located(document, "Sweep(...)", {}), name, folder)
        self.__dict__.update({**vars(read), "carried": carried})

    @classmethod
    def read(cls, reference: str) -> "Sweep":
        """Read a preset by its name, or a file by its path. Raises `WrongInput` with every problem found."""
        path = _find(reference)
        return cls.parse(read_yaml(path), path.stem, path.resolve().parent)

    @classmethod
    def parse(cls, source: Located, name: str, folder: Path) -> "Sweep":
        """Validate a document that was read."""
        if not isinstance(source.data, Mapping):
            raise WrongInput(Problem(source.file, "a sweep file is a mapping with `task` and `space`", source.data))
        _check_version(source)
        try:
            config = SweepConfig.model_validate(source.data)
        except ValidationError as error:
            raise WrongInput(*problems_of(error, SweepConfig, source.where)) from None
        problems: list[Problem] = []
        with _collected(problems):
            _check_names(config.search, lambda setting: source.where(f"search.{setting}"))
        with _collected(problems, source.where):
            space = Space.parse(config.baseline, config.space)
        with _collected(problems, source.where):
            limits = parse_limits(config.limits)
        with _collected(problems, source.where):
            reference = parse_limits(config.reference, "reference")
        if problems:
            raise WrongInput(*problems)
        sweep = cls.__new__(cls)
        facts = {"name": name, "config": config, "space": space, "source": source, "folder": folder}
        sweep.__dict__.update({**facts, "limits": limits, "reference": reference})
        return sweep

    def changed(self, **settings: int | str | None) -> "Sweep":
        """Return a copy of the sweep with other search settings; None keeps a setting. Raises `WrongInput`."""
        given = {name: value for name, value in settings.items() if value is not None}
        try:
            search = SearchConfig.model_validate({**self.config.search.model_dump(), **given})
        except ValidationError as error:
            raise WrongInput(*problems_of(error, SearchConfig, "--{}".format)) from None
        _check_names(search, "--{}".format)
        return self._with(config=self.config.model_copy(update={"search": search}))

    def rewritten(self, change: Callable[[Json], Json]) -> "Sweep":
        """Return the sweep with other stages, in the space and in the variants that are delivered.

        Args:
            change: returns the new plain data for those of the sweep file.
        """
        variants = change(self.config.deliver.variants)
        deliver = self.config.deliver.model_copy(update={"variants": variants})
        config = self.config.model_copy(update={"space": change(self.config.space), "deliver": deliver})
        return self._with(config=config, space=Space.parse(config.baseline, config.space))

    def placed(self, folder: Path) -> "Sweep":
        """Write a carried task below `folder`, and return the sweep that reads it there; any other sweep unchanged."""
        if self.carried is None:
            return self
        self.carried.write(folder / TASK_FOLDER)
        return self._with(config=self._with_whole_paths(), folder=folder / TASK_FOLDER, carried=None)

    def _with_whole_paths(self) -> SweepConfig:
        """Return the settings so that they name the same files from another folder."""
        token = self.config.measuring.agent_token_file
        if token is None:
            return self.config
        whole = {"agent_token_file": str((self.folder / token).absolute())}
        return self.config.model_copy(update={"measuring": self.config.measuring.model_copy(update=whole)})

    def to_yaml(self) -> str:
        """Return the sweep file that says the same; what has its default value is left out.

        A task that no module offers is named as a function of ``./mytask.py``, where it must be put first.
        """
        document = self.config.model_dump(mode="json", exclude_defaults=True)
        if "objectives" in document:
            document["objectives"] = [
                goal["kind"] if goal.keys() == {"kind"} else goal for goal in document["objectives"]
            ]
        lines = [SCHEMA_LINE]
        if self.carried is not None:
            document["task"]["use"] = f"./mytask.py:{self.carried.name}"
            lines.append(f"# put {self.carried.name}, which returns the task, into mytask.py beside this file")
        return "\n".join([*lines, write_yaml(document, compact=True)])

    def _with(self, **facts: object) -> Self:
        other = copy(self)
        other.__dict__.update(facts)
        return other

    @property
    def is_preset(self) -> bool:
        """Whether it ships with us, so that every node has it."""
        return self.folder == Path(str(files(PRESETS))).resolve()

    @property
    def code_folder(self) -> Path:
        """The folder searched for code that the file names: its own, or for a preset the current one."""
        return Path.cwd() if self.is_preset else self.folder

    @property
    def story(self) -> str:
        """The file's opening comment: what the sweep is about, in one line."""
        return self.source.opening

    def document(self) -> dict[str, Json]:
        """Return the whole configuration with its defaults, as plain data."""
        return self.config.model_dump(mode="json")


def presets() -> dict[str, str]:
    """Return the shipped sweeps by name, each with the summary in its first line."""
    found = {file.name.removesuffix(".yaml"): file for file in files(PRESETS).iterdir() if file.name.endswith(".yaml")}
    return {name: found[name].read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for name in sorted(found)}


def _check_version(source: Located) -> None:
    """Refuse other versions before validating anything else, which would be misread."""
    assert isinstance(source.data, Mapping)
    version = source.data.get("version", SWEEP_VERSION)
    if isinstance(version, int) and not isinstance(version, bool) and version != SWEEP_VERSION:
        newer = version > SWEEP_VERSION
        rule = f"this paretta reads sweep files of version {SWEEP_VERSION}"
        hint = "install a newer paretta" if newer else f"write version: {SWEEP_VERSION}, or leave it out"
        raise WrongInput(Problem(source.where("version"), rule, version, hint))


@contextmanager
def _collected(problems: list[Problem], where: Callable[[str], str] = str) -> Iterator[None]:
    """Add what the block finds wrong to `problems`, each at its place in the file, so that all are shown at once."""
    try:
        yield
    except WrongInput as error:
        problems += [Problem(where(p.where), p.rule, p.value, p.hint) for p in error.problems]


def _check_names(search: SearchConfig, where: Callable[[str], str]) -> None:
    problems: list[Problem] = []
    for registry, name in ((SAMPLERS, search.sampler), (STOPPERS, search.stopper)):
        with _collected(problems):
            registry.require(name, where(registry.noun))
    if problems:
        raise WrongInput(*problems)


def _find(reference: str) -> Path:
    if reference.endswith((".yaml", ".yml")):
        return Path(reference)
    if reference in presets():
        return Path(str(files(PRESETS) / f"{reference}.yaml"))
    rule = did_you_mean(reference, presets(), "preset")
    raise WrongInput(Problem("sweep", rule, hint="name a preset, or a file that ends in .yaml"))
