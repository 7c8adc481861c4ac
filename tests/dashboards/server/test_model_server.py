"""MLflow's model server serves a delivered folder."""

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from synthetic_sweep import write_files

from paretta.dashboards.server.model_server import open_model_server
from paretta.search_spaces.errors import DamagedArtifact, WrongInput


@pytest.mark.slow
def test_model_is_answered_for_on_loopback(tmp_path: Path) -> None:
    write_files(tmp_path / "model", "7", b"{}")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with open_model_server(tmp_path / "model", port=0) as url:
        asked = json.dumps({"inputs": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}).encode()
        request = Request(f"{url}/invocations", asked, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            assert json.load(answer)["predictions"] == {"y": [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]}
        assert refused(url, b'{"inputs": [[1.0, NaN, 3.0]]}') == (400, "expected finite numbers, found NaN")
        assert refused(url, b'{"inputs": [[1.0, 1e39, 3.0]]}') == (400, "expected finite numbers, found 1e39")
        nested = b'{"inputs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
        assert refused(url, nested) == (400, "the request is nested too deeply")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def refused(url: str, body: bytes) -> tuple[int, str]:
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(f"{url}/invocations", body, {"Content-Type": "application/json"}), timeout=60)
    with caught.value as error:
        return error.code, json.load(error)["message"]


def test_tables_with_cells_that_are_no_finite_numbers_are_refused() -> None:
    from io import BytesIO

    from pandas import DataFrame

    from paretta.dashboards.server.guarded_scoring import fault_of_body

    fault = "expected finite numbers, found others or an empty cell in column 'b'"
    for cell in ("", "NaN", "inf", "-Infinity", "1e39", "word"):
        assert fault_of_body(f"a,b\n1,2\n3,{cell}\n".encode(), "text/csv; charset=utf-8") == fault
    assert fault_of_body(b"a,b\n1,2\n3,-4e38\n".replace(b"-4e38", b"-3e38"), "text/csv") is None
    for value in (float("nan"), float("inf")):
        content = BytesIO()
        DataFrame({"a": [1.0], "b": [value]}).to_parquet(content)
        assert fault_of_body(content.getvalue(), "application/vnd.apache.parquet") == fault
    assert fault_of_body(b"", "text/csv") == "No columns to parse from file"
    assert "Parquet" in str(fault_of_body(b"no table", "application/vnd.apache.parquet"))


def test_damaged_model_and_open_host_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "model", "7", b"{}")
    with pytest.raises(WrongInput, match="served on loopback only"):
        open_model_server(tmp_path / "model", host="0.0.0.0", port=0).__enter__()
    (tmp_path / "model" / "plan.yaml").write_text("other")
    with pytest.raises(DamagedArtifact, match=r"plan\.yaml"):
        open_model_server(tmp_path / "model", port=0).__enter__()
