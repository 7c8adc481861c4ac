"""How far the MLflow record of a sweep is behind its journal."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from pydantic import BaseModel, NonNegativeInt, ValidationError

from paretta.dashboards.journal.journal import events
from paretta.search_spaces.canonical import Document, Json

SYNC_STATUS_FILE: Final = "publisher.json"


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Where the record of a sweep is, and how complete.

    Args:
        tracking_uri: the store, its password left out; empty where nothing was published yet.
        experiment_id, run_id: of the sweep's parent run.
        position: bytes of the journal that the store holds.
        behind: trials with news that the store lacks.
        away: why the store could not be written at the last attempt.
        refused: what the store will not take, as ``name: reason``.
    """

    tracking_uri: str = ""
    experiment_id: str = ""
    run_id: str = ""
    position: int = 0
    behind: int = 0
    away: str | None = None
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        if not self.tracking_uri:
            return "MLflow: nothing recorded yet"
        state = "complete" if not self.behind else f"{self.behind} trial{'s' * (self.behind > 1)} behind"
        away = f" ({self.away})" if self.away else ""
        refused = f", {len(self.refused)} refused: {'; '.join(self.refused)}" if self.refused else ""
        return f"MLflow: {state}{away}{refused}, {self.tracking_uri}"


class _Left(BaseModel):
    """What `write_sync_status` writes."""

    tracking_uri: str = ""
    experiment_id: str = ""
    run_id: str = ""
    position: NonNegativeInt = 0
    away: str | None = None
    refused: tuple[str, ...] = ()


def read_sync_status(folder: Path) -> SyncStatus:
    """Return the standing of the sweep in `folder`, from what its publisher left there and from the journal.

    What the publisher left is derived from the journal, so a damaged file counts as none.
    """
    try:
        left = _Left.model_validate_json((folder / SYNC_STATUS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        left = _Left()
    return SyncStatus(**left.model_dump(), behind=len(_news(folder, left.position)))


def _news(folder: Path, position: int) -> set[str]:
    happened = (event for event, _ in events(folder, position) if event["event"] == "trial")
    return {str(cast(Document, event["trial"])["uid"]) for event in happened}


def write_sync_status(folder: Path, standing: SyncStatus) -> None:
    """Leave the standing where `read_sync_status` finds it, whole at every moment."""
    document: dict[str, Json] = {
        "tracking_uri": standing.tracking_uri,
        "experiment_id": standing.experiment_id,
        "run_id": standing.run_id,
        "position": standing.position,
        "away": standing.away,
        "refused": list(standing.refused),
    }
    part = folder / f"{SYNC_STATUS_FILE}.{os.getpid()}"
    part.write_text(json.dumps(document, indent=1))
    part.replace(folder / SYNC_STATUS_FILE)
