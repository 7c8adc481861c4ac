"""Scale of the batch norm after a channel: a small scale makes the channel's contribution small."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows
from paretta.pipelines.importance.l2 import l2


class NormScale(Importance):
    """``|gamma_i|`` (Liu et al., 2017, "Learning efficient convolutional networks through network slimming").

    First train with the tweak ``{kind: l1_penalty, on: norm scales}``, which drives the scales of unneeded channels to
    zero. Layers without a batch norm are scored by their `l2` norm.
    """

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return l2(rows.weight) if rows.norm_scale is None else rows.norm_scale.abs()
