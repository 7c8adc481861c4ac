"""Choose a point of a front by a wish and fetch its artifact, verified."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dashboards.journal import SweepRecord
from orchestrator.front_words import limits_note
from orchestrator.home import Home
from search_spaces.errors import Problem, WrongInput
from search_spaces.trial import Trial


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks of a front; see `search_spaces.front.Front.pick`."""

    prefer: str = "knee"
    at_least: Mapping[str, str] = field(default_factory=dict)
    at_most: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was fetched, and what to know of the front that it was chosen from; None where there is nothing to say."""

    trial: Trial
    note: str | None = None


def pull(home: Home, sweep: str, wish: Wish, to: Path) -> Pulled:
    """Copy the artifact that `wish` chooses from the sweep's folder to `to`, and return its trial.

    The copy is verified against its manifest before it takes its name, so `to` holds a whole artifact or nothing.

    Raises:
        WrongInput: no such sweep, a wish that nothing satisfies, or `to` is not free.
        DamagedArtifact: the sweep's own copy is not what its manifest says.
    """
    folder = home.find(sweep)
    front = SweepRecord.read(folder).front()
    trial = front.pick(prefer=wish.prefer, at_least=wish.at_least, at_most=wish.at_most)
    assert trial.artifact is not None
    fetch(folder / trial.artifact, to)
    return Pulled(trial, limits_note(front))


def pull_from_store(tracking_uri: str, sweep: str, wish: Wish, to: Path) -> Pulled:
    """Do the same from an MLflow store, where the sweep's folder is not at hand. Raises as `pull` does."""
    from dashboards.fetch import download, read_front  # noqa: PLC0415 - MLflow is loaded only where it is asked

    check_free(to)
    front = read_front(tracking_uri, sweep)
    trial = front.pick(prefer=wish.prefer, at_least=wish.at_least, at_most=wish.at_most)
    with tempfile.TemporaryDirectory(prefix="paretta-") as scratch:
        fetch(download(tracking_uri, sweep, trial.uid, Path(scratch) / "artifact"), to)
    return Pulled(trial, limits_note(front))


def fetch(source: Path, to: Path) -> None:
    """Copy the artifact folder `source` to `to`, verified, all or nothing."""
    from pipelines.artifact import verify  # noqa: PLC0415 - ONNX Runtime is loaded only to deliver

    check_free(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as scratch:
        copy = Path(scratch) / "artifact"
        shutil.copytree(source, copy)
        verify(copy)
        if to.exists():
            to.rmdir()
        copy.rename(to)


def check_free(to: Path) -> None:
    """Raise `WrongInput` unless `to` is missing or an empty folder."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        rule = "an artifact is pulled into a new or an empty folder"
        raise WrongInput(Problem("--to", rule, str(to), "name a folder that does not exist"))
