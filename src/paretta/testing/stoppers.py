"""Contract tests that every stopper must pass, with random candidates: each trial ends, and some are completed."""

import pickle
from typing import cast

import pytest

from paretta.search_spaces.registry import SAMPLERS
from paretta.testing.toy_search import MakeStopper, Sampler, look, run_trials, suggester


class StopperContract:
    """Override the fixture `stopper`."""

    @pytest.fixture
    def stopper(self) -> MakeStopper:
        """Return the function under test."""
        raise NotImplementedError("override the fixture `stopper`")

    @pytest.fixture
    def random(self) -> Sampler:
        """Return the sampler of random candidates."""
        return cast(Sampler, SAMPLERS.load("random"))

    def test_each_trial_ends_and_some_come_to_their_end(self, stopper: MakeStopper, random: Sampler) -> None:
        verdicts = [verdict for _, verdict in run_trials(suggester(random, stopper))]
        assert len(verdicts) == 24
        assert set(verdicts) <= {"complete", "stopped early"}
        assert "complete" in verdicts

    def test_it_is_repeatable(self, stopper: MakeStopper, random: Sampler) -> None:
        assert run_trials(suggester(random, stopper)) == run_trials(suggester(random, stopper))

    def test_it_resumes_as_if_never_interrupted(self, stopper: MakeStopper, random: Sampler) -> None:
        first = suggester(random, stopper)
        begun = run_trials(first, num_trials=12)
        resumed = pickle.loads(pickle.dumps(first))  # noqa: S301 - made a line before
        resumed.search.foresight.look_at = look
        assert begun + run_trials(resumed) == run_trials(suggester(random, stopper))
