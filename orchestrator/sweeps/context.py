"""What a running sweep is made of: the values that were checked before it, and what its phases work with."""

from dataclasses import dataclass
from pathlib import Path

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.cluster.connect import Cluster
from paretta.orchestrator.cluster.measuring_slot import MeasuringSlot
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.lanes.pool import LanePool
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.earlier import Earlier
from paretta.orchestrator.sweeps.result import how_to_resume
from paretta.orchestrator.sweeps.signals import StopRequest, SweepStopped
from paretta.orchestrator.trials.run_trial import TrialContext
from paretta.search_spaces.errors import ParettaError


class SweepFailed(ParettaError):
    """The sweep cannot go on, such as when its baseline fails; what was recorded stays."""


@dataclass(frozen=True, slots=True)
class PreparedSweep:
    """A sweep that may begin or go on: everything is checked, the cluster is there, nothing is written yet.

    Args:
        sweep: the sweep file.
        checked: what its check found out.
        folder: the sweep's own; it exists once the sweep runs.
        num_lanes: lanes to start with.
        cluster: where it runs.
        slot: where it measures.
        earlier: sweeps whose points are taken over.
        storage: URI of this sweep's files, for nodes that share no disk with the driver; None where all see `folder`.
    """

    sweep: Sweep
    checked: Checked
    folder: Path
    num_lanes: int
    cluster: Cluster
    slot: MeasuringSlot
    earlier: tuple[Earlier, ...] = ()
    storage: str | None = None

    @property
    def files(self) -> SweepFiles:
        """The sweep's files, as its driver sees them."""
        return SweepFiles(self.folder, self.storage)


@dataclass(frozen=True, slots=True)
class SweepContext:
    """What every phase of a sweep is given.

    Args:
        prepared: the sweep's settings and surroundings, which stay as they are.
        trials: what a trial runs with.
        lanes: train the trials.
        log: writes down what happens; its record is the journal's content so far, also of earlier runs of this sweep.
        stopping: whether somebody asked to stop.
    """

    prepared: PreparedSweep
    trials: TrialContext
    lanes: LanePool
    log: EventLog
    stopping: StopRequest

    @property
    def record(self) -> SweepRecord:
        """What the journal says so far."""
        return self.log.record

    def stop_asked(self) -> bool:
        """Return whether a stop was asked for; the first time it is, let what runs end and begin nothing more."""
        return self.stopping.heed(self._wind_down)

    def _wind_down(self) -> None:
        self.log.display.show_line(f"{self.stopping.asked}: what runs is finished first; once more stops at once")
        self.trials.lanes.wind_down()

    def require_going_on(self) -> None:
        """Let a sweep that somebody stopped, or that lost its last lane, end here; its trials are not to blame.

        Raises:
            SweepStopped: somebody asked to stop.
            SweepFailed: no lane is left.
        """
        if self.stopping.asked:
            raise SweepStopped(how_to_resume(self.prepared.folder, self.record))
        if why := self.lanes.lost():
            raise self.failed(why)

    def failed(self, why: str) -> SweepFailed:
        """Return the error that ends the sweep for a reason that is not its own, with how to resume it."""
        return SweepFailed(f"{why}\n{how_to_resume(self.prepared.folder, self.record)}")
