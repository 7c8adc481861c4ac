"""The measuring actor, which measures artifacts one at a time, so that no two readings disturb each other."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paretta.orchestrator.agent.agent_client import AgentAddress, AgentClient
from paretta.orchestrator.cluster.measuring_slot import WAIT_S, MeasuringSlot
from paretta.orchestrator.cluster.ray_calls import answer
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import TrialFailed, WrongInput
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

LOOKING_S = 86_400.0  # the longest time to read every sample of a split once, in seconds
_ASKING: Final = "asking"  # the concurrency group of questions to an actor that is busy measuring
_NEWS_S: Final = 5.0  # seconds between two questions what a reading waits for
READING_S = 900.0  # the longest time to measure one artifact, in seconds, without the wait for the slot


@dataclass(frozen=True, slots=True)
class MeasuringClient:
    """Sends artifacts to the measuring actor of a node; can be pickled.

    The actor handles one call at a time, and holds the node's measuring slot meanwhile, so that no other sweep measures
    there; trainings continue. The readings themselves are taken in a new process, see
    `paretta.pipelines.measuring.measure`, or by an agent, which takes those of several sweeps one after another.

    Args:
        actor: the actor.
        has_agent: whether an agent measures.
        patience_s: seconds that a lost agent is waited for.
    """

    actor: "ActorHandle[_MeasuringActor]"
    has_agent: bool = False
    patience_s: float = 0.0

    @classmethod
    def start(
        cls,
        task: TaskReference,
        objectives: Sequence[Document],
        slot: MeasuringSlot,
        files: SweepFiles,
        agent: AgentAddress | None = None,
    ) -> Self:
        """Start the actor on the slot's node; it reserves no CPU."""
        there = NodeAffinitySchedulingStrategy(slot.node, soft=False)
        # restarted without limit, since Ray kills it first when memory runs out; a measurement has three attempts
        groups = {} if agent is None else {"concurrency_groups": {_ASKING: 1}}
        remote = cast("Any", ray.remote)  # its types lack the groups
        light = remote(num_cpus=0, max_restarts=-1, max_task_retries=2, **groups)(_MeasuringActor).options(
            scheduling_strategy=there
        )
        actor = cast("ActorHandle[_MeasuringActor]", light.remote(task, list(objectives), slot, files, agent))
        return cls(actor) if agent is None else cls(actor, True, agent.patience_s)

    @property
    def _limit_s(self) -> float:
        return READING_S + WAIT_S + self.patience_s

    def read(
        self,
        artifact: str,
        baseline: str,
        split: str,
        *,
        answers_only: bool = False,
        facts: Mapping[str, float] | None = None,
    ) -> dict[str, Reading]:
        """Measure `artifact` against `baseline` on a split and return the readings by meter.

        Args:
            artifact: the name of the artifact's folder in the sweep's files.
            baseline: the name of the baseline's folder.
            split: ``validation`` or ``test``.
            answers_only: skip meters that do not depend on the split, such as size and latency.
            facts: numbers that are not in the file, such as its training time in seconds, see `MeterBench`.

        Raises:
            TrialFailed: the artifact does not run.
        """
        waits = self.reading(artifact, baseline, split, answers_only=answers_only, facts=facts)
        while True:
            try:
                next(waits)
            except StopIteration as end:
                readings: Mapping[str, Reading] = end.value
                return dict(readings)

    def reading(
        self,
        artifact: str,
        baseline: str,
        split: str,
        *,
        answers_only: bool = False,
        facts: Mapping[str, float] | None = None,
    ) -> Generator[str, None, Mapping[str, Reading]]:
        """Measure like `read`; meanwhile yield what a lost or busy agent is waited for, empty if nothing is."""
        asked: ray.ObjectRef[Mapping[str, Reading]] = self.actor.read.remote(
            artifact, baseline, split, answers_only, dict(facts or {})
        )
        begun = time.monotonic()
        while self.has_agent and time.monotonic() - begun < self._limit_s:
            done, _ = ray.wait([asked], timeout=_NEWS_S)
            if done:
                break
            waits: ray.ObjectRef[str] = self.actor.waits.options(concurrency_group=_ASKING).remote()
            told, _ = ray.wait([waits], timeout=_NEWS_S)
            yield answer(waits) if told else ""  # an actor that starts, or starts again, has nothing to tell
        return answer(asked, self._limit_s)

    def require_readable(self, split: str) -> None:
        """Read every sample of a split that is not held in tensors.

        Raises:
            TrialFailed: a sample cannot be read.
        """
        answer(self.actor.require_readable.remote(split), LOOKING_S)

    def read_together(self, artifacts: Sequence[str], baseline: str) -> list[dict[str, Reading]]:
        """Measure several artifacts side by side with every meter that compares times, see `Meter.compares`.

        Returns an empty list if the sweep has no such meter.

        Raises:
            TrialFailed: an artifact does not run, or all together take too long, or the agent is lost.
        """
        readings: list[dict[str, Reading]] = answer(
            self.actor.read_together.remote(list(artifacts), baseline), self._limit_s
        )
        return readings

    def foresee(self, plan: Plan, baseline: str, meters: Sequence[str]) -> dict[str, Reading] | None:
        """Return a plan's readings before training (`measuring.untrained`); None if it cannot be carried out.

        Each structure is measured once. `meters` are the labels of the meters to read.
        """
        asked: ray.ObjectRef[dict[str, Reading] | None] = self.actor.foresee.remote(
            plan.to_document(), baseline, list(meters)
        )
        return answer(asked, self._limit_s)

    def verify(self, artifact: str) -> None:
        """Check the claims of `artifact` independently, see `paretta.pipelines.verification.verify`.

        Raises:
            TrialFailed: a claim is wrong; the reason has both numbers.
        """
        answer(self.actor.verify.remote(artifact), self._limit_s)

    def stop(self) -> None:
        """End the actor."""
        ray.kill(self.actor)


class _MeasuringActor:
    """Loads the task once, then measures artifacts one by one."""

    def __init__(
        self,
        task: TaskReference,
        objectives: list[Document],
        slot: MeasuringSlot,
        files: SweepFiles,
        agent: AgentAddress | None = None,
    ) -> None:
        from paretta.pipelines.measuring.served_meter import runtimes_of  # noqa: PLC0415 - only this process measures
        from paretta.pipelines.meter import meter_of  # noqa: PLC0415
        from paretta.pipelines.runtime import storage_for  # noqa: PLC0415

        self.slot, self.files = slot, files
        self.agent = None if agent is None else AgentClient(agent)
        self.task = task.load()
        self.meters = [meter_of(objective, self.task.metrics) for objective in objectives]
        self.storage = storage_for(runtimes_of(self.meters))
        self.foreseen: dict[str, dict[str, Reading] | None] = {}
        self.timed: dict[str, Reading] = {}
        self.known: dict[str, float] = {}

    def read(
        self, artifact: str, baseline: str, split: str, answers_only: bool, facts: dict[str, float]
    ) -> Mapping[str, Reading]:
        from paretta.pipelines.measuring.measure import measure  # noqa: PLC0415
        from paretta.pipelines.task import SPLITS  # noqa: PLC0415

        (known_split,) = (name for name in SPLITS if name == split)
        meters = [meter for meter in self.meters if meter.judges_answers or not answers_only]
        mine, reference = self.files.bring(artifact), self.files.bring(baseline)
        known = {**facts, **self.known}
        with self._alone():
            found = measure(
                mine, reference, self.task, split=known_split, meters=meters, facts=known, elsewhere=self.agent
            )
        return self._remembered(found)

    def waits(self) -> str:
        return "" if self.agent is None else self.agent.waits

    def _alone(self) -> AbstractContextManager[None]:
        """Hold the node's slot, unless an agent measures, which lets sweeps wait for each other itself."""
        return self.slot.taken() if self.agent is None else nullcontext()

    def require_readable(self, split: str) -> None:
        from paretta.pipelines.measuring.artifact_answers import require_readable  # noqa: PLC0415
        from paretta.pipelines.task import SPLITS  # noqa: PLC0415

        (known_split,) = (name for name in SPLITS if name == split)
        require_readable(self.task, known_split)

    def read_together(self, artifacts: list[str], baseline: str) -> list[Mapping[str, Reading]]:
        from paretta.pipelines.measuring.measure import measure_together  # noqa: PLC0415

        meters = [meter for meter in self.meters if meter.compares]
        if not meters:
            return []
        folders, reference = [self.files.bring(artifact) for artifact in artifacts], self.files.bring(baseline)
        with self._alone():
            found = measure_together(
                folders, reference, self.task, meters=meters, facts=self.known, elsewhere=self.agent
            )
        reasons = [reading.reason for readings in found for reading in readings.values()]
        if self.agent is not None and all(reasons):
            raise TrialFailed(f"measure: {reasons[0]}")
        return [self._remembered(readings) for readings in found]

    def _remembered(self, readings: dict[str, Reading]) -> dict[str, Reading]:
        """Keep the baseline's shortest time, by which later readings with a slower baseline are marked as disturbed."""
        from paretta.pipelines.meters.latency import BASELINE_SECONDS, baseline_fact  # noqa: PLC0415

        for label, reading in readings.items():
            seconds, fact = reading.details.get(BASELINE_SECONDS), baseline_fact(label)
            if isinstance(seconds, float):
                self.known[fact] = min(seconds, self.known.get(fact, seconds))
        return readings

    def foresee(self, document: Document, baseline: str, meters: list[str]) -> dict[str, Reading] | None:
        from paretta.pipelines.measuring.untrained import foresee, structure_key  # noqa: PLC0415

        plan = Plan.from_document(document)
        key = structure_key(plan)
        if key not in self.foreseen:
            readable = [meter for meter in self.meters if meter.label in meters]
            try:
                with self._alone():
                    reference = self.files.bring(baseline)
                    found = foresee(
                        plan,
                        self.task,
                        readable,
                        baseline=reference,
                        timed=self.timed,
                        facts=self.known,
                        storage=self.storage,
                        elsewhere=self.agent,
                    )
                seen = {meter: foreseen.reading for meter, foreseen in found.items()}
                own = [seen[meter.label] for meter in readable if not meter.judges_answers]
                if self.agent is not None and any(reading.value is None for reading in own):
                    return seen  # the agent may be back when the next one is asked for
                self.foreseen[key] = seen
            except (TrialFailed, WrongInput):
                self.foreseen[key] = None  # a trial of this plan would fail too
        return self.foreseen[key]

    def verify(self, artifact: str) -> None:
        from paretta.pipelines.verification.verify import require_verified  # noqa: PLC0415

        repeatable = [meter.label for meter in self.meters if meter.is_verified]
        require_verified(self.files.bring(artifact), self.task, repeatable)
