"""Higuchi's, Petrosian's and Katz's dimensions: exact fractional motion, Weierstrass, turning points, antropy."""

from __future__ import annotations

import antropy
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import binom

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError

HIGUCHI, PETROSIAN, KATZ = nm.HiguchiFractalDimension(), nm.PetrosianFractalDimension(), nm.KatzFractalDimension()


def walks(hurst, n_samples=10_000, n_channels=64, seed=0):
    return nm.fractional_brownian_motion(hurst, n_samples, n_channels, seed)


@pytest.mark.parametrize(("hurst", "tolerance"), [(0.1, 0.01), (0.3, 0.01), (0.5, 0.01), (0.7, 0.01), (0.9, 0.03)])
def test_dimension_of_fractional_brownian_motion(hurst, tolerance):
    for seed in range(4):
        found = HIGUCHI(walks(hurst, seed=seed))
        assert found.mean().item() == pytest.approx(2 - hurst, abs=tolerance)
        assert found.std() < (0.015 if hurst < 0.9 else 0.04)


@pytest.mark.parametrize("dimension", [1.2, 1.5])
def test_dimension_of_the_weierstrass_function(dimension):
    found = HIGUCHI(nm.weierstrass(dimension, 10_000, 16))
    assert found.mean().item() == pytest.approx(dimension, abs=0.03)
    assert found.std() < 0.02


def test_smooth_curves_have_dimension_one_and_white_noise_two():
    time = torch.linspace(0, 1, 10_000, dtype=torch.float64)
    assert HIGUCHI(time).item() == pytest.approx(1, abs=1e-10)
    assert HIGUCHI(torch.sin(9 * time)).item() == pytest.approx(1, abs=1e-3)
    assert HIGUCHI(nm.fractional_gaussian_noise(0.5, 10_000, 64)).mean().item() == pytest.approx(2, abs=0.005)


def test_walks_in_random_order_are_noise():
    order = torch.from_numpy(np.random.default_rng(0).permutation(10_000))
    assert HIGUCHI(walks(0.5)[:, order]).mean().item() == pytest.approx(2, abs=0.005)


@pytest.mark.parametrize(("n_samples", "k_max"), [(20, 10), (101, 3), (1000, 10), (1003, 25), (10_000, 10)])
def test_equals_antropy(n_samples, k_max):
    for signal in (walks(0.3, n_samples, 4), nm.fractional_gaussian_noise(0.5, n_samples, 4)):
        rows = signal.numpy()
        expected = [antropy.higuchi_fd(row, kmax=k_max) for row in rows]
        # antropy adds 1e-9 to what it divides by, which shows where there are few steps
        np.testing.assert_allclose(nm.HiguchiFractalDimension(k_max)(signal), expected, rtol=1e-9)
        np.testing.assert_allclose(PETROSIAN(signal), antropy.petrosian_fd(rows), rtol=0, atol=1e-12)
        np.testing.assert_allclose(KATZ(signal), antropy.katz_fd(rows), rtol=1e-12)


def test_equals_antropy_where_neighbours_are_equal():
    rows = np.random.default_rng(1).integers(4, size=(8, 500)).astype(float)
    np.testing.assert_allclose(PETROSIAN(rows), antropy.petrosian_fd(rows), rtol=0, atol=1e-12)


def test_independent_samples_turn_at_two_thirds_of_all_places():
    # Bienayme 1874: 2 (N - 2) / 3 turns, variance (16 N - 29) / 90, whatever the distribution
    n_samples, random = 10_000, np.random.default_rng(3)
    for rows in (random.normal(size=(64, n_samples)), random.exponential(size=(64, n_samples))):
        dimension = PETROSIAN(rows).numpy()
        log_ratio = np.log(n_samples) * (1 - 1 / dimension)
        turns = n_samples * np.expm1(log_ratio) / 0.4
        assert turns.mean() == pytest.approx(2 * (n_samples - 2) / 3, abs=4 * np.sqrt(16 * n_samples / 90 / 64))
        assert turns.std(ddof=1) == pytest.approx(np.sqrt((16 * n_samples - 29) / 90), rel=0.3)


def test_how_far_walks_get_follows_from_brownian_motion():
    # ln(d / a) = ln sqrt(n) + ln max |B| + ln sqrt(pi / 2), and P(max |B| < x) is a series of Levy's
    n_steps = 9999

    def above(x):
        terms = np.arange(50)
        series = (-1.0) ** terms / (2 * terms + 1) * np.exp(-((2 * terms + 1) ** 2) * np.pi**2 / (8 * x**2))
        return 1 - 4 / np.pi * series.sum()

    # E ln M = integral over x > 1 of P(M > x) / x - integral over x < 1 of P(M < x) / x
    mean_log = quad(lambda x: above(x) / x, 1, 10)[0] - quad(lambda x: (1 - above(x)) / x, 1e-2, 1)[0]
    expected = (np.log(n_steps) / 2 + mean_log + np.log(np.pi / 2) / 2) / np.log(n_steps)
    found = 1 / KATZ(walks(0.5, n_channels=2000))
    assert found.mean().item() == pytest.approx(expected, abs=4 * float(found.std()) / 2000**0.5)
    assert float(found.std()) / 2000**0.5 < 0.002


def test_units_and_offset_do_not_matter():
    signal = walks(0.5, 1000, 8)
    for metric in (HIGUCHI, PETROSIAN, KATZ):
        expected = metric(signal)
        for scaled in (1e-9 * signal, 1e9 * signal, -signal, signal + 1e6, 1e-6 * signal + 1):
            # a turn may be lost where a step is smaller than the rounding of the offset; none is here
            torch.testing.assert_close(metric(scaled), expected, rtol=0, atol=1e-8)


def test_float32_is_enough():
    for signal in (walks(0.5, 10_000, 16), nm.fractional_gaussian_noise(0.5, 10_000, 16)):
        for metric in (HIGUCHI, PETROSIAN, KATZ):
            found = metric(signal.float())
            assert found.dtype == torch.float32
            # in float32 the numbers next to 1 to 8 are 1e-7 to 5e-7 away
            torch.testing.assert_close(found, metric(signal.float().double()).float(), rtol=2e-7, atol=8e-7)


def test_signals_do_not_know_of_each_other():
    signal = walks(0.5, 5000, 70)
    for metric in (HIGUCHI, PETROSIAN, KATZ):
        alone = torch.stack([metric(row) for row in signal])
        torch.testing.assert_close(metric(signal.reshape(7, 10, 5000)), alone.reshape(7, 10), rtol=0, atol=1e-13)
        torch.testing.assert_close(metric(signal.T.contiguous().T), alone, rtol=0, atol=1e-13)


def test_gradients():
    signal = walks(0.5, 60, 2).requires_grad_()
    assert torch.autograd.gradcheck(HIGUCHI, signal)
    assert torch.autograd.gradcheck(nm.HiguchiFractalDimension(29), signal)
    assert torch.autograd.gradcheck(KATZ, signal)
    assert torch.autograd.gradgradcheck(HIGUCHI, signal)
    assert not PETROSIAN(signal).requires_grad
    still = torch.tensor([[0.0, 1.0, 1.0, 2.0] * 10], dtype=torch.float64).cumsum(1).requires_grad_()
    HIGUCHI(still).sum().backward()
    assert torch.isfinite(still.grad).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, while its compiler is imported
def test_the_fused_kernel_computes_the_same():
    fused = nm.HiguchiFractalDimension(fused=True)
    for signal in (walks(0.5, 10_000, 3), walks(0.3, 1003, 5), walks(0.7, 500, 1), walks(0.5, 1003, 5).float()):
        torch.testing.assert_close(fused(signal), HIGUCHI(signal), rtol=0, atol=1e-6 if signal.itemsize == 4 else 1e-11)


def test_the_fused_kernel_refuses_gradients():
    with pytest.raises(CapabilityError, match="no gradient"):
        nm.HiguchiFractalDimension(fused=True)(walks(0.5, 100, 1).requires_grad_())


@pytest.mark.parametrize("truth", [1.3, 1.5, 1.7])
def test_intervals_of_higuchi_cover_the_truth(truth):
    estimate = HIGUCHI.estimate(walks(2 - truth, 2000, 200, seed=7), n_simulated=400)
    covered = int(((estimate.data["low"] <= truth) & (truth <= estimate.data["high"])).sum())
    assert binom.cdf(covered, 200, 0.94) > 0.005
    assert estimate.data["r2"].min() > 0.99
    assert estimate.data["statistic"].dims == ("axis_0", "step")
    assert float((estimate.data["high"] - estimate.data["low"]).max()) < 0.2


def test_resampled_steps_say_how_far_the_others_scatter():
    # steps without memory: the scatter over signals is known, and blocks lose nothing
    signal = walks(0.5, 2000, 200, seed=8)
    for metric, tolerance in ((PETROSIAN, 0.15), (KATZ, 0.3)):
        estimate = metric.estimate(signal, n_simulated=100)
        error = float(np.median(estimate.data["standard_error"]))
        assert error == pytest.approx(float(estimate.values.std()), rel=tolerance)


def test_what_has_no_dimension_is_refused():
    with pytest.raises(InputError, match="at least 20 samples"):
        HIGUCHI(walks(0.5, 19, 1))
    with pytest.raises(InputError, match="at least 100 samples"):
        nm.HiguchiFractalDimension(k_max=50)(walks(0.5, 99, 1))
    with pytest.raises(InputError, match="no length in steps of 4 samples"):
        HIGUCHI(torch.tensor([0.0, 1.0, 3.0, 1.0] * 100))
    with pytest.raises(InputError, match=r"no length in steps of 5 samples[\s\S]*k_max=4"):
        HIGUCHI(torch.sin(2 * torch.pi * torch.arange(1000, dtype=torch.float64) / 5))
    with pytest.raises(InputError, match="further than one mean step"):
        KATZ(torch.arange(100.0) % 2)
    for metric in (HIGUCHI, PETROSIAN, KATZ):
        with pytest.raises(InputError, match="constant"):
            metric(torch.ones(2, 100))
        with pytest.raises(InputError, match="not finite"):
            metric(torch.tensor([0.0, torch.nan] * 50))
        with pytest.raises(InputError, match="too short"):
            metric(torch.tensor([0.0, 1.0]))
    for k_max in (2, 0, 2.5, True, "10"):
        with pytest.raises(OptionError, match="k_max"):
            nm.HiguchiFractalDimension(k_max=k_max)
    with pytest.raises(OptionError, match="fused"):
        nm.HiguchiFractalDimension(fused="yes")
