"""Mean absolute gradient over a data pass, in which opposite gradients of different batches do not cancel."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


class MeanAbsGradient(Importance):
    """``E_batches |dL/dw_ij|`` of each weight; a channel scores the mean over its weights.

    Weights whose gradient stays small over a whole pass have little influence on the loss (compare Lee et al., 2019,
    "SNIP: single-shot network pruning based on connection sensitivity", which uses one batch).
    """

    needs_gradient = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return rows.mean_abs_gradient.mean(1)

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out, fan_in]."""
        return rows.mean_abs_gradient
