"""Encoding models against scikit-learn, himalaya, planted signals, planted bands, and targets without any signal."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

import neuros_mechint as nm
from neuros_mechint.neuro.alignment.linear import banded_ridge, ridge_solvers
from neuros_mechint.neuro.alignment.linear.held_out import folds
from tests.slow import slow_case
from tests.truth.encoded_data import MODELS, data

ALPHAS = np.logspace(-1, 5, 7)


def without_himalaya(monkeypatch):
    monkeypatch.setattr(ridge_solvers, "find_spec", lambda name: None)


def r2_by_hand(make, x, y, splits):
    """Squared errors of all folds over those of the training mean."""
    errors, deviations = 0, 0
    for train, test in splits:
        predicted = make().fit(x[train], y[train]).predict(x[test])
        errors = errors + ((y[test] - predicted) ** 2).sum(0)
        deviations = deviations + ((y[test] - y[train].mean(0)) ** 2).sum(0)
    return 1 - errors / deviations


# ---- ridge


@pytest.mark.parametrize("shape", [(100, 40), (50, 120)])
def test_one_penalty_equals_scikit_learn(shape):
    x, y = data(*shape)
    ours = nm.RidgeEncoding(alphas=[30.0]).fit(x, y)
    theirs = Ridge(alpha=30.0).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.predict(x[:7]), theirs.predict(x[:7]), atol=1e-8)
    expected = r2_by_hand(lambda: Ridge(alpha=30.0), x, y, folds(len(x), 4, seed=2))
    np.testing.assert_allclose(nm.RidgeEncoding(alphas=[30.0]).score_targets(x, y, 4, seed=2), expected, atol=1e-9)


def test_each_target_takes_the_penalty_that_predicts_it_best_within_the_training_data():
    x, clean = data(80, 60, 4, noise=0.1)
    y = np.hstack([clean, data(80, 60, 4, noise=3.0)[1]])
    fitted = nm.RidgeEncoding(ALPHAS).fit(x, y)
    losses = np.zeros((len(ALPHAS), 8))
    for train, test in folds(80, 5):
        for row, alpha in enumerate(ALPHAS):
            losses[row] += ((Ridge(alpha=alpha).fit(x[train], y[train]).predict(x[test]) - y[test]) ** 2).mean(0) / 5
    np.testing.assert_allclose(fitted.alphas_, ALPHAS[losses.argmin(0)])
    np.testing.assert_allclose(fitted.inner_loss_, losses.min(0), rtol=1e-8)
    assert fitted.alphas_[:4].max() < fitted.alphas_[4:].min()


@pytest.mark.parametrize("shape", [(60, 100), (64, 64), (100, 102)])
def test_himalaya_and_the_solver_here_choose_and_predict_the_same(shape):
    for seed in range(3):
        x, y = data(*shape, noise=2.0, seed=seed)
        arguments = [np.arange(shape[1])], np.ones((1, 1)), ALPHAS, folds(len(x), 5)
        ours = ridge_solvers.solve_here(x, y, *arguments)
        theirs = ridge_solvers.solve_by_himalaya(x, y, *arguments)
        np.testing.assert_array_equal(ours.alphas, theirs.alphas)
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-8)
        np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=1e-10)
        np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-10)


def test_equals_the_estimators_of_himalaya():
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV

    for shape, estimator, solver in (((60, 100), KernelRidgeCV, "himalaya"), ((100, 30), RidgeCV, "numpy")):
        x, y = data(*shape, noise=2.0)
        theirs = estimator(ALPHAS, fit_intercept=True, cv=folds(len(x), 5)).fit(x, y)
        ours = nm.RidgeEncoding(ALPHAS).fit(x, y)
        assert ours.solver_ == solver
        np.testing.assert_allclose(ours.alphas_, theirs.best_alphas_)
        np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=1e-9)


def test_scores_are_the_same_without_himalaya(monkeypatch):
    x, y = data(60, 100, noise=2.0)
    model = nm.BandedRidge({"a": slice(0, 30), "b": slice(30, 100)}, ALPHAS, n_candidates=8)
    with_it = nm.RidgeEncoding(ALPHAS).score(x, y), model.score(x, y)
    without_himalaya(monkeypatch)
    assert (nm.RidgeEncoding(ALPHAS).score(x, y), model.score(x, y)) == pytest.approx(with_it, abs=1e-9)
    assert nm.RidgeEncoding(ALPHAS).fit(x, y).solver_ == "numpy"


def test_the_backend_set_in_himalaya_is_used_and_left_alone():
    from himalaya.backend import get_backend, set_backend

    x, y = data(60, 100, noise=2.0)
    bands = nm.BandedRidge({"a": slice(0, 5), "b": slice(5, 20)}, ALPHAS, n_candidates=5)
    expected = nm.RidgeEncoding(ALPHAS).score(x, y), bands.score(x[:, :20], y)
    before = get_backend()
    try:
        set_backend("torch")
        found = nm.RidgeEncoding(ALPHAS).score(x, y), bands.score(x[:, :20], y)
        assert get_backend().name == "torch"
    finally:
        set_backend(before)
    assert found == pytest.approx(expected, abs=1e-9)


def test_planted_share_of_variance_is_reached():
    for seed in range(3):
        x, y = data(4000, 20, 5, noise=1.0, seed=seed)  # half the variance is signal
        model = nm.RidgeEncoding()
        assert model.score_targets(x, y) == pytest.approx(0.5 * np.ones(5), abs=0.05)
        correlation = nm.RidgeEncoding(metric="correlation").score(x, y)
        assert correlation == pytest.approx(np.sqrt(0.5), abs=0.03)


@pytest.mark.parametrize("n_seeds", [8, slow_case(20)])
def test_targets_without_signal_score_nothing_held_out_and_much_in_sample(n_seeds):
    r2, correlation, in_sample = [], [], []
    for seed in range(n_seeds):
        random = np.random.default_rng(seed)
        x, y = random.standard_normal((100, 80)), random.standard_normal((100, 10))
        r2.append(nm.RidgeEncoding().score(x, y))
        correlation.append(nm.RidgeEncoding(metric="correlation").score(x, y))
        in_sample.append(nm.RidgeEncoding([1.0]).score_in_sample(x, y))
    assert -0.1 < np.mean(r2) < 0.01
    assert abs(np.mean(correlation)) < 3 * np.std(correlation, ddof=1) / np.sqrt(n_seeds)
    assert np.mean(in_sample) > 0.7


def test_test_rows_never_reach_the_fit():
    x, y = data(60, 10)
    train, test = np.arange(40), np.arange(40, 60)
    model = nm.RidgeEncoding(ALPHAS)
    fitted = nm.RidgeEncoding(ALPHAS).fit(x[train], y[train])
    expected = 1 - ((y[test] - fitted.predict(x[test])) ** 2).sum(0) / ((y[test] - y[train].mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(model.score_targets(x, y, cv=[(train, test)]), expected, atol=1e-12)
    split = PredefinedSplit(np.r_[-np.ones(40), np.zeros(20)])
    np.testing.assert_allclose(model.score_targets(x, y, cv=split), expected, atol=1e-12)
    assert not hasattr(model, "alphas_")  # score neither needs nor changes a fit


def test_groups_hold_in_the_inner_folds_too():
    random = np.random.default_rng(0)
    x, y = (np.repeat(random.standard_normal((25, 40)), 4, 0) for _ in range(2))
    groups = np.repeat(np.arange(25), 4)
    model = nm.RidgeEncoding(ALPHAS)
    assert model.score(x, y) > 0.5  # the answer leaks: the same stimulus is learned from and judged on
    assert model.score(x, y, groups=groups) < 0.02
    assert model.fit(x, y).alphas_.max() < model.fit(x, y, groups=groups).alphas_.min()
    train, test = folds(100, 5, groups)[0]
    predicted = nm.RidgeEncoding(ALPHAS).fit(x[train], y[train], groups=groups[train]).predict(x[test])
    expected = 1 - ((y[test] - predicted) ** 2).sum(0) / ((y[test] - y[train].mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(model.score_targets(x, y, [(train, test)], groups), expected, atol=1e-12)


def test_constant_targets_are_nan_and_counted():
    x, y = data(60, 10, 4)
    y[:, 1] = 0.1
    for metric in ("r2", "correlation"):
        with pytest.warns(UserWarning, match="1 of 4 targets are constant"):
            scores = nm.RidgeEncoding(ALPHAS, metric=metric).score_targets(x, y)
        assert np.isnan(scores).tolist() == [False, True, False, False]
        with pytest.warns(UserWarning, match="constant"):
            assert nm.RidgeEncoding(ALPHAS, metric=metric).score(x, y) == pytest.approx(np.nanmean(scores))


def test_constant_features_change_nothing():
    x, y = data(60, 10)
    more = np.hstack([x, np.full((60, 3), 0.1)])
    np.testing.assert_allclose(
        nm.RidgeEncoding(ALPHAS).score_targets(more, y), nm.RidgeEncoding(ALPHAS).score_targets(x, y), atol=1e-9
    )


@pytest.mark.parametrize("shape", [(60, 100), (100, 40)])
def test_units_of_features_and_targets_do_not_matter(shape):
    x, y = data(*shape, noise=2.0)
    expected = nm.RidgeEncoding(ALPHAS).score_targets(x, y)
    for unit in (1e-6, 1e6):
        scores = nm.RidgeEncoding(ALPHAS * unit**2).score_targets(x * unit, y * 1e6)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    # penalties of which some are lost in rounding: they must not win
    assert nm.RidgeEncoding(np.logspace(-9, 17, 27)).score(x * 1e6, y * 1e6) > expected.mean() - 0.05


def test_one_sample_may_be_left_out_at_a_time():
    x, y = data(30, 5)
    expected = r2_by_hand(lambda: Ridge(alpha=1.0), x, y, [(np.delete(np.arange(30), i), [i]) for i in range(30)])
    np.testing.assert_allclose(nm.RidgeEncoding([1.0]).score_targets(x, y, cv=30), expected, atol=1e-9)


# ---- banded ridge


def banded(seed, n=200):
    """Two bands, the second 30 times as large in scale; of three pairs of targets, each band drives one, both one."""
    random = np.random.default_rng(seed)
    one, other = random.standard_normal((n, 20)), random.standard_normal((n, 150))
    parts = [band @ random.standard_normal((band.shape[1], 6)) for band in (one, other)]
    first, second = (part / part.std(0) for part in parts)
    signal = np.hstack([first[:, :2], second[:, 2:4], (first + second)[:, 4:] / np.sqrt(2)])
    return np.hstack([one, 30 * other]), signal + 0.5 * random.standard_normal((n, 6))


BANDS = {"small": slice(0, 20), "large": slice(20, 170)}


@pytest.mark.parametrize("seed", [0, slow_case(1)])
def test_planted_bands_are_found_whatever_their_scale(seed):
    x, y = banded(seed)
    model = nm.BandedRidge(BANDS, n_candidates=10).fit(x, y)
    penalties = model.alphas_ / model.scales_ / np.array([[1], [900]])  # in units of each band's variance
    assert (penalties[0, :2] * 10 < penalties[1, :2]).all()
    assert (penalties[1, 2:4] < penalties[0, 2:4]).all()
    banded_scores = model.score_targets(x, y)
    ridge_scores = nm.RidgeEncoding().score_targets(x, y)
    assert (banded_scores[:2] > ridge_scores[:2] + 0.2).all()
    parts = model.score_bands(x, y)
    assert (parts["small"][:2] > 0.5).all()
    assert (np.abs(parts["large"][:2]) < 0.1).all()
    assert (np.abs(parts["small"][2:4]) < 0.1).all()
    assert (parts["large"][2:4] > 0.15).all()


def test_product_measure_sums_to_the_score_and_equals_himalaya():
    from himalaya.scoring import r2_score_split

    x, y = banded(0, 120)
    model = nm.BandedRidge(BANDS, ALPHAS, n_candidates=6)
    parts = model.score_bands(x, y)
    np.testing.assert_allclose(sum(parts.values()), model.score_targets(x, y), atol=1e-10)
    train, test = np.arange(80), np.arange(80, 120)
    y[test] += y[train].mean(0) - y[test].mean(0)  # himalaya takes data of mean zero, we the training mean
    fitted = nm.BandedRidge(BANDS, ALPHAS, n_candidates=6).fit(x[train], y[train])
    predictions = np.stack([(x[test] - x[train].mean(0))[:, band] @ fitted.coef_[band] for band in BANDS.values()])
    theirs = r2_score_split(y[test] - y[train].mean(0), predictions)
    ours = model.score_bands(x, y, cv=[(train, test)])
    np.testing.assert_allclose(np.stack(list(ours.values())), theirs, atol=1e-8)


def test_what_bands_share_is_unique_to_none():
    random = np.random.default_rng(0)
    shared, own = random.standard_normal((150, 5)), random.standard_normal((150, 5))
    y = shared @ random.standard_normal((5, 4)) + own @ random.standard_normal((5, 4))
    y = y / y.std(0) + 0.3 * random.standard_normal((150, 4))
    x = np.hstack([shared, shared, own])
    model = nm.BandedRidge(list("aaaaabbbbbccccc"), ALPHAS, n_candidates=12)
    unique = model.score_bands(x, y, measure="unique")
    product = model.score_bands(x, y)
    assert (np.abs(unique["a"]) < 0.05).all()
    assert (np.abs(unique["b"]) < 0.05).all()
    assert unique["c"].mean() > 0.2
    assert (product["a"] + product["b"]).mean() > 0.2
    np.testing.assert_allclose(product["c"], unique["c"], atol=0.15)


@pytest.mark.parametrize("shape", [(90, 90), (50, 90)])
def test_banded_himalaya_and_the_solver_here_choose_and_predict_the_same(shape):
    x, y = data(*shape, noise=2.0)
    columns = banded_ridge.columns_of_bands(["a", "b", "c"] * (shape[1] // 3), shape[1])
    shares = banded_ridge._candidates(3, 15, np.random.default_rng(0))
    arguments = list(columns.values()), shares, ALPHAS, folds(len(x), 4)
    ours, theirs = ridge_solvers.solve_here(x, y, *arguments), ridge_solvers.solve_by_himalaya(x, y, *arguments)
    np.testing.assert_array_equal(ours.alphas, theirs.alphas)
    np.testing.assert_allclose(ours.scales, theirs.scales, atol=1e-12)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=1e-10)
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-10)


@pytest.mark.parametrize("shape", [(80, 30), (50, 90)])
def test_penalties_of_bands_are_alpha_over_share(shape):
    x, y = data(*shape, noise=2.0)
    fitted = nm.BandedRidge(["a", "b", "c"] * (shape[1] // 3), ALPHAS, n_candidates=15).fit(x, y)
    centred = x - x.mean(0)
    for target in range(y.shape[1]):
        penalty = np.empty(shape[1])
        for band, scale in zip(fitted.bands_.values(), fitted.scales_[:, target], strict=True):
            penalty[band] = fitted.alphas_[target] / scale
        solution = np.linalg.solve(centred.T @ centred + np.diag(penalty), centred.T @ y[:, target])
        np.testing.assert_allclose(fitted.coef_[:, target], solution, atol=1e-7)


def test_equals_group_ridge_of_himalaya():
    from himalaya.ridge import GroupRidgeCV

    x, y = data(100, 30, noise=2.0)
    shares = banded_ridge._candidates(2, 15, np.random.default_rng(0))
    search = {"n_iter": shares, "alphas": ALPHAS, "progress_bar": False}
    labels = ["a"] * 10 + ["b"] * 20
    theirs = GroupRidgeCV(
        groups=np.repeat([0, 1], [10, 20]), solver_params=search, fit_intercept=True, cv=folds(100, 5)
    ).fit(x, y)
    columns = banded_ridge.columns_of_bands(labels, 30)
    ours = ridge_solvers.solve_here(x, y, list(columns.values()), shares, ALPHAS, folds(100, 5))
    np.testing.assert_allclose(ours.alphas, theirs.best_alphas_)
    np.testing.assert_allclose(ours.weights, theirs.coef_, atol=1e-10)


def test_one_band_is_ridge():
    x, y = data(60, 10)
    one = nm.BandedRidge({"all": slice(None)}, ALPHAS).fit(x, y)
    np.testing.assert_allclose(one.predict(x), nm.RidgeEncoding(ALPHAS).fit(x, y).predict(x), atol=1e-2)
    with pytest.raises(nm.errors.InputError, match="one band has no unique part"):
        one.score_bands(x, y, measure="unique")


# ---- PLS


def test_pls_equals_scikit_learn():
    x, y = data(80, 30)
    for scale in (True, False):
        ours, theirs = nm.PLS(5, scale=scale).fit(x, y), PLSRegression(5, scale=scale).fit(x, y)
        np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
        np.testing.assert_array_equal(ours.transform(x), theirs.transform(x))
        expected = r2_by_hand(lambda scale=scale: PLSRegression(5, scale=scale), x, y, folds(80, 5))
        np.testing.assert_allclose(nm.PLS(5, scale=scale).score_targets(x, y), expected, atol=1e-12)


def test_pls_of_full_rank_is_least_squares():
    x, y = data(60, 8)
    design = np.hstack([np.ones((60, 1)), x])
    np.testing.assert_allclose(
        nm.PLS(8).fit(x, y).predict(x), design @ np.linalg.lstsq(design, y, rcond=None)[0], atol=1e-6
    )


def test_pls_finds_planted_directions_and_nothing_in_noise():
    found, null = [], []
    for seed in range(10):
        random = np.random.default_rng(seed)
        latent = random.standard_normal((150, 2))
        x = 2 * latent @ random.standard_normal((2, 200)) + random.standard_normal((150, 200))
        y = latent @ random.standard_normal((2, 8))
        y = y / y.std(0) + random.standard_normal((150, 8))
        found.append(nm.PLS(2).score(x, y))
        null.append(nm.PLS(2, metric="correlation").score(x, random.standard_normal((150, 8))))
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)  # half the variance is signal
    assert abs(np.mean(null)) < 3 * np.std(null) / np.sqrt(10)


def test_pls_of_targets_that_run_out_says_nothing_of_it():
    x, y = data(50, 10, 1, noise=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nm.PLS(10).score(x, y) > 0.99
    x[:, 3], y = 2.0, np.hstack([y, np.ones((50, 1))])
    with pytest.warns(UserWarning, match="1 of 2 targets are constant"):
        assert np.isnan(nm.PLS(3).score_targets(x, y)[1])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_tensors_in_tensors_out_labels_joined_and_nothing_changed(model):
    x, y = data(40, 10, 3)
    one, other = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    kept, state = one.clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    predicted = clone(model).fit(one, other).predict(one)
    assert predicted.dtype == torch.float32
    assert predicted.shape == (40, 3)
    assert isinstance(model.score_targets(one, other), torch.Tensor)
    assert torch.equal(one, kept)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    names = {"stimulus": [f"s{number}" for number in range(40)]}
    labelled = xr.DataArray(x, dims=("stimulus", "unit"), coords=names)
    shuffled = xr.DataArray(y, dims=("stimulus", "unit"), coords=names)[::-1]
    assert model.score(labelled, shuffled) == model.score(x, y)
