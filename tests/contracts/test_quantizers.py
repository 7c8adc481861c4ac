"""Every registered quantizer passes its contract tests."""

import pytest

from paretta.pipelines.quantizers import Quantizer
from paretta.search_spaces.registry import QUANTIZERS
from paretta.testing import QuantizerContract


class TestQuantizer(QuantizerContract):
    @pytest.fixture(params=QUANTIZERS.names())
    def quantizer(self, request: pytest.FixtureRequest) -> type[Quantizer]:
        return QUANTIZERS.load_class(request.param, Quantizer)
