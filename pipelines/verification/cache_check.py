"""Whether a file that generates text answers alike token by token and for the whole text at once."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.artifact import MODEL, SAMPLE, session
from paretta.pipelines.data.decoder_feeds import IDS, MASK, empty_cache, following, generates, is_cache
from paretta.pipelines.data.feeds import Feeds, load_feeds
from paretta.pipelines.measuring.runtime_agreement import FLOAT_GAP, INTEGER_GAP, Agreement, relative_gap

MOST_TOKENS: Final = 16
_NOISE: Final = 4.0  # how many times the gap between two calls without a cache rounding may reach
_ROUNDING_OPS: Final = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulNBits", "DynamicQuantizeMatMul")


def cache_agreement(folder: Path) -> Agreement | None:
    """Compare the scores of the stored sample's tokens, answered one after another with the cache and all at once.

    Args:
        folder: an artifact.

    A file that rounds its activations while it runs rounds some otherwise if it is called otherwise, and each such
    choice changes those after it. So for such a file the gap may be some times that between answers for the whole text
    and for its first half.

    Returns:
        The comparison of the first `MOST_TOKENS` tokens; None if the model takes no cache, or there is no sample.
    """
    opened = session(folder / MODEL)
    nodes, names = opened.get_inputs(), [output.name for output in opened.get_outputs()]
    if not (generates(node.name for node in nodes) and (folder / SAMPLE).is_file()):
        return None
    feeds = {name: array for name, array in load_feeds(folder / SAMPLE).items() if not is_cache(name)}
    feeds = {name: array[:, :MOST_TOKENS] if name in (IDS, MASK) else array for name, array in feeds.items()}
    kept = [name for name in names if not is_cache(name)]
    cache = empty_cache(nodes, len(feeds[IDS]))
    whole = opened.run(kept, {**feeds, **cache})
    parts: list[list[NDArray[np.generic]]] = []
    for place in range(feeds[IDS].shape[1]):
        answers = dict(zip(names, opened.run(names, {**_tokens(feeds, place, place + 1), **cache}), strict=True))
        cache = following(answers)
        parts.append([answers[name] for name in kept])
    stepwise = [np.concatenate(found, axis=1) for found in zip(*parts, strict=True)]
    gap = max(map(relative_gap, stepwise, whole))
    if not _rounds(folder / MODEL):
        return Agreement(gap, FLOAT_GAP)
    half = max(feeds[IDS].shape[1] // 2, 1)
    first = opened.run(kept, {**_tokens(feeds, 0, half), **empty_cache(nodes, len(feeds[IDS]))})
    noise = max(relative_gap(one, other[:, :half]) for one, other in zip(first, whole, strict=True))
    return Agreement(gap, max(INTEGER_GAP, _NOISE * noise))


def _tokens(feeds: Feeds, start: int, end: int) -> Feeds:
    """Return the feeds of some tokens, after those before them."""
    ends = {IDS: (start, end), MASK: (0, end)}
    return {name: array[:, slice(*ends[name])] if name in ends else array for name, array in feeds.items()}


def _rounds(path: Path) -> bool:
    import onnx  # noqa: PLC0415 - only for files with a cache

    return any(node.op_type in _ROUNDING_OPS for node in onnx.load(path, load_external_data=False).graph.node)
