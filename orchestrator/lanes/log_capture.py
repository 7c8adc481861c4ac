"""Capture a worker's warnings during a job and pass them on with its progress messages."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, cast

from paretta.orchestrator.lanes.messages import ProgressMessage

_KEY: Final = "warnings"


class WarningCapture(logging.Handler):
    """A log handler that keeps each distinct warning until it is taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.known: dict[str, None] = {}
        self.taken = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning; a repeated text is dropped."""
        self.known[record.getMessage()] = None

    def take(self) -> list[str]:
        """Return the warnings since the last call."""
        new = list(self.known)[self.taken :]
        self.taken += len(new)
        return new


@contextmanager
def captured_warnings() -> Iterator[WarningCapture]:
    """Capture warnings of our loggers inside the block."""
    logger, listener = logging.getLogger("paretta"), WarningCapture()
    logger.addHandler(listener)
    try:
        yield listener
    finally:
        logger.removeHandler(listener)


def with_warnings(message: ProgressMessage, warnings: Iterable[str]) -> ProgressMessage:
    """Return the progress message with `warnings` added, if there are any.

    >>> with_warnings({"epoch": 1}, ["the disk is full"])
    {'epoch': 1, 'warnings': ['the disk is full']}
    """
    told = list(warnings)
    return {**message, _KEY: told} if told else message


def warnings_in(*messages: ProgressMessage) -> list[str]:
    """Return the distinct warnings in progress messages."""
    return list(dict.fromkeys(text for message in messages for text in cast(list[str], message.get(_KEY, []))))
