"""A causal language model whose cache of keys and values is an input and an output."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from paretta.pipelines.integrations.transformers.prepared_model import library
from paretta.search_spaces.errors import Problem, WrongInput

LayerCache: TypeAlias = "Mapping[str, Mapping[str, Tensor]]"  # of each layer by its number, its "key" and "value"
PAST, PRESENT = "past_key_values", "present"
_CACHE = "cache"  # what transformers calls it from 5.24 on
_EXAMPLE = 8  # tokens of the example before and after the cache, at most
_TOLERANCE = 1e-3  # relative to the largest score


class CachedDecoder(nn.Module):
    """A decoder that answers tokens after those whose keys and values it is given, and returns those of all.

    One graph serves both phases of generation: a prompt with an empty cache, then token after token with the cache of
    the call before. Inputs and outputs of the delivered file have the names that optimum and onnxruntime-genai expect:
    ``input_ids``, ``attention_mask``, ``past_key_values.N.key`` and ``.value``; ``logits``, ``present.N.key`` and
    ``.value``.

    Args:
        decoder: a model of transformers that keeps keys and values of all tokens in every layer.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        known = signature(decoder.forward).parameters
        self._takes_positions = "position_ids" in known
        self._cache = _CACHE if _CACHE in known else PAST
        config: Any = decoder.config
        config.use_cache = True
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, past_key_values: LayerCache) -> dict[str, Any]:
        """Return ``logits`` [n, tokens, vocabulary], and as ``present`` the cache of past and new tokens.

        Args:
            input_ids: [n, tokens], the new ones.
            attention_mask: [n, past + tokens], 0 for padding, which stands on the left.
            past_key_values: by layer and then ``key`` or ``value``, [n, heads, past, width of a head]; past may be 0.
        """
        cache = library().cache_utils.Cache(
            layers=[_filled(one["key"], one["value"]) for one in past_key_values.values()]
        )
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
        others = {"position_ids": positions} if self._takes_positions else {}
        outputs = self.decoder(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=True, **{self._cache: cache}, **others
        )
        present = {str(at): {"key": layer.keys, "value": layer.values} for at, layer in enumerate(cache.layers)}
        return {"logits": outputs.logits, PRESENT: present}


def _filled(key: Tensor, value: Tensor) -> Any:
    """Return one layer's cache of keys and values, [n, heads, tokens, width]."""
    made = _layer_class()()
    made.keys, made.values, made.is_initialized = key, value, True
    return made


@lru_cache(maxsize=1)
def _layer_class() -> Any:
    class FreeLength(library().cache_utils.DynamicLayer):  # type: ignore[misc]  # the library is loaded where it is used
        def get_seq_length(self) -> int:
            """Return the number of tokens; unlike the library's, which fixes in the graph whether there are any."""
            return self.keys.shape[-2]  # type: ignore[no-any-return]

    return FreeLength


class WithEmptyCache:
    """Collates samples of a cached decoder into a batch whose cache is empty."""

    def __init__(self, heads: Sequence[tuple[int, int, int]]) -> None:
        """Take the number of heads and the widths of a key and of a value, of each layer."""
        self.heads = tuple(heads)

    def __call__(self, samples: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the batch."""
        return {**default_collate(list(samples)), PAST: self.cache(len(samples))}

    def cache(self, count: int) -> dict[str, dict[str, Tensor]]:
        """Return an empty cache for `count` samples."""
        return {
            str(layer): {"key": torch.empty(count, heads, 0, key), "value": torch.empty(count, heads, 0, value)}
            for layer, (heads, key, value) in enumerate(self.heads)
        }


def cached(model: nn.Module | Callable[[], nn.Module]) -> nn.Module | Callable[[], nn.Module]:
    """Return a prepared model, or the function that makes one, as a `CachedDecoder`."""
    if isinstance(model, nn.Module):
        return CachedDecoder(model)
    return wraps(model)(lambda: CachedDecoder(model()))


@torch.no_grad()
def empty_cache_for(decoder: nn.Module, ids: Tensor) -> WithEmptyCache:
    """Return the collate function of a decoder; `ids` are the tokens [1, t] of a text, by which it is tried.

    Raises:
        WrongInput: some layer keeps no keys and values, or not those of all tokens.
    """
    outputs: Any = decoder.eval()(input_ids=ids, use_cache=True)
    kept = outputs.get(_CACHE) or outputs.get(PAST)
    layers: Sequence[Any] = getattr(kept, "layers", ())
    whole = library().cache_utils.DynamicLayer
    if not layers or (other := next((layer for layer in layers if type(layer) is not whole), None)) is not None:
        found = type(other).__name__ if layers else "no cache"
        rule = f"must keep keys and values of all tokens in every layer ({whole.__name__})"
        raise WrongInput(Problem("model", rule, f"{type(decoder).__name__} with {found}", "leave out cache=True"))
    return WithEmptyCache([(one.keys.shape[1], one.keys.shape[-1], one.values.shape[-1]) for one in layers])


@torch.no_grad()
def cached_example(decoder: CachedDecoder, ids: Tensor, empty: WithEmptyCache) -> dict[str, Any]:
    """Return inputs of one sample, the second half of tokens `ids` [1, t] with the first half as their cache.

    Raises:
        WrongInput: with a cache the decoder answers other than without.
    """
    start = min(ids.shape[1] // 2, _EXAMPLE)
    ids = ids[:, : 2 * start]
    ones, mask = torch.ones_like(ids), torch.ones_like(ids)[:, :start]
    whole = decoder(ids, ones, empty.cache(1))["logits"]
    past = decoder(ids[:, :start], mask, empty.cache(1))[PRESENT]
    inputs = {"input_ids": ids[:, start:], "attention_mask": ones, PAST: past}
    gap = (decoder(**inputs)["logits"] - whole[:, start:]).abs().max() / whole.abs().max()
    if not float(gap) <= _TOLERANCE:
        rule = "must answer alike with its cache and without"
        found = f"a difference of {float(gap):.2g} of the largest score"
        raise WrongInput(Problem("model", rule, found, "leave out cache=True"))
    return inputs


def cached_axes(empty: WithEmptyCache) -> dict[str, dict[int, str]]:
    """Return the free axes of a cached decoder's inputs."""
    past = {f"{PAST}.{layer}.{part}": {2: "past"} for layer in range(len(empty.heads)) for part in ("key", "value")}
    return {"input_ids": {1: "tokens"}, "attention_mask": {1: "past_and_tokens"}, **past}
