"""The request to a lane and its result, without heavy imports, for processes that only pass them on."""

from dataclasses import dataclass, field

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.note import Note


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One plan to run.

    Args:
        task: the task to run it on.
        plan: the plan's document.
        seed: of the run.
        files: the sweep's files; the following are names of folders in them.
        folder: for the artifact.
        cache: for tensors that trials share.
        checkpoint: for checkpoints, from which training continues if workers die; None: no checkpoints.
        by_products: plans that continue this one, each with the folder of its artifact.
        trial: uid of the trial, recorded for trials that reuse its stages.
        runtimes: those that the artifact must run on beside ONNX Runtime.
        loaders: processes per worker that read samples ahead; None for what pays.
        free_cores: per worker, that nothing else uses.
        checkpoint_s: seconds after which a training's state is saved within an epoch too; None: after each epoch only.
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
    runtimes: tuple[str, ...] = ()
    loaders: int | None = None
    free_cores: int = 0
    checkpoint_s: float | None = None


@dataclass(frozen=True, slots=True)
class TrialProduct:
    """The result of a request.

    Args:
        words: the plan in words.
        cost: the cost of making the artifact, for meters, see `paretta.pipelines.outcome.RunOutcome.facts`.
        paid: wall and CPU seconds of this run, ``wall_s`` and ``cpu_s``.
        num_parameters: of the delivered model.
        by_products: the result of each, or the reason for its failure.
        layers: facts on each layer by name, see `paretta.pipelines.quantization.layer_facts`.
        reused: the reused stages in order: ``stages`` by kind, and the ``trial`` that made them.
        notes: what stages left unchanged, and why.
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
