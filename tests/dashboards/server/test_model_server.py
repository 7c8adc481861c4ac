"""MLflow's model server serves a delivered folder."""

import json
from pathlib import Path
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
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_damaged_model_and_open_host_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "model", "7", b"{}")
    with pytest.raises(WrongInput, match="served on loopback only"):
        open_model_server(tmp_path / "model", host="0.0.0.0", port=0).__enter__()
    (tmp_path / "model" / "plan.yaml").write_text("other")
    with pytest.raises(DamagedArtifact, match=r"plan\.yaml"):
        open_model_server(tmp_path / "model", port=0).__enter__()
