"""Power laws that are planted under noise, and noise alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.geometry.tuning.signal_spectrum import signal_spectrum
from tests.slow import slow_case


def planted(exponent, noise, seed, n_stimuli=300, n_units=100, n_repeats=2):
    """Repeats of responses, and the variances along the principal components of what repeats."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(n_units, n_units)))[0]
    signal = random.normal(size=(n_stimuli, n_units)) * np.arange(1, n_units + 1) ** (-exponent / 2) @ axes
    variances = np.linalg.svd(signal - signal.mean(0), compute_uv=False) ** 2 / n_stimuli
    return signal + noise * random.normal(size=(n_repeats, n_stimuli, n_units)), variances


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return signal_spectrum(*arguments, **options)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_planted_exponents_are_those_of_the_clean_responses(exponent):
    errors, covered = [], []
    for seed in range(6):
        given, variances = planted(exponent, 0.03, seed)
        found = signal_spectrum(given, fit_to=60, seed=seed)
        component = np.arange(11, 61)
        clean = -np.polyfit(np.log(component), np.log(variances[10:60]), 1, w=component**-0.5)[0]
        errors.append(found.exponent - clean)
        covered.append(found.interval[0] < clean < found.interval[1])
        assert found.dimension == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=0.02)
    assert np.abs(errors).max() < 0.05
    assert np.mean(errors) == pytest.approx(0, abs=0.02)
    assert sum(covered) >= 4


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 5))])
def test_noise_adds_no_variance(seed):
    given, variances = planted(1.0, 1.0, seed, n_repeats=4)
    found = quiet(given, seed=seed)
    # 4 standard errors of the sum over 100 components and 300 stimuli
    assert found.main.values.sum() == pytest.approx(variances.sum(), abs=1.3)
    # what a principal component analysis of one half would say
    assert float(found.data["total_variance"].sum()) > 5 * variances.sum()
    assert float(found.data["signal_share"]) == pytest.approx(variances.sum() / (variances.sum() + 50), abs=0.02)


def test_noise_larger_than_the_signal_flattens_the_slope_and_is_warned_of():
    given, _ = planted(1.0, 0.3, 0)
    with pytest.warns(UserWarning, match="exponent is too low"):
        noisy = signal_spectrum(given, fit_to=40)
    assert noisy.exponent < signal_spectrum(planted(1.0, 0.03, 0)[0], fit_to=40).exponent - 0.1


def test_noise_alone_has_no_spectrum():
    noise = np.random.default_rng(0).normal(size=(2, 200, 50))
    with pytest.warns(UserWarning, match="no power law was fitted"):
        found = signal_spectrum(noise)
    assert np.isnan(found.exponent)
    assert found.n_significant <= 1
    assert abs(float(found.data["signal_share"])) < 0.05


def test_one_shared_axis_is_one_component():
    random = np.random.default_rng(0)
    signal = 3 * random.normal(size=(100, 1)) * np.eye(20)[:1]
    found = quiet(signal + random.normal(size=(4, 100, 20)))
    assert found.n_significant in (1, 2)  # one of twenty second components passes by chance
    assert found.main.values[0] == pytest.approx(9, rel=0.4)


def test_more_units_than_stimuli_and_the_seed_repeats():
    given, _ = planted(1.0, 0.05, 0, n_stimuli=40, n_units=100)
    found = quiet(given)
    assert found.data.sizes["component"] == 39
    assert quiet(given).data.identical(found.data)
    assert quiet(1e4 * given).exponent == pytest.approx(found.exponent, nan_ok=True)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (np.zeros((2, 50)), "no repeated responses"),
        (np.zeros((1, 50, 4)), "no repeated responses"),
        (np.zeros((2, 10, 4)), "no repeated responses"),
        (np.ones((2, 50, 4)), "do not vary"),
        (np.full((2, 50, 4), np.nan), "not finite"),
    ],
)
def test_input_that_is_refused(given, problem):
    with pytest.raises(InputError, match=problem):
        signal_spectrum(given)


def test_options_that_do_not_exist():
    given, _ = planted(1.0, 0.1, 0, n_stimuli=50, n_units=20)
    for option in ({"fit_from": 0}, {"fit_to": 30}, {"fit_from": 9, "fit_to": 5}, {"n_permutations": 2}, {"level": 1}):
        with pytest.raises(OptionError):
            signal_spectrum(given, **option)


def test_result_is_drawn_told_and_kept(tmp_path):
    found = quiet(planted(1.0, 0.05, 0)[0])
    assert found.plot(Figure().subplots()).get_xlabel() == "component"
    assert "fall with exponent" in found.summary()
    assert load_result(found.save(tmp_path / "spectrum.nc")) == found
