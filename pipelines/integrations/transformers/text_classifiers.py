"""Classifiers of whole texts and of their tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paretta.pipelines.integrations.transformers.encoded_text import (
    EncodedRows,
    EncodedSample,
    Row,
    TextEncoder,
    TextRows,
    class_labels,
    column,
)
from paretta.pipelines.integrations.transformers.label_scores import IGNORED, hits, label_loss
from paretta.pipelines.integrations.transformers.prepared_model import (
    ModelSource,
    instance,
    prepared,
    pretrained_files,
    processor_for,
)
from paretta.pipelines.task import Metric, Task


def sequence_classification(
    model: ModelSource,
    tokenizer: Any = None,
    *,
    train: TextRows,
    validation: TextRows,
    test: TextRows,
    text: str | tuple[str, str] = "text",
    label: str = "label",
    max_length: int = 128,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of giving each text, or pair of texts, a class; or a number if the model has one label only.

    Args:
        model: a folder that ``save_pretrained`` wrote, a model such as ``BertForSequenceClassification``, or a function
            that returns one without training.
        tokenizer: a tokenizer of transformers or its folder; by default that of the model's folder.
        train: rows, each a mapping with text and label: a list, or a Hugging Face dataset.
        validation: rows on which candidates are compared.
        test: rows that are read only once, for the selected models.
        text: the column with the text, or the two columns of a pair.
        label: the column with the class, a number or a name of the model's config.
        max_length: texts are cut to that many tokens.
        metrics: see `Task`; by default ``accuracy``, or ``squared_error`` for a number.

    Raises:
        WrongInput: a part is missing or does not fit the others.
    """
    made = prepared(model, "AutoModelForSequenceClassification")
    example = instance(made)
    encoder = TextEncoder(processor_for(tokenizer, model, "AutoTokenizer", "tokenizer"), example, max_length)
    is_number = example.config.num_labels == 1
    columns = (text,) if isinstance(text, str) else text

    def encode(rows: Sequence[Row]) -> list[EncodedSample]:
        encoding = encoder(*(column(rows, name) for name in columns))
        labels = column(rows, label) if is_number else class_labels(rows, label, example.config)
        return encoder.samples(encoding, labels=[float(found) for found in labels] if is_number else labels)

    found = {"squared_error": Metric(squared_errors, "min", "squared")} if is_number else {"accuracy": Metric(hits)}
    loss = mean_squared_error if is_number else label_loss
    return _text_task(made, encoder, encode, (train, validation, test), loss=loss, metrics=metrics or found)


def token_classification(
    model: ModelSource,
    tokenizer: Any = None,
    *,
    train: TextRows,
    validation: TextRows,
    test: TextRows,
    words: str = "tokens",
    labels: str = "labels",
    max_length: int = 128,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of giving each word of a text a class, such as its part of speech.

    A word counts by its first token; the others, and padding, have the label -100.

    Args:
        model: as for `sequence_classification`, such as ``BertForTokenClassification``.
        tokenizer: a fast tokenizer of transformers or its folder; by default that of the model's folder.
        train: rows, each a mapping with the list of words and the list of their classes.
        validation: rows on which candidates are compared.
        test: rows that are read only once, for the selected models.
        words: the column with the words.
        labels: the column with their classes, numbers or names of the model's config.
        max_length: texts are cut to that many tokens.
        metrics: see `Task`; by default ``accuracy``, the share of words that are right.

    Raises:
        WrongInput: a part is missing or does not fit the others.
    """
    made = prepared(model, "AutoModelForTokenClassification")
    example = instance(made)
    encoder = TextEncoder(processor_for(tokenizer, model, "AutoTokenizer", "tokenizer"), example, max_length)

    def encode(rows: Sequence[Row]) -> list[EncodedSample]:
        encoding = encoder(column(rows, words), words=True)
        known = [
            class_labels([{labels: each} for each in found], labels, example.config) for found in column(rows, labels)
        ]
        places = range(len(rows))
        return encoder.samples(encoding, labels=[_by_token(encoding.word_ids(at), known[at]) for at in places])

    metric = Metric(ShareOfLabels(), arguments=lambda outputs, batch: (outputs["logits"].argmax(-1), batch["labels"]))
    found = metrics or {"accuracy": metric}
    splits = (train, validation, test)
    return _text_task(made, encoder, encode, splits, loss=label_loss, metrics=found, class_axis=-1)


def _text_task(
    model: Any,
    encoder: TextEncoder,
    encode: Any,
    splits: Sequence[TextRows],
    *,
    loss: Any,
    metrics: Mapping[str, Metric],
    class_axis: int | None = None,
) -> Task:
    train, validation, test = (EncodedRows(rows, encode) for rows in splits)
    first = encoder.collate([train[0]])
    return Task(
        model=model,
        train=train,
        validation=validation,
        test=test,
        loss=loss,
        metrics=metrics,
        example_input={name: first[name] for name in encoder.names},
        class_axis=class_axis,
        collate=encoder.collate,
        free_axes={name: {1: "tokens"} for name in encoder.names},
        files=pretrained_files(instance(model), encoder.tokenizer),
    )


def _by_token(word_ids: Sequence[int | None], labels: Sequence[int]) -> list[int]:
    """Return a label for each token: its word's for the first token of a word, otherwise -100."""
    return [
        labels[word] if word is not None and (at == 0 or word_ids[at - 1] != word) else IGNORED
        for at, word in enumerate(word_ids)
    ]


class ShareOfLabels:
    """The share of the labels other than -100 that are predicted, over all samples."""

    def __init__(self) -> None:
        """Begin with none."""
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.right, self.all = 0, 0

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add predicted classes and labels, both [n, tokens]."""
        self.right += int(((predicted == labels) & (labels != IGNORED)).sum())
        self.all += int((labels != IGNORED).sum())

    def compute(self) -> float:
        """Return the share."""
        return self.right / self.all if self.all else float("nan")


def squared_errors(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the squared error of each number, [n]."""
    return torch.square(outputs["logits"][:, 0] - batch["labels"])


def mean_squared_error(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the mean of `squared_errors`."""
    return squared_errors(outputs, batch).mean()
