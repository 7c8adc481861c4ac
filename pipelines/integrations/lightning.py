"""A LightningModule with its DataModule as a task; both are used as they are, so lightning itself is not imported."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, default_collate

from paretta.pipelines.data.samples import Collate
from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.integrations.torchmetrics import stated_metric
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming

_LABELS: Final = "labels"


def lightning_task(
    module: nn.Module,
    data: Any,
    *,
    metrics: Mapping[str, Metric] | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    free_axes: Mapping[str, Mapping[int, str | tuple[str, int, int]]] | None = None,
) -> Task:
    """Return the task of a LightningModule and its DataModule, which is set up here.

    The loss is what ``training_step`` returns, where ``self(...)`` answers what the compressed model does. Optimisers,
    schedules and callbacks of the module are not used: the stages of a sweep say how to train.

    Args:
        module: with ``forward`` and ``training_step``; copied and never modified.
        data: with ``train_dataloader``, ``val_dataloader`` and ``test_dataloader``, each of one map-style data set. A
            batch is a mapping, or a sequence whose first parts are what ``forward`` takes.
        metrics: by default the module's own metrics, such as those of torchmetrics, whose names begin with ``val``,
            without that; otherwise accuracy where the last part of a batch is class labels.
        loss: ``loss(outputs, batch)`` in place of ``training_step``.
        free_axes: see `Task`.

    Raises:
        WrongInput: a method or a loader is missing, or ``training_step`` does not call ``self(...)``.
    """
    _require(module, ("forward",) if loss is not None else ("forward", "training_step"), "module")
    _require(data, ("train_dataloader", "val_dataloader", "test_dataloader"), "data")
    with blaming("data", "setting it up"):
        loaders = _loaders(data)
    train = loaders["train_dataloader"]
    layout = _layout(module, _first_batch(train))
    own = _OwnLoss(module, layout) if loss is None else loss
    return Task(
        model=_without_metrics(module),
        train=train.dataset,
        validation=loaders["val_dataloader"].dataset,
        test=loaders["test_dataloader"].dataset,
        loss=own,
        metrics=_metrics(module, layout) if metrics is None else metrics,
        example_input={name: value[:1] for name, value in layout.example.items()},
        collate=_Named(layout, train.collate_fn),
        free_axes=free_axes or {},
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """How a batch of the loaders is called by names, and back.

    Args:
        names: of the batch's parts in order; None for a mapping, whose names are kept.
        example: what ``forward`` is called with, by name.
        has_labels: whether the last part is class labels.
    """

    names: tuple[str, ...] | None
    example: Mapping[str, TensorTree]
    has_labels: bool

    def named(self, batch: Any) -> dict[str, Any]:
        return dict(batch) if self.names is None else dict(zip(self.names, batch, strict=True))

    def original(self, batch: Mapping[str, Any]) -> Any:
        return dict(batch) if self.names is None else tuple(batch[name] for name in self.names)


class _Named:
    """Makes a batch as the loader does, and names its parts."""

    def __init__(self, layout: _Layout, collate: Collate | None) -> None:
        self.layout, self.collate = layout, collate or default_collate

    def __call__(self, samples: list[Any]) -> dict[str, Any]:
        return self.layout.named(self.collate(samples))


class _OwnLoss:
    """What ``training_step`` returns where the model's answers are given."""

    def __init__(self, module: nn.Module, layout: _Layout) -> None:
        self.module, self.layout = _without_metrics(module, keep=True), layout

    def __call__(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        shell, calls = copy.copy(self.module), 0

        def answer(*_: Any, **__: Any) -> Any:
            nonlocal calls
            calls += 1
            return outputs

        def ignore(*_: Any, **__: Any) -> None:
            """Log nothing: there is no trainer."""

        # attributes of the copy are found before the methods of its class
        shell.__dict__.update({"forward": answer, "log": ignore, "log_dict": ignore})
        found = cast(Any, shell).training_step(self.layout.original(batch), 0)
        if calls != 1:
            rule = "training_step must call self(...) once, whose answer the compressed model then gives"
            hint = "call self(x) instead of a layer, or give lightning_task(..., loss=...)"
            raise WrongInput(Problem("module", rule, f"{calls} calls", hint))
        return cast(Tensor, found["loss"] if isinstance(found, Mapping) else found)


def _require(owner: object, names: Sequence[str], where: str) -> None:
    for name in names:
        if not callable(getattr(owner, name, None)):
            rule = f"must have {', '.join(names)}, as Lightning's does"
            raise WrongInput(Problem(where, rule, f"{type(owner).__name__} without {name}"))


def _loaders(data: Any) -> dict[str, DataLoader[Any]]:
    if hasattr(data, "prepare_data"):
        data.prepare_data()
    if hasattr(data, "setup"):
        for stage in ("fit", "test"):
            data.setup(stage)
    found = {name: getattr(data, name)() for name in ("train_dataloader", "val_dataloader", "test_dataloader")}
    for name, loader in found.items():
        if isinstance(loader, list | tuple) and len(loader) == 1:
            found[name] = loader[0]
        if not isinstance(found[name], DataLoader):
            rule = "must return one torch DataLoader"
            raise WrongInput(Problem(f"data.{name}", rule, type(loader).__name__, "choose one of several"))
        if isinstance(found[name].dataset, IterableDataset):
            rule = "its data set must have __len__ and __getitem__"
            raise WrongInput(Problem(f"data.{name}", rule, type(found[name].dataset).__name__))
    return found


def _first_batch(loader: DataLoader[Any]) -> Any:
    with blaming("data.train_dataloader", "making a batch of its first samples"):
        return (loader.collate_fn or default_collate)([loader.dataset[0], loader.dataset[1]])


def _layout(module: nn.Module, batch: Any) -> _Layout:
    """Name the parts of a batch like the parameters of ``forward``; what is left is targets."""
    parameters = inspect.signature(module.forward).parameters.values()
    taken = [
        parameter.name for parameter in parameters if parameter.kind in (0, 1) and parameter.default is parameter.empty
    ]
    if isinstance(batch, Mapping):
        if missing := [name for name in taken if name not in batch]:
            rule = f"a batch must have what forward takes: {', '.join(taken)}"
            raise WrongInput(
                Problem("data", rule, f"without {', '.join(missing)}, but with {', '.join(map(str, batch))}")
            )
        return _Layout(None, {name: batch[name] for name in taken}, _LABELS in batch)
    if not isinstance(batch, tuple | list) or len(batch) <= len(taken):
        rule = f"a batch must be a mapping, or what forward takes ({', '.join(taken)}) and then targets"
        found = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
        raise WrongInput(Problem("data", rule, found))
    others = [f"target_{place}" for place in range(len(batch) - len(taken) - 1)]
    names = (*taken, *others, _LABELS)
    last = batch[-1]
    has_labels = isinstance(last, Tensor) and not last.is_floating_point()
    return _Layout(names, dict(zip(taken, batch, strict=False)), has_labels)


def _is_metric(child: object) -> bool:
    return all(hasattr(child, name) for name in ("update", "compute", "reset", "higher_is_better"))


def _without_metrics(module: nn.Module, *, keep: bool = False) -> nn.Module:
    """Return a copy of the module, without the metrics that it keeps for its logs unless they are to be kept."""
    made = copy.deepcopy(module)
    for name, child in list(made.named_children()):
        if _is_metric(child) and not keep:
            delattr(made, name)
    return made


def _metrics(module: nn.Module, layout: _Layout) -> dict[str, Metric]:
    own = {name: child for name, child in module.named_children() if _is_metric(child) and name.startswith("val")}
    if own:
        return {
            name.removeprefix("valid").removeprefix("val").strip("_") or name: stated_metric(child)
            for name, child in own.items()
        }
    if layout.has_labels:
        return {"accuracy": Metric(_label_right)}
    hint = "give metrics={'error': Metric(function, goal='min', unit='points')}"
    raise WrongInput(Problem("metrics", "the module keeps no metric whose name begins with val", hint=hint))


def _label_right(outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
    scores = outputs if isinstance(outputs, Tensor) else outputs["logits"]
    return (scores.argmax(1) == batch[_LABELS]).float()
