"""Multifractal spectra against cascades whose spectrum has a formula, noise that has none, and the MFDFA package."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.multifractal.leaders import log_leaders
from neuros_mechint.neuro.fractals.multifractal.mfdfa import log_fluctuations
from neuros_mechint.neuro.fractals.multifractal.model import multifractal_noise, width_of_model
from neuros_mechint.neuro.fractals.multifractal.moments import log_cumulants, moments
from neuros_mechint.neuro.fractals.multifractal.spectrum import METHODS
from neuros_mechint.neuro.fractals.stimuli.cascades import multiplicative_cascade
from tests.slow import slow_case

each_method = pytest.mark.parametrize("method", METHODS)
MOMENTS = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)


def binomial_h(q, p=0.75):
    return 1 / q - np.log2(p**q + (1 - p) ** q) / q


def binomial_alpha(q, p=0.75):
    first, second = p**q, (1 - p) ** q
    return -(first * np.log2(p) + second * np.log2(1 - p)) / (first + second)


def shuffled(signals, seed):
    random = np.random.default_rng(seed)
    return torch.stack([row[torch.from_numpy(random.permutation(len(row)))] for row in signals])


def test_the_formula_of_the_binomial_cascade_gives_the_published_numbers():
    assert [round(binomial_h(q), 3) for q in (-4.0, -2.0, 2.0, 4.0)] == [1.754, 1.576, 0.839, 0.661]
    assert binomial_alpha(-4.0) - binomial_alpha(4.0) == pytest.approx(1.547, abs=0.001)


@each_method
@pytest.mark.parametrize("n_levels", [14, 16])
def test_exponents_of_the_classical_binomial_cascade(method, n_levels):
    metric = nm.MultifractalSpectrum(method, q=MOMENTS)
    found = metric.spectrum(multiplicative_cascade(n_levels, p=0.75, shuffle=False)[0])
    q = np.array(MOMENTS)
    expected = {"generalized_hurst": (binomial_h(q), 0.06), "alpha": (binomial_alpha(q), 0.06)}
    for name, (values, tolerance) in expected.items():
        np.testing.assert_allclose(getattr(found, name).numpy(), values, atol=tolerance)
    np.testing.assert_allclose(found.tau.numpy(), q * binomial_h(q) - 1, atol=0.13)  # 4 times that of h, at most
    width = metric(multiplicative_cascade(n_levels, p=0.75, shuffle=False)[0])
    assert float(width) == pytest.approx(1.547, abs=0.07)


@each_method
def test_exponents_of_random_binomial_cascades(method):
    metric = nm.MultifractalSpectrum(method, q=MOMENTS)
    cascades = [multiplicative_cascade(15, p=0.75, n_channels=16, seed=seed) for seed in range(3)]
    found = torch.cat([metric.generalized_hurst(signals) for signals in cascades])
    tolerance = 0.03 if method == "mfdfa" else 0.045  # 3.5 standard errors; the systematic errors are below 0.015
    np.testing.assert_allclose(found.mean(0).numpy(), binomial_h(np.array(MOMENTS)), atol=tolerance)
    assert found.std(0).max() < (0.08 if method == "mfdfa" else 0.13)


@each_method
@pytest.mark.parametrize("share", [0.6, 0.7])
def test_more_uneven_cascades_are_found_wider(method, share):
    metric = nm.MultifractalSpectrum(method, q=(-2, 2))
    expected = binomial_alpha(-2.0, share) - binomial_alpha(2.0, share)  # 0.225 and 0.843
    found = metric(multiplicative_cascade(15, p=share, n_channels=16))
    assert float(found.mean()) == pytest.approx(expected, abs=0.05)
    assert found.std() < (0.07 if method == "mfdfa" else 0.13)


@each_method
@pytest.mark.parametrize("sigma", [0.15, 0.3])
def test_log_normal_cascades_have_a_parabola(method, sigma):
    strength = sigma**2 / math.log(2)  # 0.032 and 0.130
    signals = torch.cat(
        [multiplicative_cascade(15, "lognormal", sigma=sigma, n_channels=8, seed=seed) for seed in range(3)]
    )
    q = np.arange(-2.0, 3)
    found, means, scales = nm.MultifractalSpectrum(method, q=q)._analysis(signals)
    expected = 1 + strength / 2 - strength * q
    np.testing.assert_allclose(found.alpha.mean(0), expected, atol=0.025 if method == "mfdfa" else 0.035)
    c1, c2 = log_cumulants(means, scales.log())
    assert float(c1.mean()) == pytest.approx(1 + strength / 2, abs=0.02)
    assert float(c2.mean()) == pytest.approx(-strength, abs=0.02)


@pytest.mark.parametrize("hurst", [0.8, slow_case(0.5), slow_case(1.3)])
def test_the_model_has_the_spectrum_that_it_is_said_to_have(hurst):
    strengths, found = (0.0, 0.02, 0.05, 0.1), []
    for strength in strengths:
        signals = multifractal_noise(hurst, strength, 2**14, n_signals=24, seed=1)
        estimate = nm.MultifractalSpectrum(q=(-2, 0, 2), order=2).spectrum(signals)
        found.append([(estimate.alpha[:, 0] - estimate.alpha[:, -1]).mean(), estimate.generalized_hurst[:, -1].mean()])
    widths, exponents = np.array(found).T
    np.testing.assert_allclose(widths, width_of_model(strengths, (-2, 0, 2)), atol=0.04)
    np.testing.assert_allclose(exponents, hurst, atol=0.025)


def test_without_intermittency_the_model_is_exact_fractional_gaussian_noise():
    signals = multifractal_noise(0.7, 0.0, 64, n_signals=40_000, seed=2)
    covariance = (signals[:, :1] * signals).mean(0) / signals.square().mean()
    lags = np.arange(64.0)
    expected = (np.abs(lags + 1) ** 1.4 - 2 * lags**1.4 + np.abs(lags - 1) ** 1.4) / 2
    np.testing.assert_allclose(covariance.numpy(), expected, atol=0.02)  # 4 standard errors of 1 / 200


@each_method
@pytest.mark.parametrize(
    ("hurst", "most", "spread"), [(0.3, 0.06, 0.05), (0.5, 0.06, 0.07), (0.7, 0.07, 0.08), (0.9, 0.09, 0.09)]
)
def test_one_exponent_has_no_width(method, hurst, most, spread):
    metric = nm.MultifractalSpectrum(method)
    widths = [metric(nm.fractional_gaussian_noise(hurst, 10_000, 16, seed=seed)) for seed in range(3)]
    assert abs(float(torch.cat(widths).mean())) < most
    assert float(torch.cat(widths).std()) < spread
    exponents = metric.generalized_hurst(nm.fractional_gaussian_noise(hurst, 10_000, 16, seed=3)).mean(0)
    # leaders see antipersistent noise as rougher than it is
    lowest = -0.06 if method == "leaders" and hurst < 0.5 else -0.03
    assert ((exponents - hurst > lowest) & (exponents - hurst < 0.03)).all()


def check_decisions(method, n_samples, n_signals, hurst, strength):
    """Noise is rarely called multifractal, intermittent noise nearly always, and intervals hold the true width."""
    metric = nm.MultifractalSpectrum(method)
    noise = metric.estimate(nm.fractional_gaussian_noise(hurst, n_samples, n_signals, seed=5))
    intermittent = metric.estimate(multifractal_noise(hurst, strength, n_samples, n_signals, seed=6))
    width = float(width_of_model(strength, metric.q))
    inside = (intermittent.data["low"] <= width) & (width <= intermittent.data["high"])
    wrong = np.array([noise.is_multifractal.mean(), np.mean(noise.data["low"].values > 0)])
    return wrong, intermittent.is_multifractal.mean(), float(inside.mean())


@pytest.mark.parametrize("method", ["mfdfa", slow_case("leaders")])
def test_noise_is_rarely_called_multifractal_and_intermittent_noise_nearly_always(method):
    wrong, right, covered = check_decisions(method, 2048, 60, hurst=0.6, strength=0.1)
    assert (wrong <= 0.1).all()
    assert right >= 0.9
    assert covered >= 0.85  # 95%, less three standard errors


@pytest.mark.slow
@each_method
@pytest.mark.parametrize("hurst", [0.3, 0.6, 0.9])
def test_intervals_of_many_signals(method, hurst):
    wrong, right, covered = check_decisions(method, 4096, 400, hurst, strength=0.06)
    assert (wrong <= 0.06).all()
    assert right >= 0.85
    assert covered >= 0.9


@each_method
def test_shuffling_leaves_the_width_of_the_distribution_and_no_memory(method):
    metric = nm.MultifractalSpectrum(method)
    cascade = multiplicative_cascade(14, n_channels=8, seed=3)
    without = metric.spectrum(shuffled(cascade, 0))
    # no memory is left, but values of very different sizes still make moments scale differently
    assert float(without.generalized_hurst[:, 6].mean()) == pytest.approx(0.5, abs=0.06)
    width = without.alpha[:, 0] - without.alpha[:, -1]
    assert 0.8 < float(width.mean()) < 1.25 < float(metric(cascade).min())
    noise = shuffled(nm.fractional_gaussian_noise(0.9, 2**14, 8, seed=4), 1)
    assert abs(float(metric(noise).mean())) < 0.06


def test_fluctuations_are_those_of_the_mfdfa_package():
    signal = torch.from_numpy(np.random.default_rng(0).standard_normal(500))[None]
    q = torch.tensor([-3.0, -1.0, 0.5, 2.0, 4.0], dtype=torch.float64)
    # MFDFA 0.4.3: MFDFA(x, lag=[5, 8, 16, 33, 64], order=..., q=q)[1].T, first and last q
    expected = {
        1: [
            [0.11317993285140074, 0.526940005125367, 0.8196265081854163, 1.2404245526896993, 1.8056097192651235],
            [0.621515339843017, 0.8286152056209434, 1.071611541398037, 1.5736319701963337, 2.174314501324789],
        ],
        2: [
            [0.03498556964575328, 0.41660074941378267, 0.7012942613996815, 1.0870967918939114, 1.4578543417790084],
            [0.46763045953276994, 0.6021561023893263, 0.8736250600975489, 1.2895474995772072, 1.7470558797403901],
        ],
    }
    for order, values in expected.items():
        found = moments(log_fluctuations(signal, [5, 8, 16, 33, 64], order), q)
        means = (found.log_means[0] / q[:, None]).exp()
        np.testing.assert_allclose(means[[0, -1]].numpy(), values, rtol=1e-11)


@each_method
def test_strengths_are_the_derivative_of_tau_and_dimensions_its_legendre_transform(method):
    q = tuple(np.arange(-3, 3.001, 0.001))
    found = nm.MultifractalSpectrum(method, q=q).spectrum(multiplicative_cascade(12, seed=1)[0])
    slopes = np.gradient(found.tau.numpy(), q)
    np.testing.assert_allclose(found.alpha.numpy()[1:-1], slopes[1:-1], atol=1e-6)
    np.testing.assert_allclose(found.f.numpy(), np.array(q) * found.alpha.numpy() - found.tau.numpy(), atol=1e-12)
    assert float(found.f.max()) == pytest.approx(1)


@each_method
def test_nothing_happens_at_the_moment_of_zero(method):
    signal = multiplicative_cascade(12, seed=1)[0]
    found = nm.MultifractalSpectrum(method, q=(-1e-5, 0, 1e-5)).generalized_hurst(signal)
    assert float(found[1]) == pytest.approx(float(found[0] + found[2]) / 2, abs=1e-9)
    assert float(found[0]) > float(found[1]) > float(found[2])


@pytest.mark.parametrize("exponent", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("vanishing_moments", [2, 3])
def test_the_largest_leader_grows_like_the_singularity_it_is_next_to(exponent, vanishing_moments):
    time = torch.arange(2.0**14, dtype=torch.float64)
    # at many places: how large a coefficient is depends on where it sits
    places = 7000 + 8 * (torch.arange(128) + torch.from_numpy(np.random.default_rng(0).random(128)))
    cusps = (time - places[:, None]).abs() ** exponent
    octaves = list(range(4, 10))
    logs = log_leaders(cusps.diff(), octaves, vanishing_moments)
    largest = np.array([float(values.amax(1).mean()) for values in logs])
    slope = np.polyfit(np.array(octaves) * math.log(2), largest, 1)[0]
    assert slope == pytest.approx(exponent, abs=0.015)
    for octave, values in zip(octaves, logs, strict=True):
        found = (values.argmax(1) + vanishing_moments + 0.5) * 2**octave
        # the largest coefficient makes three leaders, of which the first is found
        assert ((found - places).abs() < 2.5 * 2**octave).all()


@each_method
def test_neither_scale_nor_offset_nor_the_batch_matters(method):
    metric = nm.MultifractalSpectrum(method)
    signals = torch.stack([multiplicative_cascade(11, seed=seed)[0] for seed in range(6)]).reshape(2, 3, -1)
    expected = metric.generalized_hurst(signals)
    assert expected.shape == (2, 3, 9)
    for changed in (1e-200 * signals, 1e150 * signals, 7 * signals - 3e3, -signals):
        torch.testing.assert_close(metric.generalized_hurst(changed), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(metric.generalized_hurst(signals[1, 2]), expected[1, 2], rtol=0, atol=1e-12)
    torch.testing.assert_close(metric.generalized_hurst(signals.float()).double(), expected, rtol=0, atol=1e-4)
    assert metric(signals.float()).dtype == torch.float32


@each_method
@pytest.mark.parametrize("q", [(-2, 0, 3), (1, 2)])
def test_gradients(method, q):
    metric = nm.MultifractalSpectrum(method, q=q)
    noise = nm.fractional_gaussian_noise(0.6, 400, 2, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(metric, noise, fast_mode=True)
    assert torch.autograd.gradcheck(metric.generalized_hurst, noise, fast_mode=True)


def test_an_estimate_holds_the_whole_spectrum(tmp_path):
    signals = torch.cat([nm.fractional_gaussian_noise(0.7, 4096), multiplicative_cascade(12, seed=2)])
    found = nm.MultifractalSpectrum(q=(-3, 0, 2, 3)).estimate(signals, n_simulated=30)
    data = found.data
    tensors = nm.MultifractalSpectrum(q=(-3, 0, 2, 3)).spectrum(signals)
    for name in ("generalized_hurst", "tau", "alpha", "f"):
        assert data[name].dims == ("axis_0", "q")
        np.testing.assert_allclose(data[name].values, getattr(tensors, name).numpy())
        assert (data[f"{name}_error"].values[:, [0, 2]] > 0).all()
    np.testing.assert_allclose(found.values, (data.alpha.sel(q=-3) - data.alpha.sel(q=3)).values)
    # the lines are what the exponents say they are
    log_scales, log_means = np.log(data.scale.values), np.log(data.fluctuation.values)
    slopes = np.polyfit(log_scales, log_means.reshape(8, -1).T, 1)[0].reshape(2, 4)
    np.testing.assert_allclose(slopes, data.generalized_hurst.values, atol=1e-10)
    np.testing.assert_allclose(data.statistic.values, data.fluctuation.sel(q=2).values)
    assert found.is_multifractal.tolist() == [False, True]
    assert "1 of 2 are wider" in found.summary()
    loaded = nm.load_result(found.save(tmp_path / "spectrum.nc"))
    assert loaded == found
    assert loaded.plot().get_xlabel() == "singularity strength alpha"


@pytest.mark.parametrize("parameters", [{"order": 1}, {"method": "leaders"}])
def test_exponents_that_the_method_can_not_see_are_warned_of(parameters):
    smooth = nm.fractional_brownian_motion(0.9, 4096, seed=1)
    found = nm.MultifractalSpectrum(**parameters).estimate(smooth, n_simulated=10)
    assert any("exponents near 2" in text for text in found.warnings)


def test_errors_are_those_of_such_signals():
    metric = nm.MultifractalSpectrum()
    found = metric.estimate(nm.fractional_gaussian_noise(0.6, 1024, 100, seed=9), n_simulated=60)
    scatter = found.data.generalized_hurst.std("axis_0")
    typical = found.data.generalized_hurst_error.median("axis_0")
    assert (abs(scatter / typical - 1) < 0.35).all()
    assert float(found.values.std()) == pytest.approx(float(found.data.standard_error.median()), rel=0.35)


@each_method
def test_windows_without_fluctuations_are_named(method):
    counts = torch.zeros(4096, dtype=torch.float64)
    counts[:1024] = torch.from_numpy(np.random.default_rng(0).poisson(1.0, 1024).astype(float))
    with pytest.raises(InputError, match="moments of q <= 0 are infinite"):
        nm.MultifractalSpectrum(method)(counts)
    found = nm.MultifractalSpectrum(method, q=(1, 2, 3)).generalized_hurst(counts)
    assert torch.isfinite(found).all()


@each_method
def test_bad_signals(method):
    metric = nm.MultifractalSpectrum(method)
    noise = nm.fractional_gaussian_noise(0.5, 1024)[0]
    with pytest.raises(InputError, match="too short"):
        metric(noise[: metric._least() - 1])
    assert torch.isfinite(metric(noise[: metric._least()]))
    with pytest.raises(InputError, match="constant"):
        metric(torch.ones(1024))
    with pytest.raises(InputError, match="not finite"):
        metric(torch.where(torch.arange(1024) == 5, torch.nan, noise))
    with pytest.raises(InputError, match=r"too short|beyond the scales"):
        nm.MultifractalSpectrum(method, fit_range=(16, 512))(noise)


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "wtmm"},
        {"q": (1, np.nan)},
        {"q": (2, 1)},
        {"q": (2,)},
        {"q": "all"},
        {"q": (1, np.inf)},
        {"fit_range": (64, 16)},
        {"fit_range": (2, 64)},
        {"fit_range": 16},
        {"fit_range": (16, 20)},
        {"order": 0},
        {"order": 30},
        {"method": "leaders", "vanishing_moments": 1},
        {"method": "leaders", "vanishing_moments": 11},
    ],
)
def test_bad_parameters(parameters):
    with pytest.raises(OptionError):
        nm.MultifractalSpectrum(**parameters)
