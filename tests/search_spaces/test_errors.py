"""Errors say the same in another process as where they were raised."""

import errno
import pickle
from pathlib import Path

import pytest

from paretta import ParettaError, StorageError
from paretta.orchestrator.sweeps.result import SweepFront
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput, did_you_mean, in_error_tree


def test_an_error_is_whole_in_another_process() -> None:
    wrong = WrongInput(Problem("s.yaml:1 task", "must be", 3, "mend it"), Problem("s.yaml:2 space", "must not be"))
    other = pickle.loads(pickle.dumps(wrong))
    assert (other.problems, str(other)) == (wrong.problems, str(wrong))
    failed = TrialFailed("no data", "line 3", True)
    again = pickle.loads(pickle.dumps(failed))
    assert (again.reason, again.detail, again.by_input, str(again)) == ("no data", "line 3", True, "no data")


def test_a_trial_that_fails_by_input_keeps_the_place_and_the_traceback() -> None:
    def blamed() -> WrongInput:
        try:
            raise KeyError(37)
        except KeyError as error:
            wrong = WrongInput(Problem("task.train[37]", "reading it failed: KeyError: 37", hint="set X=1"))
            wrong.__cause__ = error
            return wrong

    failed = TrialFailed.of(blamed())
    assert (failed.reason, failed.by_input) == ("task.train[37]: reading it failed: KeyError: 37", True)
    assert "raise KeyError(37)" in failed.detail
    plain = TrialFailed.of(WrongInput(Problem("prune.sparsity", "must match a layer", "nope", "correct it")))
    assert plain.reason == "prune.sparsity: must match a layer; got 'nope'; correct it"
    assert plain.detail == ""


def test_what_the_system_refuses_is_in_the_tree_for_callers(tmp_path: Path) -> None:
    @in_error_tree
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(ParettaError, match="the disk is full") as caught:
        full(tmp_path)
    assert isinstance(caught.value, OSError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.errno) == (StorageError, str(caught.value), errno.ENOSPC)


def test_a_reader_that_closes_a_pipe_is_no_error_of_the_storage() -> None:
    @in_error_tree
    def printing() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        printing()


def test_a_folder_that_is_not_there_is_told_in_the_tree(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere/journal\.jsonl: No such file or directory"):
        SweepFront.read(tmp_path / "nowhere")


def test_of_many_known_names_the_first_are_listed() -> None:
    told = did_you_mean("layer.1000.wieght", [f"layer.{number:04}.weight" for number in range(1234)], "parameter")
    assert told.startswith(
        "no parameter is called 'layer.1000.wieght'; did you mean 'layer.1000.weight'? known: layer.0000"
    )
    assert told.endswith("layer.0039.weight and 1194 more")
