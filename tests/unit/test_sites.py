from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuros_mechint.core.errors import SiteError, SiteWithheldError
from neuros_mechint.core.site_names import canonical_name, transformer_lens_name
from neuros_mechint.core.sites import Site, SiteReference, SiteTable

DIMS = ("sample", "position", "unit")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blocks.3.hook_resid_mid", "blocks.3.resid_mid"),
        ("blocks.0.attn.hook_pattern", "blocks.0.pattern"),
        ("blocks.11.mlp.hook_post", "blocks.11.post"),
        ("decoder.blocks.1.attn.hook_q", "decoder.blocks.1.q"),
        ("hook_embed", "embed"),
        ("unembed.hook_out", "logits"),
    ],
)
def test_transformer_lens_names_translate_both_ways(theirs, ours):
    assert canonical_name(theirs) == ours
    assert transformer_lens_name(ours) == theirs


@pytest.mark.parametrize(
    "name", ["layer1.0.conv2", "transformer.h.0:out[1]", "hook_something", "ln_final.hook_normalized"]
)
def test_other_names_stay(name):
    assert canonical_name(name) == name


# -- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "index"),
    [
        ("blocks.1.z[head=2, position=-1]", "blocks.1.z", {"head": 2, "position": -1}),
        ("blocks.1.attn.hook_z[head=2]", "blocks.1.z", {"head": 2}),
        ("h[time=3:7, unit=(0, 4)]", "h", {"time": slice(3, 7), "unit": (0, 4)}),
        ("h[unit=[0,4],time=::2]", "h", {"unit": (0, 4), "time": slice(None, None, 2)}),
        ("  h[ unit = 3 ] ", "h", {"unit": 3}),
        ("gru:out[1]", "gru:out[1]", {}),
        ("gru:out[h]", "gru:out[h]", {}),
        ("gru:out[1][unit=2]", "gru:out[1]", {"unit": 2}),
        ("gru:out[1]#2[unit=[0, 2]]", "gru:out[1]#2", {"unit": (0, 2)}),
    ],
)
def test_what_a_reference_means(text, name, index):
    reference = SiteReference.parse(text)
    assert (reference.name, dict(reference.index)) == (name, index)
    assert SiteReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    ["h[unit=]", "h[unit=x]", "h[unit=1.5]", "h[unit=True]", "h[unit=()]", "h[unit=1:2:0]", "h[unit=1:2:3:4]", "h[=1]",
     "h[unit=1, unit=2]", "h[unit=1", "h[un it=1]", "h[unit=__import__('os')]"],
)  # fmt: skip
def test_an_unreadable_index_is_refused(text):
    with pytest.raises(SiteError, match="index"):
        SiteReference.parse(text)


def test_only_strings_name_sites():
    with pytest.raises(SiteError, match="string"):
        SiteReference.parse(3)


@pytest.mark.parametrize(
    ("text", "near"), [("h[units=0]", "'unit'"), ("h[head=0]", "sample, position, unit"), ("h[unit=9]", "-5 and 4")]
)
def test_an_index_that_does_not_fit_says_what_would(text, near):
    with pytest.raises(SiteError, match=near):
        SiteReference.parse(text).locate(DIMS, (2, 3, 5))


def test_an_empty_range_is_refused():
    with pytest.raises(SiteError, match="selects nothing"):
        SiteReference.parse("h[unit=3:3]").locate(DIMS, (2, 3, 5))


def test_two_irregular_lists_are_refused():
    with pytest.raises(SiteError, match="irregular"):
        SiteReference.parse("h[position=[0, 1, 3], unit=[0, 2, 3]]").locate(DIMS, (2, 4, 5))


def test_head_means_key_value_heads_where_there_are_no_others():
    selection = SiteReference.parse("k[head=1]").locate(("sample", "position", "kv_head", "unit"), (2, 3, 2, 4))
    assert selection.here[2] == slice(1, 2, 1)
    with pytest.raises(SiteError, match="between -2 and 1"):
        SiteReference.parse("k[head=2]").locate(("sample", "position", "kv_head", "unit"), (2, 3, 2, 4))


indices = st.one_of(
    st.integers(-4, 3),
    st.builds(slice, st.none() | st.integers(-5, 5), st.none() | st.integers(-5, 5), st.sampled_from([None, 1, 2, 3])),
    st.lists(st.integers(-4, 3), min_size=1, max_size=4, unique_by=lambda entry: entry % 4).map(tuple),
)


@given(index=indices, axis=st.sampled_from([0, 1]), batch_size=st.integers(1, 4))
def test_a_piecewise_selection_is_the_selection_of_the_whole(index, axis, batch_size):
    """Rows seen in batches, each filled into its place, give what numpy gives on the whole array."""
    whole = np.arange(16).reshape(4, 4)
    dims = ("sample", "unit")
    entries = list(index) if isinstance(index, tuple) else index
    expected = whole[entries] if axis == 0 else whole[:, entries]
    reference = SiteReference("h", {dims[axis]: index})
    if expected.size == 0:
        with pytest.raises(SiteError):
            reference.locate(dims, whole.shape)
        return
    got = np.full_like(expected, -1)
    for start in range(0, 4, batch_size):
        piece = whole[start : start + batch_size]
        selection = reference.locate(dims, piece.shape, {"sample": (start, 4)})
        if selection is None:
            continue
        block = piece[selection.here].squeeze(selection.dropped) if selection.dropped else piece[selection.here]
        assert tuple(selection.sizes.values()) == expected.shape
        got[tuple(selection.inside[name] for name in selection.sizes)] = block
    np.testing.assert_array_equal(got, expected)


def test_negative_and_open_indices_count_from_the_end_of_the_whole():
    last = SiteReference.parse("h[time=-1]")
    assert last.locate(("sample", "time"), (2, 1), {"time": (3, 5)}) is None
    assert last.locate(("sample", "time"), (2, 1), {"time": (4, 5)}) is not None


# -- tables ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def table():
    sites = [
        Site("embed", "wte:out", ("sample", "position", "unit"), (None, None, 8), order=0),
        Site(
            "blocks.0.z",
            "h.0.proj:in",
            ("sample", "position", "head", "unit"),
            (None, None, 2, 4),
            2,
            0,
            1,
            "z == pattern @ v",
        ),
        Site("blocks.1.z", "h.1.proj:in", order=2),
    ]
    return SiteTable(sites, {"blocks.0.pattern": "flash attention never holds it"}, title="sites of Toy")


def test_patterns_select_in_order(table):
    assert list(table.select("blocks.*.z")) == ["blocks.0.z", "blocks.1.z"]


def test_a_name_of_transformer_lens_finds_the_site(table):
    assert table["blocks.0.attn.hook_z"].native == "h.0.proj:in"
    assert table["hook_embed"].name == "embed"


def test_an_unknown_name_suggests_near_ones(table):
    with pytest.raises(SiteError, match=r"did you mean 'blocks.\d.z'"):
        table["blocks.0.zz"]
    with pytest.raises(SiteError, match="no site"):
        table.select("layers.*")


def test_a_withheld_name_gives_its_reason(table):
    with pytest.raises(SiteWithheldError, match="flash attention"):
        table["blocks.0.pattern"]
    only_withheld = table.select("*.pattern")
    assert not list(only_withheld)
    assert "flash attention" in repr(only_withheld)


def test_a_table_shows_itself(table):
    frame = table.to_dataframe()
    assert list(frame["name"]) == list(table)
    text = repr(table)
    assert "sites of Toy: 3" in text
    assert "sample x position x head=2 x unit=4" in text
    assert "z == pattern @ v" in table._repr_html_()


def test_html_is_escaped():
    assert "<script>" not in SiteTable([Site("<script>", "x")])._repr_html_()
