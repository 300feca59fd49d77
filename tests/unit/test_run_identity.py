"""A run goes on with the same inputs only: what tells them apart, to the last bit."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuros_mechint as nm
from neuros_mechint.workflows.dynamics.driven import open_system
from neuros_mechint.workflows.runs.identity import identity
from neuros_mechint.workflows.runs.sources import open_model

FACTOR = 2.0
WEIGHTS = np.array([1.0, 2.0])
LOG = logging.getLogger(__name__)


class Scaled:
    def __init__(self, by: Any) -> None:
        self.by = by

    def __call__(self, states: Any) -> Any:
        return states * self.by


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by: Any) -> None:
        self.by = by


def product(states: Any, by: float = 1.0) -> Any:
    return states * by


class Doubling(nn.Module):
    def forward(self, states: Any) -> Any:
        LOG.debug("asked")
        return self.weighted(product(states, FACTOR))

    @staticmethod
    def weighted(states: Any) -> Any:
        return states @ WEIGHTS


def with_default(by: float) -> Callable[..., Any]:
    def scaled(states: Any, *, factor: float = by) -> Any:
        return states * factor

    return scaled


def enclosing(held: Any) -> Callable[..., Any]:
    return lambda states: held(states)


def by_a_global(states: Any) -> Any:
    return (lambda: states * FACTOR)()


def linear(seed: int) -> nn.Module:
    layer = nn.Linear(2, 2)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(layer.bias)
    return layer


def labelled(labels: str) -> xr.DataArray:
    return xr.DataArray(np.eye(3), {"stimulus": list(labels)}, ("stimulus", "unit"))


PAIRS: dict[str, Callable[[int], Any]] = {
    "partial": lambda by: functools.partial(product, by=by),
    "object": Scaled,
    "slots": Slotted,
    "method": lambda by: Scaled(by).__call__,
    "object of a tensor": lambda by: Scaled(torch.full((3,), float(by))),
    "default": with_default,
    "enclosed object": lambda by: enclosing(Scaled(by)),
    "enclosed module": lambda by: enclosing(linear(by)),
    "typed at a prompt": lambda by: eval(f"lambda states: states * {by}"),
    "metric of the package": lambda by: nm.logit_difference(by, by + 1),
    "labels": lambda by: labelled("abc" if by == 1 else "acb"),
    "labels of a recording": lambda by: nm.Recording(labelled("abc" if by == 1 else "acb")),
    "texts": lambda by: ["a", "b" * by],
    "state of a generator": lambda by: np.random.default_rng(by),
    "set": lambda by: {by, "a"},
    "mapping": lambda by: {"by": by},
}


@pytest.mark.parametrize("kind", PAIRS)
def test_what_differs_differs_and_what_is_alike_does_not(kind: str) -> None:
    one, again, other = (identity(PAIRS[kind](by)) for by in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_global_that_a_function_names_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(by_a_global)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert identity(by_a_global) != before


def test_every_number_of_large_arrays_and_weights_counts() -> None:
    array = np.zeros((60, 40_000))
    before = identity(array)
    array[3, 7] = np.nan
    assert identity(array) != before
    layer = nn.Embedding(20_000, 32)
    before = identity(layer)
    with torch.no_grad():
        layer.weight[12_345, 6] += 1
    assert identity(layer) != before


def test_circles_end() -> None:
    first, second = Scaled(None), Scaled(None)
    first.by, second.by = second, first
    assert identity(first) == identity(second)


def test_a_long_way_from_one_object_to_the_next_is_no_matter() -> None:
    chains = []
    for last in (1, 1, 2):
        held: Any = last
        for _ in range(5000):
            held = [held]
        chains.append(identity(held))
    assert chains[0] == chains[1] != chains[2]


def test_a_class_counts_with_what_its_methods_use_and_not_with_what_changes_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = identity(Doubling)
    LOG.info("a logger is no part of a model")
    logging.getLogger(f"{__name__}.another")
    assert identity(Doubling) == before
    for name, value in (
        ("FACTOR", 3.0),
        ("WEIGHTS", np.array([1.0, 2.5])),
        ("product", lambda states, by: states - by),
    ):
        with monkeypatch.context() as changed:
            changed.setitem(globals(), name, value)
            assert identity(Doubling) != before, name
    assert identity(Doubling) == before


def test_another_process_agrees() -> None:
    code = "import tests.unit.test_run_identity as t; print(*(t.identity(make(1)) for make in t.PAIRS.values()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == [identity(make(1)) for make in PAIRS.values()]


def test_a_step_with_another_parameter_is_another_model() -> None:
    stable, unstable = (open_system(functools.partial(product, by=rate)).source for rate in (0.9, 1.3))
    assert stable.fingerprint != unstable.fingerprint


def test_a_saved_model_is_the_same_from_wherever_it_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    config = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert open_model("model").source == open_model(tmp_path / "model").source
