"""Errors say the same in another process as where they were raised."""

import pickle

from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput


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
