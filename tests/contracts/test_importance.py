"""Every registered importance passes its contract tests."""

import pytest

from paretta.pipelines.importance import Importance, importance_of
from paretta.search_spaces.registry import IMPORTANCES
from paretta.testing import ImportanceContract

NAMES = IMPORTANCES.names()


class TestImportance(ImportanceContract):
    @pytest.fixture(params=NAMES)
    def importance(self, request: pytest.FixtureRequest) -> Importance:
        return importance_of(request.param, "here")


@pytest.mark.parametrize("name", NAMES)
def test_its_file_says_what_it_is(name: str) -> None:
    assert len(IMPORTANCES.describe(name)) > 10
