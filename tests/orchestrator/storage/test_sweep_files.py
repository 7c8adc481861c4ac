"""A sweep's files in a storage: what one process uploads another gets complete, and nothing else is copied."""

import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from paretta.dashboards.journal.home_names import JOURNAL_FILE
from paretta.orchestrator.storage import sweep_files as files_module
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.storage.mirror import found, mirrored
from paretta.orchestrator.storage.object_store import Storage, below, check_storage
from paretta.orchestrator.storage.shared_state import cache_of, checkpoint_of
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.errors import TrialFailed, WrongInput


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a server on this machine, found as every client finds one: by the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-somebody")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(params=["s3", "file"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> str:
    return f"{s3}/{tmp_path.name}" if request.param == "s3" else f"file://{tmp_path}/storage"


@pytest.fixture
def driver(tmp_path: Path, uri: str) -> SweepFiles:
    return SweepFiles(tmp_path / "home" / "sweep", below(uri, "sweep"))


@pytest.fixture
def worker(driver: SweepFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFiles:
    """The files as a process on another node sees them."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    there: SweepFiles = pickle.loads(pickle.dumps(driver))
    assert driver.root not in (there.root, *there.root.parents)
    return there


def make(folder: Path, **contents: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_a_worker_sends_the_driver_has(worker: SweepFiles, driver: SweepFiles) -> None:
    make(worker.path("artifacts/one"), model="weights", **{"manifest.json": "first"})
    worker.send("artifacts/one")
    assert contents(driver.bring("artifacts/one")) == {"model": "weights", "manifest.json": "first"}
    make(driver.path("artifacts/one"), model="others", **{"manifest.json": "second"})
    driver.send("artifacts/one")
    assert contents(worker.bring("artifacts/one")) == {"model": "others", "manifest.json": "second"}
    driver.remove("artifacts/one")
    assert not driver.path("artifacts/one").exists()
    with pytest.raises(FileNotFoundError):
        contents(SweepFiles(driver.root, driver.storage).bring("artifacts/one"))


def test_without_a_storage_files_stay_where_they_are(tmp_path: Path) -> None:
    files = SweepFiles(tmp_path)
    assert pickle.loads(pickle.dumps(files)) == files
    make(tmp_path / "a", model="weights")
    files.send("a")
    assert files.bring("a") == tmp_path / "a"


def test_an_artifact_whose_manifest_is_here_is_not_copied_again(worker: SweepFiles, driver: SweepFiles) -> None:
    make(worker.path("a"), model="weights", **{"manifest.json": "first"})
    worker.send("a")
    make(driver.path("a"), model="mine", **{"manifest.json": "first"})
    assert contents(driver.bring("a"))["model"] == "mine"


def test_a_training_state_outlives_its_node(worker: SweepFiles, driver: SweepFiles) -> None:
    checkpoint_of(worker, "checkpoints/one").save("key", {"epoch": 3})
    shutil.rmtree(worker.root)
    assert checkpoint_of(worker, "checkpoints/one").load("key") == {"epoch": 3}
    driver.remove("checkpoints/one")
    shutil.rmtree(worker.root)
    assert checkpoint_of(worker, "checkpoints/one").load("key") is None


def test_what_trials_share_reaches_other_nodes_and_keeps_to_its_size(worker: SweepFiles, driver: SweepFiles) -> None:
    import torch

    cache_of(worker, "cache").store("baseline", {"weight": torch.ones(3)})
    known = cache_of(driver, "cache").fetch("baseline")
    assert known is not None
    assert torch.equal(known["weight"], torch.ones(3))
    assert cache_of(driver, "cache").fetch("other") is None
    size = (worker.root / "cache" / "baseline.safetensors").stat().st_size
    for key in ("second", "third"):
        cache_of(worker, "cache").store(key, {"weight": torch.ones(3)})
    worker.keep_within("cache", 2 * size)
    assert driver.storage is not None
    assert Storage(f"{driver.storage}/cache").names() == ["second.safetensors", "third.safetensors"]


def test_a_running_sweep_is_read_from_its_storage(driver: SweepFiles) -> None:
    make(driver.root, **{JOURNAL_FILE: "first\n", "report.html": "page", "driver": "host 1"})
    with mirrored(driver, note=pytest.fail):
        (driver.root / JOURNAL_FILE).write_text("first\nsecond\n")
    read = found(Home(driver.root), str(driver.storage))
    assert contents(read.root) == {JOURNAL_FILE: "first\nsecond\n", "report.html": "page"}
    assert driver.root not in read.root.parents


def test_a_storage_that_stays_away_fails_the_trial_and_says_so(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "_PAUSES_S", (0.0,))
    make(tmp_path / "a", model="weights")
    away = SweepFiles(tmp_path, "s3://no-such-bucket/sweep")
    with pytest.raises(
        TrialFailed, match=r"storage: cannot write a to s3://no-such-bucket/sweep: .*NoSuchBucket|NO_SUCH_BUCKET"
    ) as caught:
        away.send("a")
    assert "secret-of-somebody" not in str(caught.value)
    away.remove("a")  # costs a left-over, not the sweep


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ("s3://key:hunter2@bucket/sweeps", "must not contain credentials"),
        ("s3://no-such-bucket/sweeps", "a URI that can be written"),
        ("nothing://bucket", "a URI that can be written"),
        ("sweeps", "a URI that can be written"),
    ],
)
def test_a_storage_that_cannot_be_written_is_refused(s3: str, wrong: str, rule: str) -> None:
    with pytest.raises(WrongInput, match=rule) as caught:
        check_storage(wrong)
    assert "hunter2" not in str(caught.value)
    assert "secret-of-somebody" not in str(caught.value)


def test_a_uri_where_no_sweep_is_is_told(s3: str) -> None:
    with pytest.raises(WrongInput, match="there is no such sweep"):
        found(Home(Path()), "s3://bucket/none")


def test_a_storage_that_can_be_written_is_left_as_it_was(uri: str) -> None:
    check_storage(uri)
    assert Storage(uri).names() == []
