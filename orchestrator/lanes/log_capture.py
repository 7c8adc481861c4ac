"""What a worker warns of while it works on a job, so that it reaches whoever waits for the job."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, cast

from paretta.orchestrator.lanes.messages import ProgressMessage

_KEY: Final = "warnings"


class WarningCapture(logging.Handler):
    """Keeps each warning once, until it is taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.known: dict[str, None] = {}
        self.taken = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning; the same text a second time is no news."""
        self.known[record.getMessage()] = None

    def take(self) -> list[str]:
        """Return what has been warned of since the last time."""
        new = list(self.known)[self.taken :]
        self.taken += len(new)
        return new


@contextmanager
def captured_warnings() -> Iterator[WarningCapture]:
    """Listen to our warnings inside the block."""
    logger, listener = logging.getLogger("paretta"), WarningCapture()
    logger.addHandler(listener)
    try:
        yield listener
    finally:
        logger.removeHandler(listener)


def with_warnings(message: ProgressMessage, warnings: Iterable[str]) -> ProgressMessage:
    """Let a progress message tell of `warnings`, if there are any.

    >>> with_warnings({"epoch": 1}, ["the disk is full"])
    {'epoch': 1, 'warnings': ['the disk is full']}
    """
    told = list(warnings)
    return {**message, _KEY: told} if told else message


def warnings_in(*messages: ProgressMessage) -> list[str]:
    """Return the warnings that progress messages tell of, each once."""
    return list(dict.fromkeys(text for message in messages for text in cast(list[str], message.get(_KEY, []))))
