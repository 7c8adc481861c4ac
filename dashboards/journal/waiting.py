"""What the workers of a running trial wait for, as its progress messages tell."""

from collections.abc import Mapping
from typing import Final

from paretta.search_spaces.canonical import Document

MUCH: Final = 1 / 3  # share of the time that is waited for data, above which a sweep says so
_WORTH_TELLING: Final = 0.1
_WAITS: Final = {"loading": "for data", "communication": "for other workers", "measuring": "for the validation split"}


def time_shares(message: Document) -> dict[str, float]:
    """Return the shares of the last epoch's time by what it was spent on; empty if the message does not say.

    >>> time_shares({"shares": {"loading": 0.25, "computing": 0.75}})
    {'loading': 0.25, 'computing': 0.75}
    """
    shares = message.get("shares")
    if not isinstance(shares, Mapping):
        return {}
    return {str(name): float(share) for name, share in shares.items() if isinstance(share, int | float)}


def waiting_words(message: Document) -> str:
    """Describe the larger waits of the last epoch, in parentheses.

    >>> waiting_words({"shares": {"loading": 0.42, "communication": 0.12, "computing": 0.46}})
    ' (42 % waiting for data, 12 % for other workers)'
    """
    shares = time_shares(message)
    told = [
        f"{100 * shares[name]:.0f} % {words}" for name, words in _WAITS.items() if shares.get(name, 0) >= _WORTH_TELLING
    ]
    return f" ({', '.join(told).replace(' % ', ' % waiting ', 1)})" if told else ""


def loading_hint(message: Document) -> str:
    """Return what to do about a worker that waits more than a third of its time for data; an empty string if none does.

    The first of several epochs does not count, since loaders start in it.

    >>> loading_hint({"epoch": 2, "num_epochs": 3, "loaders": 0, "shares": {"loading": 0.5}})
    'workers wait 50 % of their time for data; let more processes read ahead, such as workers: {loaders: 2, cpus: 3}'
    """
    share, loaders = time_shares(message).get("loading", 0.0), message.get("loaders")
    if share <= MUCH or not isinstance(loaders, int) or (message.get("epoch") == 1 and message.get("num_epochs") != 1):
        return ""
    more = 2 * max(loaders, 1)
    now = f", although {loaders} processes read ahead" if loaders else ""
    hint = f"let more processes read ahead, such as workers: {{loaders: {more}, cpus: {more + 1}}}"
    return f"workers wait {100 * share:.0f} % of their time for data{now}; {hint}"
