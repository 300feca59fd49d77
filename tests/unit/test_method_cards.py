from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import status

import neuros_mechint
from neuros_mechint.core.result import Result

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(neuros_mechint.__file__).with_suffix(".pyi")

# A public method is whatever callable the stub exports from one of these, except results and errors.
LAYERS_OF_METHODS = ("causal", "features", "neuro", "training", "workflows", "core.edits", "core.ablations")
HAS_PAPER = re.compile(r"doi:10\.\d{4,9}/\S+|https://\S+")


def exported():
    """Public name -> module it comes from, relative to the package."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return {
        alias.name: node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def is_method(name, module):
    in_layer = any(module == layer or module.startswith(layer + ".") for layer in LAYERS_OF_METHODS)
    if not in_layer:
        return False
    thing = getattr(neuros_mechint, name)
    returned_or_raised = isinstance(thing, type) and issubclass(thing, (Result, BaseException))
    return callable(thing) and not returned_or_raised


CARDS = status.read_cards()
METHODS = sorted(name for name, module in exported().items() if is_method(name, module))


def by_card(found: Callable[[status.Card], object]) -> dict[str, object]:
    """The cards in which something was found, with what it was."""
    return {card.path.stem: what for card in CARDS if (what := found(card))}


def test_every_public_method_has_one_card():
    named_by = {name: [card.path.name for card in CARDS if name in card.covers] for name in METHODS}
    wrong = {name: cards for name, cards in named_by.items() if len(cards) != 1}
    assert not wrong, f"every name needs one card; copy neuro/TEMPLATE.md to neuro/cards/ for those without: {wrong}"


def test_there_are_methods_to_check():
    assert {"Zero", "Resample"} <= set(METHODS)
    assert not is_method("SiteTable", "core.sites")


def test_a_cards_file_is_named_by_words_with_hyphens():
    others = [card.path.name for card in CARDS if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", card.path.stem)]
    assert not others


def test_a_card_is_complete():
    for card in CARDS:
        assert card.status in status.STATES, card.path.name
        assert card.covers, card.path.name
        assert card.tests, card.path.name
        assert list(card.sections) == list(status.SECTIONS), card.path.name
    empty = by_card(lambda card: [heading for heading, text in card.sections.items() if not text])
    assert not empty, f"nothing under {empty}"


def test_a_card_names_things_that_exist():
    public = exported()
    missing = by_card(lambda card: [name for name in card.covers if name not in public])
    assert not missing, f"not public: {missing}"
    absent = by_card(lambda card: [path for path in card.tests if not (ROOT / path).is_file()])
    assert not absent, f"tests that do not exist: {absent}"
    modules = {card.path.stem: ROOT / card.module.replace(".", "/") for card in CARDS}
    nowhere = {
        card: path for card, path in modules.items() if not path.with_suffix(".py").is_file() and not path.is_dir()
    }
    assert not nowhere, f"no such modules: {nowhere}"


def test_a_card_says_which_test_knows_the_answer():
    silent = by_card(lambda card: not any(path in card.sections["Known answer"] for path in card.tests))
    assert not silent


def test_a_card_cites_papers_one_can_find():
    assert all(card.papers for card in CARDS)
    unfindable = by_card(lambda card: [paper for paper in card.papers if not HAS_PAPER.search(paper)])
    assert not unfindable, f"give a DOI or an address: {unfindable}"


def test_the_template_has_the_sections_that_cards_need():
    assert list(status.read_card(ROOT / "neuro" / "TEMPLATE.md").sections) == list(status.SECTIONS)


def test_the_status_page_is_up_to_date():
    page = status.STATUS.read_text(encoding="utf-8")
    assert page == status.status_page(CARDS), "run `python scripts/status.py`"
