"""Keep a user's notes and tags on sweeps and trials in the journal, and bring them to MLflow."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.home_names import is_archived
from paretta.dashboards.journal.journal import annotate
from paretta.dashboards.journal.liveness import is_written
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.store import StoreUnavailable, probe
from paretta.dashboards.tracking.sync_status import recorded_in
from paretta.orchestrator.sweeps.housekeeping import store_of
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.roles import alias

_KEY: Final = re.compile(r"[^\W_][\w-]{0,49}")  # MLflow's and our own tags have a dot, so none is overwritten
_OURS: Final = "pareto"
_LONGEST_VALUE: Final = 200
_LONGEST_NOTE: Final = 2_000


def annotate_sweep(
    folder: Path,
    who: str = "",
    *,
    note: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Change the note or tags of a sweep, or of one of its trials, and return them in one line.

    A running sweep's publisher copies the change to MLflow; for any other sweep in MLflow this function does.

    Args:
        folder: of the sweep, which may be running.
        who: uid, number in four digits or role of a trial; empty for the sweep itself.
        note: replaces the note; an empty one removes it, None keeps it.
        tags: values by key; None removes a tag.
        tracking_uri: the store; by default the one in which the sweep was last recorded.

    Raises:
        WrongInput: there is no such trial, the note is too long, or the sweep has not started.
    """
    record = SweepRecord.read(folder)
    if not record.started:
        raise WrongInput(Problem(f"sweep {folder.name}", "nothing can be noted before it has started"))
    if note is not None and (len(note) > _LONGEST_NOTE or not _is_text(note)):
        rule = f"a note is text of at most {_LONGEST_NOTE} characters"
        raise WrongInput(Problem("TEXT", rule, f"{len(note)} characters", "shorten it"))
    uid = _uid(record, who)
    name = f"{folder.name}@{uid}" if uid else folder.name
    if note is None and not tags:
        return str(record.annotation(uid)) or f"nothing is noted of {name}"
    annotate(folder, uid or None, note, tags or {})
    about = SweepRecord.read(folder).annotation(uid)
    return f"{name}: {about or 'nothing is noted'}{_published(folder, tracking_uri)}"


def parse_tags(settings: Sequence[str], removed: Sequence[str] = ()) -> dict[str, str | None]:
    """Read tags that are written ``key=value``; the `removed` ones get None.

    Raises `WrongInput` with the rule for the first that breaks one.

    >>> parse_tags(["for=phone", "why=a=b"], ["draft"])
    {'for': 'phone', 'why': 'a=b', 'draft': None}
    """
    tags: dict[str, str | None] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not value or len(value) > _LONGEST_VALUE or not value.isprintable():
            rule = f"a tag is KEY=VALUE, with a value of 1 to {_LONGEST_VALUE} characters on one line"
            raise WrongInput(Problem("--tag", rule, text[:_LONGEST_VALUE], "write it like for=phone"))
        tags[_key("--tag", key)] = value
    return tags | {_key("--untag", key): None for key in removed}


def _key(option: str, key: str) -> str:
    if not _KEY.fullmatch(key) or key == _OURS:
        rule = f"a tag's key is 1 to 50 letters, digits, - and _, and not {_OURS!r}"
        raise WrongInput(Problem(option, rule, key[:50], "write it like for=phone"))
    return key


def _is_text(note: str) -> bool:
    return all(sign.isprintable() or sign in "\n\t" for sign in note)


def _uid(record: SweepRecord, who: str) -> str:
    """Return the uid of the trial that `who` names, of any state; empty for the sweep itself."""
    if not who or who in record.trials:
        return who
    held = {alias(role): trial.uid for role, trial in holders(record.front()).items()}
    numbers = {f"{trial.number:04d}": trial.uid for trial in record.trials.values() if trial.role == "trial"}
    if (found := {**numbers, **held}.get(who)) is None:
        near = get_close_matches(who, record.trials, cutoff=0.4)  # not hundreds of names
        rule = did_you_mean(who, (*held, *near), "trial")
        raise WrongInput(Problem(f"{record.name}@{who}", rule, hint="give its uid, as the report shows it"))
    return found


def _published(folder: Path, tracking_uri: str | None) -> str:
    """Update MLflow for a sweep that is recorded there and that no process runs; return why if that fails."""
    if is_written(folder) or is_archived(folder) or not (tracking_uri or recorded_in(folder)):
        return ""
    try:
        store = store_of(folder, tracking_uri)
        if store is not None:
            probe(store, existing=True)
            publish_sweep(folder, store)
    except (WrongInput, StoreUnavailable) as error:
        return f"\nMLflow does not have it yet: {error}"
    return ""
