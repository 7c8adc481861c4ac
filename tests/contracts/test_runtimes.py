"""Every registered runtime whose library is installed passes the contract tests."""

import pytest

from paretta.pipelines.runtime import Runtime, runtime_of
from paretta.search_spaces.registry import RUNTIMES
from paretta.testing import RuntimeContract


class TestRuntime(RuntimeContract):
    @pytest.fixture(params=RUNTIMES.names())
    def runtime(self, request: pytest.FixtureRequest) -> Runtime:
        return runtime_of(request.param)
