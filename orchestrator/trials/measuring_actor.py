"""The measuring actor, which measures artifacts one at a time, so that no two readings disturb each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paretta.orchestrator.cluster.measuring_slot import WAIT_S, MeasuringSlot
from paretta.orchestrator.cluster.ray_calls import answer
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import TrialFailed, WrongInput
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

LOOKING_S = 86_400.0  # the longest time to read every sample of a split once, in seconds
READING_S = 900.0  # the longest time to measure one artifact, in seconds, without the wait for the slot


@dataclass(frozen=True, slots=True)
class MeasuringClient:
    """Sends artifacts to the measuring actor of a node; can be pickled.

    The actor handles one call at a time, and holds the node's measuring slot meanwhile, so that no other sweep measures
    there; trainings continue. The readings themselves are taken in a new process, see
    `paretta.pipelines.measuring.measure`.
    """

    actor: "ActorHandle[_MeasuringActor]"

    @classmethod
    def start(cls, task: TaskReference, objectives: Sequence[Document], slot: MeasuringSlot, files: SweepFiles) -> Self:
        """Start the actor on the slot's node; it reserves no CPU."""
        there = NodeAffinitySchedulingStrategy(slot.node, soft=False)
        # restarted without limit, since Ray kills it first when memory runs out; a measurement has three attempts
        light = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=2)(_MeasuringActor).options(
            scheduling_strategy=there
        )
        return cls(cast("ActorHandle[_MeasuringActor]", light.remote(task, list(objectives), slot, files)))

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
        readings: dict[str, Reading] = answer(
            self.actor.read.remote(artifact, baseline, split, answers_only, dict(facts or {})),
            READING_S + WAIT_S,
        )
        return readings

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
            TrialFailed: an artifact does not run, or all together take too long.
        """
        readings: list[dict[str, Reading]] = answer(
            self.actor.read_together.remote(list(artifacts), baseline), READING_S + WAIT_S
        )
        return readings

    def foresee(self, plan: Plan, baseline: str, meters: Sequence[str]) -> dict[str, Reading] | None:
        """Return a plan's readings before training (`measuring.untrained`); None if it cannot be carried out.

        Each structure is measured once. `meters` are the labels of the meters to read.
        """
        asked: ray.ObjectRef[dict[str, Reading] | None] = self.actor.foresee.remote(
            plan.to_document(), baseline, list(meters)
        )
        return answer(asked, READING_S + WAIT_S)

    def verify(self, artifact: str) -> None:
        """Check the claims of `artifact` independently, see `paretta.pipelines.verification.verify`.

        Raises:
            TrialFailed: a claim is wrong; the reason has both numbers.
        """
        answer(self.actor.verify.remote(artifact), READING_S + WAIT_S)

    def stop(self) -> None:
        """End the actor."""
        ray.kill(self.actor)


class _MeasuringActor:
    """Loads the task once, then measures artifacts one by one."""

    def __init__(self, task: TaskReference, objectives: list[Document], slot: MeasuringSlot, files: SweepFiles) -> None:
        from paretta.pipelines.measuring.served_meter import runtimes_of  # noqa: PLC0415 - only this process measures
        from paretta.pipelines.meter import meter_of  # noqa: PLC0415
        from paretta.pipelines.runtime import storage_for  # noqa: PLC0415

        self.slot, self.files = slot, files
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
        with self.slot.taken():
            found = measure(mine, reference, self.task, split=known_split, meters=meters, facts={**facts, **self.known})
        return self._remembered(found)

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
        with self.slot.taken():
            found = measure_together(folders, reference, self.task, meters=meters, facts=self.known)
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
                with self.slot.taken():
                    reference = self.files.bring(baseline)
                    found = foresee(
                        plan,
                        self.task,
                        readable,
                        baseline=reference,
                        timed=self.timed,
                        facts=self.known,
                        storage=self.storage,
                    )
                self.foreseen[key] = {meter: foreseen.reading for meter, foreseen in found.items()}
            except (TrialFailed, WrongInput):
                self.foreseen[key] = None  # a trial of this plan would fail too
        return self.foreseen[key]

    def verify(self, artifact: str) -> None:
        from paretta.pipelines.verification.verify import require_verified  # noqa: PLC0415

        repeatable = [meter.label for meter in self.meters if meter.is_verified]
        require_verified(self.files.bring(artifact), self.task, repeatable)
