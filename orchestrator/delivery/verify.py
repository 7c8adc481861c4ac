"""Verify a pulled artifact: its files, its size and, if the task can be loaded, its answers."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.yaml_io import read_yaml

if TYPE_CHECKING:
    from paretta.pipelines.verification.verify import Finding


def verify_folder(folder: Path, *, task: str | None = None) -> "tuple[Finding, ...]":
    """Verify the artifact in `folder`, see `paretta.pipelines.verification.verify.verify_claims`.

    Args:
        folder: of the artifact.
        task: the task on this machine; by default the one that its plan.yaml names, if it is one of ours. Any other
            task is code, and an untrusted folder must not choose the code that runs here. Without a task accuracy is
            not checked, which the findings say.

    Raises:
        WrongInput: the folder does not exist, or the task cannot be loaded, as where torch is not installed, or fails,
            as with options in plan.yaml that no model can have.
        TrialFailed: the model does not run.
    """
    from paretta.pipelines.verification.verify import verify_claims  # noqa: PLC0415 - the runtime is loaded only where it is used

    if not folder.is_dir():
        raise WrongInput(Problem("folder", "there is no such folder", str(folder), "name a pulled artifact's folder"))
    use, options = _origin(folder)
    chosen = task or use
    if task is None and (chosen is None or ":" in chosen):
        words = f"its task is {chosen}, which is code: name it with --task if you trust it" if chosen else "no task"
        return verify_claims(folder, None, without=words, elsewhere=True)
    if find_spec("torch") is None:
        if task is not None:
            hint = "install paretta with all that it needs, or leave --task out"
            raise WrongInput(Problem("--task", "a task needs torch, which is not installed here", task, hint))
        return verify_claims(folder, None, without="torch is not installed here", elsewhere=True)
    made = TaskReference.of(str(chosen), options, Path.cwd()).load()
    with blaming(f"task {chosen}", "scoring the model's answers with it"):  # its options are those of the folder
        return verify_claims(folder, made, elsewhere=True)


def _origin(folder: Path) -> tuple[str | None, Mapping[str, Json]]:
    """Return the task that plan.yaml names, and its options; a broken file is reported by the manifest check."""
    path = folder / "plan.yaml"
    if path.is_symlink() or not path.is_file():
        return None, {}
    try:
        data = read_yaml(path).data
    except (WrongInput, RecursionError):
        return None, {}
    task = data.get("task") if isinstance(data, Mapping) else None
    use, options = (task.get("use"), task.get("options", {})) if isinstance(task, Mapping) else (None, {})
    return use if isinstance(use, str) else None, options if isinstance(options, Mapping) else {}
