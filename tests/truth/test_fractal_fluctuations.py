"""Detrended fluctuation analysis: exact fractional noise, nolds, antropy, and least squares window by window."""

from __future__ import annotations

import antropy
import nolds
import numpy as np
import pytest
import torch
from scipy.stats import binom

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.fluctuations.scales import window_lengths
from neuros_mechint.neuro.fractals.fluctuations.windows import mean_squares

DFA = nm.DetrendedFluctuationAnalysis
LENGTHS = (3, 4, 5, 8, 9, 11, 16, 17, 30, 64, 101)


def noise(hurst, n_samples=10_000, n_channels=64, seed=0):
    return nm.fractional_gaussian_noise(hurst, n_samples, n_channels, seed)


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.7, 0.9])
def test_exponent_of_fractional_gaussian_noise_is_its_hurst_exponent(hurst):
    for seed in range(3):
        found = DFA()(noise(hurst, seed=seed))
        assert found.mean().item() == pytest.approx(hurst, abs=0.02)
        assert found.std() < 0.03
    # the first windows of these two are shorter: the bias at 0.3 is 0.017
    for scales in ("nolds", "antropy"):
        assert DFA(scales=scales)(noise(hurst, seed=1)).mean().item() == pytest.approx(hurst, abs=0.025)


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.7])
def test_exponent_of_fractional_brownian_motion_is_one_more(hurst):
    found = DFA()(nm.fractional_brownian_motion(hurst, 10_000, 64, seed=2))
    assert found.mean().item() == pytest.approx(hurst + 1, abs=0.03)
    assert found.std() < 0.05


def test_exponent_of_pink_noise_is_one():
    assert DFA()(nm.colored_noise(1, 10_000, 64)).mean().item() == pytest.approx(1, abs=0.03)


def test_shuffled_signals_have_no_memory():
    order = torch.from_numpy(np.random.default_rng(0).permutation(10_000))
    assert DFA()(noise(0.9)[:, order]).mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_crossover_is_seen_in_the_range_of_the_fit():
    # steps that are held for 20 samples: a share n / 20 of short windows holds a bend, by about n: F^2 ~ n * n^2
    held = noise(0.5, 3000).repeat_interleave(20, dim=1)
    within = DFA(scales=(7, 9, 11, 13))(held).mean().item()
    beyond = DFA(fit_range=(512, 8192)).estimate(held, n_simulated=10)
    assert within == pytest.approx(1.5, abs=0.05)
    assert beyond.values.mean() == pytest.approx(0.5, abs=0.04)
    assert beyond.attributes["fit_range"] == [512, 4096]
    assert beyond.data["window"].values.tolist() == [8 << octave for octave in range(10)]
    assert beyond.data["fitted"].values.tolist() == [False] * 6 + [True] * 4
    straight, bent = (DFA(fit_range=given).estimate(held, n_simulated=10).data["r2"] for given in ((512, 4096), None))
    assert straight.mean() > bent.mean() > 0.8


@pytest.mark.filterwarnings("ignore:.*datasets.*")
@pytest.mark.parametrize("n_samples", [11, 70, 71, 500, 2001])
def test_equals_nolds(n_samples):
    for hurst in (0.3, 0.9):
        for signal in (noise(hurst, n_samples, 2), 5 + 3 * noise(hurst, n_samples, 2)):
            expected = [nolds.dfa(row, fit_exp="poly") for row in signal.numpy()]
            np.testing.assert_allclose(DFA(scales="nolds")(signal), expected, rtol=0, atol=1e-12)


def test_equals_nolds_window_by_window():
    signal = noise(0.7, 2000, 1)
    estimate = DFA(scales="nolds").estimate(signal, n_simulated=10)
    lengths, fluctuations, line = nolds.dfa(signal[0].numpy(), fit_exp="poly", debug_data=True)[1]
    np.testing.assert_allclose(np.log(estimate.data["window"]), lengths, rtol=1e-12)
    np.testing.assert_allclose(np.log(estimate.data["statistic"][0]), fluctuations, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.log(estimate.data["line"][0]), np.polyval(line, lengths), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_samples", [200, 999, 10_000])
def test_equals_antropy(n_samples):
    signals = [noise(0.3, n_samples, 4), noise(0.9, n_samples, 4), noise(0.5, n_samples, 4).cumsum(1)]
    for signal in signals:
        expected = [antropy.detrended_fluctuation(row) for row in signal.numpy()]
        # antropy adds 1e-9 to what it divides by, which shows where there are few windows
        np.testing.assert_allclose(DFA(scales="antropy")(signal), expected, rtol=1e-10 if n_samples < 999 else 1e-11)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_equals_least_squares_in_each_window(order, overlap):
    lengths = [length for length in LENGTHS if length >= order + 2]
    for n_samples in (102, 128, 1111):
        walk = noise(0.5, n_samples, 2).cumsum(1)
        found = mean_squares(walk, lengths, order, overlap)
        expected = np.array([[squares(row, length, order, overlap) for length in lengths] for row in walk.numpy()])
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def squares(walk, length, order, overlap):
    """Return the mean square around polynomials, fitted by numpy in every window."""
    starts = range(0, len(walk) - length, length // 2) if overlap else range(0, len(walk) - length + 1, length)
    time = np.arange(length)
    rest = [
        walk[start : start + length] - np.polyval(np.polyfit(time, walk[start : start + length], order), time)
        for start in starts
    ]
    return np.mean(np.square(rest))


@pytest.mark.parametrize("n_samples", [128, 136, 1007, 4096])
def test_dyadic_windows_without_a_running_sum_equal_those_with_one(n_samples):
    signal = noise(0.7, n_samples, 3)
    lengths = window_lengths("dyadic", n_samples)
    away = signal - signal.mean(1, keepdim=True)
    expected = mean_squares(away.cumsum(1), lengths, 1, overlap=False).sqrt()
    found = DFA().estimate(signal, n_simulated=10).data["statistic"]
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("scales", ["dyadic", "nolds", "antropy"])
def test_float32_is_enough(scales):
    for signal in (noise(0.5, 10_000, 16), noise(0.5, 10_000, 16).cumsum(1)):
        found = DFA(scales=scales)(signal.float())
        assert found.dtype == torch.float32
        error = (found - DFA(scales=scales)(signal.float().double())).abs().max()
        assert error < 1e-6


@pytest.mark.parametrize("scales", ["dyadic", "nolds", "antropy", (5, 10, 20, 40)])
def test_units_and_offset_do_not_matter(scales):
    signal = noise(0.7, 1000, 8)
    expected = DFA(scales=scales)(signal)
    for scaled in (1e-9 * signal, 1e9 * signal, -signal, signal + 1e6, 1e-6 * signal + 1):
        torch.testing.assert_close(DFA(scales=scales)(scaled), expected, rtol=0, atol=1e-8)


def test_signals_do_not_know_of_each_other():
    signal = noise(0.7, 1000, 6)
    for scales in ("dyadic", "nolds"):
        metric = DFA(scales=scales)
        alone = torch.stack([metric(row) for row in signal])
        assert alone.shape == (6,)
        torch.testing.assert_close(metric(signal.reshape(2, 3, 1000)), alone.reshape(2, 3), rtol=0, atol=1e-13)
        torch.testing.assert_close(metric(signal.T.contiguous().T), alone, rtol=0, atol=1e-13)
    many = noise(0.7, 5000, 200)
    torch.testing.assert_close(DFA()(many)[130:140], DFA()(many[130:140]), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "metric",
    [
        DFA(scales=(8, 16, 32)),
        DFA(scales=(4, 5, 9, 11, 17, 20)),
        DFA(scales=(4, 5, 9, 11, 17, 20), overlap=True),
        DFA(scales=(8, 16, 32), order=2),
        DFA(scales=(5, 6, 9, 14, 20, 33), order=3, overlap=True),
        DFA(scales=(8, 12, 16, 24), fit_range=(10, 30)),
    ],
)
def test_gradients(metric):
    signal = noise(0.5, 75, 2).requires_grad_()
    assert torch.autograd.gradcheck(metric, signal)
    single = noise(0.5, 200, 2).float().requires_grad_()
    metric(single).sum().backward()
    assert torch.isfinite(single.grad).all()
    assert single.grad.abs().max() > 0


@pytest.mark.parametrize("truth", [0.5, 0.8, 1.3])
def test_intervals_cover_the_truth(truth):
    make = noise(truth, 2000, 200, 5) if truth < 1 else nm.fractional_brownian_motion(truth - 1, 2000, 200, 5)
    estimate = DFA().estimate(make, n_simulated=400)
    covered = int(((estimate.data["low"] <= truth) & (truth <= estimate.data["high"])).sum())
    assert binom.cdf(covered, 200, 0.94) > 0.005
    assert estimate.data["r2"].min() > 0.95
    if truth != 0.5:  # an interval that covers everything would cover too
        assert not ((estimate.data["low"] <= 0.5) & (estimate.data["high"] >= 0.5)).any()


def test_constant_short_and_missing_signals_are_refused():
    signal = noise(0.5, 1000, 3)
    signal[1] = 4.0
    with pytest.raises(InputError, match=r"constant[\s\S]*1 of 3"):
        DFA()(signal)
    with pytest.raises(InputError, match="at least 128 samples"):
        DFA()(noise(0.5, 127, 1))
    assert torch.isfinite(DFA()(noise(0.5, 128, 1))).all()
    with pytest.raises(InputError, match="at least 11 samples"):
        DFA(scales="nolds")(noise(0.5, 10, 1))
    with pytest.raises(InputError, match="at least 64 samples"):
        DFA(scales=(8, 16, 64))(noise(0.5, 60, 1))
    signal[1, 5] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        DFA()(signal)
    with pytest.raises(InputError, match="too few scales"):
        DFA(fit_range=(10, 20))(noise(0.5, 1000, 1))


@pytest.mark.parametrize("scales", ["dyadic", "nolds", "antropy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signals_that_are_constant_in_all_windows_are_refused(scales, dtype):
    signal = torch.zeros(2, 1003, dtype=dtype)
    signal[:, torch.from_numpy(np.random.default_rng(0).integers(1000, size=10))] = 1  # in most windows nothing: fine
    assert torch.isfinite(DFA(scales=scales)(signal)).all()
    held = torch.full((1, 1003), 0.1, dtype=dtype)
    held[0, -1] = 1.0  # in no window
    with pytest.raises(InputError, match="hold nothing but a trend"):
        DFA(scales=(18, 36, 72) if scales != "dyadic" else (8, 16, 32))(held)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": "dyadc"}, "did you mean 'dyadic'"),
        ({"scales": 5}, "no sequence"),
        ({"scales": (8, 16, 16)}, "at least 3 different"),
        ({"scales": (2, 8, 16)}, "at least 3"),
        ({"scales": (8.5, 16, 32)}, "integer"),
        ({"scales": "nolds", "order": 3}, "too short for a trend"),
        ({"order": 0}, "order"),
        ({"order": 7}, "at most 6"),
        ({"fit_range": 8}, "fit_range is no range"),
        ({"fit_range": (64, 8)}, "fit_range is no range"),
        ({"overlap": "yes"}, "overlap"),
    ],
)
def test_wrong_options(arguments, message):
    with pytest.raises(OptionError, match=message):
        DFA(**arguments)


def test_the_metric_shows_what_was_changed():
    assert repr(DFA()) == "DetrendedFluctuationAnalysis()"
    assert repr(DFA(scales=[16, 8, 32], order=2)) == "DetrendedFluctuationAnalysis(scales=(8, 16, 32), order=2)"
    assert DFA(scales=[16, 8, 32]) == DFA(scales=np.array([8, 16, 32])) != DFA()
