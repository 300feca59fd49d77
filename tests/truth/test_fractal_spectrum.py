"""Spectra against SciPy, slopes of noise whose exponent is known, and what an oscillation does to them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.spectrum.irasa import STRETCHES, irasa, resample
from neuros_mechint.neuro.fractals.spectrum.welch import multitaper, welch
from tests.slow import slow_case

METHODS = ("welch", "multitaper", "irasa")
each_method = pytest.mark.parametrize("method", METHODS)


def walks(n_samples, n_signals=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n_signals, n_samples)).cumsum(-1)


def close(found, expected):
    return np.abs(found.numpy() - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize(("n_samples", "segment"), [(1000, 64), (1001, 65), (1001, 256), (300, 300)])
def test_welch_is_that_of_scipy(n_samples, segment):
    x = walks(n_samples)
    frequencies, power = welch(torch.from_numpy(x), segment, sampling_rate=250.0)
    expected_frequencies, expected = scipy.signal.welch(x, 250.0, nperseg=segment)
    assert close(frequencies, expected_frequencies)
    assert close(power, expected)


@pytest.mark.parametrize(("n_samples", "bandwidth", "n_tapers"), [(500, 4.0, 7), (501, 2.5, 4)])
def test_multitaper_is_the_mean_over_the_tapers_of_scipy(n_samples, bandwidth, n_tapers):
    x = walks(n_samples)
    frequencies, power = multitaper(torch.from_numpy(x), bandwidth, n_tapers, sampling_rate=100.0)
    expected = np.zeros((3, n_samples // 2 + 1))
    for taper in scipy.signal.windows.dpss(n_samples, bandwidth, n_tapers):
        one = scipy.signal.periodogram(x - x.mean(-1, keepdims=True), 100.0, window=taper, detrend=False)
        expected += one[1] * (taper**2).sum() / n_tapers
    assert close(frequencies, one[0])
    assert close(power, expected)


def test_resampling_is_that_of_scipy():
    x = walks(501)
    for stretch in (*STRETCHES, *(1 / stretch for stretch in STRETCHES), Fraction(3, 1), Fraction(1, 4)):
        expected = scipy.signal.resample_poly(x, stretch.numerator, stretch.denominator, axis=-1)
        found = resample(torch.from_numpy(x), stretch)
        assert found.shape == expected.shape
        assert close(found, expected)


def test_irasa_is_the_median_of_geometric_means_of_spectra_by_scipy():
    x = walks(2000)
    x -= x.mean(-1, keepdims=True)
    means = []
    for step in np.arange(1.1, 1.95, 0.05):
        h = Fraction(str(round(step, 2)))
        both = [
            scipy.signal.welch(scipy.signal.resample_poly(x, up, down, axis=-1), nperseg=256)[1]
            for up, down in ((h.numerator, h.denominator), (h.denominator, h.numerator))
        ]
        means.append(np.sqrt(both[0] * both[1]))
    assert len(means) == 17
    assert close(irasa(torch.from_numpy(x), 256)[1], np.median(means, axis=0))


@each_method
@pytest.mark.parametrize("exponent", [0, 1, 2])
@pytest.mark.parametrize("seeds", [(1,), slow_case((2, 3))])
def test_slope_of_noise_of_a_known_exponent(method, exponent, seeds):
    means = [nm.SpectralSlope(method)(nm.colored_noise(exponent, 10_000, 32, seed)).mean().item() for seed in seeds]
    assert means == pytest.approx([-exponent] * len(seeds), abs=0.03)


@each_method
def test_slope_of_a_random_walk_is_minus_two(method):
    assert nm.SpectralSlope(method)(walks(10_000, 48)).mean().item() == pytest.approx(-2, abs=0.03)


@each_method
def test_shuffled_pink_noise_has_no_slope(method):
    pink = nm.colored_noise(1.0, 10_000, 32)
    shuffled = pink[:, torch.randperm(10_000, generator=torch.Generator().manual_seed(0))]
    assert nm.SpectralSlope(method)(shuffled).mean().item() == pytest.approx(0, abs=0.03)


def test_an_oscillation_bends_the_slope_of_welch_and_not_that_of_irasa():
    noise = nm.colored_noise(1.0, 10_000, 32, seed=3)
    tone = 2 * torch.sin(2 * torch.pi * 0.15 * torch.arange(10_000))
    mixed = noise / noise.std(-1, keepdim=True) + tone
    over_the_peak = (0.05, 0.25)
    by_welch, by_irasa = (nm.SpectralSlope(method, over_the_peak)(mixed).mean().item() for method in ("welch", "irasa"))
    assert abs(by_welch + 1) > 0.1
    assert by_irasa == pytest.approx(-1, abs=0.05)


@each_method
@pytest.mark.parametrize("exponent", [1.3, slow_case(0.3)])
def test_intervals_cover_the_truth(method, exponent):
    covered = []
    for seed in range(200, 206):  # each with a calibration of its own, which all of its signals share
        noise = nm.colored_noise(exponent, 600, 200, seed=seed)
        found = nm.SpectralSlope(method).estimate(noise, seed=seed + 1)
        covered.append(((found.data["low"] <= -exponent) & (found.data["high"] >= -exponent)).values.mean())
    assert 0.925 <= np.mean(covered) <= 0.975
    assert found.data["standard_error"].values.mean() == pytest.approx(found.values.std(), rel=0.2)


@each_method
def test_scale_and_offset_change_nothing(method):
    metric, x = nm.SpectralSlope(method), torch.from_numpy(walks(600))
    slopes = metric(x)
    for scale, offset in ((1e6, 1e3), (-1e-3, 5.0), (1e-150, 0.0), (1e150, 0.0)):
        assert metric(scale * x + offset).tolist() == pytest.approx(slopes.tolist(), abs=1e-9)
    assert metric(x.float()).dtype == torch.float32
    assert metric(x.float()).tolist() == pytest.approx(slopes.tolist(), abs=1e-4)
    assert metric(x[:, None].expand(3, 2, 600)).shape == (3, 2)


@each_method
def test_gradients(method):
    x = torch.from_numpy(walks(48, 2)).requires_grad_()
    assert torch.autograd.gradcheck(nm.SpectralSlope(method, fit_range=(0.05, 0.25)), (x,), fast_mode=method == "irasa")


@each_method
def test_a_signal_without_power_at_most_frequencies_has_finite_gradients_or_is_refused(method):
    x = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(64).requires_grad_()
    if method == "welch":
        with pytest.raises(InputError, match="no power but rounding"):
            nm.SpectralSlope(method)(x)
        return
    nm.SpectralSlope(method)(x).backward()
    assert torch.isfinite(x.grad).all()


def test_each_octave_counts_alike():
    x = walks(4000, 1)
    frequencies, power = scipy.signal.welch(x[0], nperseg=256)
    within = (frequencies >= 0.02) & (frequencies <= 0.2)
    logs = np.log(frequencies[within]), np.log(power[within])
    expected = np.polyfit(*logs, 1, w=frequencies[within] ** -0.5)[0]  # polyfit takes roots of weights
    metric = nm.SpectralSlope(fit_range=(0.02, 0.2), segment=256)
    assert metric(x).item() == pytest.approx(expected, abs=1e-10)
    assert metric(x).item() != pytest.approx(np.polyfit(*logs, 1)[0], abs=1e-3)


@each_method
def test_frequencies_are_in_hertz_where_the_rate_is_known(method):
    x = walks(2000, 2)
    recording = nm.Recording(x.T, dims=("time", "unit"), sampling_rate=500.0)
    in_hertz = nm.SpectralSlope(method, fit_range=(10.0, 100.0))
    in_cycles = nm.SpectralSlope(method, fit_range=(0.02, 0.2))(x)
    assert in_hertz(recording).tolist() == pytest.approx(in_cycles.tolist(), abs=1e-9)
    given = nm.SpectralSlope(method, fit_range=(10.0, 100.0), sampling_rate=500.0)
    assert given(x).tolist() == pytest.approx(in_cycles.tolist(), abs=1e-9)
    found = in_hertz.estimate(recording, n_simulated=10)
    low, high = found.attributes["fit_range"]
    assert 10 <= low < 12
    assert 97 < high <= 100
    assert found.data["frequency"].attrs["units"] == "Hz"
    with pytest.raises(InputError, match="another rate"):
        nm.SpectralSlope(sampling_rate=100.0)(recording)


def test_power_of_an_estimate_is_in_the_units_of_the_signal():
    x = 300 * walks(2000, 2)
    found = nm.SpectralSlope(segment=256).estimate(x, n_simulated=10)
    expected = scipy.signal.welch(x, nperseg=256)[1][:, 1:]
    assert found.data["statistic"].values == pytest.approx(expected, rel=1e-9)
    within = found.data["fitted"].values
    ratio = np.log(found.data["line"].values / expected)[:, within]
    assert ratio @ (1 / found.data["frequency"].values[within]) == pytest.approx([0, 0], abs=1e-6)


def test_estimates_say_what_their_spectra_cannot_resolve():
    steep = nm.colored_noise(3.0, 2000)
    assert "tapers leak" in " ".join(nm.SpectralSlope("multitaper").estimate(steep, n_simulated=10).warnings)
    blurred = nm.SpectralSlope(fit_range=(0.005, 0.2), segment=256).estimate(steep, n_simulated=10)
    assert "blurred" in " ".join(blurred.warnings)
    for method in METHODS:
        assert not nm.SpectralSlope(method).estimate(nm.colored_noise(1.0, 5000), n_simulated=10).warnings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "wlech"}, "unknown method 'wlech'"),
        ({"fit_range": (0.2, 0.1)}, "fit_range is no range"),
        ({"fit_range": (0.0, 0.1)}, "fit_range is no range"),
        ({"fit_range": (0.1, float("nan"))}, "fit_range is no range"),
        ({"fit_range": 0.1}, "fit_range is no range"),
        ({"fit_range": (10.0, 300.0), "sampling_rate": 500.0}, "beyond the frequencies"),
        ({"method": "irasa", "fit_range": (1.0, 200.0), "sampling_rate": 500.0}, "stretched by 1.9"),
        ({"method": "multitaper", "segment": 64}, "tapers span the whole signal"),
        ({"segment": 4}, "segment is out of range"),
        ({"sampling_rate": 0.0}, "sampling_rate is out of range"),
        ({"bandwidth": 1.0}, "bandwidth is out of range"),
    ],
)
def test_options_that_do_not_exist(arguments, message):
    with pytest.raises(OptionError, match=message):
        nm.SpectralSlope(**arguments)


@each_method
def test_bad_signals(method):
    metric = nm.SpectralSlope(method)
    for bad, message in (
        (np.zeros(500), "constant"),
        (np.append(walks(499, 1), np.nan), "not finite"),
        (walks(20), "too short"),
        (walks(500) + 1j, "no real numbers"),
        (np.empty((0, 500)), "empty"),
    ):
        with pytest.raises(InputError, match=message):
            metric(bad)
    with pytest.raises(InputError, match="beyond the frequencies"):
        nm.SpectralSlope(method, fit_range=(1.0, 30.0))(walks(500))
    with pytest.raises(InputError, match="too few frequencies"):
        nm.SpectralSlope(method, fit_range=(0.1, 0.101))(walks(500))
