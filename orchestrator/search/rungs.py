"""Choose the epochs after which a trial reports its scores."""

from collections.abc import Sequence

from paretta.orchestrator.policy.problem import Rungs

_SETUP_EPOCHS = 0.25  # the set-up cost of a trial, in epochs
_ETA = 3


def rungs_of(epochs: int) -> Rungs:
    """Return the rungs of a training: after a ninth, a third and all of its epochs.

    Earlier reports separate bad trials from good ones but not good from best, so they would stop slow learners that
    end well.

    >>> rungs_of(27).fidelities
    (3.0, 9.0, 27.0)
    >>> rungs_of(6).fidelities
    (1.0, 3.0, 6.0)
    """
    first = max(1, round(epochs / _ETA**2))
    early = [epoch for epoch in (first, first * _ETA) if epoch <= epochs / 2]
    return rungs_at([*early, max(epochs, 1)])


def rungs_at(epochs: Sequence[float]) -> Rungs:
    """Return rungs after the given ascending epochs; the cost of each is the epochs so far plus a trial's set-up."""
    at = tuple(map(float, epochs))
    return Rungs(at, tuple(epoch + _SETUP_EPOCHS for epoch in at))
