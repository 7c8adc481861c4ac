"""Every registered sensitivity passes its contract tests."""

import pytest

from paretta.pipelines.quantization.bit_widths import sensitivity_of
from paretta.pipelines.sensitivities import Sensitivity
from paretta.search_spaces.registry import SENSITIVITIES
from paretta.testing import SensitivityContract

NAMES = SENSITIVITIES.names()


class TestSensitivity(SensitivityContract):
    @pytest.fixture(params=NAMES)
    def sensitivity(self, request: pytest.FixtureRequest) -> Sensitivity:
        return sensitivity_of(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_its_file_says_what_it_is(name: str) -> None:
    assert len(SENSITIVITIES.describe(name)) > 10
