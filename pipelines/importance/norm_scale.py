"""Scale of the batch norm that a channel passes: what it multiplies by little is heard little."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows
from paretta.pipelines.importance.l2 import l2


class NormScale(Importance):
    """``|gamma_i|`` (Liu et al., 2017, "Learning efficient convolutional networks through network slimming").

    Train with the tweak ``{kind: l1_penalty, on: norm scales}`` before, which drives the scales of what is not needed
    to zero. Layers without a batch norm are scored by their `l2` norm.
    """

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return l2(rows.weight) if rows.norm_scale is None else rows.norm_scale.abs()
