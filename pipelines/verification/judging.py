"""Judge a delivered model's answers by the task's own metric, on the task's own data."""

import json
from pathlib import Path
from typing import Final

from paretta.pipelines.artifact import MANIFEST
from paretta.pipelines.data.feeds import load_feeds, save_feeds
from paretta.pipelines.data.samples import places
from paretta.pipelines.data.trees import TensorTree, tensors
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.measuring.artifact_answers import answers_like, feeds_of, run_batch
from paretta.pipelines.task import Split, Task
from paretta.pipelines.verification.verify import isolated_report
from paretta.search_spaces.bounded_files import read_bounded
from paretta.search_spaces.canonical import Json

GROUP_BYTES: Final = 2**28  # maximum size of the inputs on disk at a time


def strange_data(folder: Path, task: Task) -> str | None:
    """Return why the task's data here is not that of the artifact, or None if it is."""
    try:
        written: Json = json.loads(read_bounded(folder / MANIFEST))["data"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    here = data_digest(task)
    return None if written == here else f"the task's data here is {here}, the artifact's was {written}"


def isolated_score(folder: Path, task: Task, metric: str, split: Split, scratch: Path) -> float:
    """Run the isolated process on the split, a few batches at a time, and score the outputs by the task's metric."""
    taker = scores_by(task.metrics[metric], task, resamples=False)
    waiting: list[tuple[Path, TensorTree]] = []
    for number, part in enumerate(parts := list(places(task.split(split), run_batch(task))), start=1):
        inputs, targets = task.batch(task.split(split), part, seed=0)
        file = scratch / f"{number}.npz"
        given = tensors(inputs)  # in the order of the file's inputs, so names are not needed
        save_feeds(file, feeds_of(inputs, [str(place) for place, _ in enumerate(given)]))
        waiting.append((file, targets))
        if number == len(parts) or sum(file.stat().st_size for file, _ in waiting) > GROUP_BYTES:
            isolated_report(folder, [{"inputs": str(file), "outputs": f"{file}.out"} for file, _ in waiting], scratch)
            for done, told in waiting:
                taker.update(answers_like(task, load_feeds(Path(f"{done}.out")).values()), told)
                done.unlink()
                Path(f"{done}.out").unlink()
            waiting.clear()
    return taker.scored().value
