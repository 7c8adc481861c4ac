"""The registry: folder scan, messages, and import errors that stay visible."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.registry import Registry

NEEDY = "class Needy:\n    def __init__(self, it):\n        pass\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    package = tmp_path / "toy_extensions"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "two_words.py").write_text('"""Says hello."""\nclass TwoWords:\n    pass\n' + NEEDY)
    (package / "broken.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_extensions", raising=False)
    return Registry("extension", "toy_extensions")


def test_names_and_descriptions_need_no_import(registry: Registry) -> None:
    assert registry.names() == ("broken", "two_words")
    assert registry.describe("two_words") == "Says hello."
    assert "toy_extensions.two_words" not in sys.modules


def test_a_file_offers_its_class_in_camel_case(registry: Registry) -> None:
    assert registry.load("two_words").__name__ == "TwoWords"


def test_the_folder_is_read_once_however_often_it_is_asked(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    monkeypatch.setattr("pkgutil.iter_modules", None)
    assert registry.load("two_words") is registry.load("two_words")


def test_an_import_error_is_raised_not_hidden(registry: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        registry.load("broken")


def test_an_unknown_name_gets_a_suggestion(registry: Registry) -> None:
    with pytest.raises(WrongInput, match="did you mean 'two_words'"):
        registry.load("two_word")


def test_a_dotted_path_needs_no_registration(registry: Registry) -> None:
    assert registry.load("collections:OrderedDict").__name__ == "OrderedDict"
    with pytest.raises(WrongInput, match="not installed"):
        registry.load("no_such_module_here:Thing")
    with pytest.raises(WrongInput, match="has no 'Nope'"):
        registry.load("collections:Nope")


def distribution(folder: Path, name: str, *points: str) -> None:
    """Write what an installed distribution leaves on the import path."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[paretta.extension]", *points]))


def test_an_entry_point_joins_and_its_origin_is_told(registry: Registry, tmp_path: Path) -> None:
    distribution(tmp_path, "other", "theirs = collections:OrderedDict")
    assert registry.names() == ("broken", "theirs", "two_words")
    assert registry.load("theirs").__name__ == "OrderedDict"
    assert registry.origins("theirs") == ("from other 1.0 (collections:OrderedDict)",)
    assert registry.origins("two_words") == ("built in",)
    assert registry.reference("theirs") == "collections:OrderedDict"


@pytest.mark.parametrize("place", ["collections:OrderedDict", "no_such_module_here:Thing"])
def test_an_entry_point_never_shadows_what_is_built_in(registry: Registry, tmp_path: Path, place: str) -> None:
    distribution(tmp_path, "clash", f"two_words = {place}")
    assert registry.names() == ("broken", "two_words")
    assert registry.origins("two_words") == ("built in", f"from clash 1.0 ({place})")
    assert registry.describe("two_words") == "Says hello."
    with pytest.raises(WrongInput) as caught:
        registry.load("two_words")
    assert f"'two_words' is offered more than once: built in, from clash 1.0 ({place})" in str(caught.value)
    assert registry.load("toy_extensions.two_words:TwoWords").__name__ == "TwoWords"


def test_two_distributions_that_offer_one_name_are_told_apart(registry: Registry, tmp_path: Path) -> None:
    distribution(tmp_path, "first", "theirs = collections:OrderedDict")
    distribution(tmp_path, "second", "theirs = collections:Counter")
    with pytest.raises(WrongInput, match=r"from first 1.0 .*, from second 1.0 "):
        registry.load("theirs")


def test_an_entry_point_that_cannot_be_loaded_is_told_with_its_distribution(registry: Registry, tmp_path: Path) -> None:
    distribution(tmp_path, "other", "theirs = no_such_module_here:Thing")
    with pytest.raises(WrongInput, match=r"loading theirs from other 1.0 .* No module named 'no_such_module_here'"):
        registry.load("theirs")


def test_a_class_must_be_a_complete_one_of_its_kind(registry: Registry) -> None:
    assert registry.load_class("collections:OrderedDict", dict).__name__ == "OrderedDict"
    with pytest.raises(WrongInput, match=r"space\[0\]: must name a subclass of builtins.dict"):
        registry.load_class("collections:deque", dict, where="space[0]")
    with pytest.raises(WrongInput, match="the class must define __getitem__, __iter__, __len__"):
        registry.load_class("collections.abc:Mapping", Mapping)


def test_a_setting_that_names_a_class_is_validated_by_making_one(registry: Registry) -> None:
    assert registry.known("collections:OrderedDict", dict) == "collections:OrderedDict"
    with pytest.raises(ValueError, match=r"making toy_extensions.two_words:Needy failed: TypeError: .*'it'"):
        registry.known("toy_extensions.two_words:Needy", object)
