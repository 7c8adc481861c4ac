"""What a lane is asked to make, and what it delivers; light enough for processes that only pass them on."""

from dataclasses import dataclass, field

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.note import Note


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One plan to run.

    Args:
        task: what to run it on.
        plan: the plan's document.
        seed: of the run.
        files: of the sweep; the following are names of folders there.
        folder: where the artifact goes.
        cache: where tensors go that trials share.
        checkpoint: where trainings keep their states, to go on from when their workers die; None: nowhere.
        by_products: plans that go on where this one ends, each with the folder of its artifact.
        trial: uid of the trial, for others that reuse what it made.
    """

    task: TaskReference
    plan: Document
    seed: int
    files: SweepFiles
    folder: str
    cache: str
    checkpoint: str | None = None
    by_products: tuple[tuple[Document, str], ...] = ()
    trial: str = ""


@dataclass(frozen=True, slots=True)
class TrialProduct:
    """What came of a request.

    Args:
        words: the plan in words.
        cost: what making the artifact takes, for meters, see `paretta.pipelines.outcome.RunOutcome.facts`.
        paid: wall and CPU seconds of this run, ``wall_s`` and ``cpu_s``.
        num_parameters: of the delivered model.
        by_products: what came of each; a reason stands for one that failed.
        layers: what became of each of its layers by name, see `paretta.pipelines.quantization.layer_facts`.
        reused: what was not made again, in order: ``stages`` by kind, and the ``trial`` that made them.
        notes: what stages left as it was, and why.
        warnings: since the last progress message.
    """

    words: str
    cost: dict[str, float]
    paid: dict[str, float]
    num_parameters: int
    by_products: tuple["TrialProduct | str", ...] = ()
    layers: dict[str, Json] = field(default_factory=dict)
    reused: tuple[Document, ...] = ()
    notes: tuple[Note, ...] = ()
    warnings: tuple[str, ...] = ()
