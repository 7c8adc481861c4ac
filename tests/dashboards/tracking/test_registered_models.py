"""The front as logged models, and its roles as aliases of registered versions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from onnxruntime import InferenceSession
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.dashboards.tracking.journal_tail import Tail
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.reader import download, download_registered
from paretta.dashboards.tracking.store import default_uri, open_store
from paretta.dashboards.tracking.sync import Publication
from paretta.search_spaces.errors import DamagedArtifact, WrongInput
from paretta.search_spaces.objectives.roles import alias
from paretta.search_spaces.results.front import Front

Make = Callable[..., Path]
WISHES = {
    "phone": {"prefer": "accuracy", "at_most": {"size": "60kB"}},
    "impossible": {"prefer": "size", "at_most": {"size": "1B"}},
}


def _models(client: MlflowClient) -> dict[str, LoggedModel]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {model.tags["trial.uid"]: model for model in client.search_logged_models(ids)}


def _expected_aliases(front: Front) -> dict[str, str]:
    return {alias(role): trial.uid for role, trial in holders(front).items()}


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    versions = {v.version: v.tags["trial.uid"] for v in client.search_model_versions(f"name = '{name}'")}
    return {word: versions[int(number)] for word, number in client.get_registered_model(name).aliases.items()}


@pytest.fixture(scope="module")
def published(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("published")
    (home / "mlflow.db").write_bytes(empty_store.read_bytes())
    write_sweep(home / "invented", trials=15, wishes=WISHES)
    publish_sweep(home / "invented")
    return home


def test_each_member_of_the_front_is_a_logged_model_with_its_digests(published: Path) -> None:
    front = SweepRecord.read(published / "invented").front()
    models = _models(open_store(default_uri(published)))
    assert models.keys() == {trial.uid for trial in front}
    for trial in front:
        model, folder = models[trial.uid], published / "invented" / str(trial.artifact)
        assert str(model.status) == "READY"
        assert model.tags["model.sha256"] == json.loads((folder / "manifest.json").read_text())["files"]["model.onnx"]
        assert {m.key: m.value for m in model.metrics} == {o.meter: trial.value(o.meter) for o in front.objectives}


def test_logged_model_is_loaded_by_mlflow_and_answers_as_the_file_does(published: Path, tmp_path: Path) -> None:
    import mlflow

    client = open_store(default_uri(published))
    model = next(iter(_models(client).values()))
    folder = mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location, dst_path=str(tmp_path))
    assert "onnxruntime==" in (Path(folder) / "requirements.txt").read_text()
    loaded = mlflow.models.Model.load(folder)
    assert loaded.flavors["onnx"]["providers"] == ["CPUExecutionProvider"]
    assert loaded.signature.inputs.input_names() == ["x"]
    rows = np.array([[1, 2, 3]], dtype=np.float32)
    (answer,) = InferenceSession(str(Path(folder) / "model.onnx")).run(None, {"x": rows})
    assert answer.tolist() == (2 * rows).tolist()


def test_roles_and_wishes_are_aliases_of_registered_versions(published: Path) -> None:
    front = SweepRecord.read(published / "invented").front()
    client = open_store(default_uri(published))
    expected = _expected_aliases(front)
    assert _aliases(client, "invented") == expected
    assert {"knee", "smallest", "fastest", "most-accurate", "phone"} == expected.keys()
    for version in client.search_model_versions("name = 'invented'"):
        trial = next(trial for trial in front if trial.uid == version.tags["trial.uid"])
        assert version.description.splitlines()[0] == trial.words
        assert f"- size: {trial.readings['size']}" in version.description
    assert client.get_registered_model("invented").description.startswith("Members of the front of a sweep.")


@pytest.mark.parametrize("word", ["knee", "phone"])
def test_holder_of_an_alias_is_downloaded_unchanged(published: Path, tmp_path: Path, word: str) -> None:
    front = SweepRecord.read(published / "invented").front()
    to = download_registered(default_uri(published), f"models:/invented@{word}", tmp_path / "deep" / "model")
    source = published / "invented" / "artifacts" / _expected_aliases(front)[word]
    assert {p.name: p.read_bytes() for p in to.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/invented@kne", "no alias of invented is called 'kne'; did you mean 'knee'"),
        ("models:/invented/99", "no version of invented is called '99'"),
        ("models:/inventd@knee", "no registered model is called 'inventd'; did you mean 'invented'"),
        ("models:/invented", "a registered model is models:/NAME@ALIAS"),
    ],
)
def test_unknown_model_is_answered_with_what_there_is(published: Path, tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        download_registered(default_uri(published), uri, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_damaged_and_emptied_downloads_are_refused(home: Path, sweep: Make, tmp_path: Path) -> None:
    folder = sweep(trials=6)
    publish_sweep(folder)
    uid = holders(SweepRecord.read(folder).front())["knee"].uid
    (stored,) = (p for p in (home / "mlartifacts").rglob("model.onnx") if uid.encode() in p.read_bytes())
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    for get in (
        lambda: download(default_uri(home), "invented", uid, tmp_path / "model"),
        lambda: download_registered(default_uri(home), "models:/invented@knee", tmp_path / "model"),
    ):
        with pytest.raises(DamagedArtifact, match=r"model.onnx: expected sha256 \w+, found \w+"):
            get()
        assert not (tmp_path / "model").exists()
    forged = {**json.loads((stored.parent / "manifest.json").read_text()), "seed": 1}
    (stored.parent / "manifest.json").write_text(json.dumps(forged))
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=r"manifest.json: expected sha256"):
        download_registered(default_uri(home), "models:/invented@knee", tmp_path / "model")
    for path in stored.parent.iterdir():
        path.unlink()
    with pytest.raises(DamagedArtifact, match="expected a delivered folder"):
        download_registered(default_uri(home), "models:/invented@knee", tmp_path / "model")


def test_aliases_move_as_better_ones_come_and_leavers_stay_with_a_tag(home: Path) -> None:
    whole = write_sweep(home / "whole" / "invented", trials=25, seed=8, wishes=WISHES)
    lines = (whole.folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    client, journal = open_store(default_uri(home)), whole.folder / "journal.jsonl"
    artifacts = (home / "mlartifacts").as_uri()
    journal.write_bytes(b"")
    tail = Tail.of(whole.folder)
    publication = Publication(tail, client, artifacts=artifacts)
    seen, holders_seen = set(), set()
    with journal.open("ab") as file:
        for line in lines:
            file.write(line)
            file.flush()
            if not tail.read():
                continue
            front = tail.record.front()
            for trial in front:  # what the lanes deliver; the invented sweep has files of its last front only
                _deliver(whole.folder / str(trial.artifact), trial.uid)
            publication.update()
            if front.members:
                seen |= {trial.uid for trial in front}
                expected = _expected_aliases(front)
                holders_seen |= set(expected.values())
                assert _aliases(client, "invented") == expected
    models = _models(client)
    assert models.keys() == seen
    final = {trial.uid for trial in whole.front()}
    assert seen - final
    assert {uid for uid, model in models.items() if model.tags["pareto"] == "left"} == seen - final
    versions = client.search_model_versions("name = 'invented'")
    assert sorted(v.tags["trial.uid"] for v in versions) == sorted(holders_seen)
    assert {v.tags["trial.uid"] for v in versions if v.tags["pareto"] == "left"} == holders_seen - final


def _deliver(folder: Path, uid: str) -> None:
    if not folder.exists():
        from synthetic_sweep import write_files

        write_files(folder, uid, b"{}")


def test_second_sweep_of_a_name_is_registered_under_a_name_of_its_own(home: Path, sweep: Make) -> None:
    publish_sweep(sweep(trials=3))
    other = write_sweep(home / "elsewhere" / "invented", trials=3, seed=5, started=1_790_100_000.0)
    publish_sweep(other, default_uri(home))
    client = open_store(default_uri(home))
    first, second = sorted(model.name for model in client.search_registered_models())
    assert first == "invented"
    assert second.startswith("invented-")
    assert _aliases(client, second) == _expected_aliases(other.front())
