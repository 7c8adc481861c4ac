"""Find every error in a sweep that can be found before any compute is spent."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, get_args

from paretta.dashboards.journal.record import wishes_of
from paretta.orchestrator.agent.agent_client import AgentAddress
from paretta.orchestrator.agent.agent_token import read_token
from paretta.orchestrator.agent.ask_agent import agent_facts, agent_warnings, meter_problems
from paretta.orchestrator.agent.protocol import AgentFacts
from paretta.orchestrator.config.build_search import try_search
from paretta.orchestrator.config.carried_task import carried_digest
from paretta.orchestrator.config.check_warnings import sweep_warnings
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.loading.check_task import check_task, tell_nobody
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import Meter, meter_of
from paretta.pipelines.reuse.code_digest import code_files
from paretta.pipelines.run import last_training
from paretta.pipelines.stage import Stage, require_answers, stage_of, stages_of, unmet_needs
from paretta.pipelines.task import Task
from paretta.pipelines.training.requirements import batch_problem
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.canonical import Document, canonical_json
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput, in_error_tree
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.roles import alias, best
from paretta.search_spaces.registry import SAMPLERS, STOPPERS
from paretta.search_spaces.results.trial import Role
from paretta.search_spaces.space.holes import Choice, spread
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import MAX_OPTIONS, Knob, Space
from paretta.search_spaces.space.variation import tried
from paretta.search_spaces.user_code import look_in

if TYPE_CHECKING:
    from paretta.pipelines.verification.rehearsal import Rehearsal

MAX_TRIED: Final = 6000  # the most stage settings that are parsed; takes one to two seconds

MAX_NAMED: Final = 20  # knobs named in the report


@dataclass(frozen=True, slots=True)
class Checked:
    """Facts that a check collects for the sweep.

    Args:
        task: the loaded task.
        meters: the meter of each objective, in the sweep's order.
        objectives: what the sweep optimizes.
        data_digest: hash of the content of the task's splits.
        corners: valid plans at the corners of the space; an evenly spaced sample if there are many.
        num_tried: the number of different settings of single stages that were parsed.
        epochs: the most epochs of a plan's last training stage; 0 if the space trains nothing.
        code: digests of the task's own source files, by name.
        warnings: findings that are not errors.
        got: where layers will not get the bits or the integer kernel that are asked, in words.
        agent: what the agent that measures said of itself; None if a node measures.
    """

    task: Task
    meters: tuple[Meter, ...]
    objectives: tuple[Objective, ...]
    data_digest: str
    corners: tuple[Plan, ...]
    num_tried: int
    epochs: int
    code: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    got: tuple[str, ...] = ()
    agent: AgentFacts | None = None


def agent_of(sweep: Sweep) -> AgentAddress | None:
    """Return the agent that a sweep measures by, with its token; None if a node measures.

    Raises `WrongInput` if there is no token.
    """
    measuring = sweep.config.measuring
    if measuring.agent is None:
        return None
    file = None if measuring.agent_token_file is None else sweep.folder / measuring.agent_token_file
    token = read_token(file, where=sweep.source.where("measuring.agent_token_file"))
    return AgentAddress(measuring.agent, token, measuring.agent_patience_s)


@in_error_tree
def check(sweep: Sweep, *, tell: Callable[[str], None] = tell_nobody) -> Checked:
    """Check a sweep's settings, the task's data and code, every stage on a few samples, and meters of the user's.

    Every branch of the space is parsed and the task's splits are read. The model takes a training step, is evaluated
    and exported, and runs through the stages on a few samples. Objectives, limits and wishes are resolved. The sampler
    and the stopper are tried on one plan, and the user's meters on the untrained model.

    Args:
        sweep: the parsed sweep file.
        tell: called with the name of each step before it begins.

    Raises:
        WrongInput: with every problem found and its place in the sweep file; includes errors that the user's code
            raises.
    """
    if sweep.carried is not None:
        with TemporaryDirectory(prefix="paretta-") as scratch:
            return check(sweep.placed(Path(scratch)), tell=tell)
    tell("settings: every branch of the space")
    look_in(sweep.code_folder)
    problems, num_tried = [*_baseline_problems(sweep), *_search_problems(sweep)], 0
    for place, document in _settings(sweep):
        num_tried += 1
        problems += _stage_problems(document, place)
    if problems:
        raise WrongInput(*_once(problems))
    agent = agent_of(sweep)
    if agent is not None:
        tell(f"agent: {agent.url}")
    facts = None if agent is None else agent_facts(agent, where=sweep.source.where("measuring.agent"))
    corners = _some_corners(sweep.space)
    if problems := [problem for plan in corners for problem in _plan_problems(sweep, plan)]:
        raise WrongInput(*_once(problems))
    task = _task(sweep, corners, tell)
    if problems := [problem for plan in corners for problem in _lacking(sweep, plan, task)]:
        raise WrongInput(*_once(problems))
    meters = _meters(sweep, task, facts)
    objectives = tuple(Objective(meter.label, meter.goal, meter.unit) for meter in meters)
    problems = [*_limit_problems(sweep, objectives), *_wish_problems(sweep, objectives), *_variant_problems(sweep)]
    epochs = max(map(_epochs, corners))
    if problems := problems or [*try_search(sweep, meters, epochs)]:
        raise WrongInput(*problems)
    found = _rehearse(sweep, task, corners, tell)
    _try_meters(sweep, task, meters, corners[0].baseline_plan(), tell)
    with placed(sweep.source.where("task.use")):
        digest = data_digest(task)
        code = {**code_files(task), **carried_digest(sweep.config.task.use, sweep.code_folder)}
        warnings = (*sweep_warnings(sweep, task, meters, corners), *found.unchanged)
    if agent is not None and facts is not None:
        warnings = (*warnings, *agent_warnings(agent, facts, _served(sweep, meters)))
    return Checked(task, meters, objectives, digest, corners, num_tried, epochs, code, warnings, found.got, facts)


def check_report(sweep: Sweep, checked: Checked) -> str:
    """Describe what a valid sweep will do."""
    knobs, ways = sweep.space.knobs(), sweep.space.cardinality()
    count = "infinitely many different plans" if math.isinf(ways) else f"{ways:.0f} different plans"
    goals = ", ".join(f"{'smaller' if o.goal == 'min' else 'larger'} {o.meter}" for o in checked.objectives)
    search, workers = sweep.config.search, sweep.config.workers
    limits = f"limits: {'; '.join(map(str, sweep.limits))}"
    return "\n".join(
        [
            f"{sweep.source.file} is sound",
            f"task: {sweep.config.task.use}, data {checked.data_digest[:23]}",
            f"space: {len(knobs)} knobs ({_named(knobs)}), {count}, "
            f"{checked.num_tried} settings of stages and {len(checked.corners)} corner plans parsed{_sampled(knobs)}",
            f"search: {search.trials} trials by {search.sampler} for {goals}; stopper {search.stopper}",
            *([limits] if sweep.limits else []),
            *(
                [f"measured: on {checked.agent.name}, by the agent at {sweep.config.measuring.agent}"]
                if checked.agent is not None
                else []
            ),
            *(f"warning: {warning}" for warning in checked.warnings),
            *(f"asked and got: {line}" for line in checked.got),
            f"each trial: {workers.per_trial} workers x {workers.cpus:g} CPU, {workers.gpus:g} GPU",
        ]
    )


def _named(knobs: Sequence[Knob]) -> str:
    more = [f"and {len(knobs) - MAX_NAMED} more"] if len(knobs) > MAX_NAMED else []
    return ", ".join([*(knob.name for knob in knobs[:MAX_NAMED]), *more])


def _sampled(knobs: Iterable[Knob]) -> str:
    options = sum(len(knob.hole.labels) for knob in knobs if isinstance(knob.hole, Choice))
    return f", sampled from {options} options" if options > MAX_OPTIONS else ""


def _baseline_problems(sweep: Sweep) -> Iterator[Problem]:
    for index, document in enumerate(sweep.space.baseline):
        yield from _stage_problems(document, sweep.source.where(f"baseline[{index}]"))


def _settings(sweep: Sweep) -> Iterator[tuple[str, Document]]:
    """Return the distinct settings of each step's stage to parse, grouped by step so that errors can name it."""
    at_most = max(2, MAX_TRIED // len(sweep.space.steps))
    for index, step in enumerate(sweep.space.steps):
        found = {canonical_json(s): s for plan in tried(Space((), (step,)), at_most) for s in plan.stages}
        for document in found.values():
            yield sweep.source.where(f"space[{index}]"), document


def _some_corners(space: Space) -> tuple[Plan, ...]:
    """Return evenly spaced corners of the whole space, fewer if plans are long."""
    corners = tuple(space.corners())
    at_most = max(2, MAX_TRIED // (2 * max(len(plan.baseline) + len(plan.stages) for plan in corners) + 1))
    return tuple(corners[place] for place in spread(len(corners), at_most))


def _search_problems(sweep: Sweep) -> Iterator[Problem]:
    """Load the sampler, a function of the search, and the stopper, a function of the search and its strategy."""
    search = sweep.config.search
    for registry, name, takes in (
        (SAMPLERS, search.sampler, ("search",)),
        (STOPPERS, search.stopper, ("search", "strategy")),
    ):
        where = sweep.source.where(f"search.{registry.noun}")
        try:
            found = registry.load(name, where=where)
        except WrongInput as error:
            yield from error.problems
            continue
        if not _takes(found, takes):
            yield Problem(where, f"must name a function make({', '.join(takes)})", name)


def _takes(function: object, arguments: tuple[str, ...]) -> bool:
    """Return whether `function` can be called with this many arguments; one without a known signature may be."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError) as error:
        return isinstance(error, ValueError)
    return True


def _plan_problems(sweep: Sweep, plan: Plan) -> Iterable[Problem]:
    """Find stages that cannot follow each other, in a corner whose stages are valid one by one."""
    place = sweep.source.where("space")
    try:
        stages = stages_of(plan)
    except WrongInput as error:
        return [Problem(f"{place}: in a plan of it, {p.where}", p.rule, p.value, p.hint) for p in error.problems]
    if sweep.config.workers.gpus == 0:
        rule, hint = "float16 is for GPUs, and the workers have none", "set bfloat16 or float32, or workers.gpus"
        halves = [stage for stage in stages if isinstance(stage, TrainSettings) and stage.precision == "float16"]
        return [Problem(f"{place}: in a plan of it, precision", rule, "float16", hint)] if halves else []
    return ()


def _lacking(sweep: Sweep, plan: Plan, task: Task) -> Iterator[Problem]:
    """Find what stages need and the task lacks, and batches with too few samples for all workers."""
    place, stages = sweep.source.where("space"), stages_of(plan)
    for problem in (*unmet_needs(plan, stages, task), *_batch_problems(sweep, stages, task)):
        yield replace(problem, where=f"{place}: in a plan of it, {problem.where}")


def _batch_problems(sweep: Sweep, stages: Sequence[Stage], task: Task) -> Iterator[Problem]:
    """Yield one problem for each training, a stage or within one, whose batches the workers cannot share."""
    inside = (value for stage in stages for value in (stage, *dict(stage).values()))
    for training in (value for value in inside if isinstance(value, TrainSettings)):
        batch_size, streamed = min(training.batch_size, task.num_train), task.stream is not None
        workers = sweep.config.workers.per_trial
        if problem := batch_problem(batch_size, training.accumulate, workers, is_streamed=streamed):
            yield problem


def _limit_problems(sweep: Sweep, objectives: tuple[Objective, ...]) -> Iterator[Problem]:
    for section, limits in (("limits", sweep.limits), ("reference", sweep.reference)):
        for index, limit in enumerate(limits):
            yield from limit.check(objectives, sweep.source.where(f"{section}[{index}]"))


def _variant_problems(sweep: Sweep) -> Iterator[Problem]:
    for index, variant in enumerate(sweep.config.deliver.variants):
        for step, document in enumerate(variant):
            yield from _stage_problems(document, sweep.source.where(f"deliver.variants[{index}][{step}]"))


def _epochs(plan: Plan) -> int:
    """Return the epochs of the last training stage after the baseline, 0 if there is none."""
    stages = stages_of(plan)
    last = last_training(stages, len(plan.baseline))
    stage = stages[last] if last is not None else None
    return stage.epochs if isinstance(stage, TrainSettings) else 0


def _wish_problems(sweep: Sweep, objectives: tuple[Objective, ...]) -> Iterator[Problem]:
    taken = {"knee", *(alias(best(objective.meter)) for objective in objectives), *get_args(Role)}
    for name, wish in wishes_of(sweep.document()).items():
        if name in taken:
            rule = "a wish's name must not be that of a role"
            yield Problem(sweep.source.where(f"wishes.{name}"), rule, name, f"none of: {', '.join(sorted(taken))}")
        yield from wish.check(name, objectives, sweep.source.where(f"wishes.{name}"))


def _stage_problems(document: Document, where: str) -> Iterable[Problem]:
    try:
        require_answers(stage_of(document, where=where), where)
    except WrongInput as error:
        return error.problems
    return ()


def _once(problems: Iterable[Problem]) -> Iterable[Problem]:
    """Keep the first of the problems that differ only in the value they report."""
    alike: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        alike.setdefault((problem.where, problem.rule), problem)
    return alike.values()


def _task(sweep: Sweep, corners: Sequence[Plan], tell: Callable[[str], None]) -> Task:
    trains = any(isinstance(stage, TrainSettings) for plan in corners for stage in stages_of(plan))
    with placed(sweep.source.where("task.use")):
        tell("task: importing and making it")
        task = load_task(sweep.config.task.use, sweep.config.task.options, sweep.code_folder)
        check_task(task, trains=trains, num_workers=sweep.config.workers.per_trial, tell=tell)
    return task


def _rehearse(sweep: Sweep, task: Task, corners: Sequence[Plan], tell: Callable[[str], None]) -> "Rehearsal":
    """Return what stages left as it was, and where layers do not run as asked."""
    from paretta.pipelines.verification.rehearsal import rehearse, require_export  # noqa: PLC0415 - loads the exporter

    tell("model: export, at batch 1 and 2")
    with placed(sweep.source.where("task.use")):
        require_export(task)
    try:
        return rehearse(corners, task, where=sweep.source.where("space"), tell=tell)
    except TrialFailed as error:
        raise WrongInput(Problem(sweep.source.where("baseline"), f"fails on the untrained model: {error}")) from error


def _try_meters(sweep: Sweep, task: Task, meters: Sequence[Meter], baseline: Plan, tell: Callable[[str], None]) -> None:
    """Try the user's meters and runtimes, unless another machine reads them."""
    from paretta.pipelines.verification.try_meters import is_own, try_meters  # noqa: PLC0415 - loads the exporter

    measuring = sweep.config.measuring
    own = {
        sweep.source.where(f"objectives[{index}]"): meter
        for index, meter in enumerate(meters)
        if is_own(meter) and not meter.judges_answers and not (measuring.agent and isinstance(meter, ServedMeter))
    }
    if own and not (measuring.resources or measuring.labels):
        tell(f"meters: {', '.join(meter.label for meter in own.values())} of the untrained model")
        try_meters(own, baseline, task)


@contextmanager
def placed(where: str, doing: str = "checking it") -> Iterator[None]:
    """Attribute errors of the user's code to the line of the sweep file that names it, whatever their type."""
    try:
        with blaming("task", doing):
            yield
    except WrongInput as error:
        raise WrongInput(
            *(Problem(f"{where}: {p.where}", p.rule, p.value, p.hint) for p in error.problems)
        ) from error.__cause__


def _served(sweep: Sweep, meters: Sequence[Meter]) -> dict[str, ServedMeter]:
    """Return the meters that run the model, by the place in the sweep file that names them."""
    placed_at = {sweep.source.where(f"objectives[{index}]"): meter for index, meter in enumerate(meters)}
    return {where: meter for where, meter in placed_at.items() if isinstance(meter, ServedMeter)}


def _meters(sweep: Sweep, task: Task, agent: AgentFacts | None) -> tuple[Meter, ...]:
    meters: list[Meter] = []
    problems: list[Problem] = []
    for index, objective in enumerate(sweep.config.objectives):
        where = sweep.source.where(f"objectives[{index}]")
        try:
            meter = meter_of(objective, task.metrics, where=where)
        except WrongInput as error:
            problems += error.problems
            continue
        if isinstance(meter, ServedMeter) and agent is not None:
            problems += meter_problems(agent, {where: meter})
        elif isinstance(meter, ServedMeter) and (missing := meter.runs.missing() or meter.runs.lacks(meter.place)):
            there = "; to measure where it is installed, name that node in `measuring`"
            told = Problem(where, missing.partition(": ")[0], meter.label, f"{missing.partition(': ')[2]}{there}")
            problems += [] if sweep.config.measuring.is_elsewhere else [told]
        if why := meter.unfit(task):
            problems.append(Problem(where, f"it cannot be read of this task: {why}", meter.label))
        if meter.label in [known.label for known in meters]:
            problems.append(Problem(where, "an objective is named once", meter.label, "remove one"))
        meters.append(meter)
    if problems:
        raise WrongInput(*problems)
    return tuple(meters)
