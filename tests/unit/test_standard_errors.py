"""Jackknife errors and t intervals against formulas, SciPy and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach


def without_each(values: np.ndarray, statistic) -> np.ndarray:
    return np.array([statistic(np.delete(values, left_out, axis=0)) for left_out in range(len(values))])


def test_of_a_mean_the_jackknife_is_the_usual_error():
    values = np.random.default_rng(0).normal(size=(20, 3))
    found = jackknife_error(without_each(values, lambda rest: rest.mean(0)))
    np.testing.assert_allclose(found, scipy.stats.sem(values))


def test_groups_may_lie_along_any_axis_and_what_is_not_finite_has_no_error():
    without = np.random.default_rng(1).normal(size=(6, 4))
    np.testing.assert_allclose(jackknife_error(without.T, axis=1), jackknife_error(without))
    without[2, 1] = np.nan
    without[0, 3] = -np.inf
    assert np.isnan(jackknife_error(without)).tolist() == [False, True, False, True]


def test_of_a_ratio_intervals_hold_the_truth_as_often_as_they_say():
    held = []
    for seed in range(400):
        above, below = np.random.default_rng(seed).normal((2.0, 4.0), 0.5, size=(12, 2)).T
        groups = np.stack([above, below], axis=1)
        error = jackknife_error(without_each(groups, lambda rest: rest[:, 0].mean() / rest[:, 1].mean()))
        held.append(abs(above.mean() / below.mean() - 0.5) <= t_reach(error, 11, 0.9))
    assert abs(np.mean(held) - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 400)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_reach_is_that_of_scipy(level):
    for degrees in (1, 7.5, np.inf):
        low, high = scipy.stats.t.interval(level, degrees) if np.isfinite(degrees) else scipy.stats.norm.interval(level)
        assert t_reach(2.0, degrees, level) == pytest.approx(high - low)
    assert t_reach(np.ones(2), np.array([1, 9]), level)[0] > t_reach(np.ones(2), np.array([1, 9]), level)[1]
    assert isinstance(t_reach(torch.ones(3), 4, level), torch.Tensor)
