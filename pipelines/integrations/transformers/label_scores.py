"""Loss and score of models whose outputs have ``logits`` and whose batches have ``labels``."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # the label of tokens that no loss counts


def hits(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return 1 for each sample whose highest score is its class's, else 0, [n]."""
    return (outputs["logits"].argmax(1) == batch["labels"]).float()


def label_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the cross entropy of scores [n, ..., classes] and labels [n, ...], the mean over labels that count."""
    return F.cross_entropy(outputs["logits"].flatten(0, -2), batch["labels"].flatten(), ignore_index=IGNORED)
