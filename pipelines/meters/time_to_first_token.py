"""Seconds of CPU time from a prompt to the scores of the first token after it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paretta.pipelines.data.decoder_feeds import prompt
from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.measuring.decoder_meter import DecoderMeter


class TimeToFirstToken(DecoderMeter):
    """CPU seconds of the call that reads a prompt of `tokens` tokens with an empty cache, in an open session.

    For models with a cache of keys and values only. ``wall`` in the details is the time by the clock on the wall. It
    depends on the machine; `load_time` is what opening the file takes.
    """

    kind: Literal["time_to_first_token"] = "time_to_first_token"
    unit: Literal["s"] = "s"
    goal: Literal["min"] = "min"
    tokens: int = Field(default=128, ge=1, description="the tokens of the prompt, such as 128")

    @property
    def num_positions(self) -> int:
        """Those of the prompt."""
        return self.tokens

    def call_of(self, feeds: Feeds) -> Feeds:
        """Return the feeds of the prompt."""
        return prompt(feeds, self.tokens)

    def value_of(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the seconds."""
        return seconds
