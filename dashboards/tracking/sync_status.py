"""How far the MLflow record of a sweep is behind its journal."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from pydantic import BaseModel, NonNegativeInt

from paretta.dashboards.journal.home_names import JOURNAL_FILE
from paretta.dashboards.journal.journal import events
from paretta.search_spaces.bounded_files import read_bounded
from paretta.search_spaces.canonical import Document, Json

SYNC_STATUS_FILE: Final = "publisher.json"


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Where the MLflow record of a sweep is, and how complete it is.

    Args:
        tracking_uri: the store, without its password; empty if nothing was published yet.
        experiment_id, run_id: experiment and id of the sweep's parent run.
        position: number of journal bytes that the store has.
        behind: number of trials with events that the store lacks.
        away: why the store could not be written at the last attempt.
        refused: runs that the store rejected, as ``name: reason``.
    """

    tracking_uri: str = ""
    experiment_id: str = ""
    run_id: str = ""
    position: int = 0
    behind: int = 0
    away: str | None = None
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describe it in one line."""
        if not self.tracking_uri:
            return "MLflow: nothing recorded yet"
        state = "complete" if not self.behind else f"{self.behind} trial{'s' * (self.behind > 1)} behind"
        away = f" ({self.away})" if self.away else ""
        refused = f", {len(self.refused)} refused: {'; '.join(self.refused)}" if self.refused else ""
        return f"MLflow: {state}{away}{refused}, {self.tracking_uri}"


class _Stored(BaseModel):
    """What `write_sync_status` writes."""

    tracking_uri: str = ""
    experiment_id: str = ""
    run_id: str = ""
    position: NonNegativeInt = 0
    away: str | None = None
    refused: tuple[str, ...] = ()


def read_sync_status(folder: Path) -> SyncStatus:
    """Return the sync status of the sweep in `folder`, from the publisher's file there and from the journal.

    The file is derived from the journal, so a damaged one is treated as missing, and so is its position if no event of
    the journal ends there, as after the journal was edited.
    """
    stored = _stored(folder)
    if not _is_end_of_event(folder, stored.position):
        stored = stored.model_copy(update={"position": 0})
    return SyncStatus(**stored.model_dump(), behind=len(_changed_trials(folder, stored.position)))


def recorded_in(folder: Path) -> str:
    """Return the store in which the sweep in `folder` was last recorded, without its password; empty if in none."""
    return _stored(folder).tracking_uri


def _stored(folder: Path) -> _Stored:
    try:
        return _Stored.model_validate_json(read_bounded(folder / SYNC_STATUS_FILE))
    except (FileNotFoundError, ValueError):
        return _Stored()


def _is_end_of_event(folder: Path, position: int) -> bool:
    if not position:
        return True
    with (folder / JOURNAL_FILE).open("rb") as file:
        file.seek(position - 1)
        return file.read(1) == b"\n"


def _changed_trials(folder: Path, position: int) -> set[str]:
    """Return the uids of the trials with events after byte `position` of the journal."""
    changes = (event for event, _ in events(folder, position) if event["event"] == "trial")
    return {str(cast(Document, event["trial"])["uid"]) for event in changes}


def write_sync_status(folder: Path, status: SyncStatus) -> None:
    """Write the file that `read_sync_status` reads, atomically."""
    document: dict[str, Json] = {
        "tracking_uri": status.tracking_uri,
        "experiment_id": status.experiment_id,
        "run_id": status.run_id,
        "position": status.position,
        "away": status.away,
        "refused": list(status.refused),
    }
    part = folder / f"{SYNC_STATUS_FILE}.{os.getpid()}"
    part.write_text(json.dumps(document, indent=1))
    part.replace(folder / SYNC_STATUS_FILE)
