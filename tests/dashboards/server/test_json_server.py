"""The small model server answers in MLflow's words, and tells what is wrong with a request."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from synthetic_sweep import write_files

from paretta.dashboards.server.json_server import open_json_server
from paretta.pipelines.verification.answering import answering
from paretta.search_spaces.errors import WrongInput


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("model")
    write_files(folder, "7", b"{}")
    with open_json_server(answering(folder), port=0) as at:
        yield at


def _ask(at: str, body: bytes | None) -> tuple[int, object]:
    try:
        with urlopen(Request(at, body, {"Content-Type": "application/json"}), timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("inputs", [[[1.0, 2, 3], [4, 5, 6]], {"x": [[1, 2, 3], [4, 5, 6]]}], ids=["list", "by name"])
def test_it_answers_as_mlflow_does(url: str, inputs: object) -> None:
    answered = _ask(f"{url}/invocations", json.dumps({"inputs": inputs}).encode())
    assert answered == (200, {"predictions": {"y": [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]}})
    with urlopen(f"{url}/ping", timeout=30) as answer:
        assert (answer.status, answer.read()) == (200, b"\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Expecting property name"),
        (b"[1]", 'a request is {"inputs": {NAME: [...]}} with the inputs x'),
        (b'{"inputs": {"z": [[1, 2, 3]]}}', "with the inputs x"),
        (b'{"inputs": [[1, 2, 3], [4]]}', "x: expected nested lists of float32: "),
        (b'{"inputs": [["a", "b", "c"]]}', "x: expected nested lists of float32: could not convert string to float"),
        (b'{"inputs": [1, 2, 3]}', "x: expected 2 axes ['batch', 3], found 1"),
        (b'{"inputs": [[1, 2]]}', "the model refuses the inputs: "),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_wrong_request_gets_one_line_that_says_why(url: str, body: bytes, message: str) -> None:
    status, said = _ask(f"{url}/invocations", body)
    assert isinstance(said, dict)
    assert (status, said["error_code"]) == (400, "BAD_REQUEST")
    assert message in said["message"]
    assert "\n" not in said["message"]


def test_other_addresses_and_hosts_are_refused(url: str, tmp_path: Path) -> None:
    assert _ask(f"{url}/other", b"{}")[0] == 404
    assert _ask(f"{url}/other", None)[0] == 404
    with pytest.raises(WrongInput, match="served on loopback only"):
        open_json_server(lambda _: None, host="0.0.0.0", port=0).__enter__()
