"""Run the plan of an artifact again."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.cluster import connect, require_capacity
from orchestrator.lane import Job, Lanes
from orchestrator.order import Order, TaskReference
from orchestrator.pull import check_free, fetch
from pipelines.stage import stages_of
from search_spaces.documents import Located, read_yaml
from search_spaces.errors import Problem, WrongInput
from search_spaces.plan import Plan

DAY_S = 86_400.0


def rerun(path: Path, to: Path, *, address: str | None = None) -> Plan:
    """Run the plan.yaml at `path` with its own task, seed and number of workers, and put the artifact into `to`.

    The same versions on one worker give the same bytes. A task in a file is found relative to the current folder.

    Raises:
        WrongInput: the file is not a plan, or `to` is not free.
        TrialFailed: the run failed.
    """
    source = read_yaml(path)
    plan, seed, workers, task = _parse(source)
    check_free(to)
    stages_of(plan)
    task.load()
    with connect(address), TemporaryDirectory(prefix="paretta-") as scratch:
        require_capacity(1, workers, {"CPU": 1.0})
        folder = Path(scratch) / "artifact"
        order = Order(task, plan.to_document(), seed, str(folder), str(Path(scratch) / "cache"))
        with Lanes("orchestrator.work:fulfil", storage=Path(scratch) / "ray", workers_per_lane=workers) as lanes:
            lanes.submit(Job("rerun", {"order": order}))
            lanes.result("rerun", timeout_s=DAY_S)
        fetch(folder, to)
    return plan


def _parse(source: Located) -> tuple[Plan, int, int, TaskReference]:
    data = source.data
    if not (isinstance(data, Mapping) and {"task", "seed", "workers", "baseline", "stages"} <= set(data)):
        rule = "a plan has task, seed, workers, baseline and stages"
        raise WrongInput(Problem(source.file, rule, mend="give the plan.yaml of an artifact"))
    task, seed, workers = data["task"], data["seed"], data["workers"]
    if not (isinstance(task, Mapping) and isinstance(seed, int) and isinstance(workers, int) and workers > 0):
        rule = "task is a mapping, seed and workers are whole numbers"
        raise WrongInput(Problem(source.file, rule, [task, seed, workers]))
    options = task.get("options", {})
    assert isinstance(options, Mapping)
    return Plan.from_document(data), seed, workers, TaskReference.of(str(task["use"]), options, Path.cwd())
