"""CCA against planted correlations, a generalised eigenvalue problem, scikit-learn, and shuffles refitted by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.cross_decomposition import CCA as SklearnCCA  # noqa: N811

import neuros_mechint as nm
from neuros_mechint.neuro.alignment.linear.canonical_test import permute_canonical
from neuros_mechint.neuro.alignment.linear.cca import whiten
from tests.slow import slow_case

PLANTED = np.array([0.9, 0.6, 0.3])


def planted(n, seed, p=10, q=10, correlations=PLANTED):
    """Two sides whose canonical correlations are known, mixed so that no feature shows them."""
    random = np.random.default_rng(seed)
    x, noise = random.standard_normal((n, p)), random.standard_normal((n, q))
    k = len(correlations)
    y = noise.copy()
    y[:, :k] = correlations * x[:, :k] + np.sqrt(1 - correlations**2) * noise[:, :k]
    return x @ random.standard_normal((p, p)) + 5, y @ random.standard_normal((q, q)) - 3


def independent(n, seed, p=10, q=10):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, p)), random.standard_normal((n, q))


@pytest.mark.parametrize("seed", range(3))
def test_planted_correlations_are_found(seed):
    x, y = planted(20_000, seed)
    cca = nm.CCA(4).fit(x, y)
    assert cca.correlations_[:3] == pytest.approx(PLANTED, abs=0.015)
    assert cca.correlations_[3] < 0.05
    assert nm.CCA(3).score_components(x, y) == pytest.approx(PLANTED, abs=0.02)


def test_few_samples_inflate_correlations_in_sample_but_not_held_out():
    in_sample, held_out = [], []
    for seed in range(20):
        x, y = planted(100, seed)
        in_sample.append(nm.CCA(4).fit(x, y).correlations_)
        held_out.append(nm.CCA(4).score_components(x, y))
    mean = np.mean(in_sample, 0)
    assert (mean[1:3] > PLANTED[1:] + 0.08).all()
    assert mean[3] > 0.35  # planted: none
    held = np.mean(held_out, 0)
    assert (held[:3] < PLANTED + 0.02).all()
    assert held[3] < mean[3] / 2


def test_held_out_score_is_zero_where_nothing_is_shared():
    scores, in_sample = [], []
    for seed in range(60):
        x, y = independent(200, seed)
        scores.append(nm.CCA(2).score(x, y))
        in_sample.append(nm.CCA(2).score_in_sample(x, y))
    error = np.std(scores) / np.sqrt(60)
    assert abs(np.mean(scores)) < 3 * error < 0.04
    assert np.mean(in_sample) > 0.3


def test_saturation_is_counted_and_warned_of():
    x, y = independent(80, 0, 50, 50)
    with pytest.warns(UserWarning, match="21 canonical correlations are exactly 1"):
        cca = nm.CCA(50).fit(x, y)
    assert int((cca.correlations_ > 1 - 1e-9).sum()) == 50 + 50 - 79 == 21
    with pytest.warns(UserWarning, match="canonical correlations are exactly 1"):
        assert abs(nm.CCA(5).score(x, y)) < 0.15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nm.CCA(1).fit(*independent(101, 0, 50, 50))  # one more sample than features
        nm.CCA(1, reg=0.1).fit(x, y)
    with pytest.warns(UserWarning, match=", 1 canonical correlations"):
        nm.CCA(1).fit(*independent(100, 0, 50, 50))


def generalised_eigenvalues(x, y, reg):
    """The textbook: [[0, Cxy], [Cyx, 0]] w = r [[Cxx, 0], [0, Cyy]] w."""
    x, y = x - x.mean(0), y - y.mean(0)
    n, p, q = len(x), x.shape[1], y.shape[1]
    covariances = [side.T @ side / (n - 1) for side in (x, y)]
    blocks = [c + reg * np.trace(c) / len(c) * np.eye(len(c)) for c in covariances]
    shared = x.T @ y / (n - 1)
    left = np.block([[np.zeros((p, p)), shared], [shared.T, np.zeros((q, q))]])
    values, vectors = scipy.linalg.eigh(left, scipy.linalg.block_diag(*blocks))
    order = np.argsort(-values)
    return values[order], vectors[:p, order], vectors[p:, order]


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_equals_the_generalised_eigenvalue_problem(reg):
    x, y = planted(150, 1, p=8, q=6)
    values, x_weights, y_weights = generalised_eigenvalues(x, y, reg)
    cca = nm.CCA(4, reg=reg).fit(x, y)
    test = nm.CCA(4, reg=reg).permutation_test(x, y, 9)
    np.testing.assert_allclose(test.main.values, values[:4], atol=1e-10)
    for ours, theirs in ((cca.x_weights_, x_weights), (cca.y_weights_, y_weights)):
        ours, theirs = (w[:, :4] / np.linalg.norm(w[:, :4], axis=0) for w in (ours, theirs))
        np.testing.assert_allclose(np.abs((ours * theirs).sum(0)), 1, atol=1e-9)
    if reg == 0:
        np.testing.assert_allclose(cca.correlations_, values[:4], atol=1e-10)
        np.testing.assert_allclose(cca.transform(x).var(0, ddof=1), 1, atol=1e-9)


def test_equals_scikit_learn_within_its_tolerance():
    x, y = planted(300, 2)
    theirs = SklearnCCA(3, tol=1e-10, max_iter=10_000).fit(x, y).transform(x, y)
    ours = nm.CCA(3).fit(x, y)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(theirs[0].T, theirs[1].T, strict=True)]
    np.testing.assert_allclose(ours.correlations_, correlations, atol=1e-6)
    for mine, other in zip(ours.transform(x, y), theirs, strict=True):
        for one, two in zip(mine.T, other.T, strict=True):
            assert abs(np.corrcoef(one, two)[0, 1]) == pytest.approx(1, abs=1e-4)


def test_regularisation_helps_where_features_outnumber_samples():
    gains = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        latent = random.standard_normal((60, 3))
        x = latent @ random.standard_normal((3, 80)) + random.standard_normal((60, 80))
        y = latent @ random.standard_normal((3, 70)) + random.standard_normal((60, 70))
        with pytest.warns(UserWarning, match="exactly 1"):
            plain = nm.CCA(1).score(x, y)
        gains.append(nm.CCA(1, reg=1.0).score(x, y) - plain)
    assert min(gains) > 0.1


def test_loadings_are_correlations_of_features_with_their_variate():
    x, y = planted(200, 3)
    x[:, 2] = 7.0
    cca = nm.CCA(2).fit(x, y)
    variates = cca.transform(x)
    assert np.isnan(cca.x_loadings_[2]).all()
    assert (np.abs(cca.x_weights_[2]) < 1e-12).all()
    assert cca.x_loadings_[4, 1] == pytest.approx(np.corrcoef(x[:, 4], variates[:, 1])[0, 1])


def test_result_does_not_depend_on_invertible_maps_of_either_side():
    x, y = planted(400, 4)
    random = np.random.default_rng(0)
    mixed = x @ random.standard_normal((10, 10)) + 100
    np.testing.assert_allclose(nm.CCA(3).fit(mixed, y * 1e3).correlations_, nm.CCA(3).fit(x, y).correlations_)


# ---- permutation test


def brute_force(x, y, n_components, n_permutations, seed):
    """Stepwise p values the slow way: project components out, refit every shuffle by SVD of QR bases."""
    random = np.random.default_rng(seed)
    x, y = x - x.mean(0), y - y.mean(0)
    if np.linalg.matrix_rank(x) < np.linalg.matrix_rank(y):
        x, y = y, x
    qx, qy = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    left, observed, right = np.linalg.svd(qx.T @ qy)
    x_variates, y_variates = qx @ left, qy @ right.T
    orders = [random.permutation(len(x)) for _ in range(n_permutations)]
    p = []
    for k in range(n_components):
        drawn = [np.linalg.svd(x_variates[:, k:].T @ y_variates[order][:, k:])[1][0] for order in orders]
        p.append((1 + sum(value >= observed[k] - 1e-12 for value in drawn)) / (n_permutations + 1))
    return np.maximum.accumulate(p)


@pytest.mark.parametrize(("p", "q"), [(6, 4), (4, 6)])
def test_p_equals_shuffles_refitted_one_by_one(p, q):
    x, y = planted(60, 5, p, q, np.array([0.8, 0.4]))
    test = nm.CCA(4).permutation_test(x, y, 199, seed=3)
    np.testing.assert_array_equal(test.p, brute_force(x, y, 4, 199, 3))


def test_planted_components_are_significant_and_no_other():
    for seed in range(3):
        x, y = planted(400, seed)
        test = nm.CCA(6).permutation_test(x, y, 199, seed)
        assert test.n_significant == 3
        assert (test.p[:3] <= 0.02).all()


def test_saturated_correlations_are_not_significant():
    x, y = independent(40, 0, 25, 25)
    with pytest.warns(UserWarning, match="exactly 1"):
        assert nm.CCA(3).permutation_test(x, y, 49).p.tolist() == [1.0, 1.0, 1.0]


def rejections(n_simulations, first, reg=0.0, n_planted=0):
    """How often component ``n_planted + 1`` or a later one is called significant at 0.05."""
    found = 0
    for seed in range(first, first + n_simulations):
        x, y = planted(40, seed, 4, 3, np.array([0.9])[:n_planted])
        white = whiten(x, reg), whiten(y, reg)
        test = permute_canonical(white[0].scores, white[1].scores, 3, 99, seed, {})
        found += bool((test.p[n_planted:] <= 0.05).any())
    return found / n_simulations


@pytest.mark.parametrize(("reg", "n_planted"), [(0.0, 0), slow_case(1.0, 0), (0.0, 1)])
def test_false_positives_are_as_rare_as_stated(reg, n_planted):
    # 100 simulations at 0.05: 5 expected, standard deviation 2.2
    assert rejections(100, 1000, reg, n_planted) <= 0.12


@pytest.mark.slow
@pytest.mark.parametrize(("reg", "n_planted"), [(0.0, 0), (1.0, 0), (0.0, 1), (1.0, 1)])
def test_type_one_error_over_4000_simulations(reg, n_planted):
    rate = rejections(4000, 10_000, reg, n_planted)
    assert 0.04 <= rate <= 0.06


def test_result_keeps_draws_and_saves(tmp_path):
    x, y = planted(100, 6)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    test = nm.CCA(5).permutation_test(x, y, 99)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    loaded = nm.load_result(test.save(tmp_path / "test.nc"))
    assert loaded == test
    axes = loaded.plot()
    assert axes.get_xlabel() == "component"
    assert len(axes.get_legend().get_texts()) == 3
    assert test.p.tolist() == nm.CCA(5).permutation_test(x, y, 99).p.tolist()
    assert test.attributes["n_samples"] == 100


# ---- what goes in and comes out


def test_tensors_in_tensors_out_and_nothing_changed():
    x, y = planted(100, 7)
    one, other = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    kept = one.clone(), other.clone()
    variates, others = nm.CCA(2).fit(one, other).transform(one, other)
    assert variates.dtype == torch.float32
    assert others.dtype == torch.float64
    assert nm.CCA(2).score(one, other) == pytest.approx(nm.CCA(2).score(x, y), abs=1e-5)
    assert isinstance(nm.CCA(2).score_components(one, other), torch.Tensor)
    assert torch.equal(one, kept[0])
    assert torch.equal(other, kept[1])
    np.testing.assert_allclose(others.numpy(), nm.CCA(2).fit(x, y).transform(x, y)[1], atol=1e-4)


def test_labelled_rows_are_joined_by_label():
    x, y = planted(100, 8)
    names = [f"s{number}" for number in range(100)]
    one = xr.DataArray(x, dims=("stimulus", "unit"), coords={"stimulus": names})
    other = xr.DataArray(y, dims=("stimulus", "unit"), coords={"stimulus": names})[::-1]
    assert nm.CCA(2).score(one, other) == nm.CCA(2).score(x, y)
    with pytest.raises(nm.errors.InputError, match="labels"):
        nm.CCA(2).fit(one, y)


def test_repeated_stimuli_leak_unless_they_are_grouped():
    x, y = independent(30, 0, 8, 8)
    repeated = np.repeat(x, 4, 0), np.repeat(y, 4, 0)
    groups = np.repeat(np.arange(30), 4)
    assert nm.CCA(1).score(*repeated) > 0.5
    assert abs(nm.CCA(1).score(*repeated, groups=groups)) < 0.35


def test_parameters_are_those_of_scikit_learn():
    cca = clone(nm.CCA(2, reg=0.5))
    assert cca.get_params() == {"n_components": 2, "reg": 0.5}
    assert repr(cca.set_params(reg=1.0)) == "CCA(n_components=2, reg=1.0)"
    with pytest.raises(nm.errors.OptionError, match="no parameter 'regg'"):
        cca.set_params(regg=1)


X, Y = independent(30, 9, 5, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nm.CCA(4).fit(X, Y), "4 components are more"),
        (lambda: nm.CCA(0).fit(X, Y), "n_components is out of range"),
        (lambda: nm.CCA(2.0).fit(X, Y), "n_components is out of range"),
        (lambda: nm.CCA(1, reg=-1).fit(X, Y), "reg is out of range"),
        (lambda: nm.CCA(1, reg=np.nan).fit(X, Y), "reg is out of range"),
        (lambda: nm.CCA(1).fit(X, Y[:20]), "different numbers of samples"),
        (lambda: nm.CCA(1).fit(X, np.where(Y > 1, np.nan, Y)), "not finite"),
        (lambda: nm.CCA(1).fit(X, np.ones_like(Y)), "no feature of Y varies"),
        (lambda: nm.CCA(3).fit(X, np.hstack([Y[:, :2], Y[:, :1]])), "Y 2 once centred"),
        (lambda: nm.CCA(1).fit(X[:2], Y[:2]), "too few samples"),
        (lambda: nm.CCA(1).score(X, Y, cv=31), "cannot be dealt to 31 folds"),
        (lambda: nm.CCA(1).score(X, Y, cv=15), "too few samples for a correlation"),
        (lambda: nm.CCA(1).score(X, Y, cv=3, groups=[0, 1] * 15), "2 groups cannot be dealt to 3 folds"),
        (lambda: nm.CCA(1).transform(X), "not fitted"),
        (lambda: nm.CCA(1).fit(X, Y).transform(X[:, :2]), "another number of features"),
        (lambda: nm.CCA(1).permutation_test(X, Y, 0), "n_permutations is out of range"),
        (lambda: nm.CCA(1).permutation_test(X, Y, seed=-1), "seed"),
    ],
)
def test_bad_input_is_refused_with_advice(call, message):
    with pytest.raises(nm.errors.InputError, match=message):
        call()
