"""Gaussian stimuli have the covariance and the power that define them."""

import numpy as np
import pytest
import torch
from scipy.signal import welch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

N_CHANNELS, N_SAMPLES = 20_000, 48


def autocovariance(hurst, n_lags):
    lags = np.arange(n_lags, dtype=float)
    return ((lags + 1) ** (2 * hurst) - 2 * lags ** (2 * hurst) + np.abs(lags - 1) ** (2 * hurst)) / 2


@pytest.mark.parametrize("hurst", [0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_noise_has_the_covariance_at_every_pair_of_times(hurst):
    noise = nm.fractional_gaussian_noise(hurst, N_SAMPLES, N_CHANNELS, seed=1).numpy()
    found = noise.T @ noise / N_CHANNELS
    places = np.arange(N_SAMPLES)
    expected = autocovariance(hurst, N_SAMPLES)[np.abs(places[:, None] - places)]
    # the standard error of a covariance of normal variables; the largest of 48 x 48 correlated ones stays within 5.5
    error = np.sqrt((1 + expected**2) / N_CHANNELS)
    assert np.abs((found - expected) / error).max() < 5.5
    assert np.abs(noise.mean()) < 5 * np.sqrt(expected.mean() / N_CHANNELS)


def test_a_wrong_exponent_would_be_seen():
    noise = nm.fractional_gaussian_noise(0.7, N_SAMPLES, N_CHANNELS, seed=1).numpy()
    found = noise.T @ noise / N_CHANNELS
    wrong = autocovariance(0.72, N_SAMPLES)
    error = np.sqrt((1 + wrong**2) / N_CHANNELS)
    assert np.abs((found[0] - wrong) / error).max() > 4


@pytest.mark.parametrize("hurst", [0.3, 0.8])
def test_motion_grows_as_it_must(hurst):
    walks = nm.fractional_brownian_motion(hurst, 200, 5000, seed=2).numpy()
    times = np.array([1, 10, 50, 200])
    assert walks[:, times - 1].std(0) == pytest.approx(times**hurst, rel=5 / np.sqrt(2 * 5000))
    assert np.diff(walks)[0] == pytest.approx(nm.fractional_gaussian_noise(hurst, 200, 5000, seed=2)[0, 1:].numpy())


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_colour_is_the_slope_of_the_power(exponent):
    noise = nm.colored_noise(exponent, 2**13, 64, seed=3).numpy()
    frequency, power = welch(noise, nperseg=2048)
    inside = (frequency > 0.005) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[inside]), np.log(power.mean(0)[inside]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.03)


def test_white_noise_has_variance_one_and_colours_no_more():
    assert nm.colored_noise(0, 10_000, 10).std().item() == pytest.approx(1, abs=0.01)
    assert nm.colored_noise(1.0, 1000, 2000, seed=4).square().mean().item() == pytest.approx(1, abs=0.02)
    assert torch.isfinite(nm.colored_noise(60.0, 1000)).all()


def test_seeds_and_channels():
    make = nm.fractional_gaussian_noise
    several = make(0.7, 500, 3, seed=5)
    assert several.dtype == torch.float64
    torch.testing.assert_close(several, make(0.7, 500, 3, seed=5), rtol=0, atol=0)
    torch.testing.assert_close(several[:2], make(0.7, 500, 2, seed=5), rtol=0, atol=0)
    torch.testing.assert_close(several[1], make([0.2, 0.7, 0.4], 500, 3, seed=5)[1], rtol=0, atol=0)
    random = np.random.default_rng(5)
    first = make(0.7, 500, 3, seed=random)
    assert not torch.equal(first, make(0.7, 500, 3, seed=random))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    state = torch.get_rng_state()
    make(0.7, 500)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)


def test_many_channels_are_made_in_pieces_that_fit_together(monkeypatch):
    module = "neuros_mechint.neuro.fractals.stimuli.gaussian._NUMBERS_AT_ONCE"
    whole = nm.fractional_gaussian_noise(0.6, 100, 7)
    monkeypatch.setattr(module, 450)
    torch.testing.assert_close(nm.fractional_gaussian_noise(0.6, 100, 7), whole, rtol=0, atol=0)


@pytest.mark.parametrize("hurst", [0, 1, -0.1, 1.2, float("nan"), "high", [0.2, 0.3, 0.4], [[0.5, 0.5]]])
def test_exponents_that_are_none(hurst):
    with pytest.raises(OptionError, match="hurst"):
        nm.fractional_gaussian_noise(hurst, 10, n_channels=2)


def test_other_bad_input():
    with pytest.raises(OptionError, match="exponent"):
        nm.colored_noise(float("inf"), 10)
    for bad in (0, -3, 2.5, True):
        with pytest.raises(OptionError, match="n_samples"):
            nm.colored_noise(1, bad)
        with pytest.raises(OptionError, match="n_channels"):
            nm.fractional_brownian_motion(0.5, 10, n_channels=bad)
    with pytest.raises(InputError, match="seed"):
        nm.colored_noise(1, 10, seed=None)
