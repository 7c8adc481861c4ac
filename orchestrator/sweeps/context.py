"""The data of a running sweep: the checked inputs and the context that its phases share."""

from dataclasses import dataclass
from pathlib import Path

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.agent.agent_client import AgentAddress
from paretta.orchestrator.cluster.connect import ConnectedCluster
from paretta.orchestrator.cluster.measuring_slot import MeasuringSlot
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.lanes.elastic import ElasticLanes
from paretta.orchestrator.lanes.pool import LanePool
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.search.experience import Experience
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.earlier import Earlier
from paretta.orchestrator.sweeps.result import how_to_resume
from paretta.orchestrator.sweeps.signals import StopRequest, SweepStopped
from paretta.orchestrator.trials.run_trial import TrialContext
from paretta.search_spaces.errors import ParettaError, Problem, WrongInput


class SweepFailed(ParettaError):
    """The sweep cannot go on, for example because its baseline failed; its records are kept."""


@dataclass(frozen=True, slots=True)
class PreparedSweep:
    """A sweep that is ready to start or resume: everything is checked, the cluster is connected, nothing is written.

    Args:
        sweep: the sweep file.
        checked: the result of its check.
        folder: the sweep's folder; it exists once the sweep runs.
        num_lanes: the number of lanes at the start.
        cluster: the cluster that it runs on.
        slot: the measuring slot.
        earlier: sweeps whose points are taken over.
        storage: URI of this sweep's files, for nodes that share no disk with the driver; None if all see `folder`.
        experience: what the search learns from earlier sweeps; None if nothing.
        agent: what measures in place of the slot's node; None if that does.
    """

    sweep: Sweep
    checked: Checked
    folder: Path
    num_lanes: int
    cluster: ConnectedCluster
    slot: MeasuringSlot
    earlier: tuple[Earlier, ...] = ()
    storage: str | None = None
    experience: Experience | None = None
    agent: AgentAddress | None = None

    @property
    def files(self) -> SweepFiles:
        """The sweep's files, as its driver sees them."""
        return SweepFiles(self.folder, self.storage)


@dataclass(frozen=True, slots=True)
class SweepContext:
    """The context that every phase of a sweep shares.

    Args:
        prepared: the sweep's settings and resources, which do not change.
        trials: the context of a trial.
        lanes: the lanes that train the trials.
        log: writes the journal; its record holds the journal's content so far, including earlier runs of this sweep.
        stopping: tells whether a stop was requested.
        elastic: changes the number of lanes with the sweep's share of the cluster; None on a cluster of its own.
    """

    prepared: PreparedSweep
    trials: TrialContext
    lanes: LanePool
    log: EventLog
    stopping: StopRequest
    elastic: ElasticLanes | None = None

    @property
    def num_lanes(self) -> int:
        """The number of lanes that the sweep may have now."""
        return self.prepared.num_lanes if self.elastic is None else self.elastic.granted

    @property
    def record(self) -> SweepRecord:
        """The content of the journal so far."""
        return self.log.record

    def stop_asked(self) -> bool:
        """Return whether a stop was requested; on the first request wind down."""
        return self.stopping.handle(self._wind_down)

    def _wind_down(self) -> None:
        self.log.display.show_line(f"{self.stopping.asked}: finishing running trials first; once more stops at once")
        self.trials.lanes.wind_down()

    def require_going_on(self) -> None:
        """Raise if the sweep was stopped or has lost its last lane, neither of which is a failure of its trials.

        Raises:
            SweepStopped: a stop was requested.
            SweepFailed: no lane is left.
        """
        if self.stopping.asked:
            raise SweepStopped(how_to_resume(self.prepared.folder, self.record))
        if why := self.lanes.lost():
            raise self.failed(why)

    def failed(self, why: str, *, by_input: bool = False) -> SweepFailed | WrongInput:
        """Return the error for a sweep that ends before its end; its message says how to resume.

        Args:
            why: in one line.
            by_input: whether the user's data or code is the cause.
        """
        resume = how_to_resume(self.prepared.folder, self.record)
        place, _, rule = why.partition(": ")
        return WrongInput(Problem(place, f"{rule}\n{resume}")) if by_input else SweepFailed(f"{why}\n{resume}")
