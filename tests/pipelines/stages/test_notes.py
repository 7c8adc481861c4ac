"""A stage that changes nothing says so, and so does what is delivered: nothing passes for compressed that is not."""

from dataclasses import replace
from pathlib import Path

import pytest
from quantized_models import bench_of, images
from torch import Tensor, nn

from paretta.pipelines.artifact import verify_files
from paretta.pipelines.bench import Bench
from paretta.pipelines.outcome import RunOutcome
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.stage import Stage, noted, stage_of
from paretta.pipelines.stages.swap_activation import SwapActivation
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.verification.rehearsal import rehearse
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.space.plan import Plan

TRAIN: Document = {"kind": "train", "epochs": 1, "lr": 0.01, "batch_size": 32}


class Tied(nn.Module):
    """Its only hidden width is fixed by the data; no norm; a recurrent layer that no stage knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.steps, self.relu = nn.Linear(12, 12), nn.RNN(12, 4, batch_first=True), nn.ReLU()
        self.head = nn.Linear(4, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.squeeze(1)
        answer: Tensor = self.head(self.steps(rows + self.relu(self.layer(rows)))[0][:, -1])
        return answer


class Fixed(nn.Module):
    """Like `Tied`, of layers that can be kept for other trials."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(12, 12), nn.Linear(12, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.squeeze(1)
        answer: Tensor = self.head((rows + self.layer(rows)).mean(1))
        return answer


class NormFirst(nn.Sequential):
    """A batch norm that no layer stands before."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 10))


class Idle(Stage):
    """Somebody's own stage that does nothing and says nothing."""

    kind: str = "idle"

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        return model


def notes_of(stage: Stage, model: nn.Module) -> list[Note]:
    bench = bench_of(model, images(32))
    noted(stage, model.eval(), bench)
    return bench.notes


@pytest.mark.parametrize(
    ("model", "document", "expected"),
    [
        (Tied, {"kind": "prune", "sparsity": 0.5}, "no selected layer can lose that many channels"),
        (Tied, {"kind": "prune", "sparsity": 0.0}, "nothing is asked of it"),
        (Tied, {"kind": "sparsify", "sparsity": 0.0}, "nothing is asked of it"),
        (Tied, {"kind": "sparsify", "sparsity": 0.001}, "no layer has so many weights that one of them goes"),
        (Tied, {"kind": "fold_norms"}, "the model has no batch norm"),
        (NormFirst, {"kind": "fold_norms"}, "no batch norm can be folded"),
        (Tied, {"kind": "recalibrate_norms"}, "the model has no batch norm with running statistics"),
        (Tied, {"kind": "swap_activation", "to": "relu"}, "all 1 selected activations are relu"),
    ],
)
def test_a_stage_that_changes_nothing_says_why(model: type[nn.Module], document: Document, expected: str) -> None:
    verdicts = [note for note in notes_of(stage_of(document), model()) if note.verdict]
    assert verdicts == [Note(str(document["kind"]), expected, verdict="changed nothing")]


def test_one_that_does_not_say_so_is_found_out() -> None:
    (note,) = notes_of(Idle(), Tied())
    assert (note.stage, note.verdict) == ("idle", "changed nothing")


class Forgetful(Idle):
    """Changes the model in place and returns nothing."""

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        model.requires_grad_(False)
        return None  # type: ignore[return-value]


def test_one_that_returns_no_model_is_told() -> None:
    with pytest.raises(WrongInput, match=r"^Forgetful: apply must return the changed model.*; got 'NoneType'; end it"):
        notes_of(Forgetful(), Tied())


@pytest.mark.usefixtures("full_range")
@pytest.mark.parametrize(
    "document",
    [
        {"kind": "prune", "sparsity": 0.5},
        {"kind": "quantize"},
        {"kind": "cluster"},
        {"kind": "sparsify", "sparsity": 0.5},
        {"kind": "fold_norms"},
        {"kind": "recalibrate_norms"},
        {"kind": "swap_activation", "to": "tanh"},
    ],
    ids=lambda document: document["kind"],
)
def test_a_stage_that_changes_something_gives_no_verdict(document: Document) -> None:
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(256, 10))
    assert not notes_of(stage_of(document), nn.Sequential(*layers))


def test_layers_that_stay_are_named_with_the_reason_and_what_was_asked() -> None:
    reason = "stays in float: RNN layers have no integer form here; Conv1d, Conv2d, Conv3d, Linear, Embedding do"
    found = notes_of(stage_of({"kind": "quantize", "bits": 4}), Tied())
    assert Note("quantize", reason, ("steps.weight_hh_l0",), bits=4) in found
    (kept,) = [note for note in notes_of(stage_of({"kind": "prune", "sparsity": 0.5}), Tied()) if note.layers]
    assert kept.layers == ("layer",)
    assert kept.reason.startswith("keep their width: the model's forward depends on their number")
    (left, _) = notes_of(stage_of({"kind": "fold_norms"}), NormFirst())
    assert left.layers == ("0",)


def test_the_steps_of_iterate_are_told_once_and_none_of_them_removed_anything() -> None:
    document: Document = {"kind": "iterate", "prune": {"kind": "prune", "sparsity": 0.5}, "retrain": TRAIN, "steps": 3}
    found = notes_of(stage_of(document), Tied())
    assert [note.layers for note in found] == [("layer",), ()]
    assert found[-1] == Note(
        "iterate", "no step is kept that removes anything, it only trained", verdict="removed nothing"
    )


@pytest.mark.usefixtures("full_range")
def test_outcome_words_and_manifest_tell_it_also_of_stages_made_before(tmp_path: Path) -> None:
    task = replace(bench_of(Fixed(), images(64)).task, model=Fixed)
    prune: Document = {"kind": "prune", "sparsity": 0.5}

    def ran(name: str, *stages: Document, longer: tuple[Document, ...] = ()) -> RunOutcome:
        return run(
            Plan((TRAIN,), stages),
            task,
            seed=3,
            ranks=Ranks.alone(),
            folder=tmp_path / name,
            cache=Cache(tmp_path / "cache"),
            name=name,
            by_products=[(Plan((TRAIN,), (*stages, *longer)), tmp_path / f"{name} longer")] if longer else [],
        )

    first = ran("first", prune, {"kind": "fold_norms"}, longer=({"kind": "recalibrate_norms"},))
    assert first.words == "changed nothing (prune 50% of channels by l1, fold batch norms)"
    assert [(note.stage, note.verdict) for note in first.notes if note.verdict] == [
        ("prune", "changed nothing"),
        ("fold_norms", "changed nothing"),
    ]
    told = [note.to_document() for note in first.notes]
    assert verify_files(tmp_path / "first")["notes"] == told
    again = ran("again", prune, {"kind": "fold_norms"})
    assert [stage.trial for stage in again.reused] == ["first"] * 3
    assert (again.words, again.notes) == (first.words, first.notes)
    (longer,) = first.by_products
    assert isinstance(longer, RunOutcome)
    assert longer.words.startswith("changed nothing (prune 50% of channels by l1, fold batch norms, recalibrate")
    assert [note.stage for note in longer.notes if note.verdict] == ["prune", "fold_norms", "recalibrate_norms"]
    trained = ran("trained", prune, TRAIN)
    assert trained.words == f"prune 50% of channels by l1 (changed nothing), {stage_of(TRAIN).words()}"


def test_a_check_tells_it_before_any_trial_and_nothing_of_what_is_not_asked() -> None:
    task = replace(bench_of(Tied(), images(64)).task, model=Tied)
    stages: list[Document] = [{"kind": "prune", "sparsity": 0.5}, {"kind": "sparsify", "sparsity": 0.0}]
    told = rehearse([Plan((TRAIN,), tuple(stages))], task, where="space", tell=lambda _: None).unchanged
    assert told[0].startswith("layer keep their width: the model's forward depends on their number")
    assert told[1:] == ("prune 50% of channels by l1: changed nothing, no selected layer can lose that many channels",)


def test_activations_that_differ_are_swapped() -> None:
    model = nn.Sequential(nn.ReLU(), nn.GELU(), nn.Flatten(), nn.Linear(144, 10))
    assert not notes_of(SwapActivation(to="relu"), model)
    assert [type(layer) for layer in model[:2]] == [nn.ReLU, nn.ReLU]


def test_a_note_survives_its_document() -> None:
    notes = [Note("prune", "keep their width", ("a", "b")), Note("quantize", "no", verdict="changed nothing", bits=8)]
    assert [Note.from_document(note.to_document()) for note in notes] == notes
