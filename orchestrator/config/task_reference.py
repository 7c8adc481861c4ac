"""A reference to the user's task that travels to the workers by name."""

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
    """How any process of the cluster makes the sweep's task.

    Args:
        use: see `paretta.pipelines.loading.load_task.load_task`.
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
        """Make the task; a process makes it once. Code that the sweep names is found in its folder from then on."""
        look_in(Path(self.folder))
        return _load(self)


@cache
def _load(reference: TaskReference) -> "Task":
    from paretta.pipelines.loading.load_task import load_task  # noqa: PLC0415 - torch is loaded only where a task is made

    return load_task(reference.use, json.loads(reference.options), Path(reference.folder))
