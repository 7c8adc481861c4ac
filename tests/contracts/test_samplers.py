"""Every registered sampler and stopper passes its contract tests."""

from typing import cast

import pytest

from paretta.search_spaces.registry import SAMPLERS, STOPPERS, Registry
from paretta.testing import SamplerContract, StopperContract
from paretta.testing.toy_search import MakeStopper, Sampler

SLOW = {"gp"}  # these decide in tenths of a second, so they are asked for fewer trials


class TestSampler(SamplerContract):
    @pytest.fixture(params=SAMPLERS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def sampler(self, name: str) -> Sampler:
        return cast(Sampler, SAMPLERS.load(name))

    @pytest.fixture
    def most_trials(self, name: str) -> int:
        return 7 if name in SLOW else 24


class TestStopper(StopperContract):
    @pytest.fixture(params=STOPPERS.names())
    def stopper(self, request: pytest.FixtureRequest) -> MakeStopper:
        return cast(MakeStopper, STOPPERS.load(request.param))


@pytest.mark.parametrize("registry", [SAMPLERS, STOPPERS], ids=["samplers", "stoppers"])
def test_each_says_in_one_line_what_it_is(registry: Registry) -> None:
    assert all(20 < len(registry.describe(known)) <= 120 for known in registry.names())
