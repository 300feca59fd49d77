"""Conditional mutual information: four estimators against closed forms, and the level and power of its test."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.special import digamma

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.information.dependence.conditional import conditional_mutual_information
from neuros_mechint.neuro.information.dependence.local_permutation import permuted_locally, permuted_within
from neuros_mechint.neuro.information.dependence.mutual_information import mutual_information
from neuros_mechint.neuro.information.estimators.binned import counts_conditional, counts_conditional_of_draws
from neuros_mechint.neuro.information.estimators.gaussian import gaussian_information, gaussian_information_of_draws
from neuros_mechint.neuro.information.estimators.nearest import frenzel_pompe, mesner_shalizi
from neuros_mechint.neuro.information.estimators.rearranged import frenzel_pompe_of_draws
from neuros_mechint.neuro.information.estimators.rectangles import counts_in_rectangles
from neuros_mechint.neuro.information.estimators.sorted_line import SortedLine
from neuros_mechint.neuro.information.variables import continuous
from tests.slow import slow_case


def chain(seed, n_samples=500, shortcut=0.0):
    """x to z to y; with a shortcut x tells of y beyond z: half the logarithm of 1 + shortcut^2 / 2."""
    x, noise, more = np.random.default_rng(seed).normal(size=(3, n_samples))
    z = x + noise
    return x, z + shortcut * x + more, z


def truth(shortcut):
    return 0.5 * np.log(1 + shortcut**2 / 2)


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return conditional_mutual_information(*args, **({"progress": False} | options))


# -- closed forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "n_sets"), [("gaussian", 40), ("ksg", 20), slow_case("ksg", 40)])
@pytest.mark.parametrize("shortcut", [0.0, 1.0])
def test_partial_correlations_have_their_closed_form_and_are_covered(method, n_sets, shortcut):
    found = [
        conditional_mutual_information(*chain(seed, 1000, shortcut), method=method, n_permutations=0, seed=seed)
        for seed in range(n_sets)
    ]
    assert np.mean([one.value for one in found]) == pytest.approx(truth(shortcut), abs=0.01)
    assert np.mean([one.interval[0] <= truth(shortcut) <= one.interval[1] for one in found]) >= 0.85
    assert not any(one.warnings for one in found)


@pytest.mark.parametrize("shortcut", [0.0, 1.0])
def test_intervals_of_few_samples_cover(shortcut):
    """Parts of ten samples vary less than all hundred: without their growth 76% of the intervals cover."""
    found = [quiet(*chain(seed, 100, shortcut), n_permutations=0, seed=seed) for seed in range(100)]
    covered = np.mean([one.interval[0] <= truth(shortcut) <= one.interval[1] for one in found])
    assert 0.88 <= covered <= 0.995


def test_what_a_chain_shares_is_nothing_given_its_middle():
    x, y, z = chain(0, 2000)
    assert mutual_information(x, y).interval[0] > 0.1
    given = conditional_mutual_information(x, y, z, n_permutations=0)
    assert given.interval[0] < 0 < given.interval[1]


def test_many_features_by_their_covariance():
    """Blocks of 2, 1 and 3 features: half the logarithm of determinants of the true covariance."""
    mixing = np.random.default_rng(5).normal(size=(6, 6))
    covariance = mixing @ mixing.T

    def half(part):
        return np.linalg.slogdet(covariance[np.ix_(part, part)])[1] / 2

    wanted = half([0, 1, 3, 4, 5]) + half([2, 3, 4, 5]) - half(range(6)) - half([3, 4, 5])
    found = []
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=(1000, 6)) @ mixing.T
        found.append(quiet(values[:, :2], values[:, 2], values[:, 3:], "gaussian", n_permutations=0))
    assert np.mean([one.value for one in found]) == pytest.approx(wanted, rel=0.02)
    assert found[0].attributes["sizes"] == "2 features and 1 feature given 3 features"


@pytest.mark.parametrize("method", ["binned", "mixed"])
def test_exclusive_or_of_noisy_bits(method):
    """y = x xor z, flipped in a tenth of the samples: nothing alone, log 2 less the entropy of the flips given z."""
    wanted = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        x, z = random.integers(2, size=(2, 800))
        y = x ^ z ^ (random.random(800) < 0.1)
        found.append(conditional_mutual_information(x, y, z, method, n_permutations=0, seed=seed))
        assert abs(mutual_information(x, y, "binned").value) < 0.01
    assert np.mean([one.value for one in found]) == pytest.approx(wanted, abs=0.01)
    assert np.mean([one.interval[0] <= wanted <= one.interval[1] for one in found]) >= 0.8


def test_a_number_and_categories_mixed():
    """Where z is "on" y tells the sign of x, where it is "off" it tells nothing: half of log 2."""
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        x, on, coin = random.normal(size=800), random.random(800) < 0.5, random.random(800) < 0.5
        y = np.where(np.where(on, x > 0, coin), "yes", "no")
        found.append(conditional_mutual_information(x, y, np.where(on, "on", "off"), "mixed", n_permutations=0))
    assert np.mean([one.value for one in found]) == pytest.approx(0.5 * np.log(2), abs=0.015)


def test_poisson_counts_that_a_common_rate_makes_alike():
    """Counts with ties, given the rate: 0; without it they are dependent."""
    values = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        rate = random.integers(1, 4, size=600)
        values.append(quiet(random.poisson(rate), random.poisson(rate), rate, "mixed", n_permutations=0).value)
    assert abs(np.mean(values)) < 0.01


def test_neighbours_are_those_of_all_pairs():
    """Written out: every distance, every count."""
    x, y, z = continuous([("x", chain(1, 150)[0]), ("y", chain(1, 150)[1]), ("z", chain(1, 150)[2])])
    apart = [np.abs(part - part.T) for part in (x, y, z)]
    reach = np.sort(np.max(apart, axis=0), axis=1)[:, 4]
    given, with_x, with_y = (
        (np.max(parts, axis=0) < reach[:, None]).sum(1) for parts in (apart[2:], apart[::2], apart[1:])
    )
    wanted = digamma(4) + np.mean(digamma(given) - digamma(with_x) - digamma(with_y))
    assert frenzel_pompe(x, y, z, 4) == pytest.approx(wanted, abs=1e-12)
    assert mesner_shalizi(x, y, z, 4) == pytest.approx(wanted, abs=1e-12)  # nothing is tied


# -- the test ----------------------------------------------------------------------------------------------------------


def share_rejected(method, shortcut, n_sets, n_samples=300):
    found = [
        quiet(*chain(seed, n_samples, shortcut), method=method, n_permutations=99, seed=seed) for seed in range(n_sets)
    ]
    return np.mean([one.p <= 0.05 for one in found])


@pytest.mark.parametrize(("method", "n_sets"), [("gaussian", 60), slow_case("gaussian", 200), slow_case("ksg", 100)])
def test_local_permutations_have_their_level_and_power(method, n_sets):
    assert share_rejected(method, 0.0, n_sets) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_sets)
    assert share_rejected(method, 1.0, 10) >= 0.9


def test_neighbours_find_what_correlations_cannot():
    rejected = []
    for seed in range(3):
        x, noise, z = np.random.default_rng(seed).normal(size=(3, 300))
        y = z + np.abs(x) + 0.3 * noise
        rejected.append([quiet(x, y, z, method, n_permutations=49).p <= 0.05 for method in ("ksg", "gaussian")])
    assert np.sum(rejected, axis=0)[0] == 3
    assert np.sum(rejected, axis=0)[1] <= 1


def test_categories_are_rearranged_within_those_of_z():
    p = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        z = random.integers(3, size=200)
        x, y = (np.where(random.random(200) < 0.6, z, random.integers(3, size=200)) for _ in range(2))
        p.append(quiet(x, y, z, "binned", n_permutations=99, seed=seed).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.11
    assert 0.4 < np.mean(p) < 0.6
    assert quiet(x, (x + z) % 3, z, "binned", n_permutations=99).p == 0.01


def test_rearrangements_keep_what_x_has_to_do_with_z():
    z = np.random.default_rng(0).normal(size=(400, 1))
    draws = permuted_locally(z, 20, np.random.default_rng(1))
    assert np.abs(z[draws, 0] - z[:, 0]).max(0).mean() < 0.1
    assert (draws != np.arange(400)).mean() > 0.7
    repeated = [400 - len(np.unique(draw)) for draw in draws]
    assert max(repeated) < 0.2 * 400
    codes = np.random.default_rng(2).integers(4, size=400)
    within = permuted_within(codes, 20, np.random.default_rng(1))
    assert (codes[within] == codes).all()
    assert all(len(np.unique(draw)) == 400 for draw in within)


# -- many rearrangements at once equal one at a time -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_x", "n_z", "n_samples", "kind"),
    [
        (1, 1, 300, "normal"),
        (1, 1, 60, "normal"),
        (1, 1, 300, "cauchy"),
        (1, 1, 300, "rounded"),
        (2, 1, 200, "normal"),
        (1, 2, 200, "normal"),
        (3, 2, 200, "cauchy"),
    ],
)
def test_neighbours_of_many_rearrangements(n_x, n_z, n_samples, kind):
    random = np.random.default_rng(0)
    z = random.normal(size=(n_samples, n_z)) if kind != "cauchy" else random.standard_cauchy((n_samples, n_z))
    x, y = z[:, :1] + random.normal(size=(n_samples, n_x)), z[:, :1] + random.normal(size=(n_samples, 1))
    if kind == "rounded":
        x, z = np.round(x, 1), np.round(z, 1)
    draws = np.concatenate(
        [
            permuted_locally(z, 4, random),
            [random.permutation(n_samples) for _ in range(4)],
            [np.arange(n_samples)],
            random.integers(n_samples, size=(4, n_samples)),
        ]
    )
    wanted = [frenzel_pompe(x[draw], y, z, 4) for draw in draws]
    np.testing.assert_allclose(frenzel_pompe_of_draws(x, y, z, 4, draws), wanted, rtol=0, atol=1e-12)


def test_correlations_and_counts_of_many_rearrangements():
    random = np.random.default_rng(0)
    x, y, z = continuous([(name, random.normal(size=(120, n))) for name, n in (("x", 2), ("y", 1), ("z", 3))])
    draws = np.array([random.permutation(120) for _ in range(5)])
    wanted = [gaussian_information(x[draw], y, z).value for draw in draws]
    np.testing.assert_allclose(gaussian_information_of_draws(x, y, z, draws), wanted, atol=1e-12)
    codes = random.integers(4, size=(3, 120))
    wanted = [counts_conditional(codes[0][draw], *codes[1:]).value for draw in draws]
    np.testing.assert_allclose(counts_conditional_of_draws(*codes, draws), wanted, atol=1e-12)


@pytest.mark.parametrize("n_points", [1, 7, 8, 63, 64, 65, 500])
def test_points_in_rectangles_are_counted(n_points):
    random = np.random.default_rng(n_points)
    second = random.permutation(n_points)
    rows, columns = (np.sort(random.integers(n_points + 1, size=(2, 200)), axis=0) for _ in range(2))
    rank = np.arange(n_points)
    inside = (rank >= rows[0][:, None]) & (rank < rows[1][:, None])
    inside &= (second >= columns[0][:, None]) & (second < columns[1][:, None])
    np.testing.assert_array_equal(counts_in_rectangles(second, (*rows,), (*columns,)), inside.sum(1))


@pytest.mark.parametrize("kind", ["normal", "rounded", "cauchy", "constant", "huge"])
def test_places_on_a_line_are_exact(kind):
    random = np.random.default_rng(0)
    values = random.standard_cauchy(300) if kind == "cauchy" else random.normal(size=300)
    values = {"rounded": np.round(values, 1), "constant": np.zeros(300), "huge": 1e200 * values}.get(kind, values)
    line = SortedLine(values)
    asked = np.concatenate([values, values + 1e-3, [-np.inf, np.inf, values.min(), values.max()]])
    np.testing.assert_array_equal(line.below(asked), np.searchsorted(np.sort(values), asked, "left"))
    np.testing.assert_array_equal(line.up_to(asked), np.searchsorted(np.sort(values), asked, "right"))


# -- where it fails, inputs and results --------------------------------------------------------------------------------


def test_known_failures_are_warned_of():
    random = np.random.default_rng(0)
    common, first, second = random.normal(size=(3, 1000))
    given = np.c_[common, random.normal(size=(1000, 3))]
    with pytest.warns(UserWarning, match="5 features|6 features"):
        many = conditional_mutual_information(common + first, common + first + 0.3 * second, given, n_permutations=0)
    assert many.value < 0.8 * 0.5 * np.log(1 + 1 / 0.3**2)
    with pytest.warns(UserWarning, match="leaves open within a bin"):
        binned = conditional_mutual_information(*chain(0, 2000), "binned", n_permutations=0, n_bins=3)
    assert binned.interval[0] > 0  # of which the truth is 0
    with pytest.warns(UserWarning, match="shrunk"):
        conditional_mutual_information(first[:60], second[:60], random.normal(size=(60, 58)), "gaussian", seed=1)


def test_labelled_variables_are_paired_by_label():
    stimuli = [f"s{index}" for index in range(200)]
    x, y, z = (xr.DataArray(part, dims="stimulus", coords={"stimulus": stimuli}) for part in chain(0, 200, 1.0))
    options = {"n_permutations": 0}
    for method in ("ksg", "binned", "mixed"):
        side = (z > 0).astype(int) if method == "binned" else z
        wanted = quiet(x, y, side, method, **options).value
        assert quiet(x, y[::-1], side[::-1], method, **options).value == pytest.approx(wanted)


GOOD = np.random.default_rng(3).normal(size=(3, 100))


@pytest.mark.parametrize(
    ("replaced", "options", "message"),
    [
        (np.ones(100), {}, "constant"),
        (np.where(np.arange(100) == 7, np.nan, GOOD[0]), {}, "not finite"),
        (GOOD[0][:20], {}, "different numbers"),
        (np.array(["a", "b"] * 50), {}, "categories"),
        (np.ma.masked_greater(GOOD[0], 1), {}, "gaps|mask"),
        (np.round(GOOD[0]) * 0 + (GOOD[0] > 0), {"method": "mixed", "n_neighbors": 60}, "too large"),
        (GOOD[0], {"method": "kgs"}, "did you mean 'ksg'"),
        (GOOD[0], {"n_bins": 5}, "has no n_bins"),
        (GOOD[0], {"method": "gaussian", "n_neighbors": 5}, "has no n_neighbors"),
        (GOOD[0], {"n_permutations": -1}, "out of range"),
        (GOOD[0], {"level": 1.0}, "coverage"),
        (GOOD[0], {"method": "binned", "n_bins": 90}, "too many combinations"),
        (GOOD[0], {"seed": -1}, "negative"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_input_is_refused(replaced, options, message):
    with pytest.raises((InputError, OptionError), match=message):
        conditional_mutual_information(GOOD[1], GOOD[2], replaced, **options)


def test_categories_are_sent_to_methods_that_this_question_has():
    with pytest.raises(InputError, match='pass method="mixed" or "binned"'):
        quiet(["left", "right"] * 50, GOOD[1], GOOD[2])


def test_few_and_repeated_samples_are_refused():
    with pytest.raises(InputError, match="too few samples"):
        conditional_mutual_information(*GOOD[:, :40], n_permutations=0)
    with pytest.raises(InputError, match="too few samples"):
        conditional_mutual_information(*(GOOD[:, :40] > 0), "binned", n_permutations=0)
    counts = np.random.default_rng(0).poisson(1.0, size=(3, 400))
    with pytest.raises(InputError, match="samples repeat"):
        conditional_mutual_information(*counts)
    with pytest.raises(InputError, match="linear functions of others"):
        conditional_mutual_information(GOOD[0], GOOD[1], np.c_[GOOD[2], GOOD[2]], "gaussian")
    with pytest.raises(OptionError, match="nothing to sort"):
        conditional_mutual_information(*counts, "binned", n_bins=3)


def test_a_result_is_told_drawn_and_kept(tmp_path):
    found = quiet(*chain(0, 300, 1.5), n_permutations=49)
    assert "x and y are dependent given z (p = 0.02" in found.summary()
    assert found.plot().get_xlabel() == "conditional mutual information (nats)"
    assert nm.load_result(found.save(tmp_path / "information.nc")) == found
    assert found.data.identical(quiet(*chain(0, 300, 1.5), n_permutations=49).data)
    untested = quiet(*chain(0, 300), n_permutations=0)
    assert untested.p is None
    assert untested.null is None
    assert "not tested" in untested.summary()
    assert untested.plot().get_xlabel() == "information (nats)"
