"""Whatever is written where a site is asked for: it is understood, or refused by an error of ours."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import NeurosMechintError, SiteError
from neuros_mechint.core.sites import SiteReference

WORDS = ("unit", "head", "blocks", "hook_z", "sae", "features", "True", "None", "lambda: 0", "__import__('os')")
PIECES = st.sampled_from([*"0*.[]=,:-() é\0\n", *WORDS, "1e9", "0x1", "9" * 50, "unit=0", "[unit=0]"])
TEXTS = st.text(max_size=40) | st.lists(PIECES, max_size=12).map("".join)
MODEL = nm.adapt(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
INPUTS = torch.ones(2, 3)


@given(TEXTS)
@settings(max_examples=400)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = SiteReference.parse(text)
    except SiteError:
        return
    again = SiteReference.parse(str(reference))
    assert again == reference
    assert hash(again) == hash(reference)


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_any_text_names_sites_of_a_model_or_is_refused(text: str) -> None:
    for ask in (
        lambda: MODEL.sites(text),
        lambda: MODEL.capture(INPUTS, text),
        lambda: MODEL.run(INPUTS, edits=nm.Zero(text)),
    ):
        with suppress(NeurosMechintError):
            ask()
    assert not any(module._forward_hooks for module in MODEL.module.modules())


@pytest.mark.parametrize(
    "text",
    [
        "h[unit=" + "(" * 5000 + "0" + ")" * 5000 + "]",
        "h[unit=" + "[" * 100_000,
        "h[unit=" + "-" * 50_000 + "1]",
        "h[unit=" + "9" * 6000 + "]",
        "h" + "[unit=0" * 5000 + "]",
        "h[" + "unit=0," * 20_000 + "]",
        "blocks." * 20_000,
        "h[unit=0:" + " " * 100_000 + "x]",
    ],
    ids=range(8),
)
def test_long_and_nested_names_are_refused_soon(text: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(SiteError):
        MODEL.capture(INPUTS, text)
    assert time.perf_counter() - begin < 2


def test_an_index_is_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "harm"
    for text in (f"0[unit=__import__('os').mkdir('{marker}')]", f"0[unit=open('{marker}', 'w')]"):
        with pytest.raises(SiteError):
            MODEL.capture(INPUTS, text)
    assert not marker.exists()
