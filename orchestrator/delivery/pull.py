"""Choose a point of a front by a wish, fetch its artifact and verify it."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.orchestrator.delivery.free_folder import check_free
from paretta.orchestrator.delivery.model_card import Provenance, write_card
from paretta.orchestrator.monitor.front_text import limits_note
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.storage.mirror import found
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.roles import alias, preferences
from paretta.search_spaces.objectives.wish import Wish
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from paretta.pipelines.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Pulled:
    """The fetched trial, and remarks on the front that it was chosen from; None if there are none."""

    trial: Trial
    note: str | None = None


def pull(home: Home, sweep: str, wish: Wish, to: Path) -> Pulled:
    """Copy the artifact that `wish` chooses from the sweep's folder to `to`, and return its trial.

    `sweep` is a name, a folder or a URI in a storage. It may include what to pull: a role, as in ``digits@smallest``, a
    wish of its sweep file, as in ``digits@phone``, or any measured trial, as in ``digits@0004-4fe30b``. The copy is
    verified against its manifest and run once before it is renamed to `to`, so `to` holds a complete artifact or
    nothing.

    Raises:
        WrongInput: the sweep does not exist, nothing satisfies the wish, the files of the chosen trial are gone, or
            `to` is not free.
        DamagedArtifact: the sweep's own copy does not match its manifest.
    """
    name, _, role = sweep.partition("@")
    files = found(home, name)
    front = SweepRecord.read(files.root).front()
    trial = chosen(front, role, wish)
    fetch(delivered_folder(files, trial), to, Provenance(trial, front))
    return Pulled(trial, limits_note(front))


def pull_from_store(tracking_uri: str, sweep: str, wish: Wish, to: Path) -> Pulled:
    """Pull from an MLflow store, if the sweep's folder is not accessible. Raises like `pull`."""
    from paretta.dashboards.tracking.reader import download, read_front  # noqa: PLC0415 - MLflow is loaded only where it is asked

    check_free(to)
    name, _, role = sweep.partition("@")
    front = read_front(tracking_uri, name)
    trial = chosen(front, role, wish)
    with tempfile.TemporaryDirectory(prefix="paretta-") as scratch:
        fetch(download(tracking_uri, name, trial.uid, Path(scratch) / "artifact"), to, Provenance(trial, front))
    return Pulled(trial, limits_note(front))


def pull_registered(tracking_uri: str, uri: str, to: Path) -> "Artifact":
    """Fetch a registered model, such as ``models:/digits@knee``, to `to`, verify it and return it.

    Raises:
        WrongInput: there is no such model, alias or version, or `to` is not free.
        DamagedArtifact: the store's copy differs from what was registered.
    """
    from paretta.dashboards.tracking.reader import download_registered  # noqa: PLC0415 - MLflow is loaded only where it is asked
    from paretta.pipelines.artifact import open_artifact  # noqa: PLC0415

    check_free(to)
    with tempfile.TemporaryDirectory(prefix="paretta-") as scratch:
        fetch(download_registered(tracking_uri, uri, Path(scratch) / "artifact"), to)
    return open_artifact(to)


def chosen(front: Front, name: str, wish: Wish | None = None) -> Trial:
    """Return the trial that ``SWEEP@name`` names, else the one that meets `wish`.

    A name, which a wish without limits may give as its preference too, is ``knee``, an objective, a role such as
    ``smallest``, a wish of the sweep file, or a measured trial's uid or number, on the front or not.
    """
    wish = wish or Wish()
    if name and wish != Wish():
        raise WrongInput(Problem(f"{front.sweep}@{name}", "a name takes neither a preference nor limits"))
    if wish.at_least or wish.at_most:
        return front.pick(prefer=wish.prefer, at_least=wish.at_least, at_most=wish.at_most)
    held = {alias(role): trial for role, trial in holders(front).items()}
    wanted = name or wish.prefer
    if wanted in held:
        return held[wanted]
    if wanted == "knee" or wanted in preferences(front.objectives):
        return front.pick(prefer=wanted)
    return _by_uid(front, wanted, held)


def _by_uid(front: Front, name: str, held: Mapping[str, Trial]) -> Trial:
    """Return the trial of this uid, or of this number with four digits."""
    where = f"{front.sweep}@{name}"
    of_number = [trial for trial in front.trials if trial.role == "trial" and f"{trial.number:04d}" == name]
    found = [trial for trial in front.trials if trial.uid == name] or of_number
    if not found:
        rule = did_you_mean(name, {**held, **preferences(front.objectives)}, "role on the front")
        raise WrongInput(Problem(where, rule, hint="or give the uid of a complete trial, as the report shows it"))
    if not found[0].is_measured or found[0].artifact is None:
        why = f": {found[0].reason}" if found[0].reason else ""
        raise WrongInput(Problem(where, f"this trial is {found[0].status}, so it has no files{why}"))
    return found[0]


def fetch(source: Path, to: Path, origin: Provenance | None = None) -> None:
    """Copy the artifact folder `source` to `to` atomically, after verifying it and running the model once.

    A model card is added, which tells what is known of its `origin`.
    """
    from paretta.pipelines.artifact import require_regular, verify_files  # noqa: PLC0415 - ONNX Runtime is loaded only to deliver
    from paretta.pipelines.verification.smoke import require_answer  # noqa: PLC0415

    check_free(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as scratch:
        copy = Path(scratch) / "artifact"
        require_regular(source)
        shutil.copytree(source, copy, symlinks=True)
        verify_files(copy)
        require_answer(copy)
        write_card(copy, origin)
        if to.exists():
            to.rmdir()
        copy.rename(to)


def delivered_folder(files: SweepFiles, trial: Trial) -> Path:
    """Return the folder with the files of a trial on the front, downloading them if they are in a storage.

    Raises `WrongInput` if they are gone.
    """
    assert trial.artifact is not None
    folder = files.bring(trial.artifact)
    if not folder.is_dir() or folder.is_symlink():
        hint = "choose another trial, or pull from the MLflow store with --tracking-uri"
        raise WrongInput(Problem(f"trial {trial.uid}", "its files are gone from the sweep's folder", str(folder), hint))
    return folder
