"""What a plan's stages lead to, named by content, so that equal beginnings of plans are carried out once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from paretta.pipelines.loading.digests import data_digest, model_digest, samples_digest
from paretta.pipelines.outcome import StageCost
from paretta.pipelines.reuse.code_digest import code_digest, named_digest
from paretta.pipelines.reuse.model_snapshot import NotWritable, restored, snapshot
from paretta.pipelines.state.state_file import State
from paretta.pipelines.task import Task
from paretta.pipelines.trees import call_model, moved
from paretta.search_spaces.canonical import Document, Json, digest
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.space.plan import Plan


def prefix_keys(plan: Plan, task: Task, model: nn.Module, seed: int, origin: Document | None = None) -> tuple[str, ...]:
    """Name the model before the first stage and after each of them by content (SHA-256, hex).

    A key too many costs a training, a wrong one a sweep: whatever may change the result is in it. So the task's options
    and source files are, and what model and loss compute on a batch stands for what files cannot tell; and of each
    stage its settings, the content of files that they name, and the code of other distributions that they name.

    Args:
        plan: the stages, those of the baseline first.
        task: its data, loss and models.
        model: the untrained model under `seed`.
        seed: of the run.
        origin: how the task is made, and on how many workers.
    """
    facts: list[Json] = [
        data_digest(task),
        None if task.source is None else samples_digest(task.source),
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
    """Name the uncompressed model by content; only the baseline stages of `plan` count, see `prefix_keys`."""
    return prefix_keys(plan.baseline_plan(), task, model, seed, origin)[-1]


@torch.no_grad()
def _probe(task: Task, model: nn.Module) -> str:
    """Return outputs and loss on the first samples, to the three digits that all machines agree on."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    inputs, targets = moved(task.batch(task.train, torch.arange(1), training=True), device)
    training = model.training
    outputs = call_model(model.eval(), inputs)
    loss = task.loss(outputs, targets)
    model.train(training)
    return f"{float(task.scores_of(outputs).double().norm()):.2e} {float(loss):.2e}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A model that the first stages of a plan have made.

    Args:
        model: in evaluation mode, on the CPU.
        makers: who carried each stage out.
        costs: what each stage took.
    """

    model: nn.Module
    makers: tuple[str, ...]
    costs: tuple[StageCost, ...]


def packed(prefix: Prefix, new_model: Callable[[], nn.Module], *, only_values: bool) -> Mapping[str, State]:
    """Return what `unpacked` makes the prefix of; of a model that cannot be written down, nothing but that.

    Args:
        prefix: what to keep.
        new_model: makes the task's untrained model.
        only_values: whether no stage touched the model's structure.
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
    """Return the prefix that `packed` kept; None where there is nothing, or nothing that this process can read."""
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
