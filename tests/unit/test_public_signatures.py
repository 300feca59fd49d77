"""What the public names take: every parameter is described, and one thing has one name everywhere."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import _reference
import pytest

import neuros_mechint as nm
from neuros_mechint.core.result import Result

SIMILAR = 0.85
SECTION = re.compile(r"^Parameters\n-{3,}\n(.*?)(?=^[A-Z][A-Za-z ]+\n-{3,}\n|\Z)", flags=re.DOTALL | re.MULTILINE)
PARAMETER = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :|$)", flags=re.MULTILINE)
MADE_OTHERWISE = {"Adapter", "ActivationStore"}  # a protocol, and what `create`, `resume` and `open` make

# Names that look alike and are different things. What differs by a plural, or by `n_`, is told apart by that.
DIFFERENT = {
    frozenset(pair)
    for pair in (
        ("a2_minus", "a3_minus"),  # amplitudes of pairs and triplets
        ("a2_minus", "a_minus"),
        ("a2_plus", "a3_plus"),
        ("a2_plus", "a_plus"),
        ("a3_minus", "a_minus"),
        ("a3_plus", "a_plus"),
        ("a_minus", "tau_minus"),
        ("a_plus", "tau_plus"),
        ("coherences", "incoherence"),  # strengths of evidence, and a penalty on kernels
        ("correction", "correlation"),
        ("current", "recurrent"),
        ("in_features", "n_features"),  # torch's name, for layers of torch
        ("n_examples", "n_resamples"),
        ("n_resamples", "n_samples"),
        ("n_restarts", "n_starts"),  # after a poor start, and from the beginning
        ("n_surrogates", "surrogate"),  # artificial data, and the gradient of a spike
        ("reset", "rest"),  # potentials
        ("sampled", "samples"),
        ("source", "source_1"),
        ("source", "source_2"),
        ("source_1", "source_2"),
        ("threshold", "threshold_on"),
    )
}


def signatures() -> dict[str, Callable[..., Any]]:
    """Every public function, class and method of a public class that this package defines."""
    found: dict[str, Callable[..., Any]] = {}
    for public in _reference.public_names():
        thing = getattr(nm, public.name)
        if not callable(thing):
            continue
        found[public.name] = thing
        if isinstance(thing, type):
            methods = inspect.getmembers(thing, lambda one: inspect.isfunction(one) or inspect.ismethod(one))
            ours = {name: one for name, one in methods if one.__module__.startswith("neuros_mechint")}
            found |= {f"{public.name}.{name}": one for name, one in ours.items() if not name.startswith("_")}
    return found


SIGNATURES = signatures()


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "cls"}


def described(docstring: str | None) -> set[str]:
    section = SECTION.search(inspect.cleandoc(docstring or ""))
    names = PARAMETER.findall(section[1]) if section else []
    return {name.strip("* ") for together in names for name in together.split(",")}


def described_by(thing: Callable[..., Any]) -> set[str]:
    """Parameters that a function describes; a class may leave those of its bases to them."""
    classes = thing.__mro__ if isinstance(thing, type) else (thing,)
    return set().union(*(described(one.__doc__) for one in classes))


def to_check() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and classes; methods that describe some of their parameters must describe all."""
    for name, thing in SIGNATURES.items():
        is_result = isinstance(thing, type) and issubclass(thing, Result)  # made by functions, not by users
        if not is_result and name not in MADE_OTHERWISE and ("." not in name or described(thing.__doc__)):
            yield name, thing


def test_everything_public_says_what_it_is():
    silent = [name for name, thing in SIGNATURES.items() if not inspect.getdoc(thing)]
    assert not silent


def test_every_parameter_is_described_and_nothing_else():
    wrong = {
        name: parameters(thing) ^ described(thing.__doc__)
        for name, thing in to_check()
        if parameters(thing) - described_by(thing) or described(thing.__doc__) - parameters(thing)
    }
    assert not wrong, f"not in both the signature and the docstring: {wrong}"


def plain(name: str) -> str:
    """A name without what tells a number or several from one: ``n_states`` and ``states`` are about a ``state``."""
    return re.sub(r"(?<=\w\w)s$", "", name.removeprefix("n_"))


def similar(one: str, other: str) -> bool:
    matcher = difflib.SequenceMatcher(None, one, other)  # the first two are upper bounds, and quick
    return all(bound() >= SIMILAR for bound in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio))


def alike(names: set[str]) -> list[tuple[str, str]]:
    """Pairs of names that a reader may take for each other."""
    return [
        (one, other)
        for one, other in combinations(sorted(names), 2)
        if plain(one) != plain(other) and frozenset((one, other)) not in DIFFERENT and similar(one, other)
    ]


NAMES = set().union(*map(parameters, SIGNATURES.values()))


def test_one_thing_has_one_name():
    confused = alike(NAMES)
    assert not confused, f"choose one of each, or add the pair to DIFFERENT with its reason: {confused}"


@pytest.mark.parametrize(
    ("rarely", "usually"),
    [("n_nulls", "n_null"), ("n_epochs", "epochs"), ("random_state", "seed"), ("rng", "seed"), ("verbose", "progress")],
)
def test_words_of_the_house_are_used(rarely: str, usually: str):
    assert rarely not in NAMES, f"{rarely} is {usually} here: see CONTRIBUTING.md"
    assert usually in NAMES


def test_the_checks_can_fail():
    def function(n_trial: int, colour: str) -> None:
        """Do something.

        Parameters
        ----------
        n_trial, color : int
            Misspelt.
        """

    assert parameters(function) ^ described_by(function) == {"colour", "color"}
    assert alike({"parametrisation", "parametrization", "seed"}) == [("parametrisation", "parametrization")]
    assert not DIFFERENT - {frozenset(pair) for pair in combinations(NAMES, 2)}, "pairs that no longer exist"
