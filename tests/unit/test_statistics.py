"""Bootstrap intervals, sign-flip tests and corrections against theory and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.causal.certainty import with_statistics
from neuros_mechint.core.statistics import adjust_p, bootstrap_interval, sign_flip_p


def test_intervals_cover_the_mean_as_often_as_they_say():
    random = np.random.default_rng(0)
    samples = random.exponential(size=(400, 60))
    low, high = bootstrap_interval(samples, level=0.9, n_resamples=600, seed=1)
    covered = ((low <= 1) & (high >= 1)).mean()
    assert 0.82 < covered < 0.94  # percentile intervals of skewed data fall a little short


@pytest.mark.parametrize(("n_samples", "least"), [(4, 0.87), (6, 0.91), (12, 0.93), (40, 0.935)])
def test_intervals_of_few_examples_are_as_wide_as_they_need_to_be(n_samples, least):
    samples = np.random.default_rng(1).normal(size=(4000, n_samples))
    low, high = bootstrap_interval(samples, seed=2)
    assert least < ((low <= 0) & (high >= 0)).mean() < 0.97


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(1).normal(size=30)
    low, high = bootstrap_interval(values, n_resamples=8000)
    # the percentiles of Hesterberg's expanded interval: those of a t distribution, on the scale of a normal one
    reach = scipy.stats.t.ppf(0.975, 29) * np.sqrt(30 / 29)
    level = 2 * scipy.stats.norm.cdf(reach) - 1
    other = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=8000, method="percentile", rng=np.random.default_rng(2)
    )
    assert low == pytest.approx(other.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(other.confidence_interval.high, abs=0.02)


def test_few_values_are_flipped_in_every_way():
    values = np.array([1.0, 2.0, -0.5, 3.0, 0.25])
    other = scipy.stats.permutation_test(
        (values,),
        lambda x, axis: np.abs(x.mean(axis)),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
    )
    assert sign_flip_p(values) == pytest.approx(other.pvalue)


def test_p_values_are_uniform_where_there_is_nothing_and_small_where_there_is():
    random = np.random.default_rng(3)
    nothing = sign_flip_p(random.normal(size=(500, 25)), n_resamples=500, seed=4)
    assert scipy.stats.kstest(nothing, "uniform").pvalue > 0.01
    something = sign_flip_p(random.normal(1.0, size=(50, 25)), n_resamples=500, seed=4)
    assert np.median(something) < 0.01
    assert something.min() >= 1 / 501  # never zero


def test_rows_of_zeros_are_no_evidence():
    assert sign_flip_p(np.zeros((2, 40))).tolist() == [1, 1]


def test_corrections_agree_with_their_definitions():
    p = np.random.default_rng(5).uniform(size=(4, 5)) ** 3
    np.testing.assert_allclose(adjust_p(p, "fdr").ravel(), scipy.stats.false_discovery_control(p.ravel()))
    order = np.argsort(p.ravel())
    holm = np.minimum(np.maximum.accumulate(p.ravel()[order] * np.arange(20, 0, -1)), 1)
    np.testing.assert_allclose(adjust_p(p, "holm").ravel()[order], holm)
    np.testing.assert_array_equal(adjust_p(p, "none"), p)


def test_holm_keeps_false_positives_rare():
    random = np.random.default_rng(6)
    families = sign_flip_p(random.normal(size=(200, 10, 20)), n_resamples=400, seed=7)
    wrong = np.mean([(adjust_p(family, "holm") < 0.05).any() for family in families])
    assert wrong < 0.09


def test_what_was_not_tested_is_not_counted():
    assert adjust_p([0.01, np.nan, 0.04]).tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


@pytest.mark.parametrize("function", [bootstrap_interval, sign_flip_p])
@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "one example"), (3.0, "one example"), ([1.0, np.nan], "not finite")]
)
def test_too_little_is_refused(function, values, message):
    with pytest.raises(nm.errors.InputError, match=message):
        function(values)


def test_unknown_options_are_refused():
    with pytest.raises(nm.errors.OptionError, match="did you mean 'fdr'"):
        adjust_p([0.1], "fdrr")
    with pytest.raises(nm.errors.OptionError, match="no coverage"):
        bootstrap_interval([0.0, 1.0], level=95)


def effects(values):
    array = xr.DataArray(values, dims=("unit", "sample"))
    return with_statistics(array, np.ones(values.shape[1]), "holm", seed=0)


def test_a_clear_effect_among_many_tests_stays_significant():
    values = np.random.default_rng(8).normal(size=(400, 64))
    values[7] += 2
    found, warnings = effects(values)
    assert np.flatnonzero(found["p_adjusted"].values < 0.05).tolist() == [7]
    assert not warnings


def test_small_p_values_from_more_patterns_keep_false_positives_rare():
    random = np.random.default_rng(9)
    families = [effects(random.normal(size=(100, 16)))[0]["p_adjusted"].values for _ in range(200)]
    assert np.mean([(family < 0.05).any() for family in families]) < 0.09


def test_what_no_effect_could_reach_is_said():
    (text,) = effects(np.ones((20, 5)))[1]
    assert "no adjusted p can be below 1" in text
    assert not effects(np.ones((20, 12)))[1]
