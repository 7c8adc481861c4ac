"""Train the model to answer as the uncompressed one does (knowledge distillation)."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipelines.bench import Bench
from pipelines.stage import Shape, Stage
from pipelines.train import BatchLoss, TrainSettings, fit
from pipelines.validation import answers
from search_spaces.errors import Problem, WrongInput


class Distill(TrainSettings, Stage):
    """Train on a mixture of the task's loss and the divergence from the teacher's softened class scores."""

    kind: Literal["distill"] = "distill"
    temperature: float = Field(4.0, gt=0, le=100, description="the softening of the class scores, such as 4")
    weight: float = Field(0.5, gt=0, le=1, description="the teacher's share of the loss, such as 0.5")

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model`, trained in place."""
        fit(model, bench, self, loss=distillation_loss(bench, temperature=self.temperature, weight=self.weight))
        return model

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def words(self) -> str:
        """Say for how long, how soft and how much."""
        return f"distill {self.epochs} epochs at temperature {self.temperature:.3g}, weight {self.weight:.2g}"


def soft_divergence(scores: Tensor, teacher_scores: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(softmax(teacher / T) || softmax(scores / T))``, the mean over samples.

    The factor T^2 keeps the gradient's size when the temperature changes (Hinton, Vinyals and Dean, 2015, section 2).

    Args:
        scores: [n, classes, ...] of the model in training.
        teacher_scores: the same shape.
        temperature: T > 0.

    >>> float(soft_divergence(Tensor([[1.0, 2.0]]), Tensor([[1.0, 2.0]]), 3.0))
    0.0
    """
    student = functional.log_softmax(scores / temperature, dim=1)
    teacher = functional.log_softmax(teacher_scores / temperature, dim=1)
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1).mean()
    return divergence * temperature**2


def distillation_loss(bench: Bench, *, temperature: float, weight: float) -> BatchLoss:
    """Return ``(1 - weight) task loss + weight soft divergence`` for `pipelines.train.fit` (collective).

    The teacher's scores are those of each training sample as it is now: a dataset that gives another random view of a
    sample each time is compared with the scores of one view.
    """
    table = teacher_scores(bench)
    if table.dim() < 2 or table.shape[1] < 2:
        mend = "use `train` for models without class scores"
        raise WrongInput(Problem("distill", "outputs must be class scores [n, classes >= 2]", list(table.shape), mend))
    table = table.to(bench.ranks.device)

    def loss(outputs: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        soft = soft_divergence(outputs, table[indices.to(table.device)], temperature)
        return (1 - weight) * bench.task.loss(outputs, targets) + weight * soft if weight < 1 else soft

    return loss


def teacher_scores(bench: Bench) -> Tensor:
    """Return what the teacher answers to the train split, [n, classes, ...], computed once for a teacher (collective).

    Each rank computes its share. The scores stay in the bench's cache, which other trials with this teacher share.
    """
    if bench.teacher is None:
        mend = "move it from `baseline` to the stages after it"
        raise WrongInput(Problem("distill", "needs a teacher, which the baseline itself does not have", None, mend))
    key = f"teacher-{bench.teacher_key}"
    known = bench.cache.fetch(key) if bench.teacher_key else None
    # one rank may have the file and another not: they must agree, because computing is collective
    if not bench.ranks.any(known is None) and known is not None:
        return known["scores"]
    scores = answers(bench.teacher, bench.task.train, bench.ranks)
    if bench.teacher_key:
        bench.cache.store(key, {"scores": scores}, write=bench.ranks.is_first)
    return scores
