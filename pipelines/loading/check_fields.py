"""Check that the fields of a task hold what they should, before any of them is used."""

from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any, Final, TypeGuard, get_args

from torch import nn

from paretta.pipelines.artifact import is_file_name
from paretta.pipelines.data.trees import leaves, tensors
from paretta.pipelines.stream import Stream
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.registry import METERS


def field_problems(task: Task, where: str) -> Iterator[Problem]:
    """Yield the fields of a task that hold something else; nothing that they hold is called."""
    for field, (holds, rule, hint) in _RULES.items():
        value = getattr(task, field)
        if not holds(value):
            yield Problem(f"{where}.{field}", rule, _told(value), hint)
    yield from _example_problems(task, f"{where}.example_input")
    yield from _stream_problems(task, f"{where}.stream")
    if isinstance(task.files, Mapping):
        yield from _file_problems(task.files, f"{where}.files")
    if isinstance(task.metrics, Mapping):
        if not task.metrics:
            yield Problem(f"{where}.metrics", "must name at least one metric", hint="such as {'accuracy': Metric(...)}")
        for name, metric in task.metrics.items():
            shown = name if str(name).isprintable() else repr(name)
            yield from _metric_problems(metric, name, f"{where}.metrics[{shown}]")


def _told(value: object) -> object:
    plain = value is None or isinstance(value, bool | int | float | str | bytes)
    return value if plain and value is not None else type(value).__name__


def _is_none_or(kind: type) -> Callable[[object], bool]:
    return lambda value: value is None or (isinstance(value, kind) and not isinstance(value, bool))


def _is_dataset(value: object) -> bool:
    return value is None or (hasattr(value, "__len__") and hasattr(value, "__getitem__"))


def _are_variants(value: object) -> bool:
    return _is_named(value) and all(isinstance(made, nn.Module) or callable(made) for made in value.values())


def _is_named(value: object) -> "TypeGuard[Mapping[str, object]]":
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _are_free_axes(value: object) -> bool:
    return _is_named(value) and all(
        isinstance(axes, Mapping) and all(map(_is_axis, axes.items())) for axes in value.values()
    )


def _is_axis(item: tuple[object, object]) -> bool:
    axis, label = item
    bounded = isinstance(label, tuple | list) and [type(part) for part in label] == [str, int, int]
    return type(axis) is int and (isinstance(label, str) or bounded)


# by field: whether a value may stand there, the rule, and how to mend it
_RULES: Final[Mapping[str, tuple[Callable[[object], bool], str, str]]] = {
    "model": (callable, "must be a torch module or a function that makes one", ""),
    "loss": (callable, "must be callable as loss(outputs, targets)", ""),
    "metrics": (_is_named, "must map names to metrics", "such as {'accuracy': Metric(...)}"),
    "variants": (_are_variants, "must name modules, or functions that make them", "such as {'small': SmallNet}"),
    "source": (_is_dataset, "must be a map-style dataset", "give a dataset with __len__ and __getitem__"),
    "calibration": (_is_dataset, "must be a map-style dataset", "give a dataset with __len__ and __getitem__"),
    "class_axis": (_is_none_or(Integral), "must be a whole number", "such as 1 or -1"),
    "ignore_label": (
        _is_none_or(Integral),
        "must be a class label, a whole number",
        "such as -100; None if every label counts",
    ),
    "data_id": (_is_none_or(str), "must be a text that names the data", "such as 'photos-2024-05'"),
    "collate": (lambda value: value is None or callable(value), "must be callable as collate(samples)", ""),
    "class_scores": (lambda value: value is None or callable(value), "must be callable as class_scores(outputs)", ""),
    "free_axes": (
        _are_free_axes,
        "must map inputs to axes, and axes to names",
        "such as {'input_ids': {1: 'tokens'}} or {1: ('tokens', 1, 512)}",
    ),
    "training_inputs": (
        lambda value: isinstance(value, tuple | list) and all(isinstance(name, str) for name in value),
        "must be a tuple of names",
        "such as ('labels',)",
    ),
    "files": (_is_named, "must map file names to their content", "such as {'preprocessor.json': b'...'}"),
}


def _example_problems(task: Task, where: str) -> Iterator[Problem]:
    given = tensors(task.example_input)
    if not given or any(tensor.dim() and tensor.shape[:1] != (1,) for tensor in given):
        shapes = ", ".join(str(list(tensor.shape)) for _, tensor in leaves(task.example_input))
        rule = "must be a tensor of shape [1, ...], or a tuple or mapping of such"
        yield Problem(where, rule, shapes or type(task.example_input).__name__, "add the batch axis")


def _stream_problems(task: Task, where: str) -> Iterator[Problem]:
    if task.stream is not None and not (isinstance(task.stream, Stream) and callable(task.stream.dataset)):
        hint = "give paretta.pipelines.stream.Stream(dataset=function, num_samples=...)"
        yield Problem(where, "must name what opens the data", type(task.stream).__name__, hint)
    elif task.stream is not None and task.stream.num_samples < 1:
        yield Problem(f"{where}.num_samples", "must be at least 1", task.stream.num_samples)


def _file_problems(files: Mapping[Any, object], where: str) -> Iterator[Problem]:
    for name, content in files.items():
        if not (isinstance(name, str) and is_file_name(name)):
            rule = "its name must be letters, digits, _, - and dots, and none that a delivered folder has already"
            yield Problem(where, rule, name, "give it another name")
        elif not isinstance(content, bytes):
            yield Problem(f"{where}[{name}]", "must hold the file's content, as bytes", type(content).__name__)


def _metric_problems(metric: object, name: object, where: str) -> Iterator[Problem]:
    if not isinstance(metric, Metric):
        yield Problem(where, "must be a paretta.pipelines.task.Metric", type(metric).__name__)
        return
    if metric.goal not in get_args(Goal):
        yield Problem(f"{where}.goal", f"must be one of {', '.join(get_args(Goal))}", metric.goal)
    if not isinstance(metric.unit, str):
        yield Problem(f"{where}.unit", "must be a text", metric.unit, "such as 'share' or 'points'")
    if not (callable(metric.score) or hasattr(metric.score, "update")):
        rule = "must be callable as score(outputs, targets), or have update, compute and reset"
        yield Problem(f"{where}.score", rule, _told(metric.score))
    if not (metric.arguments is None or callable(metric.arguments)):
        yield Problem(f"{where}.arguments", "must be callable as arguments(outputs, targets)", _told(metric.arguments))
    if isinstance(name, str) and (name.strip() != name or not name.isprintable() or not name):
        yield Problem(where, "a metric's name must be a text in one line, without space around it", name)
    elif isinstance(name, str) and (name.partition("@")[0] in METERS.names() or name.startswith("test_")):
        rule = "a metric may not be called like a meter, nor start with test_, as readings on the test split do"
        yield Problem(where, rule, name, "give it another name")
    better = getattr(metric.score, "higher_is_better", None)
    if better is (metric.goal == "min"):
        rule = f"the goal must be that of {type(metric.score).__name__}, whose higher_is_better is {better}"
        yield Problem(where, rule, metric.goal, f"give Metric(..., goal='{'max' if better else 'min'}')")
