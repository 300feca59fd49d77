"""Power laws against exact likelihoods and powerlaw; values drawn from known laws, and values that have none."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.optimize import minimize, minimize_scalar
from scipy.special import zeta
from scipy.stats import chisquare, kstest, zipf

import neuros_mechint as nm
from neuros_mechint.neuro.criticality.alternatives import compare
from neuros_mechint.neuro.criticality.power_law import judge
from neuros_mechint.neuro.criticality.tails import TailFit, draw, exponents, fit_tail, log_likelihoods, standard_error
from tests.slow import slow_case


def zeta_mle(values, xmin):
    """Exponent of the highest likelihood by brute force: sum over whole numbers, no derivative."""
    tail = values[values >= xmin]

    def cost(exponent):
        return tail.size * np.log(zeta(exponent, xmin)) + exponent * np.log(tail).sum()

    return minimize_scalar(cost, bounds=(1.01, 30), method="bounded", options={"xatol": 1e-10}).x


def avalanches(ratio=1.0, n=4000, seed=0):
    return nm.detect_avalanches(nm.branching_avalanches(ratio, n, seed))


@pytest.mark.parametrize("xmin", [1, 2, 7, 30])
@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.5])
def test_exponents_are_those_of_the_highest_likelihood(exponent, xmin):
    values = draw(exponent, xmin, 3000, True, np.random.default_rng(1))
    found = fit_tail(values, True, xmin)
    assert found.exponent == pytest.approx(zeta_mle(values, xmin), abs=2e-6)
    assert abs(found.exponent - exponent) < 4 * standard_error(found, True)
    steep = np.random.default_rng(2).geometric(0.5, 3000).astype(float)  # far beyond the exponents of power laws
    assert fit_tail(steep, True, 5).exponent == pytest.approx(zeta_mle(steep, 5), abs=2e-6)


def test_exponents_are_those_of_powerlaw():
    import powerlaw

    sizes = avalanches().sizes.astype(float)
    for xmin in (1, 3, 12):
        tail = sizes[sizes >= xmin]
        reference = powerlaw.Power_Law(data=tail, xmin=xmin, discrete=True, estimate_discrete=False, verbose=0)
        assert fit_tail(sizes, True, xmin).exponent == pytest.approx(reference.alpha, abs=2e-4)
    continuous = draw(2.4, 0.3, 2000, False, np.random.default_rng(0))
    reference = powerlaw.Power_Law(data=continuous, xmin=0.3, discrete=False, verbose=0)
    assert fit_tail(continuous, False, 0.3).exponent == pytest.approx(reference.alpha, abs=1e-9)


def test_distance_and_start_of_the_tail_by_brute_force():
    values = np.random.default_rng(5).zipf(2.2, 400)
    values = values[values < 500].astype(float)
    distances = {}
    for xmin in np.unique(values):
        tail = values[values >= xmin]
        if tail.size < 50:
            break
        exponent = zeta_mle(values, xmin)
        whole = np.arange(xmin, values.max() + 2)
        expected = 1 - zeta(exponent, whole + 1) / zeta(exponent, xmin)
        observed = (tail[None] <= whole[:, None]).mean(1)
        distances[xmin] = np.abs(expected - observed).max()
    found = fit_tail(values, True)
    assert found.xmin == min(distances, key=distances.get)
    assert found.distance == pytest.approx(min(distances.values()), abs=1e-6)
    # continuous: the distance of Kolmogorov and Smirnov
    continuous = draw(2.4, 0.3, 300, False, np.random.default_rng(0))
    found = fit_tail(continuous, False, 0.3)
    expected = kstest(continuous, lambda x: 1 - (x / 0.3) ** (1 - found.exponent)).statistic
    assert found.distance == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("exponent", "xmin"), [(1.5, 1), (2.5, 1), (2.0, 6)])
def test_values_are_drawn_from_the_law(exponent, xmin):
    drawn = draw(exponent, xmin, 50_000, True, np.random.default_rng(4))
    edges = xmin + np.array([0, 1, 2, 3, 5, 10, 30, 100, 1000, 1999, 2001, 3000])
    expected = -np.diff(np.append(zeta(exponent, edges), 0)) / zeta(exponent, xmin)
    observed = np.histogram(drawn, np.append(edges, np.inf))[0]
    kept = expected * drawn.size > 5
    assert (
        chisquare(
            np.append(observed[kept], observed[~kept].sum() + 1e-9),
            drawn.size * np.append(expected[kept], expected[~kept].sum() + 1e-9 / drawn.size),
            sum_check=False,
        ).pvalue
        > 0.001
    )
    likelihood = np.exp(log_likelihoods(np.arange(xmin, xmin + 5.0), exponent, xmin, True))
    np.testing.assert_allclose(
        likelihood, zipf.pmf(np.arange(xmin, xmin + 5), exponent) * zeta(exponent) / zeta(exponent, xmin)
    )
    assert exponents(np.array([np.log(drawn).mean()]), np.array([float(xmin)]), True) == pytest.approx(
        exponent, abs=0.03
    )


@pytest.mark.parametrize("seeds", [range(3), slow_case(range(3, 9))])
def test_critical_branching_has_sizes_of_three_halves_and_durations_of_two(seeds):
    found = []
    for seed in seeds:
        one = avalanches(n=6000, seed=seed)
        found.append([fit_tail(values.astype(float), True).exponent for values in (one.sizes, one.durations)])
    sizes, durations = np.mean(found, axis=0)
    assert sizes == pytest.approx(1.5, abs=0.02)
    assert np.abs(np.array(found)[:, 0] - 1.5).max() < 0.05
    # of durations, the approach to the power law is slow: P(T > t) = 2 / (t + log(t) / 3 + ...)
    assert durations == pytest.approx(2.0, abs=0.1)
    assert np.std(found, axis=0)[1] < 0.1


def test_critical_avalanches_are_power_laws():
    one = avalanches(seed=0)
    for name, exponent in (("size", 1.5), ("duration", 2.0)):
        found = nm.fit_power_law(one.data[name], n_resamples=60)
        assert found.verdict == "power law"
        assert found.is_power_law
        assert found.exponent == pytest.approx(exponent, abs=0.1)
        assert found.data["low"].item() < exponent < found.data["high"].item()
        assert found.data["p_fit"].item() > 0.1
        against = found.data.sel(alternative="exponential")
        assert against["log_likelihood_ratio"].item() > 100
        assert against["p"].item() < 0.05
        assert f"Power law of {name}" == found.title


@pytest.mark.parametrize("seed", [0, 1])
def test_what_an_exponential_fits_as_well_is_no_power_law(seed):
    random = np.random.default_rng(seed)
    noise = nm.detect_avalanches(random.poisson(0.7, 20_000))
    candidates = {
        "exponential": random.geometric(0.2, 3000),
        "continuous exponential": random.exponential(3.0, 3000),
        "sizes of noise": noise.sizes,
        "durations of noise": noise.durations,
        "subcritical": avalanches(0.5, 10_000, seed).sizes,
    }
    for name, values in candidates.items():
        found = nm.fit_power_law(values, n_resamples=10)
        assert found.verdict == "no power law", name
        assert "an exponential fits" in found.attributes["why"], name


def test_a_cut_off_is_noticed():
    # the sizes of a subcritical process: power law with exponent 3/2, cut off exponentially
    found = nm.fit_power_law(avalanches(0.8, 6000, 1).sizes, xmin=1, n_resamples=20)
    assert found.verdict == "power law with a cut-off"
    assert found.data.sel(alternative="truncated_power_law")["p"].item() < 1e-6


def test_log_normal_values_are_no_power_law():
    values = np.random.default_rng(0).lognormal(1.0, 1.0, 3000)
    found = nm.fit_power_law(values, xmin=1.0, n_resamples=20)
    assert not found.is_power_law
    assert found.data.sel(alternative="lognormal")["log_likelihood_ratio"].item() < -10
    assert found.attributes["discrete"] is False


def test_verdicts():
    far, even, worse = (compare_as(ratio, p) for ratio, p in ((90, 1e-9), (0.1, 0.9), (-9, 1e-4)))
    everything = {"exponential": far, "lognormal": even, "truncated_power_law": even}
    assert judge(0.5, everything) == (
        "power law",
        "it fits, and an exponential is ruled out; a log-normal cannot be told apart",
    )
    assert judge(0.05, everything)[0] == "near a power law"
    assert judge(0.5, everything | {"exponential": even}) == ("no power law", "an exponential fits about as well")
    assert judge(0.5, everything | {"exponential": worse}) == ("no power law", "an exponential fits better")
    assert judge(0.5, everything | {"lognormal": worse}) == ("no power law", "a log-normal fits better")
    assert judge(0.5, everything | {"truncated_power_law": worse})[0] == "power law with a cut-off"


def compare_as(ratio, p):
    from neuros_mechint.neuro.criticality.alternatives import Comparison

    return Comparison(ratio, p)


def test_likelihoods_of_alternatives():
    import powerlaw

    values = np.random.default_rng(3).geometric(0.1, 2000).astype(float)
    fit = fit_tail(values, True, 4)
    found = compare(values, fit, True)
    tail = values[values >= 4]
    reference = powerlaw.Exponential(data=tail, xmin=4, discrete=True, verbose=0).loglikelihoods(tail).sum()
    own = log_likelihoods(tail, fit.exponent, 4, True).sum()
    assert found["exponential"].ratio == pytest.approx(own - reference, abs=0.01)
    for one in found.values():
        assert one.ratio < -50
        assert one.p < 1e-6
    # a power law is a special case of one with a cut-off, which therefore never fits worse
    heavy = draw(2.0, 1.0, 2000, True, np.random.default_rng(0))
    found = compare(heavy, fit_tail(heavy, True, 1), True)
    assert -3 < found["truncated_power_law"].ratio <= 0
    assert found["truncated_power_law"].p > 0.01
    # the longest values do not run out of numbers: powerlaw's own exponential does, and gains from it
    tail = np.sort(heavy)
    rate = np.log1p(1 / (tail.mean() - 1))
    exact = (np.log1p(-np.exp(-rate)) - rate * (tail - 1)).sum()
    expected = log_likelihoods(tail, fit_tail(heavy, True, 1).exponent, 1, True).sum() - exact
    assert found["exponential"].ratio == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("discrete", [True, False])
def test_the_best_cut_off_is_found(discrete):
    """Against a search over sums and integrals by brute force."""
    random = np.random.default_rng(0)
    values = draw(1.5, 2.0, 4000, discrete, random)
    values = values[random.random(values.size) < np.exp(-0.02 * (values - 2))]
    fit = fit_tail(values, discrete, 2)
    grid = np.arange(2, 3000.0) if discrete else 2 * np.exp(np.linspace(0, 8, 40_001))

    def cost(parameters):
        exponent, rate = parameters
        heights = grid**-exponent * np.exp(-rate * (grid - 2))
        norm = heights.sum() if discrete else np.trapezoid(heights, grid)
        return values.size * np.log(norm) + exponent * np.log(values).sum() + rate * (values - 2).sum()

    best = minimize(cost, [1.5, 0.02], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-6})
    assert best.x == pytest.approx([1.5, 0.02], abs=0.1)
    expected = log_likelihoods(values, fit.exponent, 2, discrete).sum() + best.fun
    found = compare(values, fit, discrete)["truncated_power_law"]
    assert found.ratio == pytest.approx(expected, abs=0.01)
    assert found.ratio < -50


def test_scale_of_continuous_values_does_not_matter():
    values = draw(2.4, 0.3, 1000, False, np.random.default_rng(1))
    first, again = (nm.fit_power_law(scale * values, n_resamples=10) for scale in (1.0, 250.0))
    assert again.exponent == pytest.approx(first.exponent, abs=1e-9)
    assert again.data["xmin"].item() == pytest.approx(250 * first.data["xmin"].item())
    # powerlaw's searches begin elsewhere, and end within their tolerance
    np.testing.assert_allclose(again.data["log_likelihood_ratio"], first.data["log_likelihood_ratio"], atol=1e-3)


def test_powerlaw_neither_prints_nor_warns(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nm.fit_power_law(avalanches(n=500).sizes, n_resamples=10)
    assert capsys.readouterr() == ("", "")


def test_without_powerlaw_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    with pytest.raises(nm.errors.MissingDependencyError, match=r"neuros-mechint\[criticality\]"):
        nm.fit_power_law(np.arange(1, 500))


def test_seed_kinds_of_input_saving_and_figure(tmp_path):
    sizes = avalanches(n=500).sizes
    found = nm.fit_power_law(sizes, n_resamples=20, seed=3)
    again = nm.fit_power_law(torch.tensor(sizes), n_resamples=20, seed=3)
    assert again.data.identical(found.data)
    assert nm.load_result(found.save(tmp_path / "law.nc")) == found
    assert found.verdict in found.summary()
    axes = found.plot(Figure().subplots())
    drawn = axes.lines[1]
    assert drawn.get_xdata()[0] == found.data["xmin"].item()
    assert drawn.get_ydata()[0] == pytest.approx(found.data["n_tail"].item() / sizes.size)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.arange(100), {}, "positive numbers"),
        (-np.ones(100), {}, "positive numbers"),
        (np.r_[np.arange(1, 100.0), np.nan], {}, "positive numbers"),
        (np.r_[np.arange(1, 100.0), np.inf], {}, "positive numbers"),
        (np.arange(1, 40), {}, "too few values"),
        (np.ones(100), {}, "too few values"),
        (np.r_[np.ones(90), np.full(90, 2)], {}, "too few values"),
        ([], {}, "no values to fit|too few"),
        (np.ones((5, 5)), {}, "no values to fit"),
        (["a"], {}, "no values to fit"),
        (np.arange(1, 100), {"xmin": 80}, r"got:      20 values"),
        (np.arange(1, 100), {"xmin": 1000}, r"got:      0 values"),
        (np.arange(1, 100), {"xmin": 0}, "xmin is out of range"),
        (np.arange(1, 100) + 0.5, {"discrete": True}, "whole numbers"),
        (np.arange(1, 100), {"n_resamples": 1}, "n_resamples is out of range"),
    ],
)
def test_values_without_a_tail_are_refused(values, options, message):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.fit_power_law(values, **options)


def test_avalanches_themselves_are_refused_with_advice():
    with pytest.raises(nm.errors.InputError, match=r"pass \.data\['size'\]"):
        nm.fit_power_law(avalanches(n=100))


@pytest.mark.slow
@pytest.mark.parametrize(("exponent", "n_values"), [(1.5, 2000), (2.0, 2000), (2.5, 500)])
def test_intervals_cover_the_exponent(exponent, n_values):
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        values = draw(exponent, 1.0, n_values, True, random)
        again = [fit_tail(random.choice(values, n_values), True).exponent for _ in range(100)]
        low, high = np.quantile(again, [0.025, 0.975])
        covered += low <= exponent <= high
    assert covered >= 90


@pytest.mark.slow
def test_goodness_of_fit_accepts_true_power_laws_and_nothing_is_found_in_noise():
    accepted, mistaken = 0, 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        accepted += nm.fit_power_law(draw(2.0, 1.0, 500, True, random), n_resamples=50).data["p_fit"].item() >= 0.1
        mistaken += nm.fit_power_law(random.geometric(0.2, 1000), n_resamples=10).verdict != "no power law"
    assert accepted >= 30  # 36 are expected
    assert mistaken <= 2


def test_the_result_of_a_fit_knows_a_known_start():
    values = draw(2.0, 1.0, 1000, True, np.random.default_rng(0))
    found = nm.fit_power_law(values, xmin=1, n_resamples=60)
    assert found.attributes["xmin_rule"] == "given"
    assert found.data["n_tail"].item() == 1000
    spread = (found.data["high"] - found.data["low"]).item() / (2 * 1.96)
    assert spread == pytest.approx(found.data["standard_error"].item(), rel=0.35)
    assert standard_error(TailFit(2.0, 1.0, 1000, 0.0), True) == pytest.approx(
        found.data["standard_error"].item(), rel=0.15
    )
