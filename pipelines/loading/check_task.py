"""Try a task before a search: its data, its model, a training step and an evaluation."""

import re
from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from typing import Final

import torch
from torch import Tensor, nn

from paretta.pipelines.batches.request import EVALUATION_BATCH
from paretta.pipelines.data.samples import Samples, num_samples
from paretta.pipelines.data.trees import (
    TensorTree,
    as_inputs,
    call_model,
    input_names,
    leaves,
    num_rows,
    tensors,
    tree_rows,
)
from paretta.pipelines.loading.check_data import first_not_finite, first_wrong, split_problems, tensors_of
from paretta.pipelines.loading.check_fields import field_problems
from paretta.pipelines.loading.check_targets import LABEL_HINT, label_problem
from paretta.pipelines.loading.digests import is_repeatable
from paretta.pipelines.losses.class_scores import CLASS_TYPES, are_labels, counted, num_counted, possible_axes
from paretta.pipelines.losses.metric_scores import ignores_samples, scores_by
from paretta.pipelines.task import SPLITS, Split, Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming

_BATCH: Final = 8  # samples that the model is run on
_DEVICES: Final = "give the wrapped module, its `module`; the workers of a sweep train in parallel by themselves"
# torch's modules that stand for another module
_WRAPPERS: Final = {
    "ScriptModule": (
        "must not be a TorchScript module",
        "give the module that the script was made from: a script can be neither changed nor exported",
    ),
    "OptimizedModule": (
        "must not be compiled by torch.compile",
        "give the module itself, its `_orig_mod`; `compile: true` of a stage that trains compiles it there",
    ),
    "DataParallel": ("must not be wrapped for several devices", _DEVICES),
    "DistributedDataParallel": ("must not be wrapped for several devices", _DEVICES),
    "FullyShardedDataParallel": ("must not be wrapped for several devices", _DEVICES),
}
# what torch's older functions add to a layer whose weight they compute before each call, and what to use
_COMPUTING: Final = {
    "weight_g": ("torch.nn.utils.weight_norm", "use torch.nn.utils.parametrizations.weight_norm"),
    "weight_u": ("torch.nn.utils.spectral_norm", "use torch.nn.utils.parametrizations.spectral_norm"),
    "weight_mask": ("torch.nn.utils.prune", "make the zeros permanent with torch.nn.utils.prune.remove"),
}
_LENGTHS: Final = re.compile(r"(^|_|\.)(lengths?|lens?)$")


def tell_nobody(_: str) -> None:
    """Ignore the step."""


def check_task(
    task: Task,
    *,
    where: str = "task",
    trains: bool = True,
    num_workers: int = 1,
    tell: Callable[[str], None] = tell_nobody,
) -> None:
    """Check the task's data, and run its model, loss and metrics on one batch of each split.

    Args:
        task: as the user's function returned it.
        where: the task's name, for messages.
        trains: whether the model will be trained; if so, one forward and backward pass is tried.
        num_workers: how many share the splits while they train.
        tell: called with the name of each step before it begins.

    Raises:
        WrongInput: something does not fit, or the user's code raises an error (with its file and line).
    """
    _require(field_problems(task, where))
    tell("model: one example")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _new_model(task, where)
        for name in SPLITS:
            tell(f"data: {name}")
            _require(split_problems(task, name, f"{where}.{name}"))
        _require(_share_problems(task, num_workers, where))
        _require(_repeatable_problems(task, where))
        tell("model: one batch of each split")
        for name in SPLITS:
            _require(_answer_problems(task, model, name, f"{where}.{name}", num_workers))
        _require(_calibration_problems(task, model, f"{where}.calibration"))
        if trains:
            tell("model: one training step, forward and backward")
            _require(_training_problems(task, model, f"{where}.model"))


def _require(problems: Iterator[Problem]) -> None:
    if found := list(problems):
        raise WrongInput(*found)


def _new_model(task: Task, where: str) -> nn.Module:
    if isinstance(task.model, nn.Module):  # it is copied, which torch refuses then
        _require(_computed_weight_problems(task.model, f"{where}.model"))
    with blaming(f"{where}.model", "making the model"):
        model: object = task.new_model()
    if not isinstance(model, nn.Module):
        raise WrongInput(Problem(f"{where}.model", "must make a torch.nn.Module", type(model).__name__))
    _require(_wrapper_problems(model, f"{where}.model"))
    for name, variant in task.variants.items():
        if isinstance(variant, nn.Module):
            _require(_wrapper_problems(variant, f"{where}.variants[{name}]"))
    _require(_computed_weight_problems(model, f"{where}.model"))
    odd = {name: value.dtype for name, value in model.named_parameters() if value.dtype != torch.float32}
    for name, dtype in odd.items():
        rule = "must have parameters of float32, which quantisers and kernels are for"
        raise WrongInput(Problem(f"{where}.model", rule, f"{name} of {dtype}", "make the model with .float()"))
    _require(_name_problems(task, model, where))
    model.eval()
    with blaming(f"{where}.model", "running the model on example_input"), torch.no_grad():
        outputs: object = call_model(model, task.example_input)
    if not _is_answer(outputs, 1):
        rule = "must answer a tensor [n, ...] for n inputs, or a tuple, mapping or dataclass of such"
        raise WrongInput(Problem(f"{where}.model", rule, _shape(outputs)))
    return model


def _wrapper_problems(model: nn.Module, where: str) -> Iterator[Problem]:
    """Find the first module that stands for another one, and can be neither changed nor exported."""
    for name, module in model.named_modules():
        kinds = [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.")]
        if found := next((kind for kind in kinds if kind in _WRAPPERS), None):
            rule, hint = _WRAPPERS[found]
            yield Problem(where, rule, f"{name} of {found}" if name else found, hint)
            return


def _computed_weight_problems(model: nn.Module, where: str) -> Iterator[Problem]:
    """Find the first layer whose weight a hook computes anew before each call, as torch's older functions do."""
    for name, module in model.named_modules():
        own = {key for key, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        found = next((told for key, told in _COMPUTING.items() if key in own), None)
        if found is not None and "weight" not in own and own & {"weight_v", "weight_orig"}:
            rule = f"the weight of {name} must be its parameter" if name else "its weight must be its parameter"
            yield Problem(where, rule, f"one that {found[0]} computes", found[1])
            return


def _name_problems(task: Task, model: nn.Module, where: str) -> Iterator[Problem]:
    """Find inputs that are not parameters of the model's forward; torch's own message does not list those."""
    parameters = signature(model.forward).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    known = [parameter.name for parameter in parameters if parameter.kind in by_name]
    named = {"example_input": as_inputs(task.example_input).kwargs, "training_inputs": task.training_inputs}
    for field, names in named.items():
        if wrong := [name for name in names if name not in known]:
            rule = f"must name parameters of {type(model).__name__}.forward, which are {', '.join(known)}"
            yield Problem(f"{where}.{field}", rule, ", ".join(wrong), "rename them")


def _is_answer(outputs: object, count: int) -> bool:
    """Return whether outputs hold `count` samples: a single tensor must, of several tensors at least one."""
    found = tensors(outputs)
    if isinstance(outputs, Tensor):
        return outputs.shape[:1] == (count,)
    return any(tensor.shape[:1] == (count,) for tensor in found)


def _share_problems(task: Task, num_workers: int, where: str) -> Iterator[Problem]:
    """Find splits with fewer samples than workers that share them; the test split is read by one."""
    for name in ("train", "validation"):
        if (count := num_samples(task.split(name))) < num_workers:
            rule = f"must hold a sample for each of the {num_workers} workers of a trial"
            yield Problem(f"{where}.{name}", rule, count, "give more samples, or lower workers.per_trial")


def _repeatable_problems(task: Task, where: str) -> Iterator[Problem]:
    if not is_repeatable(task):
        rule = "two readings of the same samples must be alike where torch, numpy and random are seeded"
        hint = "draw random views from torch's generator, or name the data yourself: Task(data_id='...', ...)"
        yield Problem(where, rule, "they differ, so no sweep could be resumed", hint)


def _answer_problems(task: Task, model: nn.Module, name: Split, where: str, num_workers: int) -> Iterator[Problem]:
    dataset = task.split(name)
    inputs, targets = task.batch(dataset, torch.arange(min(_BATCH, num_samples(dataset))), name=where)
    if found := list(_length_problems(model, inputs, where)):
        yield from found
        return
    with blaming(where, "running the model on a batch"), torch.no_grad():
        outputs: object = call_model(model, inputs)
    if not _is_answer(outputs, num_rows(inputs)):
        yield Problem(f"{where} model", f"must answer one tensor [{num_rows(inputs)}, ...]", _shape(outputs))
        return
    with blaming(where, "finding the class scores in the outputs"):
        class_scores, labels = task.scores_of(outputs), task.labels_of(targets)
    for size in sorted({num_samples(dataset), *_shard_sizes(num_samples(dataset), num_workers)}):
        if found := list(_last_batch_problems(task, model, dataset, (outputs, targets), where, size=size)):
            yield from found
            return
    problems = [] if labels is None else [*_label_problems(task, dataset, class_scores, labels, where)]
    if not problems and isinstance(targets, Tensor):
        problems = [*_target_problems(task, model, dataset, targets, where)]
    yield from problems or _score_problems(task, outputs, targets, where)


def _shard_sizes(count: int, num_workers: int) -> tuple[int, int]:
    """Return the smallest and the largest part of `count` samples that are shared among workers."""
    return count // num_workers, -(-count // num_workers)


def _last_batch_problems(
    task: Task, model: nn.Module, dataset: Samples, first: tuple[TensorTree, TensorTree], where: str, *, size: int
) -> Iterator[Problem]:
    """Run the model and the metrics on the last batch of evaluating `size` samples, if nothing smaller was tried.

    The metrics first get `first`, a batch's outputs and targets. Code that drops axes of length 1, as `squeeze` does,
    may answer one sample otherwise than several.
    """
    rest = size % EVALUATION_BATCH
    if not 0 < rest < num_rows(first[1]):
        return
    count = num_samples(dataset)
    inputs, wanted = task.batch(dataset, torch.arange(count - rest, count), name=where)
    whose = "" if size == count else " that one worker reads"
    doing = f"the last batch of {EVALUATION_BATCH}, which has {rest} of {size} samples{whose}"
    with blaming(where, f"running the model on {doing}"), torch.no_grad():
        given: object = call_model(model, inputs)
    if not _is_answer(given, rest):
        yield Problem(f"{where} model", f"must answer {doing}, with [{rest}, ...]", _shape(given))
        return
    for name, metric in task.metrics.items():
        with blaming(where, f"metric {name} on {doing}"):
            taker = scores_by(metric, task, resamples=False)
            taker.update(*first)
            try:
                taker.update(given, wanted)
            except WrongInput as error:
                place = f"{where} metric {name} on {doing}"
                yield from (Problem(f"{place}: {p.where}", p.rule, p.value, p.hint) for p in error.problems)
                return


def _calibration_problems(task: Task, model: nn.Module, where: str) -> Iterator[Problem]:
    """Run the model on the first and the last of the unlabelled samples, if there are any."""
    if task.calibration is None:
        return
    with blaming(where, "asking for its length"):
        length = num_samples(task.calibration)
    if length == 0:
        yield Problem(where, "must hold at least one sample", 0, "leave it out to use the training split")
        return
    inputs = task.calibration_inputs(torch.tensor([0, length - 1]))
    with blaming(where, "running the model on its first and last sample"), torch.no_grad():
        call_model(model, inputs)


def _length_problems(model: nn.Module, inputs: TensorTree, where: str) -> Iterator[Problem]:
    """Find lengths beyond the padded sequences; an input is taken for lengths by its name and its shape [n]."""
    named = dict(zip(input_names(model, inputs), tensors(inputs), strict=True))
    longest = max((tensor.shape[1] for tensor in named.values() if tensor.dim() > 1), default=0)
    for name, tensor in named.items():
        if not (_LENGTHS.search(name) and tensor.dim() == 1 and are_labels(tensor) and longest):
            continue
        wrong = first_wrong((tensor < 0) | (tensor > longest))
        if wrong is not None:
            rule = f"{name} must be 0 to {longest}, the steps of the longest input"
            yield Problem(f"{where}[{wrong}]", rule, int(tensor[wrong]), "cut the lengths as the sequences are")


def _label_problems(task: Task, dataset: Samples, outputs: Tensor, targets: Tensor, where: str) -> Iterator[Problem]:
    """Find labels without an output, or an ambiguous class axis; torch's own message names neither."""
    axes = range(-outputs.dim(), outputs.dim())
    if task.class_axis is not None and (task.class_axis not in axes or task.class_axis % outputs.dim() == 0):
        yield Problem(f"{where} class_axis", f"must be an axis of outputs {_shape(outputs)} but 0", task.class_axis)
        return
    possible = possible_axes(outputs.shape, targets)
    if task.class_axis is None and len(possible) > 1:
        rule = f"which axis of outputs {_shape(outputs)} holds the classes is not told by targets {_shape(targets)}"
        yield Problem(where, rule, hint="give the task `class_axis`, such as Task(class_axis=-1, ...)")
    axis = possible[0] if task.class_axis is None and possible else (task.class_axis or 0) % outputs.dim()
    if axis not in possible or targets.dtype not in CLASS_TYPES or outputs.shape[axis] < 2:
        return
    known = tensors_of(dataset)
    labels = targets if known is None or task.collate is not None else known[-1]
    mask = counted(task, labels)
    if mask is not None and not bool(mask.any()):
        yield Problem(where, "at least one class label must count", f"all are {task.ignore_label}, which is ignored")
    elif (wrong := label_problem(task, outputs.shape, labels, axis=axis)) is not None:
        row, rule, found = wrong
        yield Problem(f"{where}[{row}]", rule, found, LABEL_HINT)


def _target_problems(task: Task, model: nn.Module, dataset: Samples, targets: Tensor, where: str) -> Iterator[Problem]:
    """Find a target that is not finite and makes the loss so too; some losses leave such values out."""
    known = tensors_of(dataset)
    wrong = first_not_finite(targets if known is None else known[-1])
    if wrong is None:
        return
    inputs, target = task.batch(dataset, torch.tensor([wrong]), name=where)
    with blaming(f"{where}[{wrong}]", "the loss of it"), torch.no_grad():
        loss: object = task.loss(call_model(model, inputs), target)
    if not (isinstance(loss, Tensor) and bool(torch.isfinite(loss).all())):
        rule = "its target is not finite, and neither is its loss"
        yield Problem(f"{where}[{wrong}]", rule, hint="clean the data, or leave such places out in the loss")


def _score_problems(task: Task, outputs: TensorTree, targets: TensorTree, where: str) -> Iterator[Problem]:
    with blaming(where, f"loss(outputs {_shape(outputs)}, targets {_shape(targets)})"):
        loss = task.loss(outputs, targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        yield Problem(f"{where} loss", "must be one number, the mean over the batch", _shape(loss))
    elif not bool(torch.isfinite(loss)) and num_counted(task, targets) > 0:
        yield Problem(f"{where} loss", "must be finite on an untrained model", float(loss))
    for name in task.metrics:
        yield from _metric_problems(task, name, outputs, targets, where)


def _metric_problems(task: Task, name: str, outputs: TensorTree, targets: TensorTree, where: str) -> Iterator[Problem]:
    """Score batches of two sizes, since eight scores could belong to eight samples or to eight classes."""
    size = num_rows(outputs)
    with blaming(where, f"metric {name} on outputs {_shape(outputs)}, targets {_shape(targets)}"):
        ignores = ignores_samples(task.metrics[name], task, outputs, targets)
    if ignores:
        rule = f"update must change what {type(task.metrics[name].score).__name__} keeps"
        hint = "add to its state in update, and give it what it needs by Metric(..., arguments=...)"
        yield Problem(f"{where} metric {name}", rule, f"the same as after reset, after {size} samples", hint)
        return
    for count in (size, max(size - 3, 1)):
        given, wanted = tree_rows(outputs, slice(0, count)), tree_rows(targets, slice(0, count))
        with blaming(where, f"metric {name} on outputs {_shape(given)}, targets {_shape(wanted)}"):
            try:
                taker = scores_by(task.metrics[name], task, resamples=False)
                taker.update(given, wanted)
                taker.scored()
            except WrongInput as error:
                place = f"{where} metric {name}"
                yield from (Problem(f"{place}: {p.where}", p.rule, p.value, p.hint) for p in error.problems)
                return


def _training_problems(task: Task, model: nn.Module, where: str) -> Iterator[Problem]:
    """Take one step, forward and backward, in training mode."""
    places = torch.arange(min(_BATCH, num_samples(task.train)))
    inputs, targets = task.batch(task.train, places, training=True)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        yield Problem(
            where, "must have parameters that can be trained", 0, "unfreeze some, or leave training stages out"
        )
        return
    if not torch.is_grad_enabled():
        hint = "the task's code has switched them off, as torch.set_grad_enabled(False) does: leave that out"
        yield Problem(where, "gradients must be recorded where it is trained", "none", hint)
        return
    model.train()
    with blaming(where, "running it on a batch in training mode"):
        outputs: object = call_model(model, inputs)
    with blaming(where, f"the loss in training mode, on outputs {_shape(outputs)}"):
        loss: object = task.loss(outputs, targets)
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        yield Problem(f"{where} loss", "must be differentiable", _shape(loss), "detach nothing on the way to it")
        return
    with blaming(where, "the backward pass of the loss"):
        loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    model.eval()


def _shape(value: object) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    parts = ", ".join(f"{'.'.join(place)} {list(tensor.shape)}" for place, tensor in leaves(value))
    return f"{type(value).__name__} of {parts}" if parts else type(value).__name__
