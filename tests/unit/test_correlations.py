"""Correlations of columns against NumPy, and what is constant but for rounding."""

from __future__ import annotations

import numpy as np
import pytest

from neuros_mechint.core.statistics.correlations import column_correlations, constant_columns


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_columns_correlate_as_numpy_says_at_any_size(size):
    x, y = size * np.random.default_rng(0).normal(size=(2, 30, 4, 2)) + size
    expected = [np.corrcoef(x[:, i, j], y[:, i, j])[0, 1] for i in range(4) for j in range(2)]
    np.testing.assert_allclose(column_correlations(x, y).ravel(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_what_varies_by_rounding_alone_is_constant_and_has_no_correlation(size):
    same = np.full(30, 0.3 * size)
    same[::2] = (0.1 + 0.2) * size
    small = size * (1 + 1e-6 * np.arange(30.0))
    assert constant_columns(np.stack([same, small], axis=1)).tolist() == [True, False]
    other = np.arange(30.0)
    assert np.isnan(column_correlations(same, other))
    assert np.isnan(column_correlations(other, same))
    assert column_correlations(small, other) == pytest.approx(1.0, abs=1e-6)
