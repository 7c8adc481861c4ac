"""Every registered stage and tweak works on a model with named inputs and mapped outputs, on two ranks as on one."""

import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from tree_tasks import text_task
from two_ranks import be_a_rank, run_on_two_ranks

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.trees import call_model
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import Stage, stage_of
from paretta.pipelines.task import Task
from paretta.pipelines.tweak import TweakSettings
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.registry import STAGES, TWEAKS
from paretta.testing.stages import TOLERANCE

NAMES = (*STAGES.names(), *(f"train with {name}" for name in TWEAKS.names()))
SETTINGS: Mapping[str, Document] = {
    "student": {"variant": "narrow"},
    "swap_activation": {"to": "gelu"},
    "transfer": {"parameters": "none"},
}


class Tagged(nn.Module):
    """Named inputs; an embedding, a norm and an activation; answers with a mapping.

    No bias comes before the norm, whose gradient is rounding alone, which Adam would scale to whole steps.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.words, self.mix, self.norm = nn.Embedding(20, 8), nn.Linear(8, width, bias=False), nn.BatchNorm1d(width)
        self.activation, self.head = nn.ReLU(), nn.Linear(width, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        words = self.words(ids) * mask.unsqueeze(-1)
        mean = words.sum(1) / mask.sum(1, keepdim=True)
        logits = self.head(self.activation(self.norm(self.mix(mean))))
        return {"logits": logits, "confidence": logits.softmax(1).amax(1)}


def task() -> Task:
    found = text_task()
    return replace(found, model=Tagged, source=found.validation, variants={"narrow": lambda: Tagged(8)})


def required(settings: type[Stage] | type[TweakSettings], kind: str) -> Document:
    """The example of each setting that must be given."""
    fields = settings.model_fields.items()
    examples = {key: (field.examples or [None])[0] for key, field in fields if field.is_required()}
    return {"kind": kind, **examples, **SETTINGS.get(kind, {})}


def stage_called(name: str) -> Stage:
    kind, _, tweak = name.partition(" with ")
    if not tweak:
        return stage_of(required(STAGES.load_class(kind, Stage), kind))
    settings = TWEAKS.load_class(tweak, TweakSettings)
    return stage_of({"kind": kind, "lr": 0.01, "tweaks": [required(settings, tweak)]})


def applied(name: str, ranks: Ranks) -> dict[str, Tensor]:
    """Outputs on 32 validation samples after a stage on the seeded model."""
    given, stage = task(), stage_called(name)
    with seeded(0):
        model = given.new_model()
    bench = Bench(given, ranks, seed=5, teacher=deepcopy(model).eval(), teacher_key="tree", stage=stage.kind)
    with seeded(5):
        model = stage.apply(model, bench).eval()
    inputs, _ = given.batch(given.validation, torch.arange(32))
    with torch.no_grad():
        return dict(call_model(model, inputs))


@cache
def alone(name: str) -> dict[str, Tensor]:
    return applied(name, Ranks.alone())


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Tensor]]:
    """Outputs after each stage on two processes, which are started once for all stages."""
    folder = tmp_path_factory.mktemp("ranks")
    run_on_two_ranks(__file__, folder)
    found: Mapping[str, dict[str, Tensor]] = torch.load(folder / "outputs.pt", weights_only=True)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_with_the_same_names_on_two_ranks_as_on_one(
    name: str, on_two_ranks: Mapping[str, dict[str, Tensor]]
) -> None:
    one, two = alone(name), on_two_ranks[name]
    assert one["logits"].shape == (32, 2)
    assert list(one) == list(two) == ["logits", "confidence"]
    for output in one:
        assert bool(torch.isfinite(one[output]).all())
        torch.testing.assert_close(two[output], one[output], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_the_answers_unless_it_is_to_keep_them(name: str) -> None:
    with seeded(0):
        untouched = task().new_model().eval()
    inputs, _ = task().batch(task().validation, torch.arange(32))
    same = torch.allclose(call_model(untouched, inputs)["logits"], alone(name)["logits"], rtol=0, atol=1e-6)
    assert same == (name in {"equalize", "fold_norms"})


def _work(ranks: Ranks, folder: Path) -> None:
    outputs = {name: applied(name, ranks) for name in NAMES}
    for output in outputs.values():
        assert torch.equal(output["logits"], ranks.broadcast(output["logits"])), "ranks must end with equal models"
    if ranks.is_first:
        torch.save(outputs, folder / "outputs.pt")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "pipelines"))
    be_a_rank(_work)
