"""Random scores: the reference that every other score must beat."""

from torch import Generator, Tensor, rand

from paretta.pipelines.importance import Importance, Rows


def random(num_channels: int, generator: Generator) -> Tensor:
    """Return independent draws from [0, 1).

    >>> random(2, Generator().manual_seed(0)).shape
    torch.Size([2])
    """
    return rand(num_channels, generator=generator)


class Random(Importance):
    """`random`, without a look at the weights."""

    is_drawn = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return random(len(rows.weight), rows.generator).to(rows.weight.device)

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out, fan_in]."""
        draws = random(rows.weight.numel(), rows.generator)
        return draws.view(rows.weight.shape).to(rows.weight.device)
