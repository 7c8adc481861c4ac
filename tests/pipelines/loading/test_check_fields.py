"""A field of a task that holds something of another kind is told by its name, before anything is called."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from paretta.pipelines.loading.check_fields import field_problems
from paretta.pipelines.task import Metric
from paretta.pipelines.tasks.digits import correct, make

TASK = make(width=2, hidden=4)
WRONG = [
    ("model", 3, "task.model: must be a torch module or a function that makes one; got 3"),
    ("loss", None, "task.loss: must be callable as loss(outputs, targets)"),
    ("metrics", {}, "task.metrics: must name at least one metric"),
    ("metrics", [("m", Metric(correct))], "task.metrics: must map names to metrics; got 'list'"),
    ("metrics", {3: Metric(correct)}, "task.metrics: must map names to metrics; got 'dict'"),
    ("metrics", {"m": correct}, "task.metrics[m]: must be a paretta.pipelines.task.Metric; got 'function'"),
    ("metrics", {"m": Metric(correct, goal="maximum")}, "task.metrics[m].goal: must be one of min, max; got 'maximum'"),
    ("metrics", {"m": Metric(correct, unit=3)}, "task.metrics[m].unit: must be a text; got 3"),
    ("metrics", {"m": Metric(7)}, "task.metrics[m].score: must be callable as score(outputs, targets), or have update"),
    ("metrics", {"m": Metric(correct, arguments=7)}, "task.metrics[m].arguments: must be callable"),
    ("metrics", {"": Metric(correct)}, "task.metrics[]: a metric's name must be a text in one line"),
    ("metrics", {"a\nb": Metric(correct)}, "task.metrics['a\\nb']: a metric's name must be a text in one line"),
    ("variants", {"small": 3}, "task.variants: must name modules, or functions that make them; got 'dict'"),
    ("variants", ["small"], "task.variants: must name modules"),
    ("source", 3, "task.source: must be a map-style dataset; got 3"),
    ("calibration", iter([]), "task.calibration: must be a map-style dataset; got 'list_iterator'"),
    ("class_axis", 1.0, "task.class_axis: must be a whole number; got 1.0"),
    ("class_axis", True, "task.class_axis: must be a whole number; got True"),
    ("ignore_label", "pad", "task.ignore_label: must be a class label, a whole number; got 'pad'"),
    ("data_id", 3, "task.data_id: must be a text that names the data; got 3"),
    ("collate", "pad", "task.collate: must be callable as collate(samples); got 'pad'"),
    ("class_scores", "logits", "task.class_scores: must be callable as class_scores(outputs); got 'logits'"),
    ("free_axes", ["ids"], "task.free_axes: must map inputs to axes, and axes to names; got 'list'"),
    ("free_axes", {"ids": {"tokens": 1}}, "task.free_axes: must map inputs to axes"),
    ("free_axes", {"ids": {1: ("tokens", 1)}}, "task.free_axes: must map inputs to axes"),
    ("training_inputs", "labels", "task.training_inputs: must be a tuple of names; got 'labels'; such as ('labels',)"),
    ("files", 3, "task.files: must map file names to their content; got 3"),
    ("example_input", [1.0], "task.example_input: must be a tensor of shape [1, ...], or a tuple or mapping of such"),
]


@pytest.mark.parametrize(("field", "value", "told"), WRONG)
def test_a_field_of_another_kind_is_told(field: str, value: object, told: str) -> None:
    problem = str(next(field_problems(replace(TASK, **{field: value}), "task")))  # type: ignore[arg-type]
    assert problem.startswith(told)
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ignore_label", np.int64(-1)),
        ("ignore_label", None),
        ("class_axis", -1),
        ("free_axes", {"images": {2: "height", 3: ("width", 1, 8)}}),
        ("training_inputs", ["labels"]),
        ("variants", {"plain": nn.Flatten(), "made": nn.Flatten}),
        ("calibration", [torch.zeros(1, 8, 8)]),
    ],
)
def test_what_may_stand_there_passes(field: str, value: object) -> None:
    assert [*field_problems(replace(TASK, **{field: value}), "task")] == []  # type: ignore[arg-type]
