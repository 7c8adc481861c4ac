"""Decide whether a quantised model computes in integers or in floats, by its time on the runtime that is measured."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from paretta.pipelines.measuring.measure import Probe, measure_together
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.measuring.untrained import sketch
from paretta.pipelines.runtime import storage_for
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True)
class FasterCompute:
    """What was decided, and the time that decided it.

    Args:
        integers: the time of the model in integers, relative to the same weights in floats.
    """

    integers: Reading

    @property
    def setting(self) -> Literal["integer", "float"]:
        """The value of the setting `compute`: floats if integers are surely slower, by the interval of their time."""
        value = self.integers.value
        assert value is not None
        return "float" if (value if self.integers.low is None else self.integers.low) > 1 else "integer"

    def words(self) -> str:
        """Say what was decided and why.

        >>> FasterCompute(Reading(1.6, "ratio", low=1.55, high=1.65)).words()
        'float: in integers the model takes 1.60 of its time in floats'
        """
        return f"{self.setting}: in integers the model takes {self.integers.value:.2f} of its time in floats"


def faster_compute(
    task: Task, meter: ServedMeter, *, dynamic: bool = False, elsewhere: Probe | None = None
) -> FasterCompute:
    """Time the untrained model, quantised to 8 bits, in integers and in floats, side by side in a process of their own.

    Times do not depend on the values of weights, and hardly on the widths that they are stored in.

    Args:
        task: with the model.
        meter: whose runtime, batch size and threads count; it compares times, see `Meter.compares`.
        dynamic: whether linear layers take the range of what they read at each call.
        elsewhere: reads the meter on another machine; by default it is read here.

    Raises:
        WrongInput, TrialFailed: the model cannot be quantised, exported or timed.
    """
    storage = storage_for((meter.runtime,))
    with TemporaryDirectory(prefix="paretta-") as scratch:
        folders = {compute: Path(scratch) / compute for compute in ("float", "integer")}
        for compute, folder in folders.items():
            settings = {"compute": compute, "activation_range": "dynamic" if dynamic else "mse"}
            stage = Quantize.model_validate(settings)
            sketch(folder, Plan((), (stage.model_dump(mode="json"),)), task, storage=storage)
        (readings,) = measure_together(
            [folders["integer"]], folders["float"], task, meters=[meter], facts={}, elsewhere=elsewhere
        )
    reading = readings[meter.label]
    if reading.value is None:
        raise TrialFailed(f"there is no time: {reading.reason}")
    return FasterCompute(reading)
