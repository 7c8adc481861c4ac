"""Feeds of an ONNX Runtime session: arrays by input name, each with the batch as first axis."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Feeds: TypeAlias = Mapping[str, NDArray[np.generic]]


def feed_batch(feeds: Feeds, size: int) -> Feeds:
    """Return the first `size` rows [size, ...] of each input, repeated from the start if there are fewer."""
    return {name: np.take(array, range(size), axis=0, mode="wrap") for name, array in feeds.items()}


def save_feeds(path: Path, feeds: Feeds) -> None:
    """Write feeds to an .npz file."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **feeds)


def load_feeds(path: Path) -> Feeds:
    """Read feeds from an .npz file without loading any pickle."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
