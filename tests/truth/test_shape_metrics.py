"""Procrustes and shape metrics: axioms of a metric, SciPy, canonical correlations, rotated copies and noise."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import neuros_mechint as nm

ALPHAS = (0.0, 0.3, 0.7, 1.0)


def data(seed, n=60, widths=(5, 5), shared=1.0):
    random = np.random.default_rng(seed)
    latent = shared * random.standard_normal((n, 3))
    return [latent @ random.standard_normal((3, width)) + random.standard_normal((n, width)) for width in widths]


def rotated(x, seed, scale=3.0):
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.standard_normal((x.shape[1], x.shape[1])))[0]
    return scale * x @ rotation + random.standard_normal(x.shape[1])


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_axioms_of_a_metric(seed, alpha):
    widths = np.random.default_rng(seed).integers(1, 8, 3)
    metric = nm.Procrustes(alpha).distance
    sides = data(seed, 20, widths)
    d = {(i, j): metric(sides[i], sides[j]) for i in range(3) for j in range(3)}
    for i, j, k in permutations(range(3)):
        assert d[i, k] <= d[i, j] + d[j, k] + 1e-7
        assert d[i, j] == pytest.approx(d[j, i], abs=1e-9)
        assert 0 <= d[i, j] <= np.pi / 2
    assert d[0, 0] == pytest.approx(0, abs=1e-7)
    assert metric(sides[0], rotated(sides[0], seed)) == pytest.approx(0, abs=1e-6)


def test_the_triangle_can_be_broken_by_what_is_no_metric():
    # one minus the same cosine, on the same kind of data: the test above can fail
    broken = 0
    for seed in range(300):
        x, y, z = data(seed, 20, (2, 2, 2), shared=2.0)
        d = lambda a, b: 1 - np.cos(nm.Procrustes().distance(a, b))  # noqa: E731
        broken += d(x, z) > d(x, y) + d(y, z) + 1e-7
    assert broken


@pytest.mark.parametrize("alpha", ALPHAS)
def test_rotated_scaled_shifted_copies_are_the_same_shape(alpha):
    x, y = data(1)
    procrustes = nm.Procrustes(alpha)
    assert procrustes.distance(x, rotated(x, 0)) == pytest.approx(0, abs=1e-6)
    assert procrustes.distance(rotated(x, 0), y) == pytest.approx(procrustes.distance(x, y), abs=1e-9)
    assert procrustes.distance(np.hstack([x, np.zeros((60, 4))]), y) == pytest.approx(procrustes.distance(x, y))
    assert procrustes.score(x, rotated(x, 0)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("widths", [(5, 5), (3, 7), (7, 3)])
def test_alpha_1_is_the_procrustes_analysis_of_scipy(widths):
    x, y = data(2, widths=widths)
    most = max(widths)
    padded = [np.pad(side, ((0, 0), (0, most - side.shape[1]))) for side in (x, y)]
    disparity = scipy.spatial.procrustes(*padded)[2]
    assert np.sin(nm.Procrustes().distance(x, y)) ** 2 == pytest.approx(disparity, abs=1e-10)


def test_the_rotation_is_that_of_scipy():
    x, y = data(3)
    fitted = nm.Procrustes().fit(x, y)
    expected = scipy.linalg.orthogonal_procrustes(x - x.mean(0), y - y.mean(0))[0]
    np.testing.assert_allclose(fitted.rotation_, expected, atol=1e-10)


@pytest.mark.parametrize("widths", [(5, 5), (4, 6)])
def test_alpha_0_is_canonical_correlation_analysis(widths):
    x, y = data(4, widths=widths)
    correlations = nm.CCA(min(widths)).fit(x, y).correlations_
    cosine = correlations.sum() / np.sqrt(np.prod(widths))
    assert np.cos(nm.Procrustes(0.0).distance(x, y)) == pytest.approx(cosine, abs=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_equals_partial_whitening_written_out(alpha):
    """Z = alpha X + (1 - alpha) X (X'X)^(-1/2), rotations found by a sum of singular values."""
    x, y = data(5, widths=(4, 6))
    stretched = []
    for side in (x, y):
        side = side - side.mean(0)
        side = side / np.sqrt(np.linalg.eigvalsh(side.T @ side).mean())
        side = alpha * side + (1 - alpha) * side @ scipy.linalg.fractional_matrix_power(side.T @ side, -0.5).real
        stretched.append(side / np.linalg.norm(side))
    cosine = np.linalg.svd(stretched[0].T @ stretched[1], compute_uv=False).sum()
    assert np.cos(nm.Procrustes(alpha).distance(x, y)) == pytest.approx(cosine, abs=1e-10)
    one, other = nm.Procrustes(alpha).fit(x, y).transform(x, y)
    assert (one * other).sum() == pytest.approx(cosine, abs=1e-10)
    np.testing.assert_allclose(other, stretched[1], atol=1e-10)


def test_no_rotation_on_a_grid_is_better():
    random = np.random.default_rng(6)
    x = random.standard_normal((30, 2)) * [3, 1]
    y = x @ np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]]) + 0.3 * random.standard_normal((30, 2))
    a, b = (side - side.mean(0) for side in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    best = -1.0
    for angle in np.linspace(0, 2 * np.pi, 2000):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        best = max(best, (a @ turn * b).sum(), (a @ turn @ np.diag([1, -1]) * b).sum())
    assert nm.Procrustes().score_in_sample(x, y) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_unrelated_data_are_alike_in_sample_and_not_held_out(alpha):
    held_out, in_sample = [], []
    for seed in range(30):
        x, y = data(seed, 50, (30, 30), shared=0.0)
        held_out.append(nm.Procrustes(alpha).score(x, y))
        in_sample.append(nm.Procrustes(alpha).score_in_sample(x, y))
    assert abs(np.mean(held_out)) < 3 * np.std(held_out) / np.sqrt(30)
    assert np.mean(in_sample) > 0.5


def test_shared_structure_is_seen_held_out():
    for seed in range(3):
        x, y = data(seed, 200, (20, 30), shared=2.0)
        assert nm.Procrustes().score(x, y) > 0.6
        assert nm.Procrustes().score(x, np.random.default_rng(seed).permutation(y)) < 0.2


def test_what_the_training_data_do_not_span_counts_against_held_out_scores():
    random = np.random.default_rng(0)
    x = random.standard_normal((40, 100))  # more features than samples
    scores = [nm.Procrustes(alpha).score(x, rotated(x, 1)) for alpha in (1.0, 0.9)]
    assert 0 < scores[0] < 0.6  # a rotation of 100 dimensions is not known from 32 samples
    assert scores[1] == pytest.approx(scores[0], abs=0.1)


def test_any_kind_of_array_joined_by_label():
    x, y = data(7)
    one, other = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    kept = one.clone()
    turned, straight = nm.Procrustes(0.5).fit(one, other).transform(one, other)
    assert turned.dtype == torch.float32
    assert straight.dtype == torch.float64
    assert torch.equal(one, kept)
    names = {"stimulus": [f"s{number}" for number in range(60)]}
    labelled = xr.DataArray(x, dims=("stimulus", "unit"), coords=names)
    shuffled = xr.DataArray(y, dims=("stimulus", "unit"), coords=names)[::-1]
    assert nm.Procrustes().score(labelled, shuffled) == nm.Procrustes().score(x, y)


X, Y = data(8, 20)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nm.Procrustes(-0.1).fit(X, Y), "alpha is out of range"),
        (lambda: nm.Procrustes(1.1).fit(X, Y), "alpha is out of range"),
        (lambda: nm.Procrustes(np.nan).fit(X, Y), "alpha is out of range"),
        (lambda: nm.Procrustes().fit(X[:1], Y[:1]), "too few samples"),
        (lambda: nm.Procrustes().fit(X, np.ones_like(Y)), "no feature of Y varies"),
        (lambda: nm.Procrustes().fit(X, Y[:5]), "different numbers of samples"),
        (lambda: nm.Procrustes().distance(np.where(X > 2, np.nan, X), Y), "not finite"),
        (lambda: nm.Procrustes().score(X, Y, cv=21), "cannot be dealt to 21 folds"),
        (lambda: nm.Procrustes().transform(X), "not fitted"),
        (lambda: nm.Procrustes().fit(X, Y).transform(X[:, :2]), "another number of features"),
    ],
)
def test_bad_input_is_refused_with_advice(call, message):
    with pytest.raises(nm.errors.InputError, match=message):
        call()
