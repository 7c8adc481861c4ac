"""Orders: what a lane is asked to make, and what it delivers; light enough for processes that only pass them on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.files import SweepFiles
from search_spaces.plan import Document, Json, canonical_json

if TYPE_CHECKING:
    from pipelines.task import Task


@dataclass(frozen=True, slots=True)
class TaskReference:
    """How any process of the cluster makes the sweep's task.

    Args:
        use: see `pipelines.task.load_task`.
        options: the task function's keyword arguments, as canonical JSON.
        folder: where relative paths in `use` start.
    """

    use: str
    options: str
    folder: str

    @classmethod
    def of(cls, use: str, options: Mapping[str, Json], folder: Path) -> "TaskReference":
        """Refer to a task."""
        return cls(use, canonical_json(options), str(folder))

    def document(self) -> Document:
        """Return what a sweep file or a plan says of the task."""
        return {"use": self.use, "options": json.loads(self.options)}

    def load(self) -> "Task":
        """Make the task; a process makes it once."""
        return _load(self)


@dataclass(frozen=True, slots=True)
class Order:
    """One plan to run.

    Args:
        task: what to run it on.
        plan: the plan's document.
        seed: of the run.
        files: of the sweep; the following are names of folders there.
        folder: where the artifact goes.
        cache: where tensors go that trials share.
        checkpoint: where trainings keep their states, to go on from when their workers die; None: nowhere.
        by_products: plans that go on where this one ends, each with the folder of its artifact.
        trial: uid of the trial, for others that reuse what it made.
    """

    task: TaskReference
    plan: Document
    seed: int
    files: SweepFiles
    folder: str
    cache: str
    checkpoint: str | None = None
    by_products: tuple[tuple[Document, str], ...] = ()
    trial: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of an order.

    Args:
        words: the plan in words.
        cost: what making the artifact takes, for meters, see `pipelines.outcome.Outcome.facts`.
        paid: wall and CPU seconds of this run, ``wall_s`` and ``cpu_s``.
        num_parameters: of the delivered model.
        by_products: what came of each; a reason stands for one that failed.
        layers: what became of each of its layers by name, see `pipelines.layers`.
        reused: what was not made again, in order: ``stages`` by kind, and the ``trial`` that made them.
        warnings: since the last progress message.
    """

    words: str
    cost: dict[str, float]
    paid: dict[str, float]
    num_parameters: int
    by_products: tuple["Delivered | str", ...] = ()
    layers: dict[str, Json] = field(default_factory=dict)
    reused: tuple[Document, ...] = ()
    warnings: tuple[str, ...] = ()


@cache
def _load(reference: TaskReference) -> "Task":
    from pipelines.task import load_task  # noqa: PLC0415 - torch is loaded only where a task is made

    return load_task(reference.use, json.loads(reference.options), Path(reference.folder))
