"""What `check` says of an agent before compute is spent, each in one line with the mend."""

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from agent_process import TOKEN, AgentProcess, running_agent
from threaded_server import answered_by

from paretta.orchestrator.agent.agent_client import AgentAddress
from paretta.orchestrator.agent.agent_token import make_token, read_token
from paretta.orchestrator.agent.ask_agent import agent_warnings, meter_problems
from paretta.orchestrator.agent.protocol import PROTOCOL, PROTOCOL_HEADER, AgentFacts, RuntimeFacts, paretta_version
from paretta.orchestrator.config.check import Checked, check, check_report
from paretta.orchestrator.config.settled_compute import settled_range
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.meter import meter_of
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.yaml_io import parse_yaml

SOUND = """
task: {use: digits, options: {width: 4, hidden: 8}}
baseline: [{kind: train, epochs: 1}]
space: [{kind: train}]
"""
FACTS = AgentFacts(
    protocol=PROTOCOL,
    paretta=paretta_version(),
    most_bytes=10**9,
    machine={"machine": "pi5", "cpu": "Cortex-A76"},
    cores=4,
    saturates=False,
    runtimes={
        "onnxruntime": RuntimeFacts(version="onnxruntime 1.31.0"),
        "openvino": RuntimeFacts(missing="OpenVINO is not installed here: pip install 'paretta[openvino]'"),
    },
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with running_agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


def sweep(measuring: str, more: str = "") -> Sweep:
    return Sweep.parse(parse_yaml(f"{SOUND}measuring: {measuring}\n{more}", "s.yaml"), "s", Path())


def refused(measuring: str, more: str = "") -> str:
    with pytest.raises(WrongInput) as caught:
        check(sweep(measuring, more))
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETTA_AGENT_TOKEN", TOKEN)


@pytest.mark.usefixtures("token")
def test_a_sound_sweep_names_the_device(agent: AgentProcess) -> None:
    checked = check(sweep(f"{{agent: '{agent.url}/'}}"))
    assert checked.agent is not None
    machine = checked.agent.machine
    assert machine["machine"] == os.uname().nodename
    report = check_report(sweep(f"{{agent: '{agent.url}'}}"), checked).splitlines()
    assert f"measured: on {machine['machine']}, {machine['cpu']}, by the agent at {agent.url}" in report


@pytest.mark.usefixtures("token")
def test_an_agent_that_does_not_answer() -> None:
    assert refused("{agent: 'http://127.0.0.1:9'}") == (
        "s.yaml:5 measuring.agent: the agent at http://127.0.0.1:9 does not answer: Connection refused; start "
        "`paretta agent --listen 127.0.0.1:9` there, and the tunnel that leads to it"
    )


def test_a_wrong_token_and_none(agent: AgentProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARETTA_AGENT_TOKEN", "another-token-than-its-own")
    assert refused(f"{{agent: '{agent.url}'}}") == (
        f"s.yaml:5 measuring.agent: the agent at {agent.url} refuses: the token is missing or wrong; give the sweep "
        "the token of the agent's --token-file"
    )
    monkeypatch.delenv("PARETTA_AGENT_TOKEN")
    assert refused(f"{{agent: '{agent.url}'}}") == (
        "s.yaml:5 measuring.agent_token_file: the agent needs its token; name its file here, or set "
        "PARETTA_AGENT_TOKEN; `paretta agent --token-file FILE` makes one"
    )
    missing = tmp_path / "missing.token"
    assert refused(f"{{agent: '{agent.url}', agent_token_file: {missing}}}") == (
        f"s.yaml:5 measuring.agent_token_file: there is no such file; got '{missing}'; copy it from the agent's machine"
    )


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            {"protocol": PROTOCOL + 1, "paretta": "9.0", "news": 1},
            f"the agent runs paretta 9.0, which speaks protocol {PROTOCOL + 1} and this one {PROTOCOL}: install the "
            "same version on both machines",
        ),
        (
            {**FACTS.model_dump(), "paretta": "0.0.1"},
            f"the agent runs paretta 0.0.1, which is not {paretta_version()} as here: install the same version on "
            "both machines",
        ),
        (
            {"protocol": PROTOCOL, "paretta": "0.0.1"},
            "the agent runs paretta 0.0.1, which tells other facts: install the same version on both machines",
        ),
    ],
)
@pytest.mark.usefixtures("token")
def test_another_version_there(facts: dict[str, Any], told: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(facts).encode()
            self.send_response(200)
            self.send_header(PROTOCOL_HEADER, str(facts["protocol"]))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with answered_by(Other) as url:
        assert refused(f"{{agent: '{url}'}}") == f"s.yaml:5 measuring.agent: {told}"


@pytest.mark.usefixtures("token")
def test_something_else_at_the_address() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with answered_by(Page) as url:
        assert f"measuring.agent: something else answers at {url}: 404 Not Found; start `paretta agent" in refused(
            f"{{agent: '{url}'}}"
        )


@pytest.mark.parametrize(
    ("measuring", "told"),
    [
        (
            "{agent: 127.0.0.1:7711}",
            "measuring.agent: must be the address of an agent, http://HOST:PORT or https://HOST",
        ),
        ("{agent: 'ftp://pi5'}", "measuring.agent: must be the address of an agent"),
        ("{agent: 'http://pi5:99999'}", "measuring.agent: must be the address of an agent"),
        ("{agent: 'http://me:secret@pi5'}", "measuring.agent: must not contain the token"),
        ("{agent: 'http://pi5', resources: {jetson: 1}}", "measuring: an `agent` measures, or a node with"),
        (
            "{agent: 'http://pi5', agent_patience_s: -1}",
            "measuring.agent_patience_s: must be greater than or equal to 0",
        ),
    ],
)
def test_settings_that_name_no_agent(measuring: str, told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        sweep(measuring)
    assert f"s.yaml:5 {told}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_runtime_must_be_there() -> None:
    latency, there = meter_of("latency", {}), meter_of("latency@openvino", {})
    meters: Any = {"objectives[0]": latency, "objectives[1]": there}
    assert [str(problem) for problem in meter_problems(FACTS, meters)] == [
        "objectives[1]: pi5: OpenVINO is not installed here; got 'latency@openvino'; there: pip install "
        "'paretta[openvino]', and start the agent again"
    ]
    none = FACTS.model_copy(update={"runtimes": {}})
    assert [problem.rule for problem in meter_problems(none, meters)] == [
        "pi5 has no runtime onnxruntime",
        "pi5 has no runtime openvino",
    ]


def test_code_of_a_sweep_is_not_read_there(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from paretta.pipelines.runtimes.onnxruntime import Onnxruntime\nclass Mine(Onnxruntime): pass\n"
    )
    meter: Any = meter_of({"kind": "latency", "runtime": f"{tmp_path}/own.py:Mine"}, {})
    (problem,) = meter_problems(FACTS, {"objectives[0]": meter})
    assert str(problem) == (
        "objectives[0]: an agent imports no code that a sweep names; got 'latency@Mine'; offer it through an entry "
        "point of a package, and install that on both machines"
    )


def test_an_unencrypted_way_and_missing_cores_are_warned_of() -> None:
    meters: Any = {"objectives[0]": meter_of({"kind": "latency", "threads": 8}, {})}
    far = AgentAddress("http://pi5:7711", TOKEN, 1.0)
    assert list(agent_warnings(far, FACTS, meters)) == [
        "the agent's token and the models go to pi5 unencrypted; better a tunnel, such as "
        "`ssh -L 7711:127.0.0.1:7711 pi5`, or https",
        "objectives[0]: latency computes on 8 threads, and pi5 has 4 cores",
    ]
    for url in ("http://127.0.0.1:7711", "https://pi5.example.org"):
        assert list(agent_warnings(AgentAddress(url, TOKEN, 1.0), FACTS, {})) == []


def checked(facts: AgentFacts | None) -> Checked:
    task: Any = None
    return Checked(task, (), (), "", (), 0, 0, agent=facts)


def test_kernels_that_overflow_there_narrow_the_codes_here() -> None:
    steps: Any = [
        {"choice": [{"kind": "quantize", "bits": 8}, None]},
        {"kind": "quantize", "bits": 4, "reduce_range": False},
    ]
    given = Sweep("digits", steps, deliver={"variants": [[{"kind": "quantize"}]]})
    overflowing = FACTS.model_copy(update={"saturates": True})
    found, told = settled_range(given, checked(overflowing))
    assert told == "reduce_range: true: integer kernels of pi5, Cortex-A76 overflow with 8 bits"
    again = Sweep.parse(parse_yaml(found.to_yaml(), "again"), "again", given.folder)
    stages = [stage for plan in again.space.corners() for stage in plan.stages]
    assert {(stage["bits"], stage["reduce_range"]) for stage in stages} == {(8, True), (4, False)}
    assert again.config.deliver.variants[0][0]["reduce_range"] is True
    for facts in (FACTS, None):
        assert settled_range(given, checked(facts)) == (given, None)
    said = Sweep("digits", steps[1:])
    assert settled_range(said, checked(overflowing)) == (said, None)


def test_a_task_that_travels_leaves_the_token_where_it_is(tmp_path: Path) -> None:
    class Carried:
        def write(self, folder: Path) -> None:
            assert folder == tmp_path / "task"

    given = sweep("{agent: 'http://pi5:7711', agent_token_file: agent.token}")
    object.__setattr__(given, "carried", Carried())
    placed = given.placed(tmp_path)
    assert placed.folder == tmp_path / "task"
    assert placed.config.measuring.agent_token_file == str(given.folder.absolute() / "agent.token")


def test_a_token_is_a_file_of_its_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "agent.token"
    make_token(file)
    assert file.stat().st_mode & 0o777 == 0o600
    token = read_token(file, where="--token-file")
    assert len(token) >= 32
    with pytest.raises(WrongInput, match=r"^--token-file: the token cannot be written: File exists"):
        make_token(file)
    file.chmod(0o640)
    with pytest.raises(
        WrongInput, match=rf"can read or change the token; got '{file}'; make it yours alone: chmod 600"
    ):
        read_token(file, where="--token-file")
    file.chmod(0o600)
    for text in ("short", "two words that are long enough", "é" * 20, "x" * 1025, ""):
        file.write_text(text)
        with pytest.raises(WrongInput, match="a token is one word of 16 to 1024 printable ASCII characters") as caught:
            read_token(file, where="--token-file")
        assert not text or text not in str(caught.value)
