"""What is wrong with a submission is told before anything is sent, and no password is."""

import socket
from pathlib import Path

import pytest

from orchestrator.submit import submit
from search_spaces.errors import WrongInput

SWEEP = "task: {use: digits}\nspace: [{kind: prune, sparsity: {float: [0, 0.5]}}]\n"


def nobody() -> str:
    """An address where no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_password_in_a_jobs_command_is_refused_and_not_repeated() -> None:
    store = "postgresql://me:hunter2@store/mlflow"
    with pytest.raises(WrongInput, match="must hold no password") as caught:
        submit("digits", address=nobody(), home="/sweeps", tracking_uri=store)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "ray://10.0.0.5:10001"])
def test_an_address_of_another_kind_is_told(address: str) -> None:
    with pytest.raises(WrongInput, match="write it like http://"):
        submit("digits", address=address, home="/sweeps")


def test_a_port_where_nobody_listens_is_told() -> None:
    with pytest.raises(WrongInput, match=r"no Jobs API answers.*port 8265"):
        submit("digits", address=nobody(), home="/sweeps")


def test_a_folder_that_hides_our_packages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    with pytest.raises(WrongInput, match="rename dashboards in it"):
        submit(str(tmp_path / "sweep.yaml"), address=nobody(), home="/sweeps")


def test_unreadable_requirements_are_told(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="--requirements"):
        submit("digits", address=nobody(), home="/sweeps", requirements=tmp_path / "none.txt")
