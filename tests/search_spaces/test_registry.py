"""The registry: folder scan, messages, and import errors that stay visible."""

import sys
from pathlib import Path

import pytest

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    package = tmp_path / "toy_extensions"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "two_words.py").write_text('"""Says hello."""\nclass TwoWords:\n    pass\n')
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
