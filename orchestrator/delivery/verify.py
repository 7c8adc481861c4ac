"""Check anything that was pulled, anywhere: its files, its size, and its answers where the task can be made."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.yaml_io import read_yaml

if TYPE_CHECKING:
    from paretta.pipelines.verification.verify import Finding


def verify_folder(folder: Path, *, task: str | None = None) -> "tuple[Finding, ...]":
    """Look again at the artifact in `folder`, see `paretta.pipelines.verification.verify.verify_claims`.

    Args:
        folder: of the artifact.
        task: where its task is here; by default the one that its plan.yaml names, if that is one of ours. A plan may
            name any function, and a folder that came from anywhere does not get to choose what runs here. Without a
            task accuracy stays unchecked, which the findings tell.

    Raises:
        WrongInput: there is no such folder, or `task` was given and cannot be made.
        TrialFailed: the model does not run.
    """
    from paretta.pipelines.verification.verify import verify_claims  # noqa: PLC0415 - torch is loaded only to judge answers

    if not folder.is_dir():
        raise WrongInput(Problem("folder", "there is no such folder", str(folder), "name a pulled artifact's folder"))
    use, options = _origin(folder)
    chosen = task or use
    if task is None and (chosen is None or ":" in chosen):
        words = f"its task is {chosen}, which is code: name it with --task if you trust it" if chosen else "no task"
        return verify_claims(folder, None, without=words, elsewhere=True)
    made = TaskReference.of(str(chosen), options, Path.cwd()).load()
    return verify_claims(folder, made, elsewhere=True)


def _origin(folder: Path) -> tuple[str | None, Mapping[str, Json]]:
    """Return the task that plan.yaml names and its options; what cannot be read is for the manifest to complain of."""
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
