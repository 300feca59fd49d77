"""Bootstrap intervals, sign-flip tests and corrections against theory and independent implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import check_option
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci, interval_warning
from neuros_mechint.core.statistics.certainty import control_p, with_statistics
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, adjust_p, p_of_draws
from neuros_mechint.core.statistics.permutation import permutation_test
from neuros_mechint.core.statistics.sign_flips import sign_flip_p


def test_intervals_cover_the_mean_as_often_as_they_say():
    random = np.random.default_rng(0)
    samples = random.exponential(size=(400, 60))
    low, high = bootstrap_ci(samples, level=0.9, n_resamples=600, seed=1)
    covered = ((low <= 1) & (high >= 1)).mean()
    assert 0.82 < covered < 0.94  # percentile intervals of skewed data fall a little short


@pytest.mark.parametrize(("n_samples", "least"), [(4, 0.87), (6, 0.91), (12, 0.93), (40, 0.935)])
def test_intervals_of_few_examples_are_as_wide_as_they_need_to_be(n_samples, least):
    samples = np.random.default_rng(1).normal(size=(4000, n_samples))
    low, high = bootstrap_ci(samples, seed=2)
    assert least < ((low <= 0) & (high >= 0)).mean() < 0.97


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(1).normal(size=30)
    low, high = bootstrap_ci(values, n_resamples=8000)
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


@pytest.mark.parametrize("function", [bootstrap_ci, sign_flip_p])
@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "one example"), (3.0, "one example"), ([1.0, np.nan], "not finite")]
)
def test_too_little_is_refused(function, values, message):
    with pytest.raises(nm.errors.InputError, match=message):
        function(values)


def test_arrays_are_no_options():
    for value in (np.array("fdr"), np.array(["fdr"]), np.array([True]), np.array(["fdr", "holm"]), ["fdr"]):
        with pytest.raises(nm.errors.OptionError, match="unknown method"):
            check_option("method", value, ("fdr", "holm", True))
    check_option("method", np.str_("fdr"), ("fdr", "holm"))


def test_unknown_options_are_refused():
    with pytest.raises(nm.errors.OptionError, match="did you mean 'fdr'"):
        adjust_p([0.1], "fdrr")
    with pytest.raises(nm.errors.OptionError, match="level is out of range"):
        bootstrap_ci([0.0, 1.0], level=95)
    with pytest.raises(nm.errors.OptionError, match="no coverage"):
        bootstrap_ci([0.0, 1.0], level=1)
    with pytest.raises(nm.errors.OptionError, match="n_resamples is out of range"):
        bootstrap_ci([0.0, 1.0], n_resamples=0)


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
    narrow, text = effects(np.ones((20, 5)))[1]
    assert "which is exact" in narrow
    assert "no adjusted p can be below 1" in text
    assert not effects(np.ones((20, 12)))[1]


# --- permutation tests


@pytest.mark.parametrize("n_samples", [4, 6, 9])
def test_one_sample_and_pairs_are_flipped_as_scipy_flips_them(n_samples):
    x, y = np.random.default_rng(10).exponential(size=(2, n_samples))
    other = scipy.stats.permutation_test(
        (x - y,),
        lambda d, axis: np.abs(d.mean(axis)),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
    )
    for test in (permutation_test(x - y), permutation_test(x, y, kind="paired")):
        assert test.p == pytest.approx(other.pvalue, rel=1e-12)
        assert test.statistic == pytest.approx((x - y).mean(), rel=1e-12)
        assert (test.n_permutations, test.exact) == (2**n_samples, True)


def test_two_groups_are_regrouped_as_scipy_regroups_them():
    random = np.random.default_rng(11)
    x, y = random.normal(size=5), random.normal(1, size=7)
    other = scipy.stats.permutation_test(
        (x, y), lambda a, b, axis: np.abs(a.mean(axis) - b.mean(axis)), alternative="greater", vectorized=True
    )
    test = permutation_test(x, y, kind="independent")
    assert test.p == pytest.approx(other.pvalue, rel=1e-12)
    assert (test.n_permutations, test.exact) == (792, True)
    swapped = permutation_test(y, x, kind="independent")
    assert swapped.p == test.p
    assert swapped.statistic == pytest.approx(-test.statistic)


def test_a_correlation_is_tested_over_every_order():
    x, y = np.random.default_rng(12).normal(size=(2, 7))
    other = scipy.stats.pearsonr(x, y, method=scipy.stats.PermutationMethod(n_resamples=np.inf))
    test = permutation_test(x, y, kind="correlation")
    assert test.statistic == pytest.approx(other.statistic, rel=1e-12)
    assert (test.n_permutations, test.exact) == (5040, True)
    # scipy doubles the smaller tail; both tails are counted here
    orders = np.array(list(itertools.permutations(y)))
    drawn = np.array([np.corrcoef(x, order)[0, 1] for order in orders])
    assert test.p == pytest.approx((np.abs(drawn) >= abs(other.statistic) - 1e-12).mean())


@pytest.mark.parametrize("kind", ["paired", "independent", "correlation"])
def test_drawn_arrangements_come_near_the_exact_p_and_follow_the_seed(kind):
    x, y = np.random.default_rng(13).normal(size=(2, 3, 7)) + np.array([[[1.0]], [[0.0]]])
    exact = permutation_test(x, y, kind=kind)
    drawn = permutation_test(x, y, kind=kind, n_resamples=100 if kind == "paired" else 3000)
    assert exact.exact
    assert not drawn.exact
    assert drawn.p.shape == exact.p.shape == (3,)
    np.testing.assert_allclose(drawn.p, exact.p, atol=0.12 if kind == "paired" else 0.03)
    again = permutation_test(x, y, kind=kind, n_resamples=drawn.n_permutations)
    np.testing.assert_array_equal(again.p, drawn.p)


def test_rows_are_tested_as_if_alone():
    x, y = np.random.default_rng(14).normal(size=(2, 4, 6))
    for kind in ("paired", "independent", "correlation"):
        together = permutation_test(x, y, kind=kind).p
        assert together.tolist() == [permutation_test(a, b, kind=kind).p.item() for a, b in zip(x, y, strict=True)]


def test_constants_are_no_evidence():
    assert permutation_test(np.zeros(8)).p == 1
    assert permutation_test(np.full(5, 0.1), np.full(5, 0.1), kind="independent").p == 1
    constant = permutation_test(np.full(6, 0.1), np.arange(6.0), kind="correlation")
    assert np.isnan(constant.p)
    assert np.isnan(constant.statistic)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0, 2.0]), "several ways"),
        (([1.0, 2.0], None, "correlation"), "two sets"),
        (([1.0, 2.0], [1.0, 2.0, 3.0], "paired"), "do not fit"),
        ((np.ones((2, 3)), np.ones((3, 3)), "independent"), "do not fit"),
        (([1.0, 2.0], [1.0, 2.0], "correlation"), "on a line"),
        (([1.0, np.nan],), "not finite"),
        (([1.0],), "one example"),
        (([1.0, 2.0], [1.0, 2.0], "pared"), "did you mean 'paired'"),
        (([1.0, 2.0], None, None, 0), "n_resamples"),
        (([1.0] * 20, None, None, 100, None), "seed"),
    ],
)
def test_bad_input_to_permutation_tests_is_refused(arguments, message):
    with pytest.raises(nm.errors.InputError, match=message):
        permutation_test(*arguments)


def test_what_is_tested_is_that_arrangements_could_be_exchanged():
    """Documented: skewed differences around 0, and groups of unequal spread and size, are not the hypothesis."""
    random = np.random.default_rng(15)
    skewed = random.lognormal(size=(2000, 12)) - np.exp(0.5)
    assert (permutation_test(skewed, n_resamples=500).p <= 0.05).mean() > 0.1
    few, many = 3 * random.normal(size=(2000, 8)), random.normal(size=(2000, 24))
    assert (permutation_test(few, many, kind="independent", n_resamples=500).p <= 0.05).mean() > 0.1


# --- how often a nominal .05 rejects where there is nothing

SUBJECTS = (4, 6, 8, 12, 20)
SYMMETRIC = {
    "normal": lambda random, shape: random.normal(size=shape),
    "uniform": lambda random, shape: random.uniform(-1, 1, size=shape),
    "Laplace": lambda random, shape: random.laplace(size=shape),
    "differences of exponentials": lambda random, shape: (
        random.exponential(size=shape) ** 2 - random.exponential(size=shape) ** 2
    ),
}
SKEWED = {
    "exponential": lambda random, shape: random.exponential(size=shape) - 1,
    "log-normal": lambda random, shape: random.lognormal(size=shape) - np.exp(0.5),
}


def intervals(samples, seed):
    """Share of samples of mean 0 whose 95% interval leaves out 0: plain and expanded bootstrap, t."""
    n_simulations, n_samples = samples.shape
    outside = np.zeros(3)
    parts = np.array_split(samples, max(1, n_simulations // 500))
    for part, one in enumerate(parts):  # other resamples for each, or their error would be shared by all
        random = np.random.default_rng([seed, part])
        counts = random.multinomial(n_samples, np.full(n_samples, 1 / n_samples), size=2000)
        low, high = np.quantile(one @ counts.T / n_samples, [0.025, 0.975], axis=-1)
        outside[0] += ((low > 0) | (high < 0)).sum()
        low, high = bootstrap_ci(one, seed=random)
        outside[1] += ((low > 0) | (high < 0)).sum()
        outside[2] += (scipy.stats.ttest_1samp(one, 0, axis=-1).pvalue < 0.05).sum()
    return outside / n_simulations


@pytest.mark.parametrize("n_subjects", SUBJECTS)
def test_the_warning_tells_the_error_of_few_samples(n_subjects):
    samples = np.random.default_rng(15).normal(size=(4000, n_subjects))
    measured = dict(zip(("percentile", "expanded", "t"), intervals(samples, seed=15), strict=True))
    for method, error in measured.items():
        text = interval_warning(n_subjects, method)
        if error > 0.075:  # 0.065 and two and a half standard errors
            told = float(text.split("about ")[1].split("%")[0]) / 100
            assert told == pytest.approx(error, abs=0.015)
        if error < 0.055:
            assert text is None


def test_the_warning_names_the_exact_test_and_what_it_can_reach():
    text = interval_warning(4, "percentile")
    assert "permutation_test" in text
    assert "at least 0.12" in text  # 2 of 16 patterns of signs
    assert interval_warning(3) is not None
    assert interval_warning(1000) is None
    with pytest.raises(nm.errors.OptionError, match="did you mean 'percentile'"):
        interval_warning(4, "percentil")
    with pytest.raises(nm.errors.InputError, match="one sample"):
        interval_warning(1)


@pytest.mark.slow
@pytest.mark.parametrize("n_subjects", SUBJECTS)
@pytest.mark.parametrize("name", [*SYMMETRIC, *SKEWED])
def test_permutation_tests_keep_their_level(name, n_subjects):
    random = np.random.default_rng([16, n_subjects])
    draw = {**SYMMETRIC, **SKEWED}[name]
    first, second = draw(random, (20_000, n_subjects)), draw(random, (20_000, n_subjects))
    found = {
        kind: (permutation_test(first, second, kind=kind, n_resamples=999, seed=random).p <= 0.05).mean()
        for kind in ("paired", "independent", "correlation")
    }
    if name in SYMMETRIC:
        found["one sample"] = (permutation_test(first, n_resamples=999, seed=random).p <= 0.05).mean()
    assert max(found.values()) <= 0.06
    assert n_subjects < 8 or min(found.values()) >= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SYMMETRIC, *SKEWED])
def test_intervals_reject_as_often_as_the_card_says(name):
    """The curve over subjects, as in neuro/cards/resampling-tests.md."""
    draw = {**SYMMETRIC, **SKEWED}[name]
    curve = np.array([intervals(draw(np.random.default_rng([17, n]), (20_000, n)), seed=17) for n in SUBJECTS])
    percentile, expanded, t = curve.T
    assert (np.diff(percentile) < 0).all()
    assert (percentile >= expanded - 0.005).all()
    if name == "normal":
        np.testing.assert_allclose(percentile, [0.203, 0.142, 0.114, 0.09, 0.076], atol=0.01)
        np.testing.assert_allclose(t, 0.05, atol=0.006)


def test_p_of_draws_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=12)
    test = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=99, alternative="greater", rng=1
    )
    assert p_of_draws(test.statistic, test.null_distribution).item() == pytest.approx(test.pvalue)


def test_p_of_draws_counts_what_differs_by_rounding_alone_and_nothing_else():
    assert p_of_draws(0.1 + 0.2, [0.3, 0.0, 0.0]).item() == 0.5
    assert p_of_draws(-0.3, [-(0.1 + 0.2), -1.0, -1.0]).item() == 0.5
    assert p_of_draws(0.3, [0.3 - 1e-6, 0.0, 0.0]).item() == 0.25
    assert p_of_draws(1e-17, [0.0], size=1.0).item() == 1.0  # a difference of numbers near 1 that are equal
    assert p_of_draws(np.inf, [np.inf, 1.0, 2.0]).item() == 0.5


def test_p_of_draws_of_what_is_undefined():
    assert p_of_draws([1.0, np.nan], [[0.0, 0.0], [np.nan, 0.0], [0.0, 0.0]]).tolist() == pytest.approx(
        [0.5, np.nan], nan_ok=True
    )


@pytest.mark.parametrize("n_draws", [19, 99])
def test_by_chance_one_in_twenty_is_significant_even_with_the_fewest_draws(n_draws):
    found = [
        p_of_draws(observed := random.normal(size=4000), random.normal(size=(n_draws, *observed.shape)))
        for random in map(np.random.default_rng, range(3))
    ]
    shares = np.mean(np.array(found) <= SIGNIFICANT, axis=1)
    assert np.abs(shares - 0.05).max() < 3.3 * np.sqrt(0.05 * 0.95 / 4000)
    assert np.min(found) == pytest.approx(1 / (n_draws + 1))


def test_a_control_that_is_nan_leaves_the_p_of_others_as_it_was():
    found = control_p(np.array([3.0, np.nan]), np.array([[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]]))
    assert found.tolist() == pytest.approx([0.25, np.nan], nan_ok=True)
