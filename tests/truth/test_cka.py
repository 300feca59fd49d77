"""CKA against its definition, exact values, its invariances, and unrelated data of many features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.neuro.alignment.linear.cka import hsic


def data(n, p, q, seed, shared=0.0):
    """Two sides of independent normal features, plus a shared latent in 3 dimensions."""
    random = np.random.default_rng(seed)
    latent = shared * random.standard_normal((n, 3))
    sides = (latent @ random.standard_normal((3, width)) + random.standard_normal((n, width)) for width in (p, q))
    return tuple(sides)


def hsic_by_definition(x, y, debiased):
    """Song et al. 2012, eq. 3 and 5, with n x n kernels written out."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    if not debiased:
        centring = np.eye(n) - 1 / n
        return np.trace(k @ centring @ l @ centring) / (n - 1) ** 2
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    ones = np.ones(n)
    sums = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + sums - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3))


def cka_by_definition(x, y, debiased):
    one, other, shared = (hsic_by_definition(a, b, debiased) for a, b in ((x, x), (y, y), (x, y)))
    return shared / np.sqrt(one * other)


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize(("n", "p", "q"), [(30, 5, 8), (12, 50, 40), (20, 3, 100), (4, 3, 3)])
def test_equals_the_definition_from_features_and_from_kernels(debiased, n, p, q):
    x, y = data(n, p, q, 0, shared=1.0)
    assert nm.CKA(debiased).score(x + 7, y - 5) == pytest.approx(cka_by_definition(x, y, debiased), abs=1e-10)


def test_both_ways_of_computing_hsic_are_the_same():
    x, y = data(20, 30, 10, 1, shared=1.0)
    x, y = x - x.mean(0), y - y.mean(0)
    padded = np.hstack([x, np.zeros((20, 200))]), np.hstack([y, np.zeros((20, 200))])  # now kernels are cheaper
    for debiased in (True, False):
        assert hsic(*padded, debiased) == pytest.approx(hsic(x, y, debiased), rel=1e-12)


def test_exact_values():
    random = np.random.default_rng(2)
    basis = np.linalg.qr(random.standard_normal((100, 13)) - 0.0)[0]
    basis = np.linalg.qr(basis - basis.mean(0))[0]
    for p, q in ((12, 3), (5, 5), (4, 1)):
        # q of p equally large, uncorrelated features: sqrt(q / p)
        assert nm.CKA(debiased=False).score(basis[:, :p], basis[:, :q]) == pytest.approx(np.sqrt(q / p), abs=1e-12)
    assert nm.CKA(debiased=False).score(basis[:, :4], basis[:, 4:8]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("debiased", [True, False])
def test_rotation_scale_and_shift_change_nothing_but_other_maps_do(debiased):
    x, y = data(50, 10, 12, 3, shared=1.0)
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.standard_normal((10, 10)))[0]
    cka = nm.CKA(debiased)
    expected = cka.score(x, y)
    assert cka.score(1e3 * x @ rotation + 10, y) == pytest.approx(expected, abs=1e-10)
    assert cka.score(y, x) == pytest.approx(expected, abs=1e-12)
    assert cka.score(x, -2 * x @ rotation) == pytest.approx(1, abs=1e-12)
    assert abs(cka.score(x * np.linspace(0.1, 5, 10), y) - expected) > 0.01


def test_unrelated_data_of_many_features_are_alike_only_by_bias():
    biased, debiased = zip(
        *[[nm.CKA(flag).score(*data(40, 1000, 1000, seed)) for flag in (False, True)] for seed in range(40)],
        strict=True,
    )
    assert min(biased) > 0.9
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(40)
    assert np.abs(debiased).max() < 0.15


def test_the_debiased_value_does_not_depend_on_the_number_of_samples():
    few = [nm.CKA().score(*data(20, 100, 100, seed, shared=0.5)) for seed in range(60)]
    many = [nm.CKA().score(*data(1000, 100, 100, seed, shared=0.5)) for seed in range(10)]
    biased = [nm.CKA(debiased=False).score(*data(20, 100, 100, seed, shared=0.5)) for seed in range(60)]
    assert np.mean(few) == pytest.approx(np.mean(many), abs=0.05)
    assert np.mean(biased) > np.mean(many) + 0.05


def test_hsic_is_unbiased():
    # X and Y share one standard normal: HSIC of linear kernels is the squared covariance, 1
    values = []
    for seed in range(3000):
        random = np.random.default_rng(seed)
        x = random.standard_normal((8, 1))
        y = np.hstack([x, random.standard_normal((8, 2))])
        values.append(hsic(x - x.mean(), y - y.mean(0)))
    assert np.mean(values) == pytest.approx(1.0, abs=3 * np.std(values) / np.sqrt(3000))


def test_minibatches_agree_with_all_samples_at_once():
    for size, n_seeds in ((100, 20), (6, 100)):
        differences = []
        for seed in range(n_seeds):
            x, y = data(600, 50, 60, seed, shared=0.3)
            differences.append(nm.CKA(batch_size=size, seed=seed).score(x, y) - nm.CKA().score(x, y))
        assert abs(np.mean(differences)) < 3 * np.std(differences) / np.sqrt(n_seeds) < 0.01
    x, y = data(50, 5, 5, 0)
    assert nm.CKA(batch_size=50).score(x, y) == pytest.approx(nm.CKA().score(x, y), abs=1e-12)
    assert nm.CKA(batch_size=10, seed=1).score(x, y) == nm.CKA(batch_size=10, seed=1).score(x, y)
    assert nm.CKA(batch_size=10, seed=1).score(x, y) != nm.CKA(batch_size=10, seed=2).score(x, y)
    assert np.isfinite(nm.CKA(batch_size=4).score(x[:7], y[:7]))  # a rest of three is dealt to the others


def test_batches_can_be_streamed():
    x, y = data(120, 20, 30, 0, shared=1.0)
    stream = nm.CKA()
    sums = np.zeros(3)
    for rows in (slice(0, 40), slice(40, 100), slice(100, 120)):
        stream.partial_fit(x[rows], y[rows])
        pairs = (x[rows], y[rows]), (x[rows], x[rows]), (y[rows], y[rows])
        sums += len(x[rows]) * np.array([hsic_by_definition(a, b, True) for a, b in pairs])
    assert stream.similarity_ == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-12)
    assert nm.CKA().partial_fit(x, y).similarity_ == pytest.approx(nm.CKA().score(x, y), abs=1e-12)


def test_any_kind_of_array_joined_by_label():
    x, y = data(30, 5, 6, 0, shared=1.0)
    tensor = torch.tensor(x, dtype=torch.float64)
    kept = tensor.clone()
    assert nm.CKA().score(tensor, torch.tensor(y)) == nm.CKA().score(x, y)
    assert torch.equal(tensor, kept)
    names = {"stimulus": [f"s{number}" for number in range(30)]}
    one = xr.DataArray(x, dims=("stimulus", "unit"), coords=names)
    other = xr.DataArray(y, dims=("stimulus", "unit"), coords=names)[::-1]
    assert nm.CKA().score(one, other) == nm.CKA().score(x, y)


X, Y = data(20, 4, 5, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nm.CKA().score(X[:3], Y[:3]), "too few samples"),
        (lambda: nm.CKA(debiased=False).score(X[:1], Y[:1]), "too few samples"),
        (lambda: nm.CKA().score(np.full_like(X, 0.1), Y), "X has no geometry"),
        (lambda: nm.CKA(debiased=False).score(X, np.ones_like(Y)), "Y has no geometry"),
        (lambda: nm.CKA().score(X, Y[:10]), "different numbers of samples"),
        (lambda: nm.CKA().score(np.where(X > 1, np.inf, X), Y), "not finite"),
        (lambda: nm.CKA(batch_size=3).score(X, Y), "batches are too small"),
        (lambda: nm.CKA(batch_size=0).score(X, Y), "batch_size is out of range"),
        (lambda: nm.CKA(debiased=False, batch_size=10).score(X, Y), "need the debiased"),
        (lambda: nm.CKA(debiased=False).partial_fit(X, Y), "need the debiased"),
    ],
)
def test_bad_input_is_refused_with_advice(call, message):
    with pytest.raises(nm.errors.InputError, match=message):
        call()
