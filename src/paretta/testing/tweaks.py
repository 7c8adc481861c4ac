"""Contract tests that every tweak must pass: those of a stage, on a training with the tweak."""

import pytest

from paretta.pipelines.stage import Stage
from paretta.pipelines.stages.train import Train
from paretta.pipelines.tweak import TweakSettings
from paretta.testing.stages import StageContract


class TweakContract(StageContract):
    """Override the fixture `tweak`."""

    @pytest.fixture
    def tweak(self) -> TweakSettings:
        """Return the tweak under test."""
        raise NotImplementedError("override the fixture `tweak`")

    @pytest.fixture
    def stage(self, tweak: TweakSettings) -> Stage:
        """Return a training stage with the tweak."""
        return Train.model_validate({"lr": 0.01, "tweaks": (tweak,)})

    def test_every_setting_of_it_is_described(self, tweak: TweakSettings) -> None:
        fields = type(tweak).model_fields.items()
        assert [key for key, field in fields if key != "kind" and not field.description] == []
