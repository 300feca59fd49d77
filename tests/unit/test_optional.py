from __future__ import annotations

import sys

import pytest

from neuros_mechint.core.errors import MissingDependencyError
from neuros_mechint.core.optional import soft_import


def test_installed_modules_and_submodules_are_returned():
    assert soft_import("xml.dom", "nothing") is sys.modules["xml.dom"]


def test_missing_library_names_purpose_and_extra():
    with pytest.raises(MissingDependencyError) as caught:
        soft_import("no_such_library.part", "drawing in colour", extra="viz")
    assert "For drawing in colour the library no_such_library is needed" in str(caught.value)
    assert "pip install 'neuros-mechint[viz]'" in str(caught.value)
    assert isinstance(caught.value, ImportError)


def test_missing_library_without_extra_is_installed_by_its_own_name():
    with pytest.raises(MissingDependencyError, match=r"pip install no_such_library\n"):
        soft_import("no_such_library", "drawing")


def test_a_library_that_breaks_on_its_own_import_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import another_missing_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_library") as caught:
        soft_import("broken_library", "anything")
    assert not isinstance(caught.value, MissingDependencyError)
