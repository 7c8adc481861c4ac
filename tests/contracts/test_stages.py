"""Every registered stage and tweak passes its contract tests."""

from collections.abc import Mapping
from functools import cache

import pytest
from torch import Tensor

from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import Stage, stage_of
from paretta.pipelines.tweak import TweakSettings, tweak_of
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.registry import STAGES, TWEAKS
from paretta.testing import StageContract, TweakContract
from paretta.testing.two_ranks import applied, outputs_on_two_ranks

DYNAMIC = "quantize with dynamic activations"


def required(settings: type[Stage] | type[TweakSettings], kind: str) -> Document:
    """Return a document from the examples of the required settings."""
    fields = settings.model_fields.items()
    return {"kind": kind, **{key: (field.examples or [None])[0] for key, field in fields if field.is_required()}}


def stage_called(name: str) -> Stage:
    """Return a stage, or for ``train with NAME`` a training with a tweak, or the one that is called `DYNAMIC`."""
    if name == DYNAMIC:
        return stage_of({"kind": "quantize", "activation_range": "dynamic"})
    kind, _, tweak = name.partition(" with ")
    if tweak:
        settings = TWEAKS.load_class(tweak, TweakSettings)
        return stage_of({"kind": kind, "lr": 0.01, "tweaks": [required(settings, tweak)]})
    return stage_of(required(STAGES.load_class(kind, Stage), kind))


@cache
def on_one_rank(name: str) -> Tensor:
    return applied(stage_called(name), Ranks.alone())[1]


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Tensor]:
    """Outputs after each stage on two processes, which are started once for all stages."""
    names = (*STAGES.names(), DYNAMIC, *(f"train with {name}" for name in TWEAKS.names()))
    return outputs_on_two_ranks({name: stage_called(name) for name in names}, tmp_path_factory.mktemp("ranks"))


class TestStage(StageContract):
    @pytest.fixture(params=[*STAGES.names(), DYNAMIC])
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def stage(self, name: str) -> Stage:
        return stage_called(name)

    @pytest.fixture
    def alone(self, name: str) -> Tensor:
        return on_one_rank(name)

    @pytest.fixture
    def two_ranks(self, name: str, on_two_ranks: Mapping[str, Tensor]) -> Tensor:
        return on_two_ranks[name]

    def test_its_file_says_what_it_is(self, name: str) -> None:
        assert len(STAGES.describe(name.partition(" ")[0])) > 10


class TestTweak(TweakContract):
    @pytest.fixture(params=TWEAKS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def tweak(self, name: str) -> TweakSettings:
        return tweak_of(required(TWEAKS.load_class(name, TweakSettings), name))

    @pytest.fixture
    def alone(self, name: str) -> Tensor:
        return on_one_rank(f"train with {name}")

    @pytest.fixture
    def two_ranks(self, name: str, on_two_ranks: Mapping[str, Tensor]) -> Tensor:
        return on_two_ranks[f"train with {name}"]

    def test_its_file_says_what_it_is(self, name: str) -> None:
        assert len(TWEAKS.describe(name)) > 10
