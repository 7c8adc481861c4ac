"""Run a search's candidates concurrently with Ray Tune."""

import errno
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ray import tune
from ray.tune import TuneError

from paretta.orchestrator.cluster.ray_private import without_usage_tags
from paretta.orchestrator.lanes.pool import LaneClient
from paretta.orchestrator.monitor.notebook import in_notebook
from paretta.orchestrator.trials.run_trial import TrialContext
from paretta.orchestrator.tune.callback import JournalCallback
from paretta.orchestrator.tune.messages import TuneConfig, key_of
from paretta.orchestrator.tune.scheduler import RungScheduler
from paretta.orchestrator.tune.search_alg import TuneSearcher
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
    """Run the searcher's suggestions until it has no more; return False if Tune ended early.

    Tune restarts a dead actor, except one that Ray killed because its node ran out of memory: that ends Tune (2.60).
    The lanes and their jobs are independent of Tune, so a restored search continues with them.

    Args:
        searcher: suggests trials and receives outcomes.
        callback: writes the journal.
        context: the context of the trials.
        folder: for Tune's files.
        num_trials: the most trials there will be.
        resources: what the actor of a trial reserves.

    Raises:
        OSError: the journal or Tune's own files cannot be written.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # Tune's own reports are already in the journal
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
            # a dead actor is restarted and follows its candidate, which keeps running on its lane
            failure_config=tune.FailureConfig(max_failures=context.attempts),
            # the actor only waits for its candidate, so it has no state to save
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            progress_reporter=_Silent() if in_notebook() else None,
            verbose=0,
        ),
    )
    try:
        with without_usage_tags():
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


class _Silent(tune.ProgressReporter):
    """Reports nothing: in a notebook, Tune's own reporter clears the cell's output, and ours with it."""

    def should_report(self, *_: object, **__: object) -> bool:
        """Return False."""
        return False

    def report(self, *_: object, **__: object) -> None:
        """Do nothing."""


def _cancel(config: TuneConfig, *, lanes: LaneClient) -> None:
    """Cancel the job of a stopped trial; nobody will ask for its outcome."""
    lanes.cancel(key_of(config).uid, abandon=True)
