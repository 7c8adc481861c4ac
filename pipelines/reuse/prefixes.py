"""Content-based keys for the results of a plan's stages, so that equal prefixes of plans are computed once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from paretta.pipelines.bench import seeded
from paretta.pipelines.data.trees import call_model, moved
from paretta.pipelines.loading.digests import data_digest, model_digest, samples_digest
from paretta.pipelines.outcome import StageCost
from paretta.pipelines.reuse.code_digest import code_digest, named_digest
from paretta.pipelines.reuse.model_snapshot import NotWritable, restored, snapshot
from paretta.pipelines.state.state_file import State
from paretta.pipelines.task import Task
from paretta.search_spaces.canonical import Document, Json, digest
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.space.plan import Plan


def prefix_keys(plan: Plan, task: Task, model: nn.Module, seed: int, origin: Document | None = None) -> tuple[str, ...]:
    """Return a key for the model before the first stage and after each stage (SHA-256, hex).

    A false miss costs one training, but a false hit corrupts the sweep, so a key includes everything that may change
    the result: the task's options and source files; the model's outputs and loss on a batch, for what files cannot
    tell; and each stage's settings, with the content of the files and the code of other distributions that they name.

    Args:
        plan: the stages, those of the baseline first.
        task: the task, with its data, loss and models.
        model: the untrained model for `seed`.
        seed: of the run.
        origin: how the task is loaded, and on how many workers.
    """
    facts: list[Json] = [
        data_digest(task),
        None if task.source is None else samples_digest(task.source, name="task.source"),
        model_digest(model),
        {name: model_digest(other) for name, other in task.variants.items() if isinstance(other, nn.Module)},
        _probe(task, model),
        code_digest(task),
        dict(origin or {}),
        seed,
    ]
    keys = [digest(facts)]
    for part, documents in (("baseline", plan.baseline), ("stages", plan.stages)):
        for document in documents:
            keys.append(digest([keys[-1], part, document, named_digest(document)]))
    return tuple(keys)


def baseline_key(plan: Plan, task: Task, model: nn.Module, seed: int, origin: Document | None = None) -> str:
    """Return the key of the baseline, which depends only on the baseline stages of `plan`; see `prefix_keys`."""
    return prefix_keys(plan.baseline_plan(), task, model, seed, origin)[-1]


@torch.no_grad()
def _probe(task: Task, model: nn.Module) -> str:
    """Return outputs and loss on the first samples, rounded to three digits, on which all machines agree.

    Samples that are random views are read under a fixed seed, or each process would have a key of its own.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    with seeded(0):
        inputs, targets = moved(task.batch(task.train, torch.arange(1), training=True), device)
    training = model.training
    outputs = call_model(model.eval(), inputs)
    loss = task.loss(outputs, targets)
    model.train(training)
    return f"{float(task.scores_of(outputs).double().norm()):.2e} {float(loss):.2e}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A model made by the first stages of a plan.

    Args:
        model: in evaluation mode, on the CPU.
        makers: the trial that ran each stage.
        costs: the cost of each stage.
    """

    model: nn.Module
    makers: tuple[str, ...]
    costs: tuple[StageCost, ...]


def packed(prefix: Prefix, new_model: Callable[[], nn.Module], *, only_values: bool) -> Mapping[str, State]:
    """Return `prefix` as data for `unpacked`; for a model that cannot be serialized, only a mark that says so.

    Args:
        prefix: the prefix to store.
        new_model: makes the task's untrained model.
        only_values: True if no stage changed the model's structure.
    """
    fresh, values = new_model(), prefix.model.state_dict()
    told: dict[str, State] = {
        "makers": list(prefix.makers),
        "costs": [
            cast(State, {**asdict(replace(cost, notes=())), "joules": dict(cost.joules), "notes": _documents(cost)})
            for cost in prefix.costs
        ],
    }
    if only_values and _shapes(fresh.state_dict()) == _shapes(values):
        return {"values": values, **told}
    return {"model": snapshot(prefix.model, fresh), **told}


def unpacked(state: Mapping[str, State] | None, new_model: Callable[[], nn.Module]) -> Prefix | None:
    """Return the prefix that `packed` stored; None if there is none or this process cannot read it."""
    if state is None or not (state.get("values") or state.get("model")):
        return None
    model = new_model()
    try:
        if "values" in state:
            model.load_state_dict(cast(Mapping[str, Any], state["values"]))
        else:
            model = restored(cast(Mapping[str, State], state["model"]), model)
    except NotWritable:
        return None
    costs = tuple(map(_cost, cast(Sequence[Mapping[str, Any]], state["costs"])))
    return Prefix(model.eval(), tuple(cast(Sequence[str], state["makers"])), costs)


def _documents(cost: StageCost) -> list[Document]:
    return [note.to_document() for note in cost.notes]


def _cost(document: Mapping[str, Any]) -> StageCost:
    """Read a stage's cost; one that was kept by an earlier version has no notes."""
    values = {field.name: document[field.name] for field in fields(StageCost) if field.name != "notes"}
    return StageCost(**values, notes=tuple(map(Note.from_document, document.get("notes", ()))))


def _shapes(values: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in values.items()}
