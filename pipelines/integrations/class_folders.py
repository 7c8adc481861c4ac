"""Files sorted by class: one folder for each class, in three splits or divided into them."""

import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paretta.pipelines.task import SPLITS, Split
from paretta.search_spaces.errors import Problem, WrongInput

_PARTS: Final = 1000  # a file's place among these decides its split
_CALLED: Final = {"val": "validation", "valid": "validation"}


@dataclass(frozen=True, slots=True)
class ClassFiles:
    """The files of one split, each with its class.

    Args:
        paths: [n].
        labels: [n], positions in the sorted names of all classes.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def class_files(
    folder: Path,
    suffixes: Collection[str],
    *,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    group: Callable[[Path], str] = lambda path: path.stem,
) -> tuple[tuple[str, ...], dict[Split, ClassFiles]]:
    """Return the names of the classes and the files of each split.

    Args:
        folder: with a folder for each class, or with the folders ``train``, ``validation`` (or ``val``) and ``test``,
            each with a folder for each class. Folders of classes may have folders of their own.
        suffixes: of files that count, in lower case, such as ``.png``.
        shares: of the three splits, where the folder does not have them. A digest of `group` decides the split of a
            file, so that it does not change when files are added.
        group: ``group(path)``; files of one group are in one split, such as several views of one thing.

    Raises:
        WrongInput: there is no such folder, it has no files with these suffixes or only one class, or a split lacks a
            class.
    """
    if not folder.is_dir():
        raise WrongInput(Problem(str(folder), "must be a folder with a folder for each class", "no such folder"))
    named = {_CALLED.get(path.name, path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    if set(named) == set(SPLITS):
        found = {name: _labelled(named[name], suffixes) for name in SPLITS}
    else:
        found = _divided(_labelled(folder, suffixes), shares, group)
    classes = tuple(sorted({label for pairs in found.values() for _, label in pairs}))
    _require_classes(folder, suffixes, classes, found)
    places = {name: place for place, name in enumerate(classes)}
    return classes, {
        name: ClassFiles(tuple(path for path, _ in pairs), tuple(places[label] for _, label in pairs))
        for name, pairs in found.items()
    }


def _labelled(folder: Path, suffixes: Collection[str]) -> list[tuple[Path, str]]:
    return [
        (path, inner.name)
        for inner in sorted(folder.iterdir())
        if inner.is_dir()
        for path in sorted(inner.rglob("*"))
        if path.suffix.lower() in suffixes and path.is_file()
    ]


def _divided(
    pairs: Sequence[tuple[Path, str]], shares: tuple[float, float, float], group: Callable[[Path], str]
) -> dict[Split, list[tuple[Path, str]]]:
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise WrongInput(Problem("shares", "must be three positive numbers whose sum is 1", list(shares)))
    found: dict[Split, list[tuple[Path, str]]] = {name: [] for name in SPLITS}
    for path, label in pairs:
        place = zlib.crc32(f"{label}/{group(path)}".encode()) % _PARTS / _PARTS
        found[SPLITS[(place >= shares[0]) + (place >= shares[0] + shares[1])]].append((path, label))
    return found


def _require_classes(
    folder: Path,
    suffixes: Collection[str],
    classes: Sequence[str],
    found: dict[Split, list[tuple[Path, str]]],
) -> None:
    if not classes:
        rule = f"must have folders of classes with files of {', '.join(sorted(suffixes))}"
        inside = sorted(path.name for path in folder.iterdir())
        raise WrongInput(Problem(str(folder), rule, f"only {', '.join(inside[:5])}" if inside else "an empty folder"))
    if len(classes) < 2:
        raise WrongInput(Problem(str(folder), "must have at least two classes, a folder for each", classes[0]))
    for name, pairs in found.items():
        counts = Counter(label for _, label in pairs)
        if missing := [label for label in classes if label not in counts]:
            rule = f"the {name} split must have files of every class"
            hint = "add files, give other `shares`, or make the folders train, validation and test yourself"
            raise WrongInput(Problem(str(folder), rule, f"none of {', '.join(missing[:5])}", hint))
