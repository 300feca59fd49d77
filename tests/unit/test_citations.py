from __future__ import annotations

import re
from pathlib import Path

import pytest

from neuros_mechint.core import citations
from neuros_mechint.core.citations import bibliography, cite
from neuros_mechint.core.errors import InputError

TEXT = Path(citations.__file__).with_name("citations.bib").read_text(encoding="utf-8")
KEYS = re.findall(r"^@\w+\{(\S+),", TEXT, re.MULTILINE)


def test_every_entry_is_complete():
    for key in KEYS:
        entry = cite(key)
        assert entry.key == key
        assert re.fullmatch(r"(19|20)\d\d", entry.year), key
        assert entry.link.startswith("https://"), key
        assert all(re.fullmatch(r"[^,{}\\]+, [^,{}\\]+", author) for author in entry.authors), key
        assert entry.title, key
        assert not re.search(r"[{}\\]", entry.reference), key


def test_keys_are_unique():
    assert len(KEYS) == len(set(KEYS)) > 10


def test_references_name_up_to_three_authors():
    assert cite("mante2013").reference.startswith("Mante et al. (2013). Context-dependent")
    assert cite("kriegeskorte2008").reference.startswith("Kriegeskorte, Mur & Bandettini (2008).")
    assert cite("mante2013").reference.endswith("Nature 503, 78–84.")


def test_accents_are_read():
    assert "Kramár, János" in cite("mcgrath2023hydra").authors


def test_bibliography_keeps_order_and_drops_repeats():
    text = bibliography(["sussillo2013", "mante2013", "sussillo2013"])
    assert re.findall(r"^@article\{(\w+)", text, re.MULTILINE) == ["sussillo2013", "mante2013"]
    assert all(part in TEXT for part in text.split("\n\n"))
    assert bibliography([]) == ""


def test_unknown_key_suggests_a_near_one():
    with pytest.raises(InputError, match="did you mean 'mante2013'"):
        bibliography(["mante2014"])
