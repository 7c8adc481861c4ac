"""A meter or runtime of the user's that fails is told before training, all problems at once."""

from pathlib import Path
from typing import Literal

import pytest

from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.meter import Meter, MeterBench, meter_of
from paretta.pipelines.runtime import Device, Opened
from paretta.pipelines.runtimes.onnxruntime import Onnxruntime
from paretta.pipelines.tasks.digits import make as digits
from paretta.pipelines.verification.try_meters import is_own, try_meters
from paretta.search_spaces.errors import TrialFailed, WrongInput
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan


class NumInputs(Meter):
    kind: Literal["num_inputs"] = "num_inputs"
    unit: Literal["inputs"] = "inputs"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        assert bench.baseline == artifact
        assert bench.facts.keys() == {"train_wall_s", "train_cpu_s"}
        return Reading(float(len(bench.inputs["input"])), self.unit)


class Raising(NumInputs):
    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        return Reading(float({}["here"]), self.unit)


class InBytes(NumInputs):
    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        return Reading(1.0, "B")


class NoReading(NumInputs):
    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        return 4.0  # type: ignore[return-value]


class NeedsTraining(NumInputs):
    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        raise TrialFailed("the answers are all alike")


class Renamed(Onnxruntime):
    title = "Renamed"
    devices = ("cpu",)


class Opposite(Renamed):
    def open(self, model_path: Path, *, threads: int, device: Device) -> Opened:
        opened = super().open(model_path, threads=threads, device=device)
        right = opened.answers

        def answers(feeds: Feeds) -> list:  # type: ignore[type-arg]
            return [-array for array in right(feeds)]

        opened.answers = answers  # type: ignore[method-assign]
        return opened


def throughput_on(runtime: type[Renamed]) -> Meter:
    return meter_of(f"throughput@{runtime.__module__}:{runtime.__name__}", {})


def test_every_problem_is_told_at_its_place() -> None:
    meters = {
        "sound": NumInputs(),
        "raising": Raising(),
        "bytes": InBytes(),
        "number": NoReading(),
        "untrained": NeedsTraining(),
        "renamed": throughput_on(Renamed),
        "opposite": throughput_on(Opposite),
    }
    with pytest.raises(WrongInput) as caught:
        try_meters(meters, Plan(()), digits(width=4, hidden=8))
    told = [(problem.where, problem.rule, problem.value) for problem in caught.value.problems]
    assert told[0][:1] == ("raising",)
    assert told[0][1].startswith(f"reading num_inputs of the untrained model failed: KeyError: 'here' (at {__file__}:")
    assert told[1] == ("bytes", "the readings of the meter num_inputs must be in its unit, 'inputs'", "B")
    assert told[2] == ("number", "the meter num_inputs must return a Reading", 4.0)
    assert told[3][0] == "opposite"
    assert told[3][1].startswith("throughput@Opposite cannot be read: the baseline's answers in Renamed differ")
    assert len(told) == 4


def test_only_the_user_s_parts_are_tried() -> None:
    assert [is_own(meter) for meter in (NumInputs(), throughput_on(Renamed))] == [True, True]
    assert [is_own(meter_of(name, {})) for name in ("size", "throughput", "latency@onnxruntime")] == [False] * 3
