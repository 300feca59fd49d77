"""Hurst exponents against exact fractional noise, the formula of Anis and Lloyd, nolds and PyWavelets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.hurst.exponent import METHODS
from neuros_mechint.neuro.fractals.hurst.rescaled_range import expected_rescaled_range, rescaled_range
from neuros_mechint.neuro.fractals.hurst.wavelet import octave_energies
from neuros_mechint.neuro.fractals.scaling import line_fit
from neuros_mechint.neuro.fractals.wavelet_transform import daubechies, detail_coefficients

each_method = pytest.mark.parametrize("method", METHODS)


def noise(hurst, n_samples=10_000, n_channels=64, seeds=range(3)):
    return torch.cat([nm.fractional_gaussian_noise(hurst, n_samples, n_channels, seed=seed) for seed in seeds])


def shuffled(signals, seed=0):
    random = np.random.default_rng(seed)
    return torch.stack([row[torch.from_numpy(random.permutation(len(row)))] for row in signals])


# (mean error from, to), spread over signals
@pytest.mark.parametrize(
    ("method", "hurst", "bias", "spread"),
    [
        ("dfa", 0.3, (-0.02, 0.02), 0.02),
        ("dfa", 0.5, (-0.02, 0.02), 0.025),
        ("dfa", 0.7, (-0.02, 0.02), 0.03),
        ("dfa", 0.9, (-0.02, 0.02), 0.035),
        ("rs", 0.3, (-0.03, 0.03), 0.025),
        ("rs", 0.5, (-0.03, 0.03), 0.035),
        ("rs", 0.7, (-0.05, 0.05), 0.04),
        ("rs", 0.9, (-0.10, -0.06), 0.04),  # what is known of it: DFA is recommended
        ("wavelet", 0.3, (-0.02, 0.02), 0.02),
        ("wavelet", 0.5, (-0.01, 0.01), 0.02),
        ("wavelet", 0.7, (-0.01, 0.01), 0.025),
        ("wavelet", 0.9, (-0.01, 0.01), 0.025),
        ("wavelet", 0.1, (-0.11, -0.07), 0.02),  # samples are no integrals: the spectrum bends at the finest octaves
    ],
)
def test_exact_fractional_gaussian_noise(method, hurst, bias, spread):
    found = nm.HurstExponent(method)(noise(hurst))
    assert bias[0] <= float(found.mean()) - hurst <= bias[1]
    assert found.std() < spread


def test_detrended_fluctuations_are_those_of_dfa():
    signals = noise(0.7, 2000, 4)
    assert torch.equal(nm.HurstExponent()(signals), nm.DetrendedFluctuationAnalysis()(signals))
    of_range = nm.HurstExponent(fit_range=(16, 128))(signals)
    assert torch.equal(of_range, nm.DetrendedFluctuationAnalysis(scales=(16, 32, 64, 128))(signals))


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.8])
def test_signals_that_wander_have_one_plus_the_exponent_of_their_increments(hurst):
    walks = nm.fractional_brownian_motion(hurst, 10_000, 64, seed=1)
    for method, tolerance in (("dfa", 0.03), ("wavelet", 0.03)):
        metric = nm.HurstExponent(method)
        assert float(metric(walks).mean()) == pytest.approx(1 + hurst, abs=tolerance)
        estimate = metric.estimate(walks[:2, :2000], n_simulated=10)
        assert any("2 of 2 signals wander" in text for text in estimate.warnings)
    # rescaled ranges cannot tell
    assert 0.9 < float(nm.HurstExponent("rs")(walks).mean()) < 1.02


@each_method
def test_shuffled_noise_remembers_nothing(method):
    found = nm.HurstExponent(method)(shuffled(noise(0.9, n_channels=32, seeds=[4])))
    assert float(found.mean()) == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize("window", [4, 10, 51, 300])
def test_the_formula_of_anis_and_lloyd_is_exact_for_normal_samples(window):
    random = np.random.default_rng(window)
    found = rescaled_range(torch.from_numpy(random.standard_normal((20_000, window))), window).numpy()
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - expected_rescaled_range(window)) < 3.5 * error
    assert error < 0.003 * found.mean()


def test_two_samples_always_have_a_rescaled_range_of_one():
    assert expected_rescaled_range(2) == pytest.approx(1, abs=1e-14)
    assert float(rescaled_range(torch.tensor([[3.0, 8.0]]), 2)) == pytest.approx(1)


def test_peters_factor_is_division_by_n_minus_one():
    import nolds

    for window in (50, 200, 340):
        ours = expected_rescaled_range(window) * ((window - 1) / window) ** 0.5
        assert nolds.measures.expected_rs(window) == pytest.approx(ours, rel=1 / window**2)


@pytest.mark.parametrize("hurst", [0.3, 0.8])
def test_rescaled_ranges_are_those_of_nolds(hurst):
    import nolds

    signal = nm.fractional_gaussian_noise(hurst, 3000, seed=2)
    windows = [20, 50, 128, 333, 700]
    ranges = torch.stack([rescaled_range(signal, window) for window in windows], 1)
    ours = line_fit(torch.tensor(windows).double().log(), ranges.log()).slope
    theirs = nolds.hurst_rs(signal[0].numpy(), nvals=windows, fit="poly", corrected=False, unbiased=False)
    assert float(ours) == pytest.approx(theirs, abs=1e-12)


def test_windows_that_do_not_change_have_no_rescaled_range():
    steps = torch.cat([torch.zeros(8), torch.tensor([1.0, 1.0, -1.0, -1.0])])[None]
    assert float(rescaled_range(steps, 4)) == pytest.approx(2)
    with pytest.raises(InputError, match="no window of 4 samples"):
        rescaled_range(torch.tensor([[0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0]]), 4)


@pytest.mark.parametrize("vanishing_moments", range(2, 11))
def test_filters_are_orthonormal_and_blind_to_polynomials(vanishing_moments):
    taps = daubechies(vanishing_moments)
    for shift in range(vanishing_moments):
        product = taps[2 * shift :] @ taps[: len(taps) - 2 * shift]
        assert product == pytest.approx(float(shift == 0), abs=1e-10)
    high_pass = taps[::-1] * (-1.0) ** np.arange(len(taps))
    for power in range(vanishing_moments):
        assert np.linspace(-1, 1, len(taps)) ** power @ high_pass == pytest.approx(0, abs=1e-8)


def test_coefficients_are_those_of_pywavelets():
    signal = torch.from_numpy(np.random.default_rng(0).standard_normal(500))[None]
    found = detail_coefficients(signal, 2)
    # PyWavelets 1.9.0, pywt.dwt(x, "db2", mode="zero") applied again and again, from the first that sees no padding
    first = [0.49840092937266284, -0.7291226726016442, 0.6216837204434034, -0.3585667719271337]
    third = [-0.554907232736321, 0.7797341664790398, -0.580837011771578, 0.028077521286476115]
    np.testing.assert_allclose(found[0][0, :4].numpy(), first, atol=1e-13)
    np.testing.assert_allclose(found[2][0, :4].numpy(), third, atol=1e-13)
    assert [values.shape[1] for values in found] == [249, 123, 60, 29, 13, 5, 1]
    # PyWavelets' dec_lo of db3 backwards
    db3 = [
        0.3326705529509569,
        0.8068915093133388,
        0.4598775021193313,
        -0.13501102001039084,
        -0.08544127388224149,
        0.035226291882100656,
    ]
    np.testing.assert_allclose(daubechies(3), db3, atol=1e-14)


@pytest.mark.parametrize("count", [4, 15, 200])
def test_energies_of_independent_coefficients_have_the_mean_and_variance_they_are_weighted_by(count):
    random = np.random.default_rng(count)
    coefficients = torch.from_numpy(random.standard_normal((20_000, count)))
    energies, weights = octave_energies(coefficients, [coefficients], [1])
    logs = energies[:, 0].log()
    assert abs(float(logs.mean())) < 4 * float(logs.std()) / 20_000**0.5
    assert float(logs.var()) == pytest.approx(1 / float(weights), rel=0.06)


@pytest.mark.parametrize("vanishing_moments", [2, 3])
def test_wavelets_do_not_see_trends(vanishing_moments):
    signals = noise(0.7, 2000, 4, seeds=[0])
    time = torch.linspace(-1, 1, 2000, dtype=torch.float64)
    metric = nm.HurstExponent("wavelet", vanishing_moments=vanishing_moments)
    trend = 100 * time ** (vanishing_moments - 1)
    torch.testing.assert_close(metric(signals + trend), metric(signals), rtol=0, atol=1e-9)
    assert (metric(signals + 1e4 * time**vanishing_moments) - metric(signals)).abs().min() > 0.1


@each_method
def test_neither_scale_nor_offset_nor_the_batch_matters(method):
    metric = nm.HurstExponent(method)
    signals = noise(0.6, 1000, 6, seeds=[0]).reshape(2, 3, 1000)
    expected = metric(signals)
    assert expected.shape == (2, 3)
    for changed in (1e-150 * signals, 1e150 * signals, 7 * signals - 3e3, -signals):
        torch.testing.assert_close(metric(changed), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(metric(signals[1, 2]), expected[1, 2], rtol=0, atol=1e-12)
    torch.testing.assert_close(metric(signals.float()).double(), expected, rtol=0, atol=1e-5)


@each_method
def test_gradients(method):
    signals = noise(0.6, 500, 2, seeds=[3]).requires_grad_()
    assert torch.autograd.gradcheck(nm.HurstExponent(method), signals, fast_mode=True)


@each_method
@pytest.mark.parametrize("hurst", [0.35, 0.75])
def test_intervals_hold_the_true_exponent(method, hurst):
    found = nm.HurstExponent(method).estimate(noise(hurst, 1500, 150, seeds=[8])).data
    inside = (found.low <= hurst) & (hurst <= found.high)
    assert float(inside.mean()) >= 0.9
    assert float((found.hurst - hurst).std()) == pytest.approx(float(found.standard_error.median()), rel=0.3)


@each_method
def test_an_estimate_holds_the_fit(method, tmp_path):
    found = nm.HurstExponent(method).estimate(noise(0.7, 2000, 2, seeds=[0]), n_simulated=10)
    slopes = np.polyfit(np.log(found.data.scale), np.log(found.data.line.values).T, 1)[0]
    np.testing.assert_allclose((slopes + 1) / 2 if method == "wavelet" else slopes, found.values, atol=1e-10)
    # lines go through the points
    errors = np.log(found.data.line.values / found.data.statistic.values)[:, found.data.fitted.values]
    assert np.median(np.abs(errors)) < 0.2
    assert nm.load_result(found.save(tmp_path / "hurst.nc")) == found
    assert found.plot().get_xlabel() == "scale (samples)"


def test_strong_memory_is_referred_to_dfa():
    found = nm.HurstExponent("rs").estimate(noise(0.9, 2000, 4, seeds=[1]), n_simulated=10)
    assert any("use method='dfa'" in text for text in found.warnings)
    weak = nm.HurstExponent("rs").estimate(noise(0.5, 2000, 4, seeds=[1]), n_simulated=10)
    assert not any("use method='dfa'" in text for text in weak.warnings)


@each_method
def test_bad_signals(method):
    metric = nm.HurstExponent(method)
    signal = noise(0.5, 1024, 1, seeds=[0])[0]
    with pytest.raises(InputError, match="too short"):
        metric(signal[: metric._least() - 1])
    assert torch.isfinite(metric(signal[: metric._least()]))
    with pytest.raises(InputError, match="constant"):
        metric(torch.ones(1024))
    with pytest.raises(InputError, match="not finite"):
        metric(torch.where(torch.arange(1024) == 5, torch.inf, signal))
    with pytest.raises(InputError):
        nm.HurstExponent(method, fit_range=(16, 2048))(signal)


def test_a_straight_line_has_no_energy_in_wavelets():
    with pytest.raises(InputError, match="no energy at some scales"):
        nm.HurstExponent("wavelet")(torch.arange(1000.0))


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "higuchi"},
        {"fit_range": (64, 16)},
        {"fit_range": (16, np.nan)},
        {"fit_range": "all"},
        {"method": "rs", "fit_range": (2, 64)},
        {"method": "rs", "fit_range": (50, 60)},
        {"vanishing_moments": 1},
        {"vanishing_moments": 2.5},
        {"vanishing_moments": 11},
    ],
)
def test_bad_parameters(parameters):
    with pytest.raises(OptionError):
        nm.HurstExponent(**parameters)
