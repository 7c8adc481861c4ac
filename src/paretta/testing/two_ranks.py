"""Applying stages in two processes of one process group, as the workers of a trial do."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils.data import Subset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.samples import take
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import Stage, stage_of
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.user_code import reference_to

RANK_S: Final = 290.0


def toy_task() -> Task:
    """Return the digits task with 256 training images and a tiny network."""
    task = make(width=4, hidden=16)
    return replace(task, train=Subset(task.train, list(range(256))), source=task.validation)


def images() -> Tensor:
    """Return 32 images of the validation split, [32, 1, 8, 8]."""
    found: Tensor = take(toy_task().validation, torch.arange(32))[0]
    return found


def applied(stage: Stage, ranks: Ranks) -> tuple[nn.Module, Tensor]:
    """Apply a stage to the seeded toy model; return the model and its outputs on 32 images."""
    task = toy_task()
    with seeded(0):
        model = task.new_model()
    teacher = deepcopy(model).eval()
    bench = Bench(task, ranks, seed=5, teacher=teacher, teacher_key="toy", stage=stage.kind)
    with seeded(5):
        model = stage.apply(model, bench).eval()
    with torch.no_grad():
        return model, model(images())


def outputs_on_two_ranks(stages: Mapping[str, Stage], folder: Path) -> Mapping[str, Tensor]:
    """Return the outputs of `applied` for each stage on the first of two ranks, which are started once for all stages.

    Args:
        stages: stages by arbitrary names.
        folder: an empty folder.
    """
    documents = {name: document_of(stage) for name, stage in stages.items()}
    (folder / "stages.json").write_text(json.dumps(documents), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "error", str(Path(__file__).with_name("rank.py"))]
    # our own interpreter and script; no part of the command is external input
    ranks = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in range(2)]  # noqa: S603
    assert [rank.wait(timeout=RANK_S) for rank in ranks] == [0, 0], "a rank failed"
    outputs: Mapping[str, Tensor] = torch.load(folder / "outputs.pt", weights_only=True)
    return outputs


def document_of(settings: BaseModel) -> Document:
    """Return a stage as a document that another process can parse, wherever its classes are defined."""
    document: Document = settings.model_dump(mode="json")
    nested = {name: _nested(value) for name, value in settings if _nested(value) is not None}
    return {**document, **nested, **({"kind": reference_to(type(settings))} if "kind" in document else {})}


def _nested(value: object) -> Document | list[Document] | None:
    if isinstance(value, BaseModel):
        return document_of(value)
    if isinstance(value, list | tuple) and value and all(isinstance(item, BaseModel) for item in value):
        return [document_of(item) for item in value]
    return None


def be_one_rank(rank: int, folder: Path) -> None:
    """Apply the stages in `folder` as one of the two ranks, then exit the process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ranks = Ranks.joined()
    documents: Mapping[str, Document] = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    outputs = {name: applied(stage_of(document), ranks)[1] for name, document in documents.items()}
    for output in outputs.values():
        assert torch.equal(output, ranks.broadcast(output)), "ranks must end with equal models"
    if ranks.is_first:
        torch.save(outputs, folder / "outputs.pt")
    dist.barrier()
    sys.stdout.flush()
    # not sys.exit: a gloo thread that frees its last tensor during interpreter shutdown would abort the process
    os._exit(0)
