"""The distance between the outputs of named layers of a student and its teacher."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.trees import call_model, moved
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

_CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.batchnorm._BatchNorm)


class FeaturePairs:
    """Pairs of layers whose outputs should agree, after a learned projection if their widths differ.

    Use it as a context manager: the models have hooks only inside the block. There, `distance` compares the outputs of
    both models' last forward passes.

    Args:
        student: in training.
        teacher: in evaluation mode.
        pairs: student layer -> teacher layer, by name.
        bench: provides an example input to determine widths, and the seed for initial projections.

    Raises:
        WrongInput: a layer does not exist, or the two outputs differ in more than their width.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, pairs: Mapping[str, str], bench: Bench) -> None:
        self._ends = [
            (_Tap(student, ours, "student"), _Tap(teacher, theirs, "teacher")) for ours, theirs in pairs.items()
        ]
        with self, torch.no_grad():
            student_mode = student.training
            example = moved(bench.task.example_input, bench.ranks.device)
            call_model(student.to(bench.ranks.device).eval(), example)
            call_model(teacher.to(bench.ranks.device).eval(), example)
            student.train(student_mode)
            shapes = [(ours.said.shape, theirs.said.shape) for ours, theirs in self._ends]
        for (ours, theirs), (mine, other) in zip(self._ends, shapes, strict=True):
            if mine[:-1] != other[:-1]:
                rule = f"{ours.name} and {theirs.name} must differ in no more than their width"
                raise WrongInput(Problem("distill.features", rule, f"{list(mine)} and {list(other)}, width last"))
        with seeded(bench.seed):
            self.projections = nn.ModuleList(
                nn.Identity() if mine == other else nn.Linear(mine[-1], other[-1]) for mine, other in shapes
            )

    def __enter__(self) -> "FeaturePairs":
        for pair in self._ends:
            for tap in pair:
                tap.open()
        return self

    def __exit__(self, *_: object) -> None:
        for pair in self._ends:
            for tap in pair:
                tap.close()

    def distance(self) -> Tensor:
        """Return the mean over pairs of ``mean (r(s) - t)^2 / mean t^2`` with projection r, student s and teacher t.

        Source: Romero et al., 2015, "FitNets: hints for thin deep nets"; the denominator makes layers comparable.
        """
        gaps = [
            (projection(ours.said.float()) - theirs.said.float()).square().mean()
            / theirs.said.float().square().mean().clamp_min(1e-12)
            for (ours, theirs), projection in zip(self._ends, self.projections, strict=True)
        ]
        return torch.stack(gaps).mean()


class _Tap:
    """Records the output of one layer, with its channels moved to the last axis."""

    said: Tensor

    def __init__(self, model: nn.Module, name: str, whose: str) -> None:
        layers = dict(model.named_modules())
        if name not in layers or not name:
            raise WrongInput(Problem("distill.features", did_you_mean(name, filter(None, layers), f"{whose} layer")))
        self.name, self._layer = name, layers[name]
        self._handle: RemovableHandle | None = None

    def open(self) -> None:
        first = isinstance(self._layer, _CHANNELS_FIRST)

        def hear(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self.said = output.movedim(1, -1) if first or output.dim() > 3 else output

        self._handle = self._layer.register_forward_hook(hear)

    def close(self) -> None:
        assert self._handle is not None
        self._handle.remove()
