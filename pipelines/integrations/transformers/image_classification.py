"""Classifiers of images, such as vision transformers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paretta.pipelines.integrations.transformers.encoded_text import (
    EncodedRows,
    EncodedSample,
    Row,
    TextRows,
    class_labels,
    column,
)
from paretta.pipelines.integrations.transformers.label_scores import hits, label_loss
from paretta.pipelines.integrations.transformers.prepared_model import (
    ModelSource,
    accepted_inputs,
    instance,
    prepared,
    pretrained_files,
    processor_for,
)
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput


def image_classification(
    model: ModelSource,
    processor: Any = None,
    *,
    train: TextRows,
    validation: TextRows,
    test: TextRows,
    image: str = "image",
    label: str = "label",
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of giving each image a class.

    Args:
        model: a folder that ``save_pretrained`` wrote, a model such as ``ViTForImageClassification``, or a function
            that returns one without training.
        processor: an image processor of transformers or its folder; by default that of the model's folder.
        train: rows, each a mapping with image and label: a list, or a Hugging Face dataset. An image is a PIL image,
            or an array [height, width, 3].
        validation: rows on which candidates are compared.
        test: rows that are read only once, for the selected models.
        image: the column with the image.
        label: the column with the class, a number or a name of the model's config.
        metrics: see `Task`; by default ``accuracy``.

    Raises:
        WrongInput: a part is missing or does not fit the others.
    """
    made = prepared(model, "AutoModelForImageClassification")
    example = instance(made)
    reader = processor_for(processor, model, "AutoImageProcessor", "processor")
    if not (callable(reader) and hasattr(reader, "save_pretrained")):
        raise WrongInput(Problem("processor", "must be an image processor of transformers", type(reader).__name__))
    (name,) = accepted_inputs(example, ("pixel_values",), "pixel_values")

    def encode(rows: Sequence[Row]) -> list[EncodedSample]:
        pixels = reader(column(rows, image), return_tensors="pt")[name]
        return [
            {name: one, "labels": torch.tensor(number)}
            for one, number in zip(pixels, class_labels(rows, label, example.config), strict=True)
        ]

    splits = [EncodedRows(rows, encode) for rows in (train, validation, test)]
    first: Tensor = splits[0][0][name]
    return Task(
        model=made,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        loss=label_loss,
        metrics=metrics or {"accuracy": Metric(hits)},
        example_input={name: first[None]},
        files=pretrained_files(example, reader),
    )
