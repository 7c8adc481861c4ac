import threading
from contextlib import suppress
from pathlib import Path

import pytest

from paretta.orchestrator.storage.home import Home
from paretta.search_spaces.errors import WrongInput


def test_a_name_is_claimed_once_however_many_ask_at_the_same_moment(tmp_path: Path) -> None:
    home, start, got = Home(tmp_path / "new" / "home"), threading.Barrier(8), list[str]()

    def claim() -> None:
        start.wait()
        with home.claimed(None, "digits") as folder:
            got.append(folder.name)
            start.wait()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(["digits", *(f"digits-{number}" for number in range(2, 9))])


def test_a_given_name_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with (
        home.claimed("a", "digits"),
        pytest.raises(WrongInput, match="already has a sweep of this name; got 'a'; choose"),
    ):
        home.claimed("a", "digits").__enter__()


def test_what_was_claimed_in_vain_is_gone(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")
    with pytest.raises(WrongInput), home.claimed("a", "digits"):
        raise WrongInput
    assert list(tmp_path.iterdir()) == []
    with suppress(WrongInput), home.claimed("a", "digits") as folder:
        (folder / "sweep.yaml").write_text("begun")
        raise WrongInput
    assert (home.path / "a" / "sweep.yaml").is_file()


@pytest.mark.parametrize("name", ["my sweep", "größe", "2-b_c", "x" * 64, "日本"])
def test_letters_of_any_language_and_spaces_make_names(tmp_path: Path, name: str) -> None:
    Home(tmp_path).check_name(name)
    assert Home(tmp_path).free_name(name)[:60] == name[:60]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "-x", ".x", "a@b", "a\nb", "a?", "a#", "x" * 65, "a ", "a.b"]
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongInput, match="a sweep's name is 1 to 64 letters"):
        Home(tmp_path).check_name(name)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("what? #1 50%", "what- -1 50"),
        ("digits.v2", "digits-v2"),
        ("...", "sweep"),
        ("x" * 70, "x" * 60),
        ("a@b", "a-b"),
    ],
)
def test_a_file_of_any_name_gives_a_sweep_a_name(tmp_path: Path, file: str, name: str) -> None:
    with Home(tmp_path).claimed(None, file) as folder:
        assert folder.name == name
    assert Home(tmp_path).free_name(file) == f"{name}-2"
