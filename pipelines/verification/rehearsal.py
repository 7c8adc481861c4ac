"""Rehearse a sweep's export and stages on the task once, with a few samples."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from torch import nn
from torch.utils.data import Subset, TensorDataset

from paretta.pipelines.artifact import MODEL, session
from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.samples import Samples, is_plain_tensors, num_samples
from paretta.pipelines.data.trees import TensorTree, call_model, num_rows, tensors, tree_rows
from paretta.pipelines.export.interface import shortened
from paretta.pipelines.export.to_onnx import exported, to_bytes
from paretta.pipelines.kernels.float_operators import floats_between
from paretta.pipelines.kernels.layer_kernels import facts_that_ran
from paretta.pipelines.measuring.artifact_answers import feeds_of
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import Stage, noted, stages_of
from paretta.pipelines.task import SPLITS, Task
from paretta.pipelines.verification.asked_and_got import asked_and_got
from paretta.search_spaces.canonical import Json, canonical_json
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.results.note import NOT_ASKED, Note
from paretta.search_spaces.space.holes import spread
from paretta.search_spaces.space.plan import Plan

FEW: Final = 8  # samples of each split
MAX_PLANS: Final = 6  # rehearsed at most; none starts after MAX_SECONDS
MAX_SECONDS: Final = 20.0  # after which no further stage is rehearsed either
MAX_ALONE_SECONDS: Final = 3.0  # for samples that are compared one by one
_NUM_ALONE: Final = 16
_ALWAYS: Final = 3  # cases that are compared whatever they take
MAX_ALIKE: Final = 3  # of a plan's stages that differ only in numbers
# in the exporter's messages about a forward that decides by the values of its tensors
_BY_VALUE: Final = ("DataDependent", "data-dependent", "SymBool", "SymInt", "SymFloat", "FakeTensor")
_BRANCH_MEND: Final = (
    "a file has one course for all values: decide by shapes or with torch.where, not with `if`, `.item()`, `int()` or "
    "`float()` of a tensor, and mask padded sequences instead of packing them"
)
_Answers: TypeAlias = NDArray[np.float64]
_TOLERANCE: Final = 1e-3  # relative to the largest output


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of a rehearsal.

    Args:
        unchanged: what the stages left unchanged, each once, without stages that were asked to change nothing; and
            which stages there was no time for.
        got: where layers do not get the bits or the kernel that were asked, each line once, see `asked_and_got`.
    """

    unchanged: tuple[str, ...]
    got: tuple[str, ...]


def require_export(task: Task, *, where: str = "task") -> None:
    """Export the untrained model, and compare the file's outputs at batch sizes 1 and 2 with the model's.

    If axes besides the first are free, outputs at half their length are compared too. Further samples are compared one
    by one, for at most `MAX_ALONE_SECONDS`: a file has one course for all values, and a decision by values that the
    exporter did not notice may show in few of them.

    Raises:
        WrongInput: the model cannot be exported or run, or the file's outputs differ.
    """
    place = f"{where}.model"
    places = torch.arange(2) % num_samples(task.validation)
    inputs, _ = task.batch(task.validation, places, name=f"{where}.validation")
    with seeded(0), TemporaryDirectory(prefix="paretta-") as scratch:
        path = Path(scratch) / MODEL
        with _exporting(place, "exporting it to ONNX"):
            model = task.new_model().eval()
            path.write_bytes(to_bytes(model, task.example_input, task.free_axes))
        opened: InferenceSession | None = None
        cases = {f"a batch of {size}": tree_rows(inputs, slice(0, size)) for size in (1, 2)}
        if task.free_axes:
            cases["a batch at half the length of its free axes"] = shortened(model, inputs, task.free_axes)
        cases |= {f"sample {index} of task.validation": batch for index, batch in _alone(task, where)}
        until = time.monotonic() + MAX_ALONE_SECONDS
        for number, (words, batch) in enumerate(cases.items()):
            if number >= _ALWAYS and time.monotonic() > until:
                break
            with blaming(place, f"answering {words}"), torch.no_grad():
                expected = [tensor.double().numpy() for tensor in tensors(call_model(model, batch))]
            if all(right.shape[:1] != (num_rows(batch),) for right in expected):
                rule = f"it must answer {words} with one row for each sample, here {num_rows(batch)}"
                found = [list(right.shape) for right in expected]
                raise WrongInput(Problem(place, rule, found, "leave the axis out of free_axes"))
            with blaming(place, f"running its exported file on {words}"):
                opened = opened or session(path)
                names = [given.name for given in opened.get_inputs()]
                answers = opened.run(None, dict(feeds_of(batch, names)))
            for right, found in zip(expected, answers, strict=True):
                _require_alike(right, np.asarray(found, dtype=np.float64), words, place)


def _alone(task: Task, where: str) -> Iterator[tuple[int, TensorTree]]:
    """Yield the inputs of samples spread over the validation split, each in a batch of its own."""
    for index in spread(num_samples(task.validation), _NUM_ALONE):
        yield index, task.batch(task.validation, torch.tensor([index]), name=f"{where}.validation")[0]


@contextmanager
def _exporting(place: str, doing: str) -> Iterator[None]:
    """Blame the user's code as `blaming` does, with the mend where the exporter's own words tell none."""
    try:
        with blaming(place, doing):
            yield
    except WrongInput as error:
        if any(word in problem.rule for problem in error.problems for word in _BY_VALUE):
            raise WrongInput(*(replace(p, hint=_BRANCH_MEND) for p in error.problems)) from error.__cause__
        raise


def _require_alike(expected: _Answers, found: _Answers, words: str, place: str) -> None:
    allowed = _TOLERANCE * max(np.abs(expected[np.isfinite(expected)]), default=0.0) + 1e-6
    if found.shape != expected.shape or not np.allclose(found, expected, 0, allowed, equal_nan=True):
        rule = f"its exported file must answer {words} as it does"
        hint = "let the model keep no count, draw nothing at random and not branch on values in evaluation mode"
        raise WrongInput(Problem(place, rule, _gap(found, expected), hint))


def rehearse(plans: Sequence[Plan], task: Task, *, where: str, tell: Callable[[str], None]) -> Rehearsal:
    """Apply every kind of stage with every name in its settings to the untrained model, on a few samples.

    Of plans that differ only in numbers one is rehearsed, see `varied_plans`; of such stages within a plan, at most
    `MAX_ALIKE`. A `TrialFailed` after the baseline, such as for a limit that an untrained model cannot meet, is ignored
    and left to the trials.

    Raises:
        WrongInput: a stage fails on this model, such as for the name of a layer that does not exist.
        TrialFailed: a stage of the baseline fails.
    """
    few = _few(task)
    chosen, until = varied_plans(plans), time.monotonic() + MAX_SECONDS
    bench = Bench(few, Ranks.alone(), is_trial=False)
    with seeded(0), blaming(where, "making the model"):
        untrained = task.new_model().eval()
    baseline: nn.Module | None = None
    told: dict[str, None] = {}
    got: dict[str, None] = {}
    for number, plan in enumerate(chosen, start=1):
        if time.monotonic() > until:
            break
        tell(f"stages: plan {number} of {len(chosen)} on {FEW} samples")
        stages, split = stages_of(plan), len(plan.baseline)
        if baseline is None:
            baseline, _ = _carried(untrained, stages[:split], bench, "baseline", told, until=until)
        taught = replace(bench, teacher=deepcopy(baseline).eval().requires_grad_(False))
        try:
            model, asked = _carried(deepcopy(baseline), stages[split:], taught, where, told, until=until)
        except TrialFailed:
            continue
        except WrongInput as error:
            if error.__cause__ is None and _fits(plan, plans, baseline, taught):
                continue
            raise
        with _exporting(f"{where}, {' and '.join(s.kind for s in stages[split:])}", "exporting the model after it"):
            got.update(dict.fromkeys(_got(model, task, asked)))
    return Rehearsal(tuple(told), tuple(got))


def _got(model: nn.Module, task: Task, asked: Mapping[str, int]) -> tuple[str, ...]:
    """Export the model, and return where its layers do not run as asked."""
    made = exported(model, task.example_input, task.free_axes)
    layers = facts_that_ran(made, layer_facts(model, task.example_input, asked))
    return asked_and_got(layers, floats_between(made.content))


def worth_telling(stage: Stage, notes: Sequence[Note]) -> list[str]:
    """Return messages about what a stage left unchanged; none if it was asked to change nothing."""
    asked = [note for note in notes if note.reason != NOT_ASKED]
    return [f"{stage.words()}: {note.verdict}, {note.reason}" if note.verdict else str(note) for note in asked]


def _fits(plan: Plan, plans: Sequence[Plan], baseline: nn.Module, bench: Bench) -> bool:
    """Return whether the first or the last plan that differs from `plan` only in numbers can be applied."""
    shapes = _shapes(plan)
    alike = [other for other in plans if _shapes(other) == shapes and other != plan]
    for other in alike[:1] + alike[1:][-1:]:
        try:
            _carried(deepcopy(baseline), stages_of(other)[len(other.baseline) :], bench, "", {}, until=math.inf)
        except TrialFailed:
            return True
        except WrongInput:
            continue
        return True
    return False


def varied_plans(plans: Sequence[Plan]) -> list[Plan]:
    """Return the first plans that together have every stage and setting except numbers; at most `MAX_PLANS`.

    Of plans that differ only in numbers, the first with the fewest zeros is taken: 0 often asks nothing of a stage.
    """
    alike: dict[tuple[str, ...], list[Plan]] = {}
    for plan in plans:
        alike.setdefault(tuple(_shapes(plan)), []).append(plan)
    seen: set[str] = set()
    chosen: list[Plan] = []
    for shapes, group in alike.items():
        if (not chosen or set(shapes) - seen) and len(chosen) < MAX_PLANS:
            chosen.append(min(group, key=_num_zeros))
            seen |= set(shapes)
    return chosen


def _num_zeros(plan: Plan) -> int:
    return sum(map(_zeros, plan.stages))


def _zeros(value: Json) -> int:
    if isinstance(value, dict | list | tuple):
        return sum(map(_zeros, value.values() if isinstance(value, dict) else value))
    return int(isinstance(value, int | float) and not isinstance(value, bool) and value == 0)


def _shapes(plan: Plan) -> list[str]:
    return [canonical_json(_without_numbers(stage)) for stage in plan.stages]


def _without_numbers(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_numbers(item) for item in value]
    return None if isinstance(value, int | float) and not isinstance(value, bool) else value


def few_alike(stages: Sequence[Stage]) -> list[int]:
    """Return the places of the stages to rehearse: of those that differ only in numbers, the first `MAX_ALIKE`."""
    times = Counter[str]()
    chosen = []
    for place, stage in enumerate(stages):
        form = canonical_json(_without_numbers(stage.model_dump(mode="json")))
        times[form] += 1
        if times[form] <= MAX_ALIKE:
            chosen.append(place)
    return chosen


def _carried(
    model: nn.Module, stages: Sequence[Stage], bench: Bench, where: str, told: dict[str, None], *, until: float
) -> tuple[nn.Module, dict[str, int]]:
    """Apply the stages in order, and return the bits asked of layers that they leave unchanged.

    What they left unchanged, and which stages there was no time for, is added to `told`.
    """
    asked: dict[str, int] = {}
    places = few_alike(stages)
    for done, index in enumerate(places):
        stage, place = stages[index], f"{where}, stage {index + 1} ({stages[index].kind})"
        if time.monotonic() > until:
            left = f"{where}: {len(places) - done} of {len(stages)} stages, from stage {index + 1} ({stage.kind})"
            told[f"{left}, were not tried beforehand: those before took {MAX_SECONDS:g} s"] = None
            break
        try:
            with seeded(index), blaming(place, f"applying it to the untrained model on {FEW} samples"):
                bench = replace(bench, stage=stage.kind, notes=[])
                model = noted(stage.rehearsal(), model, bench).eval()
                told.update(dict.fromkeys(worth_telling(stage, [note for note in bench.notes if note.bits is None])))
                asked.update({layer: note.bits for note in bench.notes if note.bits for layer in note.layers})
        except WrongInput as error:
            moved = (p if p.where == place else replace(p, where=f"{place}: {p.where}") for p in error.problems)
            raise WrongInput(*moved) from error.__cause__
    return model, asked


def _few(task: Task) -> Task:
    train, validation, test = (_first(task.split(name)) for name in SPLITS)
    calibration = None if task.calibration is None else _first(task.calibration)
    return replace(task, stream=None, train=train, validation=validation, test=test, calibration=calibration)


def _first(dataset: Samples) -> Samples:
    places = range(min(FEW, num_samples(dataset)))
    if is_plain_tensors(dataset):
        return TensorDataset(*(tensor[: len(places)] for tensor in dataset.tensors))
    return Subset(dataset, places)


def _gap(found: _Answers, expected: _Answers) -> str:
    if found.shape != expected.shape:
        return f"shape {list(found.shape)}, not {list(expected.shape)}"
    return (
        f"a difference of {np.abs(found - expected).max():.2g} where the largest answer is {np.abs(expected).max():.2g}"
    )
