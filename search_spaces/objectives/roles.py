"""The names of the roles on a front, such as ``smallest``, by which a member is chosen."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from paretta.search_spaces.objectives.objective import Objective

_BEST: Final[Mapping[str, str]] = {
    "size": "smallest",
    "latency": "fastest",
    "accuracy": "most accurate",
    "energy": "most frugal",
}


def best(meter: str) -> str:
    """Return the name of the role of the member that is best by `meter`.

    >>> best("size"), best("nats"), best("latency@openvino")
    ('smallest', 'best nats', 'fastest on openvino')
    """
    kind, _, runtime = meter.partition("@")
    return f"{_BEST[kind]} on {runtime}" if runtime and kind in _BEST else _BEST.get(meter, f"best {meter}")


def alias(role: str) -> str:
    """Return a role as one word: used as its alias in MLflow's registry.

    >>> alias("most accurate")
    'most-accurate'
    """
    return re.sub(r"[^A-Za-z0-9_-]", "-", role)


def preferences(objectives: Sequence[Objective]) -> dict[str, Objective]:
    """Return the objectives by all names that a preference may give them: their own, and that of their role.

    >>> sorted(preferences([Objective("size", "min", "B"), Objective("accuracy", "max", "share")]))
    ['accuracy', 'most-accurate', 'size', 'smallest']
    """
    by_role = {alias(best(objective.meter)): objective for objective in objectives}
    return {**by_role, **{objective.meter: objective for objective in objectives}}
