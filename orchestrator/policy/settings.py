"""Settings of the search policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GreyBoxSettings:
    """Settings of `GreyBox`; `benchmarks/LOG.md` records how the defaults were chosen.

    Args:
        num_initial: trials spread over the space before the model chooses.
        min_rows: reports needed to fit the model; until then successive halving decides.
        patience: a trial is stopped if a new candidate's index is this many times its own; above 1, since the best of
            hundreds of uncertain candidates is overestimated.
        num_random: random candidates considered per decision, beside the neighbours of good ones; a quarter is new, the
            others were considered before, so that their known facts are not computed again.
        num_good: the most recent trials of the front whose neighbours are considered.
        num_polished: candidates whose own neighbours are considered in a second round.
        most_looks: the most candidates per decision whose known objectives are looked up if only estimated before.
        most_rows, most_rows_fitted: the most reports that the model is conditioned on, and fits hyper-parameters to.
        refit_growth: hyper-parameters are fitted again each time the number of reports has grown by this factor.
    """

    num_initial: int = 4
    min_rows: int = 3
    patience: float = 1.4
    num_random: int = 500
    num_good: int = 8
    num_polished: int = 5
    most_looks: int = 4
    most_rows: int = 400
    most_rows_fitted: int = 160
    refit_growth: float = 1.03
