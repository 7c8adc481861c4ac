"""Settle once, before any trial, what the machine that measures decides, so that every plan says what it does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from paretta.orchestrator.agent.agent_client import AgentClient
from paretta.orchestrator.config.check import Checked, agent_of
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput

if TYPE_CHECKING:
    from paretta.pipelines.measuring.served_meter import ServedMeter

_KIND: Final = "quantize"
_SETTING: Final = "compute"
_FASTER: Final = "faster"
_RANGE: Final = "activation_range"
_DYNAMIC: Final = "dynamic"
_NARROW: Final = "reduce_range"


def settled_range(sweep: Sweep, checked: Checked) -> tuple[Sweep, str | None]:
    """Return the sweep with 7 bits asked of weights that the agent's integer kernels would overflow with, and a line.

    Only the machine that trains is tried by a stage itself. Where the agent's kernels have room and those of the
    training machine have not, 7 bits remain, since the answers are judged there.
    """
    if checked.agent is None or not checked.agent.saturates:
        return sweep, None
    settled = sweep.rewritten(_narrowed)
    if settled.document() == sweep.document():
        return sweep, None
    told = f"reduce_range: true: integer kernels of {checked.agent.name} overflow with 8 bits"
    return settled, told


def _narrowed(tree: Json) -> Json:
    """Fill in `reduce_range` of the quantize stages that do not say it."""
    if isinstance(tree, Mapping):
        filled = {key: _narrowed(item) for key, item in tree.items()}
        return {**filled, _NARROW: True} if tree.get("kind") == _KIND and tree.get(_NARROW) is None else filled
    return [_narrowed(item) for item in tree] if isinstance(tree, list | tuple) else tree


def settled_compute(sweep: Sweep, checked: Checked) -> tuple[Sweep, str | None]:
    """Return the sweep with an explicit `compute` in place of ``faster``, and a line that says what was decided.

    The model is timed with the first objective that compares times, on its runtime, batch size and threads, and by the
    agent if one measures. The
    returned sweep is what is recorded, so that resumed, confirming and repeated trials compute alike.

    Raises:
        WrongInput: there is no such objective, the setting is an option of a choice, or activations are both dynamic
            and calibrated, whose kernels differ.
    """
    if not _asks([sweep.config.space, sweep.config.deliver.variants]):
        return sweep, None
    where = sweep.source.where("space")
    meter = _timing(checked)
    if meter is None:
        rule = "`compute: faster` needs an objective that compares times"
        raise WrongInput(Problem(where, rule, hint="add latency to the objectives, or give integer or float"))
    if _asks(_filled([sweep.config.space, sweep.config.deliver.variants], "integer")):
        rule = "`compute: faster` stands in no choice: it is settled once for all trials"
        raise WrongInput(Problem(where, rule, hint="give integer and float as options, or faster alone"))
    dynamic = _dynamic([sweep.config.space, sweep.config.deliver.variants])
    if len(dynamic) > 1:
        rule = "`compute: faster` stands beside `activation_range: dynamic` and others, whose kernels differ"
        raise WrongInput(Problem(where, rule, hint="give integer and float as options, or activations of one kind"))
    from paretta.pipelines.verification.faster_compute import faster_compute  # noqa: PLC0415 - loads torch

    agent = agent_of(sweep)
    try:
        there = None if agent is None else AgentClient(agent)
        decided = faster_compute(checked.task, meter, dynamic=dynamic.pop(), elsewhere=there)
    except TrialFailed as error:
        raise WrongInput(Problem(where, f"`compute: faster` could not be timed: {error}")) from error
    return sweep.rewritten(lambda tree: _filled(tree, decided.setting)), f"compute: faster: {decided.words()}"


def _timing(checked: Checked) -> "ServedMeter | None":
    from paretta.pipelines.measuring.served_meter import ServedMeter  # noqa: PLC0415 - loads ONNX Runtime

    return next((meter for meter in checked.meters if isinstance(meter, ServedMeter) and meter.compares), None)


def _asks(tree: Json) -> bool:
    if isinstance(tree, Mapping):
        return (tree.get("kind") == _KIND and _FASTER in _options(tree.get(_SETTING))) or any(map(_asks, tree.values()))
    return isinstance(tree, list | tuple) and any(map(_asks, tree))


def _dynamic(tree: Json) -> set[bool]:
    """Return whether activations are dynamic in the stages that ask, one or both."""
    if isinstance(tree, Mapping):
        asks = tree.get("kind") == _KIND and tree.get(_SETTING) == _FASTER
        own = {option == _DYNAMIC for option in _options(tree.get(_RANGE, ""))} if asks else set()
        return own.union(*map(_dynamic, tree.values()))
    return set().union(*map(_dynamic, tree)) if isinstance(tree, list | tuple) else set()


def _options(setting: Json) -> list[Json]:
    """Return a value alone, or all that a choice offers."""
    if isinstance(setting, Mapping | list | tuple):
        items = setting.values() if isinstance(setting, Mapping) else setting
        return [option for item in items for option in _options(item)]
    return [setting]


def _filled(tree: Json, setting: Json) -> Json:
    if isinstance(tree, Mapping):
        filled = {key: _filled(item, setting) for key, item in tree.items()}
        return {**filled, _SETTING: setting} if tree.get("kind") == _KIND and tree.get(_SETTING) == _FASTER else filled
    return [_filled(item, setting) for item in tree] if isinstance(tree, list | tuple) else tree
