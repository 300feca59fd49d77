"""Searchlights: a planted sphere is found, nothing else is, and spheres end where the mask ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.neuro.alignment import searchlight
from tests.slow import slow_case

SHAPE = (16, 9, 8)
N_STIMULI = 20
PLANTED = (4, 4, 3)
RADIUS = 2.5
SEEDS = (0, 1, 2, 3, 4, 5)


def ball(radius: float, centre: tuple[int, ...] = PLANTED) -> np.ndarray:
    places = np.indices(SHAPE).transpose(1, 2, 3, 0)
    return np.linalg.norm(places - np.array(centre), axis=-1) < radius


MASK = np.zeros(SHAPE, bool)  # a cylinder along x, the ball near one end
MASK[:] = np.hypot(*np.ogrid[-4:5, -3:5]) < 4.2


def planted(seed: int, strength: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Volumes of noise in which a ball of voxels holds the patterns of a model, and the RDM of the model."""
    random = np.random.default_rng(seed)
    latent = random.normal(size=(N_STIMULI, 4))
    volumes = random.normal(size=(N_STIMULI, *SHAPE))
    inside = ball(RADIUS)
    volumes[:, inside] += strength * latent @ random.normal(size=(4, int(inside.sum())))
    return volumes, nm.compute_rdm(latent, "euclidean")


METHOD = nm.RSA(rdm="euclidean", compare="corr")


def test_a_planted_sphere_is_found_and_little_out_of_its_reach() -> None:
    shares = []
    for seed in SEEDS:
        volumes, model = planted(seed)
        other = nm.compute_rdm(np.random.default_rng(99 + seed).normal(size=(N_STIMULI, 4)), "euclidean")
        models = {"planted": model, "other": other}
        result = nm.searchlight_rsa(models, volumes, MASK, radius=RADIUS, method=METHOD, seed=seed)
        found = result.significant("planted")
        assert found[ball(1.5)].all()  # the core
        beyond = MASK & ~ball(2 * RADIUS)  # no sphere there holds a planted voxel
        assert beyond.sum() > 300
        shares.append(found[beyond].sum() / found.sum())
        peak = np.unravel_index(np.nanargmax(result.volume("planted")), SHAPE)
        assert np.linalg.norm(np.subtract(peak, PLANTED)) < RADIUS
        assert result.significant("other").sum() == 0
    assert np.mean(shares) <= 0.05  # the false discovery rate is a mean over experiments


@pytest.mark.parametrize(("n_seeds", "most"), [(20, 4), slow_case(40, 6)])
def test_nothing_is_found_in_noise(n_seeds: int, most: int) -> None:
    """The false discovery rate holds: of nothing, in one map of twenty anything at all."""
    any_found = []
    for seed in range(n_seeds):
        volumes, model = planted(seed, strength=0.0)
        result = nm.searchlight_rsa(model, volumes, ball(3.5), radius=2, method=METHOD, n_permutations=500, seed=seed)
        any_found.append(bool((result.data["p_adjusted"] <= 0.05).any()))
    assert sum(any_found) <= most  # of maps at .05: more in 1% of the cases or fewer


@pytest.mark.parametrize("rdm", ["correlation", "euclidean"])
def test_scores_are_those_of_rsatoolbox(rdm: str) -> None:
    from rsatoolbox.rdm import RDMs, compare
    from rsatoolbox.util.searchlight import get_searchlight_RDMs, get_volume_searchlight

    volumes, model = planted(0)
    full = np.ones(SHAPE, bool)
    result = nm.searchlight_rsa(
        model, volumes, full, radius=2, threshold=1.0, method=nm.RSA(rdm, "spearman"), n_permutations=1
    )
    centers, neighbors = get_volume_searchlight(full, radius=2, threshold=1.0)
    rdms = get_searchlight_RDMs(volumes.reshape(N_STIMULI, -1), centers, neighbors, np.arange(N_STIMULI), rdm)
    np.testing.assert_array_equal(result.data["center"], centers)
    reference = RDMs(model[np.triu_indices(N_STIMULI, 1)][None])
    expected = compare(reference, rdms, "spearman")[0]
    np.testing.assert_allclose(result.main.values[0], expected, atol=1e-12)


def test_crossnobis_spheres_are_those_of_compute_rdm() -> None:
    random = np.random.default_rng(0)
    volumes, model = planted(0)
    names = list(range(N_STIMULI))
    model = xr.DataArray(model, {"condition": names, "other_condition": names}, ("condition", "other_condition"))
    runs = np.concatenate([volumes + random.normal(size=volumes.shape) for _ in range(3)])
    stimuli, folds = names * 3, np.repeat([1, 2, 3], N_STIMULI)
    method = nm.RSA("crossnobis", "corr")
    settings: dict[str, Any] = {"radius": RADIUS, "method": method, "conditions": stimuli, "folds": folds}
    result = nm.searchlight_rsa(model, runs, MASK, n_permutations=200, **settings)
    one = nm.compute_rdm(runs[:, ball(RADIUS)], "crossnobis", conditions=stimuli, folds=folds)
    assert result.volume()[PLANTED] == pytest.approx(nm.compare_rdms(one, model).item())
    assert result.significant()[PLANTED]


def test_spheres_end_where_the_mask_ends() -> None:
    volumes, model = planted(0)
    inside = MASK.copy()
    inside[:4] = False  # the mask cuts through the planted ball
    loud = np.where(inside, volumes, 1e6 * np.random.default_rng(1).normal(size=volumes.shape))
    missing = np.where(inside, volumes, np.nan)
    quiet, louder, absent = (
        nm.searchlight_rsa(model, data, inside, radius=RADIUS, n_permutations=10) for data in (volumes, loud, missing)
    )
    np.testing.assert_array_equal(quiet.main, louder.main)
    np.testing.assert_array_equal(quiet.main, absent.main)
    centres = quiet.data["center"].values
    assert inside.ravel()[centres].all()
    # each sphere by brute force
    expected = [int((ball(RADIUS, np.unravel_index(one, SHAPE)) & inside).sum()) for one in centres]
    assert quiet.data["n_voxels"].values.tolist() == expected
    share = [(ball(RADIUS, np.unravel_index(one, SHAPE)) & inside).sum() for one in np.flatnonzero(inside)]
    whole = [ball(RADIUS, np.unravel_index(one, SHAPE)).sum() for one in np.flatnonzero(inside)]
    kept = np.divide(share, whole) >= 0.5
    np.testing.assert_array_equal(np.flatnonzero(inside)[kept], centres)


def test_memory_is_bounded_and_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes, model = planted(0)
    settings: dict[str, Any] = {"radius": 2, "n_permutations": 50, "seed": 3}
    whole = nm.searchlight_rsa(model, volumes, MASK, **settings)
    sizes = []
    null = searchlight.null_scores
    monkeypatch.setattr(searchlight, "null_scores", lambda pairs, *rest: sizes.append(len(pairs)) or null(pairs, *rest))
    monkeypatch.setattr(searchlight, "_NUMBERS_AT_ONCE", 190 * 10)
    parts = nm.searchlight_rsa(model, volumes, MASK, **settings)
    assert max(sizes) == 10
    for name in ("score", "p", "p_adjusted"):
        np.testing.assert_allclose(parts.data[name], whole.data[name], atol=1e-12)


def test_forms_of_data_give_the_same_map_and_labels_are_joined() -> None:
    volumes, model = planted(0)
    names = [f"image {number}" for number in range(N_STIMULI)]
    labelled_model = xr.DataArray(
        model, dims=("condition", "other_condition"), coords={"condition": names, "other_condition": names}
    )
    order = np.random.default_rng(0).permutation(N_STIMULI)
    shown = [names[place] for place in order]
    settings: dict[str, Any] = {"mask": MASK, "radius": 2, "n_permutations": 5}
    plain = nm.searchlight_rsa(model, volumes, **settings)
    stack = xr.DataArray(volumes[order], dims=("stimulus", "x", "y", "z"), coords={"stimulus": shown})
    flat = nm.Recording(volumes[order][:, MASK], ("stimulus", "unit"), {"stimulus": shown})
    for data in (stack, flat):
        found = nm.searchlight_rsa({"m": labelled_model}, data, **settings)
        np.testing.assert_allclose(found.main.values, plain.main.values, atol=1e-12)
    tensor = nm.searchlight_rsa(model, torch.tensor(volumes), **settings)
    np.testing.assert_allclose(tensor.main.values, plain.main.values, atol=1e-12)
    with pytest.raises(InputError, match="has none"):
        nm.searchlight_rsa({"m": model}, stack, **settings)


def test_voxels_that_do_not_vary_are_counted() -> None:
    volumes, model = planted(0)
    volumes[:, :4] = 0
    with pytest.warns(UserWarning, match="spheres have no RDM"):
        result = nm.searchlight_rsa(model, volumes, MASK, radius=2, n_permutations=5)
    dead = np.isnan(result.main.values[0])
    assert dead.any()
    assert not dead.all()
    assert (result.data["x"].values[dead] < 4).all()
    result.plot()


def test_figure_words_and_storage(tmp_path: Any) -> None:
    volumes, model = planted(0)
    result = nm.searchlight_rsa({"planted": model}, volumes, MASK, radius=RADIUS, method=METHOD)
    axes = result.plot()
    assert axes.get_title(loc="left") == "Searchlight: planted"
    assert "centres above chance" in result.summary()
    assert nm.load_result(result.save(tmp_path / "map.nc")) == result


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": MASK[0]}, "no mask"),
        ({"mask": np.zeros(SHAPE, bool)}, "no mask"),
        ({"mask": np.where(MASK, 0.3, 0.0)}, "no mask"),
        ({"data": np.zeros((N_STIMULI, 7))}, "do not fit the mask"),
        ({"data": np.zeros((N_STIMULI, 3, 3, 3))}, "do not fit the mask"),
        ({"data": np.full((N_STIMULI, *SHAPE), np.nan)}, "not finite"),
        ({"data": np.zeros((N_STIMULI, *SHAPE))}, "no sphere has an RDM"),
        ({"data": np.random.default_rng(0).normal(size=(N_STIMULI - 1, *SHAPE))}, "different numbers"),
        ({"data": np.random.default_rng(0).normal(size=(2, *SHAPE))}, "too few conditions|constant|no sphere"),
        ({"radius": 1.0}, "radius"),
        ({"radius": 8.0, "threshold": 1.0}, "no sphere lies in the mask"),
        ({"models": np.ones((N_STIMULI, N_STIMULI)) - np.eye(N_STIMULI)}, "same for all pairs"),
        ({"n_permutations": 0}, "n_permutations"),
    ],
)
def test_what_has_no_searchlight_is_refused(change: dict, words: str) -> None:
    volumes, model = planted(0)
    with pytest.raises(InputError, match=words):
        nm.searchlight_rsa(**{"models": model, "data": volumes, "mask": MASK, "radius": 2, **change})


def test_models_that_are_fitted_are_refused() -> None:
    volumes, model = planted(0)
    family = nm.RDMModel(np.stack([model, model.T**2]), "weighted")
    with pytest.raises(CapabilityError, match="would be fitted"):
        nm.searchlight_rsa({"family": family}, volumes, MASK, radius=2)


def test_spheres_whose_patterns_do_not_vary_are_unknown_and_stimuli_may_be_any_axis():
    random = np.random.default_rng(0)
    volumes = random.normal(size=(8, 4, 4, 4))
    volumes[0, :3, :3, :3] = random.random((3, 3, 3))
    volumes[4, :3, :3, :3] = 1 - volumes[0, :3, :3, :3]  # the mean of both is the same in all voxels
    model = nm.compute_rdm(random.normal(size=(4, 6)), conditions=list("abcd"))
    mask = np.ones((4, 4, 4), dtype=bool)
    options = {"radius": 1.5, "n_permutations": 5, "conditions": list("abcd") * 2}
    with pytest.warns(UserWarning, match="8 of 64 spheres have no RDM"):
        scores = nm.searchlight_rsa({"model": model}, volumes, mask, **options).volume("model")
    assert np.isnan(scores[1, 1, 1])
    assert np.isfinite(scores[3, 3, 3])
    labelled = xr.DataArray(volumes, dims=("stimulus", "x", "y", "z")).transpose("x", "y", "z", "stimulus")
    with pytest.warns(UserWarning, match="8 of 64 spheres have no RDM"):
        again = nm.searchlight_rsa({"model": model}, labelled, mask, **options).volume("model")
    np.testing.assert_array_equal(again, scores)
