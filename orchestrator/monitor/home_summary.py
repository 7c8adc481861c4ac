"""What the list of sweeps tells of one sweep, read from its journal."""

from pathlib import Path

from paretta.dashboards.journal.activity import asked, num_ended
from paretta.dashboards.journal.liveness import has_died, state_words
from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import ParettaError, first_line


def describe(folder: Path) -> Document:
    """Return the part of `home_table.sweep_documents` that depends on the journal alone."""
    try:
        record = SweepRecord.read(folder)
    except (ParettaError, OSError) as error:
        nothing: Document = {"ended": 0, "asked": None, "best": None, "updated": 0.0, "note": "", "tags": {}}
        return {"status": "damaged", "reason": first_line(error), **nothing}
    if has_died(record):
        record.interrupt()
    status, reason = state_words(record)
    front = record.front()
    readings = {o.meter: front.knee().readings[o.meter].with_time for o in front.objectives} if len(front) else {}
    return {
        "status": status,
        "reason": reason,
        "ended": num_ended(record),
        "asked": asked(record),
        "best": {"uid": front.knee().uid, "readings": readings} if len(front) else None,
        "updated": record.updated,
        "note": record.annotation().note,
        "tags": dict(record.annotation().tags),
    }
