"""Runs a search's candidates side by side with Ray Tune."""

import errno
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ray import tune
from ray.tune import TuneError

from paretta.orchestrator.lanes.pool import LaneClient
from paretta.orchestrator.trials.run_trial import TrialContext
from paretta.orchestrator.tune.callback import JournalCallback
from paretta.orchestrator.tune.scheduler import RungScheduler
from paretta.orchestrator.tune.search_alg import TuneConfig, TuneSearcher, key_of
from paretta.orchestrator.tune.trainable import CandidateTrial
from paretta.search_spaces.errors import disk_full, out_of_memory


def tuned(
    searcher: TuneSearcher,
    callback: JournalCallback,
    context: TrialContext,
    *,
    folder: Path,
    num_trials: int,
    resources: Mapping[str, float],
) -> bool:
    """Run what the searcher suggests until it has no more; False where Tune gave up before.

    Tune replaces an actor that died, unless Ray ended it because its node ran short of memory: that ends Tune (2.60).
    The lanes and their jobs are none of Tune's, so another search that is as far goes on with them.

    Args:
        searcher: suggests, and is told.
        callback: writes down what happens.
        context: carries candidates out.
        folder: where Tune writes.
        num_trials: the most there will be.
        resources: what an actor reserves that waits for a candidate.

    Raises:
        OSError: the journal, or what Tune keeps beside it, cannot be written.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it would say of a trial is in the journal
    body = tune.with_parameters(CandidateTrial, context=context)
    tuner = tune.Tuner(
        tune.with_resources(body, dict(resources)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=RungScheduler(searcher.suggester, partial(_cancel, lanes=context.lanes)),
            num_samples=num_trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            callbacks=[callback],
            # an actor that died is begun again, and finds its candidate where it was on its lane
            failure_config=tune.FailureConfig(max_failures=context.attempts),
            # a candidate is done when it is measured: there is nothing to save of the actor that waited for it
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except (RuntimeError, TuneError) as error:
        if callback.failure is not None:
            raise callback.failure from None
        if full := disk_full(error):
            raise OSError(errno.ENOSPC, full) from error
        if out_of_memory(error) is None:
            raise
        return False
    return True


def _cancel(config: TuneConfig, *, lanes: LaneClient) -> None:
    """End the job of a trial that was stopped; nobody will ask what came of it."""
    lanes.cancel(key_of(config).uid, abandon=True)
