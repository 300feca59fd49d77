from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, SiteError, StorageError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.stores import store as store_module
from neuros_mechint.core.stores.log import SiteLayout
from neuros_mechint.core.stores.store import ActivationStore
from tests.unit.store_samples import DIMS, DTYPES, SHAPES, TWO_SITES, assert_holds, rows_of, samples, small_chunks

# --- writing and reading back ------------------------------------------------------------------


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    reopen=st.sets(st.integers(0, 4)),
    chunk=st.integers(1, 6),
)
def test_any_split_into_batches_and_sessions_gives_the_same_arrays(tmp_path_factory, sizes, reopen, chunk):
    path = tmp_path_factory.mktemp("split") / "acts.zarr"
    acts = samples(sum(sizes)).select(TWO_SITES)
    store = small_chunks(path, chunk=chunk, sites=TWO_SITES)
    start = 0
    for i, size in enumerate(sizes):
        if i in reopen:
            store.close()
            store = ActivationStore.resume(path)
            assert store.n_samples == start
        store.append(rows_of(acts, start, start + size))
        start += size
        assert_holds(ActivationStore.open(path, partial=True), Activations(rows_of(acts, 0, start), DIMS))
    store.finish()
    assert_holds(ActivationStore.open(path), acts)


def test_an_activations_object_and_a_mapping_are_both_appended(tmp_path, acts):
    with ActivationStore.for_activations(tmp_path / "s", acts) as store:
        store.append(acts)
        store.append(dict(acts))
    assert_holds(ActivationStore.open(tmp_path / "s"), Activations.concatenate([acts, acts]))


def test_a_finished_store_is_a_plain_uncompressed_zarr_group_with_checksums(finished, acts):
    group = zarr.open_group(str(finished.path), mode="r")
    array = group["blocks.0.resid_pre"]
    assert [type(codec).__name__ for codec in array.metadata.codecs] == ["BytesCodec", "Crc32cCodec"]
    assert array.metadata.dimension_names == ("sample", "position", "unit")
    np.testing.assert_array_equal(array[:], acts["blocks.0.resid_pre"].numpy())
    assert group["blocks.0.z%5Bhead%3D2%5D"].dtype == "uint16"
    other_units = "blocks.0.z%5Bhead%3D2%5D"
    plain = xr.open_zarr(finished.path, chunks=None, consolidated=False, drop_variables=[other_units])
    np.testing.assert_array_equal(plain["blocks.0.pattern"].values, acts["blocks.0.pattern"].numpy())
    assert not list(finished.path.rglob("tail.*"))


@pytest.mark.parametrize(
    ("dims", "shape", "dtype", "expected"),
    [
        (("sample", "unit"), (256,), torch.float32, 4096),
        (("sample", "position", "unit"), (64, 256), torch.float32, 64),
        (("sample", "head", "query", "key"), (4, 128, 128), torch.float32, 32),
        (("sample", "time", "unit"), (10_000, 3), torch.float32, 1),
        (("sample", "unit"), (65_536,), torch.float32, 128),
    ],
)
def test_a_chunk_holds_about_4096_observations_and_at_most_32_mib(dims, shape, dtype, expected):
    assert SiteLayout("site", dims, shape, dtype).chunk_samples == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_dtypes_come_back_bit_for_bit(tmp_path, dtype):
    x = torch.arange(-300, 300).float().mul(0.37).to(dtype).reshape(300, 2)
    with ActivationStore.create(tmp_path / "s", {"x": ("sample", "unit")}, {"x": (2,)}, {"x": dtype}) as store:
        store.append({"x": x[:100]})
        store.append({"x": x.T.contiguous().T[100:]})
    back = ActivationStore.open(tmp_path / "s")["x"]
    assert back.dtype == dtype
    assert torch.equal(back, x)


def test_nan_and_zeros_are_data_like_any_other(tmp_path):
    x = torch.zeros(5000, 2)
    x[3, 1] = float("nan")
    with ActivationStore.create(tmp_path / "s", {"x": ("sample", "unit")}, {"x": (2,)}, {"x": x.dtype}) as store:
        store.append({"x": x})
    assert torch.equal(ActivationStore.open(tmp_path / "s")["x"].nan_to_num(7), x.nan_to_num(7))
    assert len(list((tmp_path / "s" / "x" / "c").rglob("0"))) >= 1


def test_gradients_and_the_callers_tensors_are_left_alone(tmp_path):
    x = torch.ones(3, 2, requires_grad=True)
    with ActivationStore.create(tmp_path / "s", {"x": ("sample", "unit")}, {"x": (2,)}, {"x": x.dtype}) as store:
        store.append({"x": x * 2})
    assert torch.equal(ActivationStore.open(tmp_path / "s")["x"], torch.full((3, 2), 2.0))
    assert x.requires_grad


# --- labels, lazy reading ----------------------------------------------------------------------


def test_sites_are_found_like_in_activations(finished):
    assert "blocks.0.hook_resid_pre" in finished
    assert finished["blocks.0.attn.hook_z[head=2]"].shape == (23, 5, 3)
    assert finished.dims("blocks.0.hook_resid_pre") == ("sample", "position", "unit")
    with pytest.raises(SiteError, match=r"did you mean 'blocks\.0\.resid_pre'"):
        finished["blocks.0.resid_per"]


def test_matrix_equals_that_of_activations(finished, acts):
    for name in acts:
        assert torch.equal(finished.matrix(name), acts.matrix(name))


def test_xarray_is_labelled_and_half_precision_becomes_float32(finished, acts):
    lazy = finished.xarray("blocks.0.z[head=2]")
    assert lazy.dims == ("sample", "position", "unit")
    assert lazy.dtype == np.float32
    assert "bfloat16" in lazy.attrs["note"]
    assert lazy.attrs["long_name"].startswith("activation at ")
    np.testing.assert_array_equal(lazy.values, acts["blocks.0.z[head=2]"].float().numpy())


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), slice(None), slice(None)),
        (7, 2, 1),
        (slice(20, 2, -3), slice(None), slice(None, None, 2)),
        ([22, 0, 5, 5, 11], slice(1, 4), -1),
        ([1, 9], [0, 3, 4], [2, 2]),
        (slice(4, 4), 0, slice(None)),
        (-1, [4, 0], slice(None)),
    ],
    ids=str,
)
@pytest.mark.parametrize("state", ["complete", "partial"])
def test_a_lazy_selection_equals_the_same_selection_in_memory(tmp_path, acts, key, state):
    store = small_chunks(tmp_path / "s")
    store.append(acts)
    if state == "complete":
        store.finish()
    name = "blocks.0.resid_pre"
    expected = acts.xarray(name)[key]
    got = ActivationStore.open(tmp_path / "s", partial=True).xarray(name)[key]
    assert got.dims == expected.dims
    np.testing.assert_array_equal(got.values, expected.values)


def test_a_lazy_selection_reads_only_the_chunks_it_touches(finished, monkeypatch):
    read = []
    original = store_module.SiteFiles._read_chunk
    monkeypatch.setattr(
        store_module.SiteFiles,
        "_read_chunk",
        lambda self, index, log: read.append(index) or original(self, index, log),
    )
    lazy = finished.xarray("blocks.0.resid_pre")  # chunks of 4 samples
    picked = lazy.isel(position=0).sel(unit=[1, 2])
    assert read == []
    picked[5:9].load()
    assert read == [1, 2]


def test_a_partial_store_can_be_read_while_it_is_written(tmp_path, acts):
    store = small_chunks(tmp_path / "s")
    store.append(rows_of(acts, 0, 10))
    reader = ActivationStore.open(tmp_path / "s", partial=True)
    assert (reader.n_samples, reader.complete) == (10, False)
    assert_holds(reader, Activations(rows_of(acts, 0, 10), DIMS))
    with pytest.raises(StorageError, match="not open for writing"):
        reader.append(rows_of(acts, 10, 12))


def test_provenance_and_sizes_are_kept(tmp_path, acts):
    origin = Provenance.record(seed=3, model="abc")
    with ActivationStore.for_activations(tmp_path / "s", acts, provenance=origin) as store:
        store.append(acts)
    store = ActivationStore.open(tmp_path / "s")
    assert store.provenance == origin
    assert "abc" in store.xarray("logit").attrs["provenance"]
    assert store.nbytes == acts.nbytes
    assert "complete, 23 samples" in repr(store)
    assert "blocks.0.z[head=2]" in store._repr_html_()


# --- shuffled batches --------------------------------------------------------------------------


@settings(max_examples=25)
@given(n=st.integers(1, 60), chunk=st.integers(1, 7), per_pool=st.integers(1, 4), batch_size=st.integers(1, 70))
def test_one_epoch_of_batches_is_a_permutation_of_the_rows(n, chunk, per_pool, batch_size):
    data = torch.arange(n * 2.0).reshape(n, 2)
    parts = data.split(chunk)
    batches = list(
        store_module.shuffled_batches(parts.__getitem__, len(parts), per_pool, batch_size, np.random.default_rng(0))
    )
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size
    got = torch.cat(batches)
    assert torch.equal(got[got[:, 0].argsort()], data)


def test_batches_of_a_store_hold_every_observation_once_per_epoch(finished, acts):
    rows = torch.cat(list(finished.batches("blocks.0.hook_resid_pre", 16, seed=1, epochs=2)))
    expected = acts.matrix("blocks.0.resid_pre")
    assert rows.shape == (2 * 23 * 5, 8)
    for epoch in rows.split(23 * 5):
        assert not torch.equal(epoch, expected)
        assert torch.equal(epoch[epoch[:, 0].argsort()], expected[expected[:, 0].argsort()])
    assert not torch.equal(rows[:115], rows[115:])


def test_the_seed_decides_the_order_and_global_random_state_is_untouched(finished):
    def epoch(seed):
        return torch.cat(list(finished.batches("logit", 4, seed=seed)))

    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_unshuffled_batches_keep_the_order_and_are_float32(finished, acts):
    rows = torch.cat(list(finished.batches("blocks.0.pattern", 10, shuffle=False)))
    assert rows.dtype == torch.float32
    assert torch.equal(rows, acts.matrix("blocks.0.pattern").float())


def test_shuffling_reaches_across_chunks(tmp_path):
    x = torch.arange(40_000.0)[:, None]
    with ActivationStore.create(tmp_path / "s", {"x": ("sample", "unit")}, {"x": (1,)}, {"x": x.dtype}) as store:
        store.append({"x": x})
    first = next(ActivationStore.open(tmp_path / "s").batches("x", 1000))
    assert len(torch.unique(first // 4096)) == 10


def test_endless_batches_go_on_after_an_epoch(finished):
    endless = finished.batches("logit", 23, epochs=None)
    assert [len(next(endless)) for _ in range(5)] == [23] * 5


@pytest.mark.parametrize("batch_size", [0, -3])
def test_impossible_batches_are_refused_at_once(finished, batch_size):
    with pytest.raises(InputError, match="no batches"):
        finished.batches("logit", batch_size)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "shapes", "dtypes"),
    [
        ({**DIMS, "more": ("sample",)}, {**SHAPES, "more": ()}, {**DTYPES, "more": torch.float32}),
        ({"logit": DIMS["logit"]}, {"logit": ()}, {"logit": torch.float64}),
        (DIMS, {**SHAPES, "blocks.0.resid_pre": (6, 8)}, DTYPES),
        (DIMS, SHAPES, {**DTYPES, "logit": torch.float32}),
        ({**DIMS, "blocks.0.resid_pre": ("sample", "time", "unit")}, SHAPES, DTYPES),
    ],
    ids=["more sites", "fewer sites", "other shape", "other dtype", "other axes"],
)
def test_other_activations_do_not_fit_a_store(tmp_path, acts, dims, shapes, dtypes):
    store = small_chunks(tmp_path / "s")
    store.append(rows_of(acts, 0, 6))
    with pytest.raises(StorageError, match="expected"):
        store.append(samples(3, dims=dims, shapes=shapes, dtypes=dtypes))
    with pytest.raises(StorageError, match="do not fit"):
        ActivationStore.resume(tmp_path / "s", dims, shapes, dtypes)
    store.append(rows_of(acts, 6, 23))
    store.finish()
    assert_holds(ActivationStore.open(tmp_path / "s"), acts)


def test_another_model_does_not_continue_a_store(tmp_path, acts):
    ActivationStore.for_activations(tmp_path / "s", acts, provenance=Provenance.record(model="a"))
    with pytest.raises(StorageError, match="another model"):
        ActivationStore.for_activations(tmp_path / "s", acts, provenance=Provenance.record(model="b"))
    assert ActivationStore.for_activations(tmp_path / "s", acts, provenance=Provenance.record(model="a"))


def test_batches_of_uneven_or_too_many_samples_are_refused(tmp_path, acts):
    store = small_chunks(tmp_path / "s", n_samples=20)
    uneven = {**rows_of(acts, 0, 4), "logit": acts["logit"][:3]}
    for batch in (uneven, rows_of(acts, 0, 0), rows_of(acts, 0, 21)):
        with pytest.raises(StorageError, match="same number of samples at every site"):
            store.append(batch)
    store.append(rows_of(acts, 0, 19))
    with pytest.raises(StorageError, match="20 samples"):
        store.finish()
    store.append(rows_of(acts, 19, 20))
    store.finish()
    with pytest.raises(StorageError, match="complete with 20 samples"):
        ActivationStore.resume(tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "dims", "shape", "dtype"),
    [
        ("x", ("position", "sample"), (3,), torch.float32),
        ("x", ("sample", "unit"), (0,), torch.float32),
        ("x", ("sample", "unit"), (3, 4), torch.float32),
        ("x", ("sample", "unit"), (3,), torch.float8_e4m3fn),
        ("..", ("sample", "unit"), (3,), torch.float32),
        ("__x", ("sample", "unit"), (3,), torch.float32),
        ("", ("sample", "unit"), (3,), torch.float32),
    ],
)
def test_layouts_that_cannot_be_stored_are_refused(tmp_path, name, dims, shape, dtype):
    with pytest.raises(InputError):
        ActivationStore.create(tmp_path / "s", {name: dims}, {name: shape}, {name: dtype})
    assert not (tmp_path / "s").exists()


def test_nothing_is_overwritten(tmp_path, finished):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x")
    for path in (finished.path, tmp_path / "notes", tmp_path / "notes" / "mine.txt"):
        with pytest.raises(StorageError, match="already"):
            ActivationStore.create(path, DIMS, SHAPES, DTYPES)


# --- memory ------------------------------------------------------------------------------------

WRITE_MUCH = """
import resource, sys, torch
from neuros_mechint.core.stores.store import ActivationStore
dims = {f"blocks.{i}.resid_post": ("sample", "position", "unit") for i in range(6)}
shapes, dtypes = dict.fromkeys(dims, (64, 256)), dict.fromkeys(dims, torch.float32)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
batch = {name: torch.ones(8, 64, 256) for name in dims}
with ActivationStore.create(sys.argv[1] + "/warm", dims, shapes, dtypes) as store:
    store.append(batch)
before = peak()
with ActivationStore.create(sys.argv[1] + "/s", dims, shapes, dtypes) as store:
    for _ in range(100):
        store.append(batch)
wrote = peak()
store = ActivationStore.open(sys.argv[1] + "/s")
assert store.nbytes > 300e6, store.nbytes
total = sum(float(rows.sum()) for rows in store.batches("blocks.5.resid_post", 512))
assert total == 800 * 64 * 256
print(wrote - before, peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is in other units elsewhere")
def test_writing_300_mb_takes_little_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRITE_MUCH, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    writing, shuffling = map(float, done.stdout.split())
    assert writing < 100
    assert shuffling < 250
