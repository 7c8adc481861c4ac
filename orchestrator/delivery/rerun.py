"""Run the plan of an artifact again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.delivery.free_folder import check_free
from paretta.orchestrator.delivery.pull import fetch
from paretta.orchestrator.lanes.pool import Job, LanePool
from paretta.orchestrator.lanes.stream_shards import source_of
from paretta.orchestrator.lanes.worker import RankContext
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.trials.handler import handle
from paretta.orchestrator.trials.request import TrialProduct, TrialRequest
from paretta.pipelines.ranks import use_threads
from paretta.pipelines.runtime import runtime_of
from paretta.pipelines.stage import stages_of
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.user_code import look_in, names_code
from paretta.search_spaces.yaml_io import Located, read_yaml

if TYPE_CHECKING:
    from ray.data import Dataset

DAY_S = 86_400.0


def rerun(path: Path, to: Path, *, address: str | None = None) -> str:
    """Run the plan.yaml at `path` with its task, seed and workers, write the artifact to `to`, and describe it.

    One worker with the same versions reproduces the same bytes. Code that the plan names, such as its task, is found
    relative to the current folder, which is uploaded to the cluster at `address`. Without `address` a plan of one
    worker runs in this process; more workers need a cluster.

    Raises:
        WrongInput: the file is not a plan, or `to` is not free.
        TrialFailed: the run failed.
    """
    look_in(Path.cwd())
    source = read_yaml(path)
    plan, seed, workers, task, runtimes = _parse(source)
    check_free(to)
    stages_of(plan)
    dataset = None if task.load().stream is None else source_of(task)
    with TemporaryDirectory(prefix="paretta-") as scratch:
        folder = Path(scratch) / "artifact"
        files = SweepFiles(Path(scratch))
        request = TrialRequest(task, plan.to_document(), seed, files, "artifact", "cache", runtimes=runtimes)
        if workers == 1 and address is None and dataset is None:
            delivered = _run_here(request)
        else:
            travels = Path.cwd() if names_code(source.data) else None
            delivered = _run_on_lane(
                request, workers, address, travels=travels, storage=Path(scratch) / "ray", dataset=dataset
            )
        fetch(folder, to)
    return delivered.words


def _run_here(request: TrialRequest) -> TrialProduct:
    """Run the plan in this process like the single rank of a lane, with the same default number of threads."""
    use_threads(1)
    return handle({"request": request}, RankContext(0, 1, 0, "cpu", 1, lambda _: None))


def _run_on_lane(
    request: TrialRequest,
    workers: int,
    address: str | None,
    *,
    travels: Path | None,
    storage: Path,
    dataset: "Callable[[], Dataset] | None",
) -> TrialProduct:
    if address is not None and travels is not None:  # the processes there start in the uploaded folder
        request = replace(request, task=replace(request.task, folder="."))
    with (
        connect(address, working_dir=travels),
        LanePool(
            "paretta.orchestrator.trials.handler:handle", storage=storage, workers_per_lane=workers, dataset=dataset
        ) as lanes,
    ):
        lanes.submit(Job("rerun", {"request": request}))
        return cast(TrialProduct, lanes.result("rerun", timeout_s=DAY_S))


def _parse(source: Located) -> tuple[Plan, int, int, TaskReference, tuple[str, ...]]:
    data = source.data
    if not (isinstance(data, Mapping) and {"task", "seed", "workers", "baseline", "stages"} <= set(data)):
        rule = "a plan has task, seed, workers, baseline and stages"
        raise WrongInput(Problem(source.file, rule, hint="give the plan.yaml of an artifact"))
    task, seed, workers = data["task"], data["seed"], data["workers"]
    if not (isinstance(task, Mapping) and isinstance(seed, int) and isinstance(workers, int) and workers > 0):
        rule = "task is a mapping, seed and workers are whole numbers"
        raise WrongInput(Problem(source.file, rule, [task, seed, workers]))
    options = task.get("options", {})
    assert isinstance(options, Mapping)
    named = data.get("runtimes", [])
    runtimes = tuple(map(str, named)) if isinstance(named, Sequence) and not isinstance(named, str) else (str(named),)
    for name in runtimes:
        runtime_of(name, where=source.where("runtimes"))
    return Plan.from_document(data), seed, workers, TaskReference.of(str(task["use"]), options, Path.cwd()), runtimes
