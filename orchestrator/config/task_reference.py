"""A reference to the user's task, by which every worker loads the task itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from paretta.search_spaces.canonical import Document, Json, canonical_json
from paretta.search_spaces.user_code import look_in

if TYPE_CHECKING:
    from paretta.pipelines.task import Task


@dataclass(frozen=True, slots=True)
class TaskReference:
    """What any process of the cluster needs to load the sweep's task.

    Args:
        use: see `paretta.pipelines.loading.load_task.load_task`.
        options: the task function's keyword arguments, as canonical JSON.
        folder: the base of relative paths in `use`.
    """

    use: str
    options: str
    folder: str

    @classmethod
    def of(cls, use: str, options: Mapping[str, Json], folder: Path) -> "TaskReference":
        """Make the reference to a task."""
        return cls(use, canonical_json(options), str(folder))

    def document(self) -> Document:
        """Return the task's entry in a sweep file or plan."""
        return {"use": self.use, "options": json.loads(self.options)}

    def load(self) -> "Task":
        """Load the task, once per process, and put its folder on the import path."""
        look_in(Path(self.folder))
        return _load(self)


@cache
def _load(reference: TaskReference) -> "Task":
    from paretta.pipelines.loading.load_task import load_task  # noqa: PLC0415 - torch is loaded only where a task is made

    return load_task(reference.use, json.loads(reference.options), Path(reference.folder))
