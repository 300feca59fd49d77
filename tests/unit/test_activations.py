from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.provenance import Provenance

RESID = ("sample", "position", "unit")
HEADS = ("sample", "position", "head", "unit")
PATTERN = ("sample", "head", "query", "key")


@pytest.fixture
def acts():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    tensors = {
        "blocks.0.resid_pre": draw(4, 5, 8),
        "blocks.0.z": draw(4, 5, 2, 4),
        "blocks.0.pattern": draw(4, 2, 5, 5),
        "blocks.1.z[head=1, position=-1]": draw(4, 4),
        "encoder.proj:out": draw(4, 6).bfloat16(),
    }
    dims = [RESID, HEADS, PATTERN, ("sample", "unit"), ("sample", "unit")]
    coords = {"sample": ["cat", "dog", "car", "cup"], "position": list("abcde")}
    return Activations(tensors, dict(zip(tensors, dims, strict=True)), coords, Provenance.record(seed=5))


# --- lookup -------------------------------------------------------------------------------------------------


def test_sites_keep_the_order_of_capture(acts):
    assert next(iter(acts)) == "blocks.0.resid_pre"
    assert list(acts)[-1] == "encoder.proj:out"
    assert len(acts) == 5


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ("blocks.0.hook_resid_pre", "blocks.0.resid_pre"),
        ("blocks.0.attn.hook_z", "blocks.0.z"),
        ("blocks.1.attn.hook_z[head=1,position=-1]", "blocks.1.z[head=1, position=-1]"),
    ],
)
def test_transformer_lens_names_and_other_spacing_find_the_site(acts, asked, held):
    assert acts[asked] is acts[held]
    assert asked in acts
    assert acts.get(asked) is acts[held]
    assert acts.dims(asked) == acts.dims(held)


@pytest.mark.parametrize("asked", ["blocks.0.resid_per", "blocks.9.z", "blocks.0.z[head=", ""])
def test_an_unknown_site_is_refused_and_is_not_contained(acts, asked):
    assert asked not in acts
    assert acts.get(asked) is None
    for lookup in (acts.__getitem__, acts.dims, acts.xarray, acts.matrix, acts.select):
        with pytest.raises(SiteError, match="no site"):
            lookup(asked)


def test_near_names_are_suggested(acts):
    with pytest.raises(SiteError, match=r"did you mean 'blocks\.0\.resid_pre'"):
        acts["blocks.0.resid_per"]


def test_tensors_are_detached_without_a_copy_and_without_touching_the_callers():
    weight = torch.ones(3, 2, requires_grad=True)
    held = Activations({"x": weight}, {"x": ("sample", "unit")})["x"]
    assert not held.requires_grad
    assert weight.requires_grad
    assert held.data_ptr() == weight.data_ptr()


def test_nan_is_carried_not_refused():
    x = torch.tensor([[float("nan"), float("inf")]])
    assert Activations({"x": x}, {"x": ("sample", "unit")}).xarray("x").isnull().values.tolist() == [[True, False]]


# --- matrices -----------------------------------------------------------------------------------------------


def test_a_matrix_has_observations_as_rows_and_features_as_columns(acts):
    assert torch.equal(acts.matrix("blocks.0.resid_pre"), acts["blocks.0.resid_pre"].reshape(20, 8))
    assert torch.equal(acts.matrix("blocks.0.z"), acts["blocks.0.z"].reshape(20, 8))
    pattern = acts.matrix("blocks.0.pattern")
    assert pattern.shape == (20, 10)
    # row: sample 2, query 3; column: head 1, key 4
    assert pattern[2 * 5 + 3, 1 * 5 + 4] == acts["blocks.0.pattern"][2, 1, 3, 4]


SIZES = {"sample": 2, "trial": 2, "position": 3, "time": 2, "head": 2, "unit": 3, "axis_1": 2}


@given(st.lists(st.sampled_from(list(SIZES)), unique=True, min_size=1))
def test_every_entry_of_a_matrix_is_where_its_labels_say(dims):
    shape = tuple(SIZES[axis] for axis in dims)
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    matrix = Activations({"x": x}, {"x": dims}).matrix("x")
    rows = [axis for axis in ("sample", "trial", "position", "time") if axis in dims]
    columns = [axis for axis in dims if axis not in rows]
    labelled = Activations({"x": x}, {"x": dims}).xarray("x").transpose(*rows, *columns)
    n_rows = int(np.prod([SIZES[axis] for axis in rows]))
    np.testing.assert_array_equal(matrix.numpy(), labelled.values.reshape(n_rows, -1))


# --- xarray -------------------------------------------------------------------------------------------------


def test_xarray_carries_axes_labels_and_provenance(acts):
    labelled = acts.xarray("blocks.0.hook_resid_pre")
    assert labelled.dims == RESID
    assert labelled.name == "blocks.0.resid_pre"
    assert '"seed": 5' in labelled.attrs["provenance"]
    picked = labelled.sel(sample="dog", position="c").values
    np.testing.assert_array_equal(picked, acts["blocks.0.resid_pre"][1, 2].numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32_with_a_note(dtype):
    x = torch.tensor([[0.1, 3.0]], dtype=dtype)
    labelled = Activations({"x": x}, {"x": ("sample", "unit")}).xarray("x")
    assert labelled.dtype == np.float32
    assert labelled.attrs["long_name"].startswith("activation at ")
    assert labelled.attrs["note"] == f"converted from {str(dtype)[6:]} to float32"
    np.testing.assert_array_equal(labelled.values, x.float().numpy())


def test_full_precision_stays_and_has_no_note():
    labelled = Activations({"x": torch.ones(1, 2).double()}, {"x": ("sample", "unit")}).xarray("x")
    assert labelled.dtype == np.float64
    assert "note" not in labelled.attrs


# --- selecting, moving, showing -----------------------------------------------------------------------------


def test_select_takes_patterns_and_names_with_an_index(acts):
    assert list(acts.select("blocks.0.*")) == ["blocks.0.resid_pre", "blocks.0.z", "blocks.0.pattern"]
    assert list(acts.select("blocks.*.z[head=1, position=-1]")) == ["blocks.1.z[head=1, position=-1]"]
    assert list(acts.select(["*:out", "blocks.0.hook_resid_pre"])) == [
        "blocks.0.resid_pre",
        "encoder.proj:out",
    ]
    assert acts.select("*:out").coords == {"sample": ["cat", "dog", "car", "cup"]}
    assert acts.select("*").provenance == acts.provenance


def test_to_changes_precision_of_every_site_and_not_of_the_original(acts):
    for moved in (acts.to(dtype=torch.float64), acts.to(torch.float64), acts.to("cpu", torch.float64)):
        assert {tensor.dtype for tensor in moved.values()} == {torch.float64}
        assert moved.coords == acts.coords
        assert moved.provenance == acts.provenance
    assert acts["blocks.0.z"].dtype == torch.float32


def test_with_provenance_replaces_only_that(acts):
    other = Provenance.record(seed=6)
    again = acts.with_provenance(other)
    assert again.provenance == other
    assert again["blocks.0.z"].data_ptr() == acts["blocks.0.z"].data_ptr()
    assert acts.provenance.seed == 5


def test_the_representation_is_a_plain_table(acts):
    lines = repr(acts).splitlines()
    assert lines[0] == f"Activations: 5 sites, {acts.nbytes / 1000:.1f} kB"
    assert lines[2].split() == [
        "blocks.0.resid_pre",
        "sample,",
        "position,",
        "unit",
        "(4,",
        "5,",
        "8)",
        "float32",
    ]
    assert acts.nbytes == sum(tensor.nbytes for tensor in acts.values())
    named = Activations({"<b>": torch.ones(1)}, {"<b>": ("sample",)})
    assert "&lt;b&gt;" in named._repr_html_()
    assert repr(Activations({}, {})) == "Activations: 0 sites, 0 bytes\n  site  axes  shape  dtype"


# --- concatenating ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_batches_join_to_the_whole(sizes):
    n = sum(sizes)
    tensors = {"a": torch.arange(n * 3.0).reshape(n, 3), "b": torch.arange(2.0 * n).reshape(2, n)}
    dims = {"a": ("sample", "unit"), "b": ("head", "sample")}
    labels = [f"stimulus {i}" for i in range(n)]
    starts = np.cumsum([0, *sizes])
    pieces = [
        Activations(
            {"a": tensors["a"][start:stop], "b": tensors["b"][:, start:stop]},
            dims,
            {"sample": labels[start:stop]},
        )
        for start, stop in pairwise(starts)
    ]
    joined = Activations.concatenate(pieces)
    assert torch.equal(joined["a"], tensors["a"])
    assert torch.equal(joined["b"], tensors["b"])
    assert joined.coords == {"sample": labels}


def test_a_site_indexed_by_sample_may_be_missing_from_some_batches():
    first = Activations({"x": torch.zeros(2, 3)}, {"x": ("sample", "unit")})
    second = Activations(
        {"x": torch.ones(2, 3), "x[sample=3]": torch.ones(3), "x[sample=2:4]": torch.ones(2, 3)},
        {"x": ("sample", "unit"), "x[sample=3]": ("unit",), "x[sample=2:4]": ("sample", "unit")},
    )
    joined = Activations.concatenate([first, second])
    assert {name: tuple(tensor.shape) for name, tensor in joined.items()} == {
        "x": (4, 3),
        "x[sample=3]": (3,),
        "x[sample=2:4]": (2, 3),
    }


def pair(shape_a, shape_b, dims_a=RESID, dims_b=RESID, name_b="x", coords_a=None, coords_b=None):
    return [
        Activations({"x": torch.zeros(shape_a)}, {"x": dims_a}, coords_a),
        Activations({name_b: torch.zeros(shape_b)}, {name_b: dims_b}, coords_b),
    ]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "nothing to concatenate"),
        (pair((2, 3, 4), (2, 3, 4), name_b="y"), "missing from 1 of 2"),
        (pair((2, 3, 4), (2, 5, 4)), "do not fit together"),
        (pair((2, 3, 4), (2, 3, 4), dims_b=("sample", "unit", "position")), "do not fit together"),
        (pair((2, 3), (2, 3), ("head", "unit"), ("head", "unit")), "do not fit together"),
        (pair((2, 3, 4), (2, 3, 4), coords_a={"sample": ["a", "b"]}), "labelled differently"),
        (
            pair((2, 3, 4), (2, 3, 4), coords_a={"position": [0, 1, 2]}, coords_b={"position": [3, 4, 5]}),
            "labelled differently",
        ),
    ],
)
def test_pieces_that_do_not_fit_are_refused(pieces, message):
    with pytest.raises(InputError, match=message):
        Activations.concatenate(pieces)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [None, ("sample",), ("sample", "sample"), "ab", ("sample", "position", "unit")])
def test_every_axis_needs_a_name_of_its_own(dims):
    with pytest.raises(InputError, match="axes of 'x'"):
        Activations({"x": torch.ones(2, 2)}, {} if dims is None else {"x": dims})


def test_values_that_are_no_tensors_are_refused():
    with pytest.raises(InputError, match="no tensor"):
        Activations({"x": np.ones((2, 2))}, {"x": ("sample", "unit")})


@pytest.mark.parametrize("coords", [{"sample": ["a"]}, {"time": [1, 2]}, {"unit": [1, 2, 3]}])
def test_labels_that_do_not_fit_are_refused(coords):
    tensors = {"x": torch.ones(2, 3), "y": torch.ones(2, 4)}
    with pytest.raises(InputError, match="labels"):
        Activations(tensors, dict.fromkeys(tensors, ("sample", "unit")), coords)


# --- TransformerLens ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lens_model():
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=2,
        d_model=12,
        n_ctx=7,
        d_head=3,
        n_heads=4,
        n_key_value_heads=2,
        d_vocab=11,
        act_fn="relu",
        positional_embedding_type="rotary",
        rotary_dim=2,
        use_attn_result=True,
        seed=0,
        device="cpu",
    )
    state = torch.get_rng_state()
    with pytest.warns(DeprecationWarning, match="HookedTransformer is deprecated"):
        model = HookedTransformer(config)
    torch.set_rng_state(state)
    return model


@pytest.fixture(scope="module")
def lens_cache(lens_model):
    return lens_model.run_with_cache(torch.arange(10).reshape(2, 5))[1]


def test_a_transformer_lens_cache_comes_in_with_canonical_names_and_named_axes(lens_cache):
    acts = Activations.from_transformer_lens(lens_cache)
    assert len(acts) == len(lens_cache.cache_dict)
    assert acts.dims("blocks.1.resid_mid") == RESID
    assert acts.dims("blocks.1.q") == HEADS
    assert acts.dims("blocks.1.k") == ("sample", "position", "kv_head", "unit")
    assert acts.dims("blocks.1.pattern") == PATTERN
    assert acts.dims("blocks.0.post") == RESID
    assert acts["blocks.1.k"].shape == (2, 5, 2, 3)
    assert acts.matrix("ln_final.hook_normalized").shape == (10, 12)
    assert not any(axis.startswith("axis_") for name in acts for axis in acts.dims(name))
    assert not any(tensor.requires_grad for tensor in acts.values())


def test_a_cache_survives_the_way_in_and_out(lens_cache, lens_model):
    back = Activations.from_transformer_lens(lens_cache).to_transformer_lens(lens_model)
    assert list(back.cache_dict) == list(lens_cache.cache_dict)
    for name, tensor in lens_cache.cache_dict.items():
        assert torch.equal(back[name], tensor)
    # The methods of the cache work on what came back.
    expected = lens_cache.decompose_resid(return_labels=False)
    assert torch.equal(back.decompose_resid(return_labels=False), expected.detach())
    assert torch.equal(back["resid_post", -1], lens_cache["resid_post", -1])


def test_a_cache_without_batch_axis_has_one_sample(lens_model):
    cache = lens_model.run_with_cache(torch.arange(5)[None], remove_batch_dim=True)[1]
    acts = Activations.from_transformer_lens(cache)
    assert acts["blocks.0.resid_pre"].shape == (1, 5, 12)
    assert acts.dims("blocks.0.pattern") == PATTERN


def test_raw_module_paths_go_to_transformer_lens_as_they_are(acts):
    cache = acts.select(["blocks.0.z", "encoder.proj:out"]).to_transformer_lens()
    assert list(cache.cache_dict) == ["blocks.0.attn.hook_z", "encoder.proj:out"]


def test_a_part_of_a_site_has_no_transformer_lens_name(acts):
    with pytest.raises(SiteError, match=r"capture the whole site 'blocks\.1\.z'"):
        acts.to_transformer_lens()


def test_axes_of_unusual_hook_points_are_numbered():
    from transformer_lens import ActivationCache

    cache = ActivationCache({"blocks.0.hook_odd": torch.zeros(2, 3), "blocks.0.hook_z": torch.zeros(2, 3)}, None)
    acts = Activations.from_transformer_lens(cache)
    assert acts.dims("blocks.0.odd") == ("sample", "axis_1")
    assert acts.dims("blocks.0.z") == ("sample", "axis_1")
