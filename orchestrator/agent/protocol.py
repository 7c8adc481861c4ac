"""What a sweep and a device's agent say to each other, over HTTP and as JSON.

``GET /agent`` answers `AgentFacts`. ``POST /files`` takes a list of SHA-256 digests and answers those that are lacking;
``PUT /files/DIGEST`` takes one file. ``PUT /readings/ID`` takes a `ReadingRequest` under a name that the client makes
up, so that asking twice asks once; ``GET /readings/ID`` answers a `ReadingState` once it changes, or after a while, and
``DELETE`` withdraws it. Every request has the token, and every answer the number of the protocol.
"""

import re
from importlib.metadata import version
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL: Final = 1
PROTOCOL_HEADER: Final = "Paretta-Protocol"
DIGEST: Final = re.compile("[0-9a-f]{64}")
READING_ID: Final = re.compile("[0-9a-f]{32}")
LARGEST_DOCUMENT: Final = 2**22  # bytes of a JSON document
MOST_POLL_S: Final = 20  # after which the state of a reading is answered although it has not changed
MOST_MODELS: Final = 512

Digest: TypeAlias = Annotated[str, Field(pattern=DIGEST.pattern, min_length=64, max_length=64)]


def paretta_version() -> str:
    """Return the version of paretta that is installed here."""
    return version("paretta")


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuntimeFacts(_Document):
    """Whether a device has a runtime.

    Args:
        version: its name and version; None if it is missing.
        missing: why, and how to install it.
    """

    version: str | None = None
    missing: str | None = None


class AgentFacts(_Document):
    """What an agent is and what its machine has.

    Args:
        protocol: the number of the protocol.
        paretta: the version that runs there.
        most_bytes: how many bytes of files it keeps at a time.
        machine: its name, processor and flags, as in the details of a reading.
        cores: how many it may use.
        saturates: whether its integer kernels overflow, see `paretta.pipelines.kernels.saturation`.
        runtimes: by name.
    """

    protocol: int
    paretta: str
    most_bytes: int
    machine: dict[str, str]
    cores: int
    saturates: bool
    runtimes: dict[str, RuntimeFacts]

    @property
    def name(self) -> str:
        """The machine and its processor, such as ``pi5, Raspberry Pi 5 Model B Rev 1.0``."""
        return ", ".join(filter(None, (self.machine.get("machine"), self.machine.get("cpu"))))


class SentModel(_Document):
    """A delivered folder, by the digests of its files.

    Args:
        model: the ONNX file.
        manifest: facts on its layers; None if the folder has none.
        answers: of the machine that judges the model, to the first inputs.
    """

    model: Digest
    manifest: Digest | None = None
    answers: Digest

    @property
    def digests(self) -> tuple[str, ...]:
        """All of them."""
        return (self.model, self.answers, *([] if self.manifest is None else [self.manifest]))


class ReadingRequest(_Document):
    """What to measure.

    Args:
        models: to be measured side by side.
        baseline: what latency is compared with.
        inputs: the digest of an .npz file of samples.
        meters: documents of meters that are known by name.
        facts: numbers of earlier readings.
    """

    models: tuple[SentModel, ...] = Field(min_length=1, max_length=MOST_MODELS)
    baseline: SentModel
    inputs: Digest
    meters: tuple[dict[str, str | int | float | bool | None], ...] = Field(min_length=1, max_length=64)
    facts: dict[str, float] = {}

    @property
    def digests(self) -> frozenset[str]:
        """Those of all files."""
        return frozenset((self.inputs, *self.baseline.digests, *(d for model in self.models for d in model.digests)))


class ReadingState(_Document):
    """How a reading stands.

    Args:
        state: waiting for others, running, done, or failed.
        before: how many readings come first.
        readings: for each model one document per meter.
        failure: why there are none, in one line.
    """

    state: Literal["waiting", "running", "done", "failed"]
    before: int = 0
    readings: list[list[dict[str, Any]]] = []
    failure: str = ""
