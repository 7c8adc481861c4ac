"""Feeds of a file that generates text token by token: its cache of keys and values is an input and an output."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.data.feeds import Feeds

if TYPE_CHECKING:
    from onnxruntime import NodeArg

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
PAST: Final = "past_key_values."
PRESENT: Final = "present."
_FLOATS: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def is_cache(name: str) -> bool:
    """Return whether an input or output of this name is part of the cache.

    >>> is_cache("past_key_values.0.key"), is_cache("present.0.key"), is_cache("input_ids")
    (True, True, False)
    """
    return name.startswith((PAST, PRESENT))


def generates(names: Iterable[str]) -> bool:
    """Return whether inputs with these names are those of a decoder with a cache."""
    given = set(names)
    return IDS in given and any(name.startswith(PAST) for name in given)


def empty_cache(nodes: "Sequence[NodeArg]", count: int) -> dict[str, NDArray[np.generic]]:
    """Return the cache inputs of a session for `count` samples, without any token."""
    return {
        node.name: np.zeros([count, node.shape[1], 0, node.shape[3]], _FLOATS.get(node.type, np.float32))
        for node in nodes
        if node.name.startswith(PAST)
    }


def following(answers: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return the cache inputs of the next call from the outputs of this one."""
    return {PAST + name.removeprefix(PRESENT): array for name, array in answers.items() if name.startswith(PRESENT)}


def prompt(feeds: Feeds, tokens: int) -> Feeds:
    """Return the feeds of a prompt: those of `feeds`, with its ids repeated or cut to `tokens` and an empty cache."""
    ids = np.take(feeds[IDS], range(tokens), axis=1, mode="wrap")
    return _with_mask(feeds, {**_cache(feeds, 0), IDS: ids}, tokens)


def step(feeds: Feeds, context: int) -> Feeds:
    """Return the feeds of one further token after `context` earlier ones, whose keys and values are random."""
    return _with_mask(feeds, {**_cache(feeds, context), IDS: feeds[IDS][:, :1]}, context + 1)


def _with_mask(feeds: Feeds, found: dict[str, NDArray[np.generic]], length: int) -> Feeds:
    count = len(feeds[IDS])
    others = {name: array for name, array in feeds.items() if name not in found}
    mask = {MASK: np.ones((count, length), feeds[MASK].dtype)} if MASK in feeds else {}
    return {name: {**others, **found, **mask}[name] for name in feeds}


def _cache(feeds: Feeds, tokens: int) -> dict[str, NDArray[np.generic]]:
    drawn = np.random.default_rng(0)
    return {
        name: drawn.standard_normal((*array.shape[:2], tokens, array.shape[3]), np.float32).astype(array.dtype)
        for name, array in feeds.items()
        if name.startswith(PAST)
    }
