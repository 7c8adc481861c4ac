"""The device's agent, as a process of its own without torch: what it answers, refuses and leaves behind."""

import json
import os
import pickle
import signal
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from agent_process import TOKEN, AgentProcess, children, running_agent, until

from paretta.orchestrator.agent.agent_client import AgentClient
from paretta.orchestrator.agent.parcel import Parcel, parcel_for
from paretta.orchestrator.agent.protocol import LARGEST_DOCUMENT, PROTOCOL, PROTOCOL_HEADER
from paretta.pipelines.artifact import write
from paretta.pipelines.data.feeds import load_feeds
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring.measure import measure, measure_together
from paretta.pipelines.measuring.probe_process import save_answers
from paretta.pipelines.meter import Meter, MeterBench, meter_of
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.bounded_files import sha256_of
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

TASK = make(width=8, hidden=8)
LIMIT = 2_000_000


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with running_agent(tmp_path_factory.mktemp("agent"), "--limit", f"{LIMIT}B") as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweep")
    for name, width in (("baseline", 48), ("small", 4)):
        torch.manual_seed(0)
        content = to_bytes(make(width=width, hidden=8).new_model(), TASK.example_input)
        layers: Any = {"head": {"in_floats": "it is small"}}
        write(made / name, content, plan=Plan(()), seed=0, data_digest="", layers=layers)
    return made


def latency(budget_s: float = 0.2) -> Any:
    return meter_of({"kind": "latency", "budget_seconds": budget_s}, {})


def read(agent: AgentProcess, folder: Path, *meters: Meter, **patience: float) -> dict[str, Reading]:
    client = AgentClient(agent.address(**patience), answer_s=3.0, poll_s=1)
    return measure(
        folder / "small", folder / "baseline", TASK, split="validation", meters=meters, facts={}, elsewhere=client
    )


def parcel_of(folder: Path, scratch: Path, budget_s: float = 0.2) -> Parcel:
    rows = np.random.default_rng(0).random((16, 1, 8, 8), np.float32)
    (name,) = (item.name for item in onnx.load(str(folder / "small" / "model.onnx")).graph.input)
    bench = MeterBench(folder / "baseline", {name: rows})
    return parcel_for([folder / "small"], bench, [latency(budget_s)], scratch=scratch)


def asked(
    agent: AgentProcess,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    token: str = TOKEN,
    protocol: str = str(PROTOCOL),
    **headers: str,
) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", agent.port, timeout=30)
    known = {"Authorization": f"Bearer {token}", PROTOCOL_HEADER: protocol}
    try:
        connection.request(method, path, body, {**known, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def failure(agent: AgentProcess, request: dict[str, Any], *files: Path) -> str:
    """Send files and a request, and return why it fails."""
    for file in files:
        assert asked(agent, "PUT", f"/files/{sha256_of(file)}", file.read_bytes()) == (200, None)
    name = os.urandom(16).hex()
    assert asked(agent, "PUT", f"/readings/{name}", json.dumps(request).encode()) == (200, {"lacking": []})
    known = ""
    while True:
        status, state = asked(agent, "GET", f"/readings/{name}?known={known}&wait=5")
        assert status == 200
        known = state["state"]
        if known in ("done", "failed"):
            assert known == "failed", state
            return str(state["failure"])


def test_a_latency_is_read_there_and_the_rest_here(agent: AgentProcess, folder: Path) -> None:
    meters = [meter_of("size", {}), latency(), meter_of("macs", {})]
    there = read(agent, folder, *meters)
    here = measure(folder / "small", folder / "baseline", TASK, split="validation", meters=meters)
    assert list(there) == ["size", "latency", "macs"]
    assert (there["size"], there["macs"]) == (here["size"], here["macs"])
    reading = there["latency"]
    assert reading.value is not None
    assert 0 < reading.value < 1
    assert reading.details["answers_gap"] == 0.0
    assert "answers_gap" not in here["latency"].details
    same = ("machine", "cpu", "runtime", "macs", "integer_macs_share", "float_layers", "batch_size", "clock")
    assert {name: reading.details[name] for name in same} == {name: here["latency"].details[name] for name in same}
    assert "latency of 1 model: done" in agent.await_line("done")


def test_models_are_read_there_side_by_side(agent: AgentProcess, folder: Path) -> None:
    client = AgentClient(agent.address())
    found = measure_together(
        [folder / "baseline", folder / "small"],
        folder / "baseline",
        TASK,
        meters=[latency()],
        facts={"baseline_seconds": 1e-9},
        elsewhere=client,
    )
    itself, small = (readings["latency"] for readings in found)
    assert itself.value is not None
    assert small.value is not None
    assert small.value < itself.value
    assert (itself.details["beside"], small.details["beside"]) == (1, 1)
    assert float(small.details["slowness"]) > 1.0  # it knew of a faster baseline


def test_it_knows_no_torch_and_tells_what_it_has(agent: AgentProcess) -> None:
    facts = AgentClient(agent.address()).facts()
    assert facts.runtimes["onnxruntime"].version is not None
    assert facts.machine["machine"] == os.uname().nodename
    assert (facts.cores, facts.most_bytes) == (len(os.sched_getaffinity(0)), LIMIT)
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "torch" not in maps
    assert "onnxruntime" not in maps  # what measures is a process of its own


@pytest.mark.parametrize("path", ["/agent", "/files/" + "0" * 64, "/readings/" + "0" * 32, "/etc/passwd"])
@pytest.mark.parametrize("token", ["", "a-token-for-the-test", TOKEN + "s", "\xe9" * 20])
def test_who_lacks_the_token_learns_nothing(agent: AgentProcess, path: str, token: str) -> None:
    refused = {"message": "the token is missing or wrong", "protocol": PROTOCOL}
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert asked(agent, method, path, token=token) == (401, refused)


def test_another_protocol_is_told_the_version(agent: AgentProcess) -> None:
    status, told = asked(agent, "PUT", "/files/" + "0" * 64, b"", protocol="0")
    assert status == 426
    assert told["message"].startswith(f"this agent speaks protocol {PROTOCOL} of paretta ")
    assert asked(agent, "GET", "/agent", protocol="0")[1]["protocol"] == PROTOCOL


def test_a_request_is_bounded_before_its_content_is_read(agent: AgentProcess) -> None:
    status, told = asked(agent, "PUT", "/files/" + "0" * 64, **{"Content-Length": str(LIMIT + 1)})
    assert (status, told["message"]) == (
        507,
        "a file of 2 MB does not fit: this agent keeps 2 MB of files; start it with a larger --limit",
    )
    status, told = asked(agent, "POST", "/files", **{"Content-Length": str(LARGEST_DOCUMENT + 1)})
    assert (status, told["message"]) == (413, f"a document needs its length, of at most {LARGEST_DOCUMENT} bytes")
    status, told = asked(agent, "PUT", "/files/" + "0" * 64, **{"Content-Length": "-1"})
    assert (status, told["message"]) == (411, "a file needs its length")
    assert asked(agent, "PUT", "/files/" + "0" * 64, b"x" * (LIMIT + 1))[0] == 507  # although it is being sent


@pytest.mark.parametrize("path", ["/files/../../stolen", "/files/%2e%2e%2fstolen", "/files/" + "A" * 64, "/files/"])
def test_no_file_is_named_but_by_its_digest(agent: AgentProcess, path: str) -> None:
    assert asked(agent, "PUT", path, b"mine")[0] == 400
    assert [item.name for item in agent.scratch.rglob("*stolen*")] == []


def test_a_file_must_be_what_its_digest_says(agent: AgentProcess) -> None:
    status, told = asked(agent, "PUT", "/files/" + "0" * 64, b"mine")
    assert status == 400
    assert told["message"].startswith("the file is damaged: its digest is ")
    assert asked(agent, "POST", "/files", json.dumps(["0" * 64]).encode()) == (200, ["0" * 64])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "no JSON: "),
        (b"[" * 100_000, "no JSON: "),
        (b"{}", "no request of ours: models: Field required"),
        (b'{"models": "../../etc"}', "no request of ours: models: "),
    ],
)
def test_a_request_that_is_none_is_refused_in_one_line(agent: AgentProcess, body: bytes, told: str) -> None:
    status, answer = asked(agent, "PUT", "/readings/" + "0" * 32, body)
    assert (status, answer["message"][: len(told)]) == (400, told)
    assert "\n" not in answer["message"]


def test_a_damaged_model_is_refused_in_one_line(agent: AgentProcess, folder: Path, tmp_path: Path) -> None:
    parcel = parcel_of(folder, tmp_path)
    good = [parcel.files[digest] for digest in parcel.files]
    whole = (folder / "small" / "model.onnx").read_bytes()
    for place, content in enumerate((whole[: len(whole) // 2], b"\x00" * 100, b"")):
        damaged = tmp_path / f"damaged{place}.onnx"
        damaged.write_bytes(content)
        request = parcel.request.model_dump()
        request["models"][0]["model"] = sha256_of(damaged)
        said = failure(agent, request, damaged, *good)
        assert said.startswith("the model is damaged: ")
        assert "\n" not in said


def test_a_model_cannot_make_it_read_another_file(agent: AgentProcess, folder: Path, tmp_path: Path) -> None:
    parcel = parcel_of(folder, tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1024))
    for place, location in enumerate((str(secret), "../../../../../../../etc/passwd", "manifest.json")):
        model = onnx.load(str(folder / "small" / "model.onnx"))
        tensor = max(model.graph.initializer, key=lambda item: item.ByteSize())
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        thief = tmp_path / f"thief{place}.onnx"
        thief.write_bytes(model.SerializeToString())
        request = parcel.request.model_dump()
        request["models"][0]["model"] = sha256_of(thief)
        said = failure(agent, request, thief, *parcel.files.values())
        assert said == f"the model reads values of {tensor.name!r} from another file, which is not allowed"


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled_and_nothing_inflated(agent: AgentProcess, folder: Path, tmp_path: Path) -> None:
    parcel, touched = parcel_of(folder, tmp_path), tmp_path / "touched"
    pickled, squeezed = tmp_path / "pickled.npz", tmp_path / "squeezed.npz"
    bomb = np.empty(1, object)
    bomb[0] = _Bomb(touched)
    with pickled.open("wb") as file:
        np.savez(file, allow_pickle=True, x=bomb)
    with squeezed.open("wb") as file:
        np.savez_compressed(file, x=np.zeros(10**7, np.float32))
    told = {pickled: "Object arrays cannot be loaded when allow_pickle=False", squeezed: "the arrays are compressed"}
    for file_path, words in told.items():
        request = {**parcel.request.model_dump(), "inputs": sha256_of(file_path)}
        assert words in failure(agent, request, file_path, *parcel.files.values())
    assert not touched.exists()
    pickle.loads(pickle.dumps(_Bomb(touched)))
    assert touched.exists()  # it would have worked


@pytest.mark.parametrize(
    "meter",
    [
        {"kind": "./stolen.py:Meter"},
        {"kind": "os:system"},
        {"kind": "latency", "runtime": "./stolen.py:Runtime"},
        {"kind": "latency@os:system"},
        {"kind": "size"},
    ],
)
def test_no_code_is_imported_that_a_request_names(
    agent: AgentProcess, folder: Path, tmp_path: Path, meter: dict[str, str]
) -> None:
    parcel = parcel_of(folder, tmp_path)
    request = {**parcel.request.model_dump(), "meters": [meter]}
    said = failure(agent, request, *parcel.files.values())
    assert "this machine has no such" in said or "it does not run the model" in said


def test_other_answers_than_those_of_the_judge_are_not_timed(agent: AgentProcess, folder: Path, tmp_path: Path) -> None:
    """A processor whose kernels overflow answers otherwise; here the answers that were sent are other ones."""
    parcel = parcel_of(folder, tmp_path)
    sent = parcel.files[parcel.request.models[0].answers]
    answers = list(load_feeds(sent).values())
    save_answers(tmp_path / "others.npz", [array + 0.5 * np.abs(array).max() for array in answers])
    request = parcel.request.model_dump()
    request["models"][0]["answers"] = sha256_of(tmp_path / "others.npz")
    for file in (tmp_path / "others.npz", *parcel.files.values()):
        asked(agent, "PUT", f"/files/{sha256_of(file)}", file.read_bytes())
    name = os.urandom(16).hex()
    assert asked(agent, "PUT", f"/readings/{name}", json.dumps(request).encode())[0] == 200
    state: dict[str, Any] = {"state": ""}
    while state["state"] != "done":
        _, state = asked(agent, "GET", f"/readings/{name}?known={state['state']}")
        assert state["state"] != "failed", state
    ((reading,),) = state["readings"]
    assert reading["value"] is None
    there = f"ONNX Runtime on {os.uname().nodename}"
    assert reading["reason"].startswith(
        f"the file's answers in {there} differ from those in ONNX Runtime on the machine that judges them by 0.3"
    )


def test_a_client_that_goes_away_is_one_line_and_leaves_nothing(agent: AgentProcess) -> None:
    before = agent.said.count("127.0.0.1: the connection broke off")
    head = f"PUT /files/{'0' * 64} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n{PROTOCOL_HEADER}: {PROTOCOL}\r\n"
    with socket.create_connection(("127.0.0.1", agent.port)) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b"x" * 500)
        until(lambda: any(agent.scratch.rglob("coming-*")), "no file is being received")
    until(lambda: not any(agent.scratch.rglob("coming-*")), "a half file is left")
    until(lambda: agent.said.count("127.0.0.1: the connection broke off") == before + 1, "nothing is said")
    assert asked(agent, "GET", "/agent")[0] == 200


def test_old_files_make_room_but_not_those_in_use(tmp_path: Path, folder: Path) -> None:
    parcel = parcel_of(folder, tmp_path, budget_s=60.0)
    needed = parcel.num_bytes
    with running_agent(tmp_path / "agent", "--limit", f"{needed + 1000}B") as agent:
        old = b"o" * 1000
        (tmp_path / "old").write_bytes(old)
        assert asked(agent, "PUT", f"/files/{sha256_of(tmp_path / 'old')}", old)[0] == 200
        name = os.urandom(16).hex()
        for file in parcel.files.values():
            assert asked(agent, "PUT", f"/files/{sha256_of(file)}", file.read_bytes())[0] == 200
        assert asked(agent, "PUT", f"/readings/{name}", parcel.request.model_dump_json().encode())[0] == 200
        new = b"n" * 1000
        (tmp_path / "new").write_bytes(new)
        assert asked(agent, "PUT", f"/files/{sha256_of(tmp_path / 'new')}", new)[0] == 200
        lacking = asked(agent, "POST", "/files", json.dumps([sha256_of(tmp_path / "old"), *parcel.files]).encode())[1]
        assert lacking == [sha256_of(tmp_path / "old")]
        assert asked(agent, "PUT", "/files/" + "0" * 64, b"x" * 1001)[0] == 507
        agent.await_reading()
        assert asked(agent, "DELETE", f"/readings/{name}") == (200, None)
        assert "withdrawn" in agent.await_line("latency")
        assert asked(agent, "PUT", "/files/" + "0" * 64, b"x" * 1001)[0] == 400  # there is room, and it is damaged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_all_that_it_started(tmp_path: Path, folder: Path, number: signal.Signals) -> None:
    found: list[Reading] = []
    with running_agent(tmp_path) as agent:
        client = Thread(target=lambda: found.append(read(agent, folder, latency(60.0), patience_s=0.0)["latency"]))
        client.start()
        agent.await_reading()
        started = children(agent.process.pid)
        os.kill(agent.process.pid, number)
        assert agent.process.wait(20) == 0
        client.join()
    assert agent.said[-1] == "stopped"
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    (reading,) = found
    assert reading.value is None


def test_a_killed_agent_leaves_no_process(tmp_path: Path, folder: Path) -> None:
    with running_agent(tmp_path) as agent:
        client = Thread(target=read, args=(agent, folder, latency(60.0)), kwargs={"patience_s": 0.0})
        client.start()
        agent.await_reading()
        started = children(agent.process.pid)
        assert started
        agent.process.kill()
        client.join()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "its measuring process goes on")


def test_an_agent_that_comes_back_within_the_limit_is_read(tmp_path: Path, folder: Path) -> None:
    """The agent is killed in the middle of a reading, and another one starts at its port."""
    found: list[Reading] = []
    with running_agent(tmp_path / "first") as agent:
        meter = latency(5.0)
        client = Thread(target=lambda: found.append(read(agent, folder, meter, patience_s=60.0)["latency"]))
        client.start()
        agent.await_reading()
        agent.process.kill()
        agent.process.wait()
    with running_agent(tmp_path / "second", port=agent.port) as again:
        client.join()
        assert "latency of 1 model: done" in again.await_line("done")
    (reading,) = found
    assert reading.value is not None
    assert 0 < reading.value < 1


def test_an_agent_that_stays_away_leaves_the_reason_in_place_of_a_reading(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for once, and tried once for each further reading."""
    tried: list[int] = [0]
    ask = AgentClient._ask

    def counted(self: AgentClient, *arguments: Any, **more: Any) -> Any:
        tried[-1] += 1
        return ask(self, *arguments, **more)

    monkeypatch.setattr(AgentClient, "_ask", counted)
    with running_agent(tmp_path) as agent:
        client = AgentClient(agent.address(patience_s=1.0))
        os.kill(agent.process.pid, signal.SIGTERM)
        agent.process.wait()
    meters = [meter_of("size", {}), latency()]
    for _ in range(3):
        readings = measure(
            folder / "small", folder / "baseline", TASK, split="validation", meters=meters, elsewhere=client
        )
        tried.append(0)
        size, lost = readings["size"], readings["latency"]
        assert size.value == (folder / "small" / "model.onnx").stat().st_size
        assert str(lost) == (
            f"not measured: the agent at {agent.url} does not answer: Connection refused; waited for it for 1 s"
        )
    assert tried[0] > 1
    assert tried[1:3] == [1, 1]


def test_a_wrong_token_leaves_the_reason_in_place_of_a_reading(agent: AgentProcess, folder: Path) -> None:
    client = AgentClient(agent.address(token="another-token-than-its-own"))
    found = measure(
        folder / "small", folder / "baseline", TASK, split="validation", meters=[latency()], elsewhere=client
    )
    assert str(found["latency"]) == (
        f"not measured: the agent at {agent.url} refuses: the token is missing or wrong; "
        "give the sweep the token of the agent's --token-file"
    )


def test_a_reading_that_fails_there_fails_the_trial(agent: AgentProcess, folder: Path) -> None:
    huge = meter_of({"kind": "latency", "batch_size": 10**9, "budget_seconds": 0.2}, {})
    told = "latency.batch_size: the inputs of a call take 2.56e+05 MB, and may take 1.07e+03 MB; got 1000000000"
    with pytest.raises(TrialFailed) as caught:
        read(agent, folder, huge)
    assert str(caught.value) == f"measure: the artifact cannot be measured by the agent at {agent.url}: {told}"
