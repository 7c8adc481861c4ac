"""What one rank of a lane does with a job: run a plan, and write the artifact from rank 0."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import cast

from orchestrator.seat import Payload, Seat
from pipelines.bench import Cache, Progress
from pipelines.ranks import Ranks
from pipelines.run import run
from pipelines.task import Task, load_task
from search_spaces.plan import Document, Json, Plan, canonical_json


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

    def load(self) -> Task:
        """Make the task; a process makes it once."""
        return _load(self)


@dataclass(frozen=True, slots=True)
class Order:
    """One plan to run.

    Args:
        task: what to run it on.
        plan: the plan's document.
        seed: of the run.
        folder: where the artifact goes.
        cache: where tensors go that trials share.
    """

    task: TaskReference
    plan: Document
    seed: int
    folder: str
    cache: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of an order.

    Args:
        words: the plan in words.
        cost: wall and CPU seconds, in all and by stage.
        num_parameters: of the delivered model.
    """

    words: str
    cost: dict[str, float]
    num_parameters: int


def fulfil(payload: Payload, seat: Seat) -> Delivered:
    """Run the order in ``payload["order"]`` on this rank; the handler of the sweep's lanes."""
    order = cast(Order, payload["order"])
    stages = len(order.plan["stages"])  # type: ignore[arg-type]

    def tell(progress: Progress) -> None:
        message = {key: value for key, value in asdict(progress).items() if key != "seconds"}
        seat.progress({**message, "loss": round(progress.loss, 6), "stages": stages})

    outcome = run(
        Plan.from_document(order.plan),
        order.task.load(),
        seed=order.seed,
        ranks=Ranks.joined(seat.device),
        folder=Path(order.folder),
        cache=_cache(order.cache),
        report=tell,
        origin={"task": order.task.document()},
    )
    done = [cost for cost in outcome.costs if cost.kind not in ("baseline", "export")]
    cost = {"train_wall_s": outcome.seconds, "train_cpu_s": outcome.cpu_seconds}
    return Delivered(", ".join(stage.words for stage in done), cost, outcome.num_parameters)


@cache
def _load(reference: TaskReference) -> Task:
    return load_task(reference.use, json.loads(reference.options), Path(reference.folder))


@cache
def _cache(folder: str) -> Cache:
    return Cache(Path(folder))
