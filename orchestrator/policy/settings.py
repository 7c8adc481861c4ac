"""Settings of the search policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GreyBoxSettings:
    """Settings of `GreyBox`; `benchmarks/LOG.md` records how the defaults were chosen.

    Args:
        num_initial: trials spread over the space before the model chooses.
        num_initial_learned: the same where a prior from other tasks is believed.
        crowded: with more trials running than this, stopping is calmer, see `kept`; eight workers run nine, and lose by
            it on the tables that were tried.
        num_far, num_promising: random candidates from which further initial trials of many workers are chosen, in turn
            for their distance from all trials and for their known losses.
        min_rows: reports needed to fit the model; until then successive halving decides, but nothing is stopped where
            more than `crowded` trials run.
        patience: a trial is stopped if a new candidate's index is this many times its own; above 1, since the best of
            hundreds of uncertain candidates is overestimated.
        num_random: random candidates considered per decision, beside the neighbours of good ones; a quarter is new, the
            others were considered before, so that their known facts are not computed again.
        num_good: the most recent trials of the front whose neighbours are considered.
        num_polished: candidates whose own neighbours are considered in a second round.
        kept, calm: with more than `crowded` trials running, those of highest index are not stopped until the share
            `kept` of them has finished, and patience is multiplied by (running / num_initial)^2 until the share `calm`
            has finished: all are judged by the same first reports, and what replaces them starts anew.
        most_looks: the most candidates per decision whose known objectives are looked up if only estimated before.
        most_rows, most_rows_fitted: the most reports that the model is conditioned on, and fits hyper-parameters to.
        refit_growth: hyper-parameters are fitted again each time the number of reports has grown by this factor.
    """

    num_initial: int = 4
    num_initial_learned: int = 0
    crowded: int = 10
    num_far: int = 8
    num_promising: int = 64
    min_rows: int = 3
    patience: float = 1.4
    kept: float = 0.3
    calm: float = 1.0
    num_random: int = 500
    num_good: int = 8
    num_polished: int = 5
    most_looks: int = 4
    most_rows: int = 400
    most_rows_fitted: int = 160
    refit_growth: float = 1.03
