"""Run one batch through a task and name what is wrong with it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.loading.digests import is_repeatable
from paretta.pipelines.losses.class_scores import counted, num_counted, possible_axes
from paretta.pipelines.samples import Samples, num_samples, take
from paretta.pipelines.stream import Stream
from paretta.pipelines.task import SPLITS, Metric, Split, Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.registry import METERS
from paretta.search_spaces.user_code import blaming


def check_task(task: Task, *, where: str = "task") -> None:
    """Run one batch through the task's model, loss and metrics. Raises `WrongInput` saying what does not fit.

    Args:
        task: as the user's function returned it.
        where: the task's name, for messages.
    """
    problems = [*_field_problems(task, where)] or [*_split_problems(task, where)] or [*_batch_problems(task, where)]
    if problems:
        raise WrongInput(*problems)


def _field_problems(task: Task, where: str) -> Iterator[Problem]:
    if not callable(task.model):
        kind = type(task.model).__name__
        yield Problem(f"{where}.model", "must be a torch module or a function that makes one", kind)
    if not callable(task.loss):
        yield Problem(f"{where}.loss", "must be callable as loss(outputs, targets)", type(task.loss).__name__)
    if not isinstance(task.example_input, Tensor) or task.example_input.shape[:1] != (1,):
        shape = getattr(task.example_input, "shape", type(task.example_input).__name__)
        yield Problem(f"{where}.example_input", "must be a tensor of shape [1, ...]", str(shape), "add the batch axis")
    if task.stream is not None and not (isinstance(task.stream, Stream) and callable(task.stream.dataset)):
        mend = "give paretta.pipelines.stream.Stream(dataset=function, num_samples=...)"
        yield Problem(f"{where}.stream", "must name what opens the data", type(task.stream).__name__, mend)
    elif task.stream is not None and task.stream.num_samples < 1:
        yield Problem(f"{where}.stream.num_samples", "must be at least 1", task.stream.num_samples)
    if not task.metrics:
        yield Problem(f"{where}.metrics", "must name at least one metric", None, "such as {'accuracy': Metric(...)}")
    for name, metric in task.metrics.items():
        if not isinstance(metric, Metric):
            yield Problem(f"{where}.metrics[{name}]", "must be a paretta.pipelines.task.Metric", type(metric).__name__)
        if name in METERS.names() or name.startswith("test_"):
            rule = "a metric may not be called like a meter, nor start with test_, as readings on the test split do"
            yield Problem(f"{where}.metrics[{name}]", rule, name, "give it another name")


def _split_problems(task: Task, where: str) -> Iterator[Problem]:
    for name in SPLITS:
        dataset, place = task.split(name), f"{where}.{name}"
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            mend = "give a dataset with __len__ and __getitem__"
            yield Problem(place, "must be a map-style dataset", type(dataset).__name__, mend)
        elif num_samples(dataset) == 0:
            yield Problem(place, "must hold at least one sample", 0, "check how the split is made")


def _batch_problems(task: Task, where: str) -> Iterator[Problem]:
    with blaming(where, "making the model"):
        model = task.new_model()
    if not isinstance(model, nn.Module):
        yield Problem(f"{where}.model", "must make a torch.nn.Module", type(model).__name__)
        return
    odd = {name: value.dtype for name, value in model.named_parameters() if value.dtype != torch.float32}
    for name, dtype in [*odd.items()][:1]:
        rule = "must have parameters of float32, which quantisers and kernels are for"
        yield Problem(f"{where}.model", rule, f"{name} of {dtype}", "make the model with .float()")
        return
    model.eval()
    with blaming(where, "running the model on example_input"), torch.no_grad():
        outputs = model(task.example_input)
    if not isinstance(outputs, Tensor) or outputs.shape[:1] != (1,):
        yield Problem(f"{where}.model", "must answer one tensor [n, ...] for n inputs", _shape(outputs))
        return
    for name in SPLITS:
        problems = [*_pair_problems(task, model, name, f"{where}.{name}")]
        yield from problems
        if problems:
            return
    if not is_repeatable(task):
        rule = "two readings of the same samples must be alike where torch, numpy and random are seeded"
        mend = "draw random views from torch's generator, or name the data yourself: Task(data_id='...', ...)"
        yield Problem(where, rule, "they differ, so no sweep could be resumed", mend)


def _pair_problems(task: Task, model: nn.Module, name: Split, where: str) -> Iterator[Problem]:
    dataset = task.split(name)
    with blaming(where, "reading a batch"):
        inputs, targets = take(dataset, torch.arange(min(8, num_samples(dataset))))
    if inputs.shape[1:] != task.example_input.shape[1:] or inputs.dtype != task.example_input.dtype:
        rule = f"inputs must look like example_input, {_shape(task.example_input[0])} of {task.example_input.dtype}"
        yield Problem(where, rule, f"{_shape(inputs[0])} of {inputs.dtype}")
        return
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        yield Problem(where, "inputs must be finite", "nan or inf", "clean the data")
        return
    with blaming(where, "running the model on a batch"), torch.no_grad():
        outputs = model(inputs)
    problems = [*_label_problems(task, dataset, outputs, targets, where)]
    yield from problems or _score_problems(task, outputs, targets, where)


def _label_problems(task: Task, dataset: Samples, outputs: Tensor, targets: Tensor, where: str) -> Iterator[Problem]:
    """Class labels that no output stands for, or whose axis is not told; torch's own message names neither of them."""
    axes = range(-outputs.dim(), outputs.dim())
    if task.class_axis is not None and (task.class_axis not in axes or task.class_axis % outputs.dim() == 0):
        yield Problem(f"{where} class_axis", f"must be an axis of outputs {_shape(outputs)} but 0", task.class_axis)
        return
    possible = possible_axes(outputs.shape, targets)
    if task.class_axis is None and len(possible) > 1:
        rule = f"which axis of outputs {_shape(outputs)} holds the classes is not told by targets {_shape(targets)}"
        yield Problem(where, rule, mend="give the task `class_axis`, such as Task(class_axis=-1, ...)")
    axis = possible[0] if task.class_axis is None and possible else (task.class_axis or 0) % outputs.dim()
    if axis not in possible or targets.dtype != torch.int64 or outputs.shape[axis] < 2:
        return
    labels = dataset.tensors[1] if isinstance(dataset, TensorDataset) else targets
    mask = counted(task, labels)
    labels = labels if mask is None else labels[mask]
    if len(labels) == 0:
        yield Problem(where, "at least one class label must count", f"all are {task.ignore_label}, which is ignored")
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs.shape[axis]:
        rule = f"class labels must be 0..{outputs.shape[axis] - 1}, one for each of the model's outputs"
        mend = "relabel the classes, widen the model's last layer, or name a label to leave out as `ignore_label`"
        yield Problem(where, rule, f"{low}..{high}", mend)


def _score_problems(task: Task, outputs: Tensor, targets: Tensor, where: str) -> Iterator[Problem]:
    with blaming(where, f"loss(outputs {_shape(outputs)}, targets {_shape(targets)})"):
        loss = task.loss(outputs, targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        yield Problem(f"{where} loss", "must be one number, the mean over the batch", _shape(loss))
    elif not bool(torch.isfinite(loss)) and num_counted(task, targets) > 0:
        yield Problem(f"{where} loss", "must be finite on an untrained model", float(loss))
    for name, metric in task.metrics.items():
        yield from _metric_problems(name, metric, outputs, targets, where)


def _metric_problems(name: str, metric: Metric, outputs: Tensor, targets: Tensor, where: str) -> Iterator[Problem]:
    """Score batches of two sizes: eight scores could be those of eight samples, or of eight classes."""
    for count in (len(outputs), max(len(outputs) - 3, 1)):
        given, wanted = outputs[:count], targets[:count]
        with blaming(where, f"metric {name} on outputs {_shape(given)}, targets {_shape(wanted)}"):
            try:
                metric.scores(given, wanted)
            except WrongInput as error:
                place = f"{where} metric {name}"
                yield from (Problem(f"{place}: {p.where}", p.rule, p.value, p.mend) for p in error.problems)
                return


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
