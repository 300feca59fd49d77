"""Mutual information: seven estimators against closed forms, the coverage of their intervals, and where they fail."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.information.dependence.mutual_information import mutual_information
from neuros_mechint.neuro.information.estimators.nearest import kraskov, ross
from neuros_mechint.neuro.information.estimators.neural import donsker_varadhan
from neuros_mechint.neuro.information.variables import continuous
from tests.slow import slow_case


def normal(rho, n_features=1, n_samples=3000, seed=0):
    random = np.random.default_rng(seed)
    x, noise = random.normal(size=(2, n_samples, n_features))
    return x, rho * x + (1 - rho**2) ** 0.5 * noise


def truth(rho, n_features=1):
    return -0.5 * n_features * np.log(1 - rho**2)


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return mutual_information(*args, **options)


# -- closed forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ksg", "ksg2", "gaussian"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_one_feature_a_side_is_exact_on_average_and_covered(method, rho):
    found = [mutual_information(*normal(rho, seed=seed), method=method, seed=seed) for seed in range(40)]
    values = np.array([one.value for one in found])
    covered = [one.interval[0] <= truth(rho) <= one.interval[1] for one in found]
    assert values.mean() == pytest.approx(truth(rho), abs=0.01)
    assert np.mean(covered) >= 0.85
    # and intervals are no wider than they have to be
    assert np.mean([one.error for one in found]) < 1.5 * values.std() + 1e-4
    assert not any(one.warnings for one in found)


@pytest.mark.parametrize(("n_samples", "rho"), [(60, 0.0), (60, 0.6), (200, 0.0), (200, 0.6)])
def test_intervals_of_few_samples_cover(n_samples, rho):
    """Parts of so few samples vary less than all of them: without their growth 75 to 85% of the intervals cover."""
    found = [mutual_information(*normal(rho, 1, n_samples, seed), seed=seed) for seed in range(200)]
    covered = np.mean([one.interval[0] <= truth(rho) <= one.interval[1] for one in found])
    assert 0.9 <= covered <= 0.995


def test_few_samples_of_several_features_are_warned_of():
    found = [quiet(*normal(0.6, 3, 200, seed)) for seed in range(10)]
    assert np.mean([one.value for one in found]) < 0.85 * truth(0.6, 3)
    assert all(one.warnings for one in found)
    assert not quiet(*normal(0.0, 3, 200)).warnings  # nothing is lost where there is nothing


@pytest.mark.parametrize("n_features", [5, 20])
@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_correlations_of_many_features_are_exact_on_average(n_features, rho):
    found = [mutual_information(*normal(rho, n_features, seed=seed), method="gaussian") for seed in range(20)]
    assert np.mean([one.value for one in found]) == pytest.approx(truth(rho, n_features), rel=0.03)
    assert np.mean([one.interval[0] < truth(rho, n_features) < one.interval[1] for one in found]) >= 0.75


def test_few_samples_of_many_features_have_no_bias_and_wide_intervals():
    found = [quiet(*normal(0.5, 30, 100, seed), method="gaussian") for seed in range(40)]
    assert np.mean([one.value for one in found]) == pytest.approx(truth(0.5, 30), abs=0.25)
    assert np.mean([one.interval[0] < truth(0.5, 30) < one.interval[1] for one in found]) >= 0.85
    with pytest.warns(UserWarning, match="shrunk"):
        fewer = mutual_information(*normal(0.5, 30, 60), method="gaussian")
    assert fewer.value < truth(0.5, 30)


@pytest.mark.parametrize(("n_features", "warned"), [(2, False), (5, True)])
def test_many_features_are_warned_of_where_neighbours_fail(n_features, warned):
    found = quiet(*normal(0.5, n_features))
    assert bool(found.warnings) is warned
    assert bool(found.value < 0.9 * truth(0.5, n_features)) is warned


def test_a_value_near_the_most_that_samples_can_show_is_warned_of():
    x = np.random.default_rng(0).normal(size=1000)
    with pytest.warns(UserWarning, match="cannot show more"):
        found = mutual_information(x, 2 * x)
    assert found.value > 5


def test_transformed_variables_tell_as_much():
    x, y = normal(0.8)
    plain, bent = mutual_information(x, y), mutual_information(np.exp(x / 2), np.arctan(y))
    assert bent.value == pytest.approx(plain.value, abs=0.05)
    assert mutual_information(1e12 * x + 1e15, -1e-9 * y).value == pytest.approx(plain.value, abs=1e-3)


def test_neighbours_agree_with_scikit_learn():
    x, y = (values[:, 0] for values in continuous([("x", normal(0.6)[0]), ("y", normal(0.6)[1])]))
    other = mutual_info_regression(x[:, None], y, n_neighbors=3, random_state=0)[0]
    assert kraskov(x[:, None], y[:, None], 3) == pytest.approx(other, abs=1e-6)
    codes = (y > 0.3).astype(int) + (y > 1)
    other = mutual_info_classif(x[:, None], codes, n_neighbors=3, random_state=0)[0]
    assert ross(x[:, None], codes, 3) == pytest.approx(other, abs=1e-6)


def test_categories_that_shift_a_normal_variable():
    """Two equally likely means d apart: log 2 less the entropy of the posterior, by quadrature."""
    shift = 2.0
    grid = np.linspace(-8, 10, 20001)
    one, other = (np.exp(-((grid - mean) ** 2) / 2) / np.sqrt(2 * np.pi) for mean in (0.0, shift))
    mixed = (one + other) / 2
    wanted = np.trapezoid((one * np.log(one / mixed) + other * np.log(other / mixed)) / 2, grid)
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        codes = random.integers(2, size=1000)
        found.append(mutual_information(random.normal(size=1000) + shift * codes, codes, method="ross", seed=seed))
    assert np.mean([one.value for one in found]) == pytest.approx(wanted, abs=0.015)
    assert np.mean([one.interval[0] < wanted < one.interval[1] for one in found]) >= 0.75
    words = np.array(["left", "right"])[codes]
    named = mutual_information(random.normal(size=1000) + shift * codes, words, method="ross")
    assert named.attributes["sizes"] == "1 feature and 2 categories"


def test_counts_of_categories_have_their_closed_form():
    """A binary symmetric channel of error .1: log 2 + .1 log .1 + .9 log .9."""
    wanted, found = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9), []
    for seed in range(20):
        random = np.random.default_rng(seed)
        sent = random.integers(2, size=500)
        found.append(mutual_information(sent, sent ^ (random.random(500) < 0.1), method="binned"))
    assert np.mean([one.value for one in found]) == pytest.approx(wanted, abs=0.015)
    assert np.mean([one.interval[0] < wanted < one.interval[1] for one in found]) >= 0.85
    assert not found[0].warnings


def test_bins_lose_what_they_say():
    strong = quiet(*normal(0.9), method="binned")
    assert 0.9 * truth(0.9) < strong.value < truth(0.9)
    assert "tell less than the values themselves" in strong.warnings[-1]
    none = [quiet(*normal(0, seed=seed), method="binned").value for seed in range(10)]
    assert abs(np.mean(none)) < 0.01  # the plug-in would have 0.09
    mixed = quiet(*normal(0.9), method="binned", n_bins=8)
    assert mixed.value < strong.value
    one_sided = quiet(normal(0.9)[0], (normal(0.9)[1][:, 0] > 0).astype(int), method="binned")
    other = quiet((normal(0.9)[1][:, 0] > 0).astype(int), normal(0.9)[0], method="binned")
    assert one_sided.value == pytest.approx(other.value)


# -- trained bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "n_samples", "seed"),
    [("mine", 800, 1), ("infonce", 800, 1), *(slow_case(m, 2000, s) for m in ("mine", "infonce") for s in range(3))],
)
def test_trained_bounds_come_close_from_below_and_show_nothing_where_nothing_is(method, n_samples, seed):
    before = torch.random.get_rng_state()
    found = quiet(*normal(0.9, n_samples=n_samples, seed=seed), method=method, seed=seed, progress=False)
    assert truth(0.9) - 0.2 < found.value < truth(0.9) + 3 * found.error
    nothing = quiet(*normal(0.0, n_samples=n_samples, seed=seed), method=method, seed=seed, progress=False)
    assert nothing.value < 2 * nothing.error + 0.01
    assert "at least" in found.summary()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_infonce_is_capped_by_its_batch_and_says_so():
    with pytest.warns(UserWarning, match="cannot show more than 4.85"):
        found = mutual_information(*normal(0.95, 5), method="infonce", progress=False)  # 5.8 nats
    assert found.value < np.log(128)


def test_the_bound_of_independent_scores_is_none_and_its_gradient_is_right():
    scores = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: donsker_varadhan(s)[0], (scores,))
    assert donsker_varadhan(torch.full((5, 5), 3.0))[0].item() == pytest.approx(0, abs=1e-6)


# -- inputs and results ------------------------------------------------------------------------------------------------


def test_labelled_variables_are_paired_by_label():
    x, y = normal(0.9, n_samples=200)
    stimuli = [f"s{index}" for index in range(200)]
    first = xr.DataArray(x[:, 0], dims="stimulus", coords={"stimulus": stimuli})
    second = xr.DataArray(y[:, 0], dims="stimulus", coords={"stimulus": stimuli})[::-1]
    assert mutual_information(first, second).value == mutual_information(x, y).value
    codes = xr.DataArray((y[:, 0] > 0).astype(int), dims="stimulus", coords={"stimulus": stimuli})[::-1]
    assert mutual_information(first, codes, "ross").value == mutual_information(x, codes.values[::-1], "ross").value


GOOD = np.random.default_rng(3).normal(size=100)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones(100), {}, "constant"),
        (np.where(np.arange(100) == 7, np.nan, GOOD), {}, "not finite"),
        (GOOD[:20], {}, "too few samples|different numbers"),
        (GOOD[:90], {}, "different numbers"),
        (np.array(["a"] * 100), {}, "categories"),
        (["left", "right"] * 50, {}, "categories"),
        ([f"{number}" for number in range(100)], {"method": "binned"}, "too many values for categories"),
        (torch.tensor(GOOD).to_sparse(), {"method": "binned"}, "no array"),
        (GOOD + 1j, {}, "real numbers"),
        (np.ma.masked_greater(GOOD, 1), {}, "gaps|masked"),
        (GOOD, {"method": "kgs"}, "did you mean 'ksg'"),
        (GOOD, {"n_bins": 5}, "has no n_bins"),
        (GOOD, {"method": "gaussian", "n_neighbors": 5}, "has no n_neighbors"),
        (GOOD, {"n_neighbors": 50}, "too large"),
        (GOOD, {"n_neighbors": 0}, "out of range"),
        (GOOD, {"level": 1.0}, "coverage"),
        (GOOD, {"method": "ross"}, "not whole"),
        (GOOD, {"method": "binned", "n_bins": 1}, "out of range"),
        (GOOD, {"method": "binned", "n_bins": 60}, "too large"),
        (GOOD, {"method": "mine"}, "to train on"),
        (GOOD, {"seed": -1}, "negative"),
    ],
)
def test_bad_input_is_refused(x, options, message):
    with pytest.raises((InputError, OptionError), match=message):
        mutual_information(x, GOOD[::-1], **options)


def test_repeated_samples_are_refused_and_ties_warned_of():
    counts = np.random.default_rng(0).poisson(2.0, size=(2, 400))
    with pytest.raises(InputError, match="samples repeat"):
        mutual_information(*counts)
    x, y = normal(0.5, n_samples=400)
    with pytest.warns(UserWarning, match="repeat another one"):
        mutual_information(np.round(x, 1), y)
    with pytest.warns(UserWarning, match="repeat another one"):  # of two decimals
        mutual_information(torch.tensor(x[:, 0]).bfloat16(), y[:, 0] > 0, "ross")
    with pytest.raises(InputError, match="samples repeat"):
        mutual_information(counts[0], counts[1] > 1, "ross")
    with pytest.raises(InputError, match="got:      2 of 1\n"):
        mutual_information(x, np.where(np.arange(400) < 2, 1, 0), "ross")
    with pytest.raises(InputError, match="too many values"):
        mutual_information(x, np.arange(400), "ross")
    with pytest.raises(InputError, match="nothing to sort"):
        mutual_information(counts[0], counts[1], "binned", n_bins=4)


def test_few_samples_of_categories_are_refused_too():
    with pytest.raises(InputError, match="at least 50 samples"):
        mutual_information(np.arange(40) % 2, np.arange(40) % 4 // 2, "binned")


def test_half_precision_holds_categories_too():
    codes = np.random.default_rng(0).integers(3, size=200)
    found = mutual_information(torch.tensor(codes).bfloat16(), codes, "binned")
    assert found.value == mutual_information(codes, codes, "binned").value


def test_a_result_is_told_drawn_and_kept(tmp_path):
    found = mutual_information(*normal(0.5))
    assert "nats" in found.summary()
    assert "the interval lies above 0" in found.summary()
    assert found.bits == pytest.approx(found.value / np.log(2))
    assert found.plot().get_xlabel() == "information (nats)"
    assert nm.load_result(found.save(tmp_path / "information.nc")) == found
    none = mutual_information(*normal(0.0))
    assert "do not show that the variables are dependent" in none.summary()
    assert mutual_information(*normal(0.5)).data.identical(found.data)
