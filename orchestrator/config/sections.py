"""The sections of a sweep file: each setting with its type, default and description."""

from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

SWEEP_VERSION: Final = 1  # version of the sweep file's format; a file without `version` has version 1


class _Section(BaseModel):
    """Base of the sweep file's sections: rejects unknown keys and is immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class TaskConfig(_Section):
    """Which task is compressed."""

    use: str = Field(min_length=1, description="a task's name, `module:function` or `./file.py:function`")
    options: dict[str, Any] = Field(default={}, description="keyword arguments of that function")


class SearchConfig(_Section):
    """How candidates are suggested, and how many of them."""

    sampler: str = Field(default="grey_box", description="one of `paretta list samplers`")
    stopper: str = Field(default="none", description="one of `paretta list stoppers`")
    trials: int = Field(default=16, ge=1, description="a whole number of at least 1")
    seed: int = Field(default=0, ge=0, lt=2**32, description="a whole number from 0")
    confirm: int = Field(default=0, ge=0, description="how many further seeds the front is trained with again; 0: none")
    good_plans: bool = Field(
        default=True, description="true to try first what the field knows to be good: int8, half the channels, both"
    )
    warm_start: list[str] = Field(
        default=[], description="a list of earlier sweeps of the same task and baseline whose points are taken over"
    )
    learn_from: list[str] | str = Field(
        default="none",
        min_length=1,
        description="what the search learns from, of other tasks too: home for all sweeps of the home folder, a list "
        "of some, a file of `paretta export --experience`, or none",
    )


class GainConfig(_Section):
    """The least improvement a search must make to go on."""

    under: float = Field(gt=0, lt=1, description="the least share of the hypervolume that must be gained, such as 0.01")
    over: int = Field(ge=1, description="the number of last trials that must gain it, such as 10")


class BudgetConfig(_Section):
    """Limits that end the search before its number of trials is reached; running trials are completed."""

    hours: float | None = Field(default=None, gt=0, description="the hours of wall time of the search")
    cpu_hours: float | None = Field(default=None, gt=0, description="the hours of all CPUs that its workers hold")
    gpu_hours: float | None = Field(default=None, gt=0, description="the hours of all GPUs that its workers hold")
    gain: GainConfig | None = Field(default=None, description="a mapping such as {under: 0.01, over: 10}")


class DeliverConfig(_Section):
    """By-products made from every trained candidate."""

    variants: list[list[dict[str, Any]]] = Field(
        default=[], description="a list of lists of stages, such as [[{kind: quantize, bits: 8}]]"
    )
    at_most: int = Field(default=4, ge=1, description="the most by-products of one trial")


class WorkersConfig(_Section):
    """The workers that one trial runs on."""

    per_trial: int = Field(default=1, ge=1, description="how many data-parallel workers train one candidate")
    cpus: float = Field(default=1, gt=0, description="CPUs of one worker")
    gpus: float = Field(default=0, ge=0, description="GPUs of one worker; may be a fraction")
    threads: int = Field(default=1, ge=1, le=1024, description="torch threads of one worker, at most 1024")
    loaders: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = Field(
        default="auto",
        description="processes per worker that read samples ahead: a whole number from 0, or auto for what pays",
    )
    lanes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="how many candidates train at once: a whole number of at least 1, or auto for what fits",
    )

    priority: float = Field(
        default=1,
        gt=0,
        description="weight among the sweeps that share a running cluster: 2 gets twice the lanes of a sweep with 1",
    )
    time_limit_s: float | None = Field(
        default=None, gt=0, description="wall-clock seconds that one candidate may train; none by default"
    )
    attempts: int = Field(default=3, ge=1, description="how many times a candidate is started if its workers die")
    start_timeout_s: float = Field(default=60, gt=0, description="seconds that a lane waits for its workers to start")
    hung_after_s: float = Field(
        default=60, gt=0, description="seconds without a heartbeat after which a worker counts as dead"
    )

    def useful_lanes(self, trials: int) -> int:
        """Return how many lanes a search of so many trials has use for, wherever it runs."""
        return trials if self.lanes == "auto" else self.lanes

    def resources(self) -> dict[str, float]:
        """Return what one worker reserves, by Ray's resource names."""
        return {name: amount for name, amount in (("CPU", self.cpus), ("GPU", self.gpus)) if amount}


class CheckpointConfig(_Section):
    """When a training's state is saved, from which it continues if its workers die."""

    every_minutes: float | None = Field(
        default=None, gt=0, description="minutes after which it is saved within an epoch too, such as 10"
    )


class MeasuringConfig(_Section):
    """Where artifacts are measured: on one node, or by an agent on the machine that will run them, one at a time."""

    resource: str = Field(
        default="latency_slot",
        min_length=1,
        description="the Ray resource that keeps measurements apart; each node that may measure has 1 of it",
    )
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="resources that only the target node has, such as {jetson: 1}"
    )
    labels: dict[str, str] = Field(
        default={}, description="Ray labels that only the target node has, such as {board: jetson}"
    )
    agent: str | None = Field(
        default=None, description="the URL of a `paretta agent` that measures, such as http://127.0.0.1:7711"
    )
    agent_token_file: str | None = Field(
        default=None,
        min_length=1,
        description="a file with the agent's token, found from the sweep file's folder; by default the token is in "
        "$PARETTA_AGENT_TOKEN",
    )
    agent_patience_s: float = Field(
        default=600, ge=0, description="seconds that an agent which does not answer is waited for, such as 600"
    )

    @field_validator("agent")
    @classmethod
    def _require_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            place = urlsplit(url)
            known = place.scheme in ("http", "https") and place.hostname and (place.port is None or place.port > 0)
        except ValueError:
            known = False
        if not known or place.query or place.fragment:
            raise ValueError("must be the address of an agent, http://HOST:PORT or https://HOST")
        if "@" in place.netloc:
            raise ValueError("must not contain the token, which stands in `agent_token_file` or $PARETTA_AGENT_TOKEN")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _require_one_place(self) -> Self:
        if self.agent is not None and (self.resources or self.labels):
            raise ValueError("an `agent` measures, or a node with `resources` or `labels`; name one of them")
        return self

    @property
    def is_elsewhere(self) -> bool:
        """Whether it names a node or an agent, whose libraries may be others than this one's."""
        return bool(self.resources or self.labels or self.agent)


class WishConfig(_Section):
    """What a user asks of the front, in the terms of `paretta pull`."""

    prefer: str = Field(default="knee", description="knee, an objective's name, or its role: size or smallest")
    at_least: dict[str, str | float] = Field(default={}, description="limits from below, such as {accuracy: 97%}")
    at_most: dict[str, str | float] = Field(default={}, description="limits from above, such as {size: 50kB}")


def _as_document(item: object) -> object:
    """Expand the shorthand ``latency`` to ``{kind: latency}``."""
    return {"kind": item} if isinstance(item, str) else item


class SweepConfig(_Section):
    """One sweep: a task, the plan of its baseline, the space of plans to search, and the rules of the search."""

    version: int = Field(default=SWEEP_VERSION, description="the version of this format, which is 1")
    task: TaskConfig = Field(description="a mapping with `use`")
    baseline: list[dict[str, Any]] = Field(
        default=[], description="the stages that train the uncompressed model; none if it comes trained"
    )
    space: list[Any] = Field(min_length=1, description="a list of stages with holes")
    objectives: list[Annotated[dict[str, Any], BeforeValidator(_as_document)]] = Field(
        default=[{"kind": "size"}, {"kind": "latency"}, {"kind": "accuracy"}],
        min_length=1,
        description="a list of meters or metrics of the task, such as [size, latency, accuracy]",
    )
    limits: list[dict[str, Any]] = Field(
        default=[],
        description="a list of limits such as {meter: size, at_most: 50kB}, {meter: latency, at_most: "
        "{of_baseline: 0.5}} or {meter: accuracy, at_least: {below_baseline: 1%}}",
    )
    wishes: dict[str, WishConfig] = Field(
        default={},
        description="what `paretta pull SWEEP@NAME` selects, such as phone: {prefer: accuracy, at_most: {size: 50kB}}",
    )
    reference: list[dict[str, Any]] = Field(
        default=[],
        description="a list like `limits`: from where hypervolume is measured; by default the baseline, ten points "
        "less accurate",
    )
    search: SearchConfig = Field(
        default=SearchConfig(), description="a mapping with sampler, stopper, trials, seed, confirm"
    )
    budget: BudgetConfig = Field(default=BudgetConfig(), description="a mapping with hours, cpu_hours, gpu_hours, gain")
    deliver: DeliverConfig = Field(default=DeliverConfig(), description="a mapping with variants and at_most")
    workers: WorkersConfig = Field(default=WorkersConfig(), description="a mapping with per_trial, cpus, gpus")
    checkpoint: CheckpointConfig = Field(default=CheckpointConfig(), description="a mapping with every_minutes")
    measuring: MeasuringConfig = Field(
        default=MeasuringConfig(), description="a mapping with resource, resources, labels, agent"
    )
