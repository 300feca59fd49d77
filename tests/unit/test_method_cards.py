from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
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
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.path.stem)


@pytest.mark.parametrize("name", METHODS)
def test_every_public_method_has_one_card(name):
    cards = [card.path.name for card in CARDS if name in card.covers]
    assert len(cards) == 1, f"{name} is named by {cards or 'no card'}: copy neuro/TEMPLATE.md to neuro/cards/"


def test_there_are_methods_to_check():
    assert {"Zero", "Resample"} <= set(METHODS)
    assert not is_method("SiteTable", "core.sites")


@each_card
def test_a_cards_file_is_named_by_words_with_hyphens(card):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", card.path.stem)


@each_card
def test_a_card_is_complete(card):
    assert card.status in status.STATES
    assert card.covers
    assert card.tests
    assert list(card.sections) == list(status.SECTIONS)
    empty = [heading for heading, text in card.sections.items() if not text]
    assert not empty, f"{card.path.name}: nothing under {empty}"


@each_card
def test_a_card_names_things_that_exist(card):
    missing = [name for name in card.covers if name not in exported()]
    assert not missing, f"{card.path.name} covers {missing}, which are not public"
    absent = [path for path in card.tests if not (ROOT / path).is_file()]
    assert not absent, f"{card.path.name} names tests that do not exist: {absent}"
    module = ROOT / card.module.replace(".", "/")
    assert module.with_suffix(".py").is_file() or module.is_dir(), f"no module {card.module}"


@each_card
def test_a_card_says_which_test_knows_the_answer(card):
    assert any(path in card.sections["Known answer"] for path in card.tests)


@each_card
def test_a_card_cites_papers_one_can_find(card):
    assert card.papers
    unfindable = [paper for paper in card.papers if not HAS_PAPER.search(paper)]
    assert not unfindable, f"give a DOI or an address: {unfindable}"


def test_the_template_has_the_sections_that_cards_need():
    assert list(status.read_card(ROOT / "neuro" / "TEMPLATE.md").sections) == list(status.SECTIONS)


def test_the_status_page_is_up_to_date():
    page = status.STATUS.read_text(encoding="utf-8")
    assert page == status.status_page(CARDS), "run `python scripts/status.py`"
