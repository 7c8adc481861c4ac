"""A task: the model, data, loss and metrics that a user brings, made by a function of their own."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from pipelines.stream import Stream
from search_spaces.errors import Problem, WrongInput, did_you_mean
from search_spaces.objectives import Goal
from search_spaces.registry import TASKS

DIGEST_SAMPLES = 256

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Samples: TypeAlias = "Dataset[tuple[Tensor, ...]]"
Make: TypeAlias = "Callable[..., Task]"


@dataclass(frozen=True, slots=True)
class Metric:
    """How good outputs are.

    Args:
        score: ``score(outputs [n, ...], targets [n, ...])``, on the CPU, gives one score per sample [n], whose mean is
            the reading and whose spread its interval, or one number for the whole split, then without an interval.
        goal: whether more is better.
        unit: of the score, such as ``share``.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    goal: Goal = "max"
    unit: str = "share"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is compressed, and what it is measured by.

    Args:
        model: a function that makes an untrained model, or a (pretrained) model, which is copied, never changed.
        train: pairs (input, target) that models are trained on; a map-style dataset with a length.
        validation: pairs that candidates are compared on.
        test: pairs that are read once, for the models chosen.
        loss: ``loss(outputs, targets)`` gives the mean over the batch, a differentiable scalar.
        metrics: by name; the names are objectives of a sweep.
        example_input: one input with its batch axis, [1, ...].
        variants: other models for the same data, by name, that the stage `student` may choose from; functions may take
            keyword arguments, such as a width.
        source: pairs of the task that parameters were transferred from, in the same form, for the tweak `replay`.
        stream: the whole training split, where no machine holds it; `train` then is a sample of it, a few thousand
            pairs that calibrations, sensitivities and checks look at. See `pipelines.stream`.
    """

    model: nn.Module | Callable[[], nn.Module]
    train: Samples
    validation: Samples
    test: Samples
    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Mapping[str, Metric]
    example_input: Tensor
    variants: Mapping[str, nn.Module | Callable[..., nn.Module]] = field(default_factory=dict)
    source: "Samples | None" = None
    stream: Stream | None = None

    @property
    def num_train(self) -> int:
        """How many pairs an epoch of training is."""
        return num_samples(self.train) if self.stream is None else self.stream.num_samples

    def new_model(self) -> nn.Module:
        """Return a fresh model; its random start follows torch's seed."""
        if isinstance(self.model, nn.Module):
            return deepcopy(self.model)
        return self.model()

    def split(self, name: Split) -> Samples:
        """Return the dataset called `name`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def load_task(use: str, options: Mapping[str, object] | None = None, folder: Path = Path()) -> Task:
    """Make the task that a sweep file names.

    Args:
        use: a registered name, ``module:attribute``, or ``./file.py:attribute`` relative to `folder`; what it names is
            a function that returns a Task.
        options: the function's keyword arguments.
        folder: the sweep file's folder, where its own modules are found as well.

    Raises:
        WrongInput: the file, the module or the function is missing, fails, or returns something else.
    """
    make = _maker(use, folder)
    _check_options(use, make, options or {})
    with _blaming(use, "making the task"):
        task: object = make(**(options or {}))
    if not isinstance(task, Task):
        mend = "return pipelines.task.Task(model=..., train=..., ...)"
        raise WrongInput(Problem(f"task {use}", "must return a Task", type(task).__name__, mend))
    return task


def num_samples(dataset: Samples) -> int:
    """Return the length of a map-style dataset."""
    return len(cast(Sequence[object], dataset))


def take(dataset: Samples, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the batch (inputs [n, ...], targets [n, ...]) of the samples at `indices` [n].

    Tensors are indexed at once; other datasets are asked through ``__getitems__`` where they have it.
    """
    if isinstance(dataset, TensorDataset):
        inputs, targets = (tensor[indices] for tensor in dataset.tensors)
        return inputs, targets
    if isinstance(dataset, Subset):
        return take(dataset.dataset, torch.as_tensor(dataset.indices)[indices])
    positions = indices.tolist()
    if hasattr(dataset, "__getitems__"):
        samples = dataset.__getitems__(positions)
    else:
        samples = [dataset[position] for position in positions]
    inputs, targets = default_collate(samples)
    return inputs, targets


def draw(dataset: Samples, count: int, seed: int) -> Tensor:
    """Return `count` different places in `dataset` at random, or all of them where it has fewer, [n]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_samples(dataset), generator=generator)[:count]


def batches(dataset: Samples, batch_size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the whole dataset in order, `batch_size` samples at a time."""
    for start in range(0, num_samples(dataset), batch_size):
        yield take(dataset, torch.arange(start, min(start + batch_size, num_samples(dataset))))


@lru_cache(maxsize=1)
def data_digest(task: Task) -> str:
    """Name the content of the three splits, which must not change; remembered for the last task asked about.

    Returns:
        ``tensors:<sha256>`` where every byte was read (all splits are TensorDatasets), otherwise ``samples:<sha256>``,
        which covers the lengths and up to 256 evenly spaced samples a split. Of a streamed training split it covers the
        length and the sample of it.
    """
    whole = task.stream is None and all(isinstance(task.split(name), TensorDataset) for name in SPLITS)
    digest = sha256()
    if task.stream is not None:
        update_digest(digest.update, torch.tensor(task.stream.num_samples))
    for name in SPLITS:
        for tensor in _digested(task.split(name), whole=whole):
            update_digest(digest.update, tensor)
    return f"{'tensors' if whole else 'samples'}:{digest.hexdigest()}"


def samples_digest(dataset: Samples) -> str:
    """Name a dataset's content as `data_digest` does (SHA-256, hex)."""
    digest = sha256()
    for tensor in _digested(dataset, whole=isinstance(dataset, TensorDataset)):
        update_digest(digest.update, tensor)
    return digest.hexdigest()


def update_digest(update: Callable[[bytes], None], tensor: Tensor) -> None:
    """Feed dtype, shape and bytes of `tensor` to a hash's update function."""
    update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _digested(dataset: Samples, *, whole: bool) -> Iterator[Tensor]:
    length = num_samples(dataset)
    yield torch.tensor(length)
    if whole and isinstance(dataset, TensorDataset):
        yield from dataset.tensors
    else:
        yield from take(dataset, torch.linspace(0, length - 1, min(length, DIGEST_SAMPLES)).long())


# --- finding the user's function ---------------------------------------------------------------------------------


def _maker(use: str, folder: Path) -> Make:
    place, _, attribute = use.rpartition(":")
    if not place:
        return cast(Make, TASKS.load(use))
    module = _file_module(use, folder / place) if place.endswith(".py") else _named_module(use, place, folder)
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise WrongInput(Problem(f"task {use}", did_you_mean(attribute, known, "attribute of the module")))
    make = getattr(module, attribute)
    if not callable(make):
        mend = "name a function that returns a Task"
        raise WrongInput(Problem(f"task {use}", "must name something callable", type(make).__name__, mend))
    return cast(Make, make)


def _file_module(use: str, path: Path) -> ModuleType:
    if not path.is_file():
        mend = "give the path relative to the sweep file's folder"
        raise WrongInput(Problem(f"task {use}", "the file must exist", str(path.absolute()), mend))
    path = path.resolve()
    name = f"paretta_task_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _let_import_from(path.parent)
    # registered before it runs, as the import system does: dataclasses and pickle look their module up by name
    sys.modules[name] = module
    with _blaming(use, "importing it"):
        spec.loader.exec_module(module)
    return module


def _named_module(use: str, place: str, folder: Path) -> ModuleType:
    _let_import_from(folder.resolve())
    with _blaming(use, "importing it"):
        return importlib.import_module(place)


def _let_import_from(folder: Path) -> None:
    """Let a task import its neighbours; last on the path, so that they hide nothing installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _check_options(use: str, make: Make, options: Mapping[str, object]) -> None:
    signature = inspect.signature(make)
    try:
        signature.bind(**options)
    except TypeError as error:
        rule = f"its options must fit {getattr(make, '__name__', 'make')}{signature}: {error}"
        raise WrongInput(Problem(f"task {use} options", rule, dict(options))) from None


class _blaming:  # noqa: N801 - reads as a verb in a with statement
    """Turn whatever the user's code raises inside the block into WrongInput with the original message and line."""

    def __init__(self, use: str, doing: str) -> None:
        self.where, self.doing = f"task {use}", doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, WrongInput):
            raise WrongInput(Problem(self.where, f"{self.doing} failed: {_told(error)}")) from error


def _told(error: Exception) -> str:
    """Name the error, its message and the line it comes from."""
    message = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return message
    return f"{message} (at {frames[-1].filename}:{frames[-1].lineno})"


# --- checking it -------------------------------------------------------------------------------------------------


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
        mend = "give pipelines.stream.Stream(dataset=function, num_samples=...)"
        yield Problem(f"{where}.stream", "must name what opens the data", type(task.stream).__name__, mend)
    elif task.stream is not None and task.stream.num_samples < 1:
        yield Problem(f"{where}.stream.num_samples", "must be at least 1", task.stream.num_samples)
    if not task.metrics:
        yield Problem(f"{where}.metrics", "must name at least one metric", None, "such as {'accuracy': Metric(...)}")
    for name, metric in task.metrics.items():
        if not isinstance(metric, Metric):
            yield Problem(f"{where}.metrics[{name}]", "must be a pipelines.task.Metric", type(metric).__name__)


def _split_problems(task: Task, where: str) -> Iterator[Problem]:
    for name in SPLITS:
        dataset, place = task.split(name), f"{where}.{name}"
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            mend = "give a dataset with __len__ and __getitem__"
            yield Problem(place, "must be a map-style dataset", type(dataset).__name__, mend)
        elif num_samples(dataset) == 0:
            yield Problem(place, "must hold at least one sample", 0, "check how the split is made")


def _batch_problems(task: Task, where: str) -> Iterator[Problem]:
    with _blaming(where, "making the model"):
        model = task.new_model()
    if not isinstance(model, nn.Module):
        yield Problem(f"{where}.model", "must make a torch.nn.Module", type(model).__name__)
        return
    model.eval()
    with _blaming(where, "running the model on example_input"), torch.no_grad():
        outputs = model(task.example_input)
    if not isinstance(outputs, Tensor) or outputs.shape[:1] != (1,):
        yield Problem(f"{where}.model", "must answer one tensor [n, ...] for n inputs", _shape(outputs))
        return
    for name in SPLITS:
        problems = [*_pair_problems(task, model, name, f"{where}.{name}")]
        yield from problems
        if problems:
            return


def _pair_problems(task: Task, model: nn.Module, name: Split, where: str) -> Iterator[Problem]:
    dataset = task.split(name)
    with _blaming(where, "reading a batch"):
        inputs, targets = take(dataset, torch.arange(min(8, num_samples(dataset))))
    if inputs.shape[1:] != task.example_input.shape[1:] or inputs.dtype != task.example_input.dtype:
        rule = f"inputs must look like example_input, {_shape(task.example_input[0])} of {task.example_input.dtype}"
        yield Problem(where, rule, f"{_shape(inputs[0])} of {inputs.dtype}")
        return
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        yield Problem(where, "inputs must be finite", "nan or inf", "clean the data")
        return
    with _blaming(where, "running the model on a batch"), torch.no_grad():
        outputs = model(inputs)
    problems = [*_label_problems(dataset, outputs, targets, where)]
    yield from problems or _score_problems(task, outputs, targets, where)


def _label_problems(dataset: Samples, outputs: Tensor, targets: Tensor, where: str) -> Iterator[Problem]:
    """Class labels that no output stands for; torch's own message names neither of the two."""
    if outputs.dim() != 2 or targets.dim() != 1 or targets.dtype != torch.int64 or outputs.shape[1] < 2:
        return
    labels = dataset.tensors[1] if isinstance(dataset, TensorDataset) else targets
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs.shape[1]:
        rule = f"class labels must be 0..{outputs.shape[1] - 1}, one for each of the model's outputs"
        yield Problem(where, rule, f"{low}..{high}", "relabel the classes or widen the model's last layer")


def _score_problems(task: Task, outputs: Tensor, targets: Tensor, where: str) -> Iterator[Problem]:
    with _blaming(where, f"loss(outputs {_shape(outputs)}, targets {_shape(targets)})"):
        loss = task.loss(outputs, targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        yield Problem(f"{where} loss", "must be one number, the mean over the batch", _shape(loss))
    elif not bool(torch.isfinite(loss)):
        yield Problem(f"{where} loss", "must be finite on an untrained model", float(loss))
    for name, metric in task.metrics.items():
        with _blaming(where, f"metric {name} on outputs {_shape(outputs)}, targets {_shape(targets)}"):
            score = metric.score(outputs, targets)
        if not isinstance(score, Tensor) or (score.dim() > 0 and score.shape != (len(outputs),)):
            yield Problem(f"{where} metric {name}", f"must give {len(outputs)} scores or one number", _shape(score))


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
