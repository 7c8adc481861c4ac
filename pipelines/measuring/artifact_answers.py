"""The outputs of a delivered file for a split, batch by batch, in the structure of the model's outputs."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretta.pipelines.artifact import MODEL, session
from paretta.pipelines.batches.request import is_in_memory
from paretta.pipelines.bench import seeded
from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.data.samples import num_samples, places
from paretta.pipelines.data.trees import TensorTree, call_model, mapped, output_names, tensors
from paretta.pipelines.loading.check_targets import require_sound_batch
from paretta.pipelines.losses.metric_scores import MetricScores, SplitScore, scores_by
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.errors import TrialFailed, WrongInput, first_line

RUN_BATCH = 256  # samples that are answered at once, if their outputs take no more than ANSWER_BYTES
ANSWER_BYTES = 2**28


def judged(artifact: Path, task: Task, split: Split, names: Sequence[str]) -> dict[str, SplitScore | str]:
    """Return the scores of the artifact's outputs in ONNX Runtime for a split by the metrics called `names`.

    Only one batch is in memory at a time, unless a metric needs all outputs at once. If a metric cannot score the
    outputs, the reason is returned instead of its score.

    Raises:
        WrongInput: a sample of the split cannot be read, or is not sound, see `require_sound_batch`.
    """
    takers = {name: scores_by(task.metrics[name], task) for name in names}
    refused: dict[str, str] = {}
    for outputs, targets in artifact_answers(artifact, task, split):
        for name in takers.keys() - refused.keys():
            try:
                takers[name].update(outputs, targets)
            except WrongInput as error:
                refused[name] = first_line(error)
    return {name: refused.get(name) or _scored(taker) for name, taker in takers.items()}


def _scored(taker: MetricScores) -> SplitScore | str:
    try:
        return taker.scored()
    except WrongInput as error:
        return first_line(error)


def artifact_answers(artifact: Path, task: Task, split: Split) -> Iterator[tuple[TensorTree, TensorTree]]:
    """Yield the artifact's outputs for each batch of a split, and the batch's targets."""
    dataset, opened = task.split(split), session(artifact / MODEL)
    names = [given.name for given in opened.get_inputs()]
    for part in places(dataset, run_batch(task)):
        inputs, targets = task.batch(dataset, part, seed=0)
        require_sound_batch(task, inputs, targets, part.tolist(), f"task.{split}")
        yield answers_like(task, opened.run(None, dict(feeds_of(inputs, names)))), targets


def require_readable(task: Task, split: Split) -> None:
    """Read every sample of a split, unless it is held in tensors, which `check` looks through.

    Raises:
        TrialFailed: a sample cannot be read, or it is not sound, see `require_sound_batch`.
    """
    if is_in_memory(task, split):
        return
    dataset = task.split(split)
    try:
        for part in places(dataset, RUN_BATCH):
            inputs, targets = task.batch(dataset, part, seed=0)
            require_sound_batch(task, inputs, targets, part.tolist(), f"task.{split}")
    except WrongInput as error:
        raise TrialFailed.of(error) from error


def feeds_of(inputs: TensorTree, names: Sequence[str]) -> Feeds:
    """Return a model's inputs by the input names of the delivered file, which has them in the same order.

    Raises:
        TrialFailed: the numbers of inputs differ.
    """
    given = tensors(inputs)
    if len(given) != len(names):
        raise TrialFailed(f"measure: the file has the inputs {', '.join(names)}, the task gives {len(given)} tensors")
    return {name: tensor.detach().cpu().numpy() for name, tensor in zip(names, given, strict=True)}


def first_feeds(artifact: Path, task: Task, split: Split, count: int = RUN_BATCH) -> Feeds:
    """Return the first samples of a split as feeds of the artifact."""
    dataset = task.split(split)
    inputs, _ = task.batch(dataset, torch.arange(min(count, num_samples(dataset))))
    return feeds_of(inputs, [given.name for given in session(artifact / MODEL).get_inputs()])


def answers_like(task: Task, arrays: Iterable[NDArray[np.generic]]) -> TensorTree:
    """Return the runtime's arrays in the structure of the model's own outputs, such as a tensor, tuple or mapping."""
    found = [torch.from_numpy(array) for array in arrays]
    like = _outputs_like(task)
    if isinstance(like, Tensor):
        return found[0]
    if len(output_names(like)) != len(found):
        raise TrialFailed(f"measure: the model answers {len(output_names(like))} tensors, its file {len(found)}")
    following = iter(found)
    return mapped(lambda _: next(following), like)


@lru_cache(maxsize=1)
@torch.no_grad()
def run_batch(task: Task) -> int:
    """Return how many samples are answered at once, by the outputs of the first of them; cached for the last task.

    A language model of 49,152 tokens answers 256 texts of 128 tokens with 6.4 GB.
    """
    with seeded(0):
        inputs, _ = task.batch(task.validation, torch.arange(1), seed=0)
        outputs = call_model(task.new_model().eval(), inputs)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors(outputs))
    return max(min(RUN_BATCH, ANSWER_BYTES // max(size, 1)), 1)


@lru_cache(maxsize=1)
@torch.no_grad()
def _outputs_like(task: Task) -> TensorTree:
    """Return the untrained model's outputs for the example, without values; cached for the last task."""
    outputs = call_model(task.new_model().eval(), task.example_input)
    return mapped(lambda tensor: tensor.new_empty(0), outputs)
