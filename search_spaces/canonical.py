"""Canonical JSON documents and their digests."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]


Document: TypeAlias = Mapping[str, Json]


def canonical_json(value: Json) -> str:
    """Serialize `value` so that equal values give equal text: sorted keys, no spaces, ``1.0`` as ``1``, no NaN.

    >>> canonical_json({"b": 1.0, "a": [True, None, 0.5]})
    '{"a":[true,null,0.5],"b":1}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(value: Json) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
