"""The agent's client: sends models to the machine that will run them, and waits for a lost agent within a limit."""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from paretta.orchestrator.agent.parcel import Parcel, parcel_for
from paretta.orchestrator.agent.protocol import (
    LARGEST_DOCUMENT,
    MOST_POLL_S,
    PROTOCOL,
    PROTOCOL_HEADER,
    AgentFacts,
    ReadingState,
    paretta_version,
)
from paretta.pipelines.artifact import reading_of
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import ParettaError, TrialFailed, first_line
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.quantities import format_quantity

_T = TypeVar("_T")

CONNECT_S: Final = 10.0
SILENCE_LIMIT_S: Final = 30.0  # beyond what a request waits for
BUSY_S: Final = 3600.0  # the longest time that a reading waits for those of other sweeps
LONGEST_PAUSE_S: Final = 10.0
MOST_BEGUN: Final = 3  # how often one reading is begun that the agent forgets, since it was restarted meanwhile
_UNREACHED: Final = frozenset({502, 503, 504})  # what a proxy answers for an agent that is away


class AgentLost(ParettaError):
    """The agent does not answer; it may again."""


class AgentRefused(ParettaError):
    """The agent answers, and does not do what is asked; the message says why and how to mend it."""


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """An agent and the secret that it shares with its clients.

    Args:
        url: such as ``http://127.0.0.1:7711``.
        token: the secret, which is in no message.
        patience_s: seconds that a lost agent is waited for.
    """

    url: str
    token: str = field(repr=False)
    patience_s: float


class AgentClient:
    """Reads meters on the agent's machine, see `paretta.pipelines.measuring.measure.Probe`.

    Once an agent was waited for in vain, it is tried only once for each further reading until it answers again.
    """

    def __init__(self, agent: AgentAddress, *, answer_s: float = SILENCE_LIMIT_S, poll_s: int = MOST_POLL_S) -> None:
        """Connect to nothing yet.

        Args:
            agent: its address.
            answer_s: after this much silence it counts as lost.
            poll_s: how long it may keep a question about a reading that goes on.
        """
        self.agent, self.waits = agent, ""
        self._answer_s, self._poll_s = answer_s, poll_s
        self._lost: float | None = None

    def facts(self) -> AgentFacts:
        """Ask the agent what it is.

        Raises:
            AgentLost: it does not answer.
            AgentRefused: the token is wrong, or it runs another version.
        """
        told = self._ask("GET", "/agent")
        spoken = told.get("protocol") if isinstance(told, Mapping) else None
        if spoken != PROTOCOL:
            raise AgentRefused(_other_version(told, f"speaks protocol {spoken} and this one {PROTOCOL}"))
        try:
            facts = AgentFacts.model_validate(told)
        except ValidationError:
            raise AgentRefused(_other_version(told, "tells other facts")) from None
        if facts.paretta != paretta_version():
            raise AgentRefused(_other_version(told, f"is not {paretta_version()} as here"))
        return facts

    def __call__(
        self, artifacts: Sequence[Path], bench: MeterBench, meters: Sequence[ServedMeter], *, scratch: Path
    ) -> list[list[Reading]]:
        """Return for each artifact one reading per meter; without a value and with the reason where there is none."""
        parcel = parcel_for(artifacts, bench, meters, scratch=scratch)
        try:
            return _sound(self._read(parcel), len(artifacts), meters)
        except (AgentLost, AgentRefused) as error:
            return [[Reading.not_measured(meter.unit, first_line(error)) for meter in meters] for _ in artifacts]
        finally:
            self.waits = ""

    def _read(self, parcel: Parcel) -> list[list[dict[str, Any]]]:
        name = secrets.token_hex(16)
        try:
            return self._readings(name, parcel)
        finally:
            if self._lost is None:
                with suppress(ParettaError):
                    self._ask("DELETE", f"/readings/{name}")

    def _readings(self, name: str, parcel: Parcel) -> list[list[dict[str, Any]]]:
        deadline = time.monotonic() + BUSY_S
        for _ in range(MOST_BEGUN):
            self._patiently(partial(self._send, name, parcel))
            known = ""
            while (state := self._patiently(partial(self._state, name, known))) is not None:
                known = state.state
                if known == "done":
                    return state.readings
                if known == "failed":
                    raise TrialFailed(f"measure: the artifact cannot be measured by {self._who}: {state.failure}")
                if known == "waiting":
                    self.waits = f"for {self._who}, which measures for other sweeps first"
                    if time.monotonic() > deadline:
                        raise AgentRefused(f"{self._who} measured for other sweeps for {BUSY_S:g} s")
        raise AgentRefused(f"{self._who} was restarted during each of {MOST_BEGUN} attempts at one reading")

    def _send(self, name: str, parcel: Parcel) -> None:
        """Send the files that the agent lacks, and ask for the reading."""
        facts = self.facts()
        if parcel.num_bytes > facts.most_bytes:
            needs, keeps = (format_quantity(number, "B") for number in (parcel.num_bytes, facts.most_bytes))
            raise AgentRefused(
                f"the files of a reading take {needs}, and {self._who} keeps {keeps}; give it more --limit"
            )
        lacking: Json = sorted(parcel.files)
        for _ in range(MOST_BEGUN):
            told = self._ask("POST", "/files", json.dumps(lacking).encode())
            for digest in (digest for digest in parcel.files if isinstance(told, list) and digest in told):
                with parcel.files[digest].open("rb") as file:
                    self._ask("PUT", f"/files/{digest}", file, length=parcel.files[digest].stat().st_size)
            told = self._ask("PUT", f"/readings/{name}", parcel.request.model_dump_json().encode())
            lacking = told.get("lacking") if isinstance(told, Mapping) else None
            if not lacking:
                return
        raise AgentRefused(f"{self._who} drops files before they are measured; start it with a larger --limit")

    def _state(self, name: str, known: str) -> ReadingState | None:
        """Return how a reading stands; None if the agent does not know it any more."""
        try:
            path = f"/readings/{name}?known={known}&wait={self._poll_s}"
            return ReadingState.model_validate(self._ask("GET", path, wait_s=self._poll_s))
        except _Gone:
            return None
        except ValidationError:
            raise AgentRefused(f"{self._who} tells no state of a reading") from None

    def _patiently(self, act: Callable[[], _T]) -> _T:
        """Try again while the agent is lost, until it was away for longer than it is waited for."""
        pause = 0.5
        while True:
            try:
                return act()
            except AgentLost as error:
                now = time.monotonic()
                since = self._lost = now if self._lost is None else self._lost
                left = since + self.agent.patience_s - now
                if left <= 0:
                    limit = f"waited for it for {self.agent.patience_s:g} s"
                    raise AgentLost(f"{first_line(error)}; {limit}") from error
                why = first_line(error).removeprefix(f"{self._who} ")
                self.waits = f"for {self._who}, for up to {self.agent.patience_s:g} s: {why}"
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_S)

    @property
    def _who(self) -> str:
        return f"the agent at {self.agent.url}"

    def _ask(
        self, method: str, path: str, body: bytes | BinaryIO | None = None, *, length: int = 0, wait_s: float = 0.0
    ) -> Json:
        """Return the answer to one request, on a connection of its own."""
        place = urlsplit(self.agent.url)
        connection = _connection(place)
        headers = {"Authorization": f"Bearer {self.agent.token}", PROTOCOL_HEADER: str(PROTOCOL)}
        if body is not None:
            headers["Content-Length"] = str(len(body) if isinstance(body, bytes) else length)
        try:
            connection.connect()
            assert connection.sock is not None
            connection.sock.settimeout(self._answer_s + wait_s)
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before all was sent
                connection.request(method, place.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            status, spoken = answer.status, answer.getheader(PROTOCOL_HEADER)
            content = answer.read(LARGEST_DOCUMENT + 1)
        except (OSError, HTTPException) as error:
            raise AgentLost(f"{self._who} does not answer: {_reason(error)}") from error
        finally:
            connection.close()
        if status in _UNREACHED and spoken is None:
            raise AgentLost(f"{self._who} does not answer: a proxy says {status} {answer.reason}")
        if spoken is None:
            raise AgentLost(f"something else answers at {self.agent.url}: {status} {answer.reason}")
        self._lost = None
        self.waits = ""
        return self._told(status, content)

    def _told(self, status: int, content: bytes) -> Json:
        try:
            told: Json = json.loads(content)
        except (ValueError, RecursionError):
            raise AgentLost(f"{self._who} broke off its answer") from None
        if status == 200:
            return told
        message = str(told.get("message", status)) if isinstance(told, Mapping) else str(status)
        if status == 410:
            raise _Gone(message)
        mends = {
            401: "; give the sweep the token of the agent's --token-file",
            426: "; install the same version of paretta on both machines",
        }
        raise AgentRefused(f"{self._who} refuses: {message[:500]}{mends.get(status, '')}")


class _Gone(ParettaError):
    """The agent does not know the reading."""


def _sound(rows: list[list[dict[str, Any]]], num_artifacts: int, meters: Sequence[ServedMeter]) -> list[list[Reading]]:
    """Return the readings in an answer. Raises `AgentRefused` if they are not those that were asked for."""
    try:
        found = [[reading_of(document) for document in row] for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise AgentRefused(f"the agent tells no readings: {first_line(error)}") from None
    units = [meter.unit for meter in meters]
    if len(found) != num_artifacts or any([reading.unit for reading in row] != units for row in found):
        raise AgentRefused("the agent tells readings of something else")
    return found


def _connection(place: SplitResult) -> HTTPConnection:
    kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
    return kind(place.hostname or "", place.port, timeout=CONNECT_S)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or first_line(error)) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _other_version(told: Json, why: str) -> str:
    version = told.get("paretta") if isinstance(told, Mapping) else None
    return f"the agent runs paretta {str(version)[:40]}, which {why}: install the same version on both machines"
