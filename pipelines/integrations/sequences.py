"""Sequences of different lengths, such as sound, as a task: padded in batches, with their lengths beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, signature

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from paretta.pipelines.data.samples import Samples, num_samples
from paretta.pipelines.task import SPLITS, Metric, Split, Task
from paretta.search_spaces.errors import Problem, WrongInput


class Sequences(Dataset[tuple[Tensor, int]]):
    """Sequences [steps, ...] of different lengths, and a label for each."""

    def __init__(self, sequences: Sequence[Tensor], labels: Sequence[int]) -> None:
        """Take as many sequences as labels."""
        if len(sequences) != len(labels):
            rule = "there must be as many labels as sequences"
            raise WrongInput(Problem("labels", rule, f"{len(labels)} for {len(sequences)}"))
        self.sequences, self.labels = sequences, labels

    @classmethod
    def padded(cls, values: Tensor, lengths: Sequence[int], labels: Sequence[int]) -> "Sequences":
        """Take sequences from one padded tensor [n, steps, ...].

        Raises:
            WrongInput: a length is less than 1 or more than the tensor has steps.
        """
        longest = values.shape[1]
        for place, length in enumerate(lengths):
            if not 1 <= length <= longest:
                raise WrongInput(
                    Problem(f"lengths[{place}]", f"must be 1 to {longest}, as many steps as there are", length)
                )
        return cls([row[:length] for row, length in zip(values, lengths, strict=True)], labels)

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a sequence [steps, ...] and its label."""
        return self.sequences[index], self.labels[index]

    def problems(self, where: str) -> Iterator[Problem]:
        """Yield what is wrong with the first sequence that does not fit the others."""
        first = self.sequences[0]
        for place, sequence in enumerate(self.sequences):
            name = f"{where}[{place}]"
            if len(sequence) == 0:
                yield Problem(name, "a sequence must have at least one step", 0, "leave it out")
            elif sequence.shape[1:] != first.shape[1:] or sequence.dtype != first.dtype:
                rule = f"each step must look like those of {where}[0], {list(first.shape[1:])} of {first.dtype}"
                yield Problem(name, rule, f"{list(sequence.shape[1:])} of {sequence.dtype}")
            elif sequence.is_floating_point() and not bool(sequence.isfinite().all()):
                yield Problem(name, "must be finite", "nan or inf", "clean the data")
            else:
                continue
            return


def pad_batch(samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return sequences [n, steps, ...], padded with 0 to the longest, their lengths [n] and labels [n]."""
    sequences = [sequence for sequence, _ in samples]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return pad_sequence(sequences, batch_first=True), lengths, torch.tensor([label for _, label in samples])


def steps_mask(values: Tensor, lengths: Tensor) -> Tensor:
    """Return 1.0 where a padded batch [n, steps, ...] holds a sequence and 0.0 where it is padded, [n, steps].

    >>> steps_mask(torch.zeros(2, 3), torch.tensor([1, 3])).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    steps = torch.arange(values.shape[1], device=values.device)
    return (steps < lengths.unsqueeze(1)).to(torch.float32)


def sequence_task(
    splits: Mapping[Split, Samples],
    model: Callable[[], nn.Module],
    *,
    steps: tuple[int, int] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Task:
    """Return the task of a model that takes padded sequences and their lengths.

    In the delivered file, inputs are called like the parameters of the model's ``forward``, and the number of steps is
    free.

    Args:
        splits: the data sets ``train``, ``validation`` and ``test``, each with samples (sequence [steps, ...], label),
            such as `Sequences`.
        model: a function that makes the model; ``forward(sequences, lengths)`` takes [n, steps, ...] and [n].
        steps: bounds of the number of steps in the delivered file.
        loss: ``loss(outputs, labels)``.
        metrics: by default accuracy.
        files: delivered beside each model.

    Raises:
        WrongInput: a split is missing or empty, or ``forward`` does not take two inputs.
    """
    for name in SPLITS:
        if name not in splits or num_samples(splits[name]) == 0:
            raise WrongInput(Problem(f"splits[{name!r}]", "must hold at least one sequence"))
    # the steps of the example are traced, so they must not be few
    longest = max((splits["train"][place] for place in range(min(32, num_samples(splits["train"])))), key=_num_steps)
    values, lengths, _ = pad_batch([longest])
    return Task(
        model=model,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        loss=loss,
        metrics={"accuracy": Metric(_share_right)} if metrics is None else metrics,
        example_input=(values, lengths),
        collate=pad_batch,
        free_axes={_first_parameter(model): {1: "steps" if steps is None else ("steps", *steps)}},
        files=files or {},
    )


def _num_steps(sample: tuple[Tensor, int]) -> int:
    return len(sample[0])


def _first_parameter(model: Callable[[], nn.Module]) -> str:
    with torch.random.fork_rng():
        forward = model().forward
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, parameter in signature(forward).parameters.items() if parameter.kind in kinds]
    if len(names) < 2:
        rule = "forward must take sequences [n, steps, ...] and their lengths [n]"
        raise WrongInput(Problem("model", rule, f"forward({', '.join(names)})"))
    return names[0]


def _share_right(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(1) == labels).float()
