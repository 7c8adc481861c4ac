"""The progress of a sweep, as plain data and as lines of text."""

import time

from paretta.dashboards.journal.activity import asked, trial_activities
from paretta.dashboards.journal.annotation import Annotation
from paretta.dashboards.journal.liveness import has_died, state_words
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document, Json

STATUS_SCHEMA = 2  # schema 1 had `pruned` for `stopped early`, and `running` for `interrupted`


def status_document(files: SweepFiles) -> dict[str, Json]:
    """Return the state of the sweep that `files` belong to.

    Schema 2: ``schema``, ``sweep``, ``status`` (running, done, stopped, failed, or died: its process was killed; a
    copy in a storage does not tell), ``reason`` (of one that died the command that resumes it), ``folder``,
    ``trials`` (count by state: running, complete, stopped early, failed, infeasible, interrupted; the
    baseline left out), ``asked`` (trials asked for), ``front`` (members),
    ``hypervolume``, ``silent_s`` (seconds since the last event, None before the first),
    ``failures`` (list of ``uid`` and ``reason``),
    ``note`` and ``tags`` (of the sweep), ``noted`` (list of ``uid``, ``note`` and ``tags`` of trials),
    ``running`` (list of ``uid``, the last ``progress``, and ``doing`` in words), ``record`` (how far MLflow is behind,
    in words).
    """
    folder = files.root
    record = SweepRecord.read(folder)
    if files.storage is None and has_died(record):
        record.interrupt()
    states = sorted({trial.status for trial in record.trials.values() if trial.role == "trial"})
    front = record.front()
    status, reason = state_words(record) if files.storage is None else (record.status, record.reason)
    return {
        "schema": STATUS_SCHEMA,
        "sweep": record.name,
        "status": status,
        "reason": reason,
        "folder": files.storage or str(folder),
        "trials": {state: record.count(state) for state in states},
        "asked": asked(record),
        "front": len(front),
        "hypervolume": front.hypervolume,
        "silent_s": round(time.time() - record.updated, 1) if record.updated else None,
        "failures": [{"uid": t.uid, "reason": t.reason} for t in record.trials.values() if t.status == "failed"],
        "note": record.annotation().note,
        "tags": dict(record.annotation().tags),
        "noted": noted_trials(record),
        "running": [
            {"uid": said.trial.uid, "progress": record.progress.get(said.trial.uid, {}), "doing": said.words}
            for said in trial_activities(record)
        ],
        "record": str(read_sync_status(folder)),
    }


def noted_trials(record: SweepRecord) -> list[Document]:
    """Return ``uid``, ``note`` and ``tags`` of each trial that a user has noted anything of."""
    noted = {uid: about for uid, about in sorted(record.annotations.items()) if uid and about}
    return [{"uid": uid, "note": about.note, "tags": dict(about.tags)} for uid, about in noted.items()]


def noted_lines(document: Document) -> list[str]:
    """Format the notes and tags in what `status_document` returns, the sweep's own first."""
    noted = document["noted"]
    assert isinstance(noted, list)
    own = {"uid": document["sweep"], "note": document["note"], "tags": document["tags"]}
    lines = ((entry["uid"], Annotation(entry["note"], entry["tags"])) for entry in (own, *noted))
    return [f"noted {name}: {about}" for name, about in lines if about]


def status_lines(document: Document) -> list[str]:
    """Format what `status_document` returns as lines of text."""
    trials, failures, running = document["trials"], document["failures"], document["running"]
    assert isinstance(trials, dict)
    assert isinstance(failures, list)
    assert isinstance(running, list)
    counts = ", ".join(f"{count} {state}" for state, count in trials.items()) or "none yet"
    reason, died = document["reason"], document["status"] == "died"
    why = f", {reason}" if died else f" ({reason})" if reason else ""
    heard = ", no event yet" if document["silent_s"] is None else f", last event {document['silent_s']} s ago"
    silent = heard if document["status"] == "running" else ""
    of = "" if document["asked"] is None else f" of {document['asked']} asked"
    return [
        f"{document['sweep']}: {document['status']}{why}{silent}",
        f"trials: {counts}{of}",
        f"front: {document['front']} points, hypervolume {document['hypervolume']:.3f}",
        *(f"failed {failure['uid']}: {failure['reason']}" for failure in failures),
        *noted_lines(document),
        str(document["record"]),
        *(f"running {trial['uid']}: {trial['doing']}" for trial in running),
    ]
