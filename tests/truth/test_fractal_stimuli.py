"""Cascades, Weierstrass's function, images and patterns against what is known of each; the Gaussian ones elsewhere."""

from __future__ import annotations

import antropy
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import OptionError

LEVELS = 14


def generalised_hurst(signals, q, levels=range(8)):
    """h(q) from the moments of sums over dyadic windows, averaged over signals: no detrending, no code of ours."""
    sums = [signals.reshape(len(signals), -1, 2**level).sum(-1) for level in levels]
    moments = [np.log2((held**q).mean()) for held in sums]
    return np.polyfit(levels, moments, 1)[0] / q


def box_counts(pattern, sizes):
    """Boxes of a regular grid that hold any of the pattern."""
    counts = []
    for size in sizes:
        grid = pattern
        for axis in range(pattern.ndim):
            grid = grid.reshape(*grid.shape[:axis], -1, size, *grid.shape[axis + 1 :]).max(axis + 1)
        counts.append((grid > 0).sum())
    return np.array(counts)


def radial_slope(image, sector=None):
    """Slope of the power over frequency, averaged over rings of one pixel, optionally within a sector of angles."""
    n = image.shape[-1]
    power = np.abs(np.fft.fft2(image)) ** 2
    y, x = np.meshgrid(np.fft.fftfreq(n) * n, np.fft.fftfreq(n) * n, indexing="ij")
    radius, angle = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 180
    held = np.ones_like(radius, bool) if sector is None else abs((angle - sector + 90) % 180 - 90) <= 22.5
    rings = [(radius.round() == ring) & held for ring in range(3, n // 2)]
    middles = [np.exp(np.log(radius[ring]).mean()) for ring in rings]
    spectrum = np.array([power[..., ring].mean() for ring in rings])
    return np.polyfit(np.log(middles), np.log(spectrum), 1)[0], spectrum


# h(q) for p = .75, q = -4, -2, 2, 4
@pytest.mark.parametrize(("q", "known"), [(-4, 1.754), (-2, 1.576), (2, 0.839), (4, 0.661)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_binomial_cascade_has_its_exponents(q, known, shuffle):
    for seed in range(3):
        signals = nm.multiplicative_cascade(LEVELS, p=0.75, n_channels=2, shuffle=shuffle, seed=seed).numpy()
        assert generalised_hurst(signals, q, range(LEVELS)) == pytest.approx(known, abs=0.001)


@pytest.mark.parametrize("q", [-2, -1, 2, 3])
def test_the_lognormal_cascade_has_its_exponents(q):
    sigma = 0.25
    known = 1 - (q - 1) * sigma**2 / (2 * np.log(2))
    # the first halvings are not those of the limit: sums over few samples lack the fluctuations below a sample
    found = [
        generalised_hurst(
            nm.multiplicative_cascade(14, "lognormal", sigma=sigma, n_channels=40, seed=seed).numpy(), q, range(3, 10)
        )
        for seed in range(4)
    ]
    assert np.mean(found) == pytest.approx(known, abs=0.006)
    assert np.std(found) < 0.005
    assert abs(known - 1) > 0.04 or q == 2  # a monofractal would not pass


def test_shuffled_noise_is_no_multifractal():
    signals = nm.multiplicative_cascade(LEVELS, p=0.75, n_channels=4).numpy()
    shuffled = np.random.default_rng(0).permuted(signals, axis=1)
    # sums over windows of independent values become Gaussian: h(q) is 1 for all q at large scales
    sums = [shuffled.reshape(4, -1, 2**level).sum(-1) for level in (9, 10, 11)]
    slopes = [np.polyfit((9, 10, 11), [np.log2((held**q).mean()) for held in sums], 1)[0] / q for q in (-2, 2)]
    assert np.ptp(slopes) < 0.1
    assert generalised_hurst(signals, -2) - generalised_hurst(signals, 2) > 0.7


def test_cascades_have_mean_1_and_are_as_independent_as_they_say():
    for kind in ("binomial", "lognormal"):
        found = nm.multiplicative_cascade(10, kind, n_channels=3, seed=5)
        assert found.shape == (3, 1024)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.mean(-1), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
        assert (found > 0).all()
        assert not torch.equal(found[0], found[1])
        assert torch.equal(found, nm.multiplicative_cascade(10, kind, n_channels=3, seed=5))
        assert not torch.equal(found, nm.multiplicative_cascade(10, kind, n_channels=3, seed=6))
    classical = nm.multiplicative_cascade(10, p=0.7, shuffle=False, n_channels=2)
    ones = torch.tensor([bin(place).count("1") for place in range(1024)])
    expected = 2.0**10 * 0.7 ** (10 - ones.double()) * 0.3 ** ones.double()
    torch.testing.assert_close(classical, expected.expand(2, -1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("dimension", "tolerance"), [(1.2, 0.03), (1.5, 0.03), (1.8, 0.03)])
def test_weierstrass_has_its_dimension(dimension, tolerance):
    for seed in range(3):
        signals = nm.weierstrass(dimension, 10_000, n_channels=4, seed=seed).numpy()
        found = [antropy.higuchi_fd(signal, kmax=20) for signal in signals]
        assert np.abs(np.array(found) - dimension).max() < tolerance


def test_a_sum_that_stops_at_the_sampling_rate_would_be_too_smooth():
    n, dimension = 10_000, 1.8
    times, waves = np.arange(n) / n, np.arange(int(np.log(n / 64) / np.log(1.5)))
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(waves))
    angles = 2 * np.pi * 1.5 ** waves[:, None] * times + phases[:, None]
    coarse = (1.5 ** (-(2 - dimension) * waves)) @ np.cos(angles)
    assert antropy.higuchi_fd(coarse, kmax=20) < dimension - 0.3


def test_weierstrass_takes_a_dimension_for_each_channel():
    signals = nm.weierstrass([1.2, 1.8], 4000, n_channels=2, seed=1)
    assert signals.shape == (2, 4000)
    assert signals.dtype == torch.float64
    low, high = (antropy.higuchi_fd(signal.numpy(), kmax=10) for signal in signals)
    assert low < 1.3 < 1.7 < high
    assert torch.equal(signals, nm.weierstrass([1.2, 1.8], 4000, n_channels=2, seed=1))
    many = nm.weierstrass(1.4, 200, n_channels=2000, seed=0)
    assert float(many.var()) == pytest.approx(1, abs=0.03)


def test_a_long_function_is_computed_in_pieces_that_fit_together():
    long = nm.weierstrass(1.3, 60_000, seed=3)[0]
    steps = long.diff().abs()
    assert float(steps.max()) < 20 * float(steps.mean())


@pytest.mark.parametrize("slope", [0.0, -1.0, -2.0, -3.0])
def test_images_have_the_slope_of_their_power(slope):
    for seed in range(3):
        images = nm.fractal_image(slope, size=128, n_images=8, seed=seed).numpy()
        assert radial_slope(images)[0] == pytest.approx(slope, abs=0.05)


def test_images_are_alike_in_all_directions():
    images = nm.fractal_image(-2, size=128, n_images=40, seed=0).numpy()
    spectra = []
    for sector in (0, 45, 90, 135):
        slope, spectrum = radial_slope(images, sector)
        assert slope == pytest.approx(-2, abs=0.06)
        spectra.append(spectrum)
    ratios = np.log(np.array(spectra) / np.mean(spectra, axis=0))
    assert np.abs(ratios.mean(1)).max() < 0.05
    # one that is stretched is told apart
    stretched = images[:, :, :64].repeat(2, axis=2)
    along, across = (radial_slope(stretched, sector)[1][:20].mean() for sector in (0, 90))
    assert max(along / across, across / along) > 2


def test_images_are_normalised_and_seeded():
    images = nm.fractal_image(-2.5, size=63, n_images=3, seed=7)
    assert images.shape == (3, 63, 63)
    assert images.dtype == torch.float64
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(images.mean((1, 2)), zero, rtol=0, atol=1e-12)
    torch.testing.assert_close(images.var((1, 2), correction=0), one, rtol=1e-12, atol=0)
    assert torch.equal(images[:2], nm.fractal_image(-2.5, size=63, n_images=2, seed=7))


def test_cantor_and_sierpinski_have_their_dimension():
    cantor, carpet = nm.cantor_set(9).numpy(), nm.sierpinski_carpet(5).numpy()
    sizes = 3 ** np.arange(5)
    for pattern, known in ((cantor, np.log(2) / np.log(3)), (carpet, np.log(8) / np.log(3)), (np.ones((243, 243)), 2)):
        slope = -np.polyfit(np.log(sizes), np.log(box_counts(pattern, sizes)), 1)[0]
        assert slope == pytest.approx(known, abs=1e-9)
    assert cantor.sum() == 2**9
    assert carpet.sum() == 8**5


def test_cantor_and_sierpinski_are_where_no_digit_is_in_the_middle():
    digits = [np.base_repr(place, 3) for place in range(3**6)]
    assert nm.cantor_set(6).tolist() == [float("1" not in text) for text in digits]
    carpet, n = nm.sierpinski_carpet(3), 27
    for row in range(n):
        for column in range(n):
            pairs = zip(np.base_repr(row, 3).zfill(3), np.base_repr(column, 3).zfill(3), strict=True)
            assert carpet[row, column] == (("1", "1") not in pairs)


def test_the_mandelbrot_set_has_its_area_and_points():
    size, steps = 400, 1000
    found = nm.mandelbrot_set(size, steps)
    area = float((found == steps).double().mean()) * 2.5**2
    assert area == pytest.approx(1.5066, abs=0.02)
    assert torch.equal(found, found.flip(0))  # conjugate points

    def at(point):
        column = int((point.real + 2) / 2.5 * size)
        row = int((1.25 - point.imag) / 2.5 * size)
        return int(found[row, column])

    for inside in (0j, -1 + 0j, -0.1 + 0.74j, 0.2 + 0j, -1.3 + 0j):
        assert at(inside) == steps
    for outside in (0.45 + 0j, 0.4 + 0.5j, -1.9 + 1.2j, -0.5 + 1j):
        assert at(outside) < 30
    middles = (np.arange(size) - (size - 1) / 2) / size * 2.5
    random = np.random.default_rng(0)
    for row, column in random.integers(size, size=(200, 2)):
        c, z, count = complex(middles[column] - 0.75, -middles[row]), 0j, 0
        while count < steps and abs(z := z * z + c) <= 2:
            count += 1
        assert found[row, column] == count


@pytest.mark.parametrize(
    "call",
    [
        lambda: nm.multiplicative_cascade(0),
        lambda: nm.multiplicative_cascade(40),
        lambda: nm.multiplicative_cascade(5, "binomal"),
        lambda: nm.multiplicative_cascade(5, p=1.0),
        lambda: nm.multiplicative_cascade(5, p="half"),
        lambda: nm.multiplicative_cascade(5, sigma=0.2),
        lambda: nm.multiplicative_cascade(5, "lognormal", p=0.7),
        lambda: nm.multiplicative_cascade(5, "lognormal", shuffle=False),
        lambda: nm.multiplicative_cascade(5, "lognormal", sigma=1.3),
        lambda: nm.weierstrass(2.0, 100),
        lambda: nm.weierstrass(1.0, 100),
        lambda: nm.weierstrass(1.5, 100, ratio=1.0),
        lambda: nm.weierstrass([1.5, 1.2], 100, n_channels=3),
        lambda: nm.fractal_image(float("nan")),
        lambda: nm.fractal_image("steep"),
        lambda: nm.fractal_image(-2, size=2),
        lambda: nm.cantor_set(-1),
        lambda: nm.cantor_set(30),
        lambda: nm.sierpinski_carpet(9),
        lambda: nm.mandelbrot_set(0),
        lambda: nm.mandelbrot_set(100_000),
    ],
)
def test_stimuli_that_do_not_exist_are_refused(call):
    with pytest.raises(OptionError):
        call()
