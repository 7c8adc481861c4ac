"""Contract tests that every sampler must pass: repeatable, resumable, within limits, compatible with every stopper."""

import pickle
import warnings

import numpy as np
import pytest

from paretta.orchestrator.search.known_objectives import KnownObjectives
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.pareto import non_dominated
from paretta.search_spaces.registry import STOPPERS
from paretta.testing.toy_search import Sampler, look, losses_of, run_trials, suggester


class SamplerContract:
    """Override the fixture `sampler`, and `most_trials` if its decisions are slow."""

    @pytest.fixture
    def sampler(self) -> Sampler:
        """Return the function under test."""
        raise NotImplementedError("override the fixture `sampler`")

    @pytest.fixture
    def most_trials(self) -> int:
        """Return the maximum number of trials per test, except in the test of the front."""
        return 24

    def test_it_runs_exactly_the_asked_number_of_distinct_plans(self, sampler: Sampler, most_trials: int) -> None:
        search = suggester(sampler, num_trials=most_trials)
        plans = run_trials(search)
        assert len(plans) == len({fingerprint for fingerprint, _ in plans}) == search.search.num_trials

    def test_it_is_repeatable_under_its_seed(self, sampler: Sampler, most_trials: int) -> None:
        few = min(12, most_trials)
        first = run_trials(suggester(sampler, num_trials=few))
        assert run_trials(suggester(sampler, num_trials=few)) == first
        assert run_trials(suggester(sampler, num_trials=few, seed=4)) != first

    @pytest.mark.parametrize("stopper", ["none", "index"])
    def test_it_resumes_as_if_never_interrupted(self, sampler: Sampler, most_trials: int, stopper: str) -> None:
        few = min(12, most_trials)
        whole = run_trials(suggester(sampler, stopper, num_trials=few))
        first = suggester(sampler, stopper, num_trials=few)
        begun = run_trials(first, num_trials=few // 2)
        resumed = pickle.loads(pickle.dumps(first))  # noqa: S301 - made a line before
        assert resumed.search.foresight.look_at is None  # the function belongs to a running cluster and is not pickled
        resumed.search.foresight.look_at = look
        assert begun + run_trials(resumed) == whole

    def test_it_finds_a_toy_front(self, sampler: Sampler, most_trials: int) -> None:
        search = suggester(sampler, num_trials=50 if most_trials > 12 else 12)
        losses = []
        while (suggestion := search.ask()) is not None:
            losses.append(losses_of(suggestion.plan))
            search.tell(suggestion.key, losses[-1])
        front = np.array(losses)[non_dominated(np.array(losses))]
        assert len(front) >= 5
        # the true front reaches from the uncompressed model to less than an eighth of its size
        assert front[:, 1].min() < -0.9
        assert front[:, 0].min() < 20.0

    def test_it_survives_failures_and_stops(self, sampler: Sampler, most_trials: int) -> None:
        search = suggester(sampler, num_trials=min(18, most_trials))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for count in range(search.search.num_trials):
                suggestion = search.ask()
                assert suggestion is not None
                if count % 3 == 0:
                    search.tell(suggestion.key, [float("nan"), 1.0])
                elif count % 3 == 1:
                    search.tell(suggestion.key, stopped=True)
                else:
                    search.tell(suggestion.key, losses_of(suggestion.plan))
        assert search.running == ()
        assert search.ask() is None

    def test_it_has_no_plan_run_that_breaks_a_known_limit(self, sampler: Sampler, most_trials: int) -> None:
        half = Limit.parse({"meter": "size", "at_most": {"of_baseline": 0.5}})
        search = suggester(sampler, num_trials=min(12, most_trials), limits=(half,))
        assert isinstance(search.search.foresight, KnownObjectives)
        sizes = []
        while (suggestion := search.ask()) is not None:
            sizes.append(losses_of(suggestion.plan)[0])
            search.tell(suggestion.key, losses_of(suggestion.plan))
        assert len(sizes) == search.search.num_trials
        assert max(sizes) <= 50.0

    @pytest.mark.parametrize("stopper", sorted({*STOPPERS.names()} - {"none"}))
    def test_every_stopper_works_with_it_and_spares_what_is_worse(
        self, sampler: Sampler, most_trials: int, stopper: str
    ) -> None:
        search = suggester(sampler, stopper, num_trials=most_trials)
        verdicts = [verdict for _, verdict in run_trials(search)]
        assert len(verdicts) == search.search.num_trials
        assert set(verdicts) <= {"complete", "stopped early"}
        assert 0 < verdicts.count("stopped early") < len(verdicts)
