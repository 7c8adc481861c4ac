"""Tokens per second of CPU time that a decoder generates after a context."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paretta.pipelines.data.decoder_feeds import step
from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.measuring.decoder_meter import DecoderMeter


class TokensPerSecond(DecoderMeter):
    """Tokens per second of CPU time, ``batch_size / seconds of a call`` for one token of each text after `context`.

    For models with a cache of keys and values only. With several threads it is tokens per CPU second summed over
    threads; ``wall`` in the details is the rate by the clock on the wall. It depends on the machine.
    """

    kind: Literal["tokens_per_second"] = "tokens_per_second"
    unit: Literal["tokens/s"] = "tokens/s"
    goal: Literal["max"] = "max"
    context: int = Field(
        default=128, ge=1, description="the tokens before, whose keys and values are given, such as 128"
    )

    @property
    def num_positions(self) -> int:
        """The context and the new token."""
        return self.context + 1

    def call_of(self, feeds: Feeds) -> Feeds:
        """Return the feeds of one token after the context."""
        return step(feeds, self.context)

    def value_of(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the tokens per second."""
        return self.batch_size / seconds
