"""The rule for folders that an artifact is written to."""

from pathlib import Path

from paretta.search_spaces.errors import Problem, WrongInput


def check_free(to: Path) -> None:
    """Raise `WrongInput` unless `to` is missing or an empty folder."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        rule = "an artifact is pulled into a new or an empty folder"
        raise WrongInput(Problem("--to", rule, str(to), "name a folder that does not exist"))
