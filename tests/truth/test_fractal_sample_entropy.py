"""Sample entropy against nolds, antropy, a count by hand, and white noise, whose entropy is -ln(erf(r / 2))."""

from __future__ import annotations

import math

import antropy
import nolds
import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from tests.slow import slow_case


def signals(n, seed):
    random = np.random.default_rng(seed)
    noise = random.normal(size=n)
    return {
        "white": noise,
        "walk": noise.cumsum(),
        "sine": np.sin(0.3 * np.arange(n)),
        "spikes": (random.random(n) < 0.1).astype(float),
    }


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("tolerance", [0.2, 0.5])
def test_nolds_and_antropy_find_the_same(order, tolerance):
    for seed, n in ((0, 300), (1, 301), (2, 400)):
        for name, x in signals(n, seed).items():
            radius = tolerance * x.std()
            found = float(nm.SampleEntropy(order, tolerance)(x))
            assert found == pytest.approx(nolds.sampen(x, order, tolerance=radius), abs=1e-12), name
            assert found == pytest.approx(antropy.sample_entropy(x, order, tolerance=float(radius)), abs=1e-12), name


def test_the_defaults_are_those_of_antropy():
    x = signals(500, 3)["white"]
    assert float(nm.SampleEntropy()(x)) == pytest.approx(antropy.sample_entropy(x), abs=1e-12)
    # nolds divides by n - 1 in the standard deviation, and its factor is .2006: the same definition, another radius
    factor = 0.1164 * (0.5627 * math.log(2) + 1.3334) * math.sqrt(500 / 499)
    assert float(nm.SampleEntropy(tolerance=factor)(x)) == pytest.approx(nolds.sampen(x), abs=1e-12)


def test_a_count_by_hand():
    x, order, tolerance = np.random.default_rng(0).normal(size=40), 2, 0.6
    radius, counts = tolerance * x.std(), [0, 0]
    for i in range(40 - order):
        for j in range(i + 1, 40 - order):
            apart = abs(x[i : i + order + 1] - x[j : j + order + 1])
            counts[0] += apart[:order].max() < radius
            counts[1] += apart.max() < radius
    assert float(nm.SampleEntropy(order, tolerance)(x)) == pytest.approx(math.log(counts[0] / counts[1]), abs=1e-14)


@pytest.mark.parametrize("tolerance", [0.2, 1.0, slow_case(0.5)])
def test_white_noise_has_its_entropy(tolerance):
    known = -math.log(math.erf(tolerance / 2))
    found = nm.SampleEntropy(tolerance=tolerance)(np.random.default_rng(0).normal(size=(12, 4000)))
    assert float(found.mean()) == pytest.approx(known, abs=0.01)
    assert float(found.std()) < 0.02
    for order in (1, 3):  # what comes next does not depend on how much is alike
        other = nm.SampleEntropy(order, tolerance)(np.random.default_rng(1).normal(size=(8, 3000)))
        assert float(other.mean()) == pytest.approx(known, abs=0.05)


def test_uniform_noise_has_its_entropy():
    # |x - y| < r for uniform x, y: 2 r - r^2, with r in units of the range: .2 / sqrt(12)
    radius = 0.2 / math.sqrt(12)
    found = nm.SampleEntropy()(np.random.default_rng(0).random((8, 4000)))
    assert float(found.mean()) == pytest.approx(-math.log(2 * radius - radius**2), abs=0.01)


def test_what_can_be_predicted_has_less():
    time = np.arange(3000)
    sine = float(nm.SampleEntropy()(np.sin(0.1 * time)))
    period = float(nm.SampleEntropy()(np.tile([0.0, 1.0, 3.0, 2.0], 500)))
    noise = np.random.default_rng(0).normal(size=(3, 3000))
    walks = nm.SampleEntropy()(noise.cumsum(1))
    shuffled = float(nm.SampleEntropy()(np.random.default_rng(1).permutation(np.sin(0.1 * time))))
    assert sine < 0.3
    assert period == pytest.approx(0, abs=0.002)
    assert float(walks.max()) < 0.6
    assert shuffled > 1.5  # the same values in another order


def test_scale_and_offset_do_not_matter():
    x = np.random.default_rng(0).normal(size=(3, 1000))
    found = nm.SampleEntropy()(x)
    for changed in (1e6 * x, 1e-6 * x, -x, x + 7.5, 3 * x - 100):
        torch.testing.assert_close(nm.SampleEntropy()(changed), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(nm.SampleEntropy()(x[:, ::-1].copy()), found, rtol=0, atol=0.02)


def test_shapes_and_kinds_of_data():
    x = np.random.default_rng(0).normal(size=(2, 3, 200))
    found = nm.SampleEntropy()(x)
    assert found.shape == (2, 3)
    assert found.dtype == torch.float64
    assert torch.equal(nm.SampleEntropy()(x[1, 2]), found[1, 2])
    single = nm.SampleEntropy()(torch.from_numpy(x).float().requires_grad_())
    assert single.dtype == torch.float32
    assert not single.requires_grad  # counts have no gradient
    torch.testing.assert_close(single.double(), found, rtol=0, atol=0.05)
    labelled = xr.DataArray(x, dims=("trial", "unit", "time")).transpose("time", "unit", "trial")
    assert torch.equal(nm.SampleEntropy()(labelled), found.T)


def test_errors_cover_the_truth():
    known = -math.log(math.erf(0.1))
    result = nm.SampleEntropy().estimate(np.random.default_rng(5).normal(size=(60, 800)))
    inside = (result.data["low"] <= known) & (known <= result.data["high"])
    assert float(inside.mean()) >= 0.9
    ratio = float(result.data["standard_error"].mean()) / result.values.std()
    assert 0.85 < ratio < 1.4
    assert "leaving out each of 20 blocks" in result.summary()


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_errors_cover_the_truth_of_signals_with_memory(memory):
    from scipy.signal import lfilter

    def drawn(n_signals, n_samples, seed):
        noise = np.random.default_rng(seed).normal(size=(n_signals, n_samples + 500))
        return lfilter([1], [1, -memory], noise)[:, 500:]

    known = float(nm.SampleEntropy()(drawn(10, 10_000, 0)).mean())
    result = nm.SampleEntropy().estimate(drawn(200, 1000, 1))
    inside = (result.data["low"] <= known) & (known <= result.data["high"])
    assert 0.91 <= float(inside.mean()) <= 1
    assert 0.85 < float(result.data["standard_error"].mean()) / result.values.std() < 1.3


def test_results_show_and_keep_what_they_are():
    random = np.random.default_rng(0)
    result = nm.SampleEntropy().estimate(xr.DataArray(random.normal(size=(4, 200)), dims=("unit", "time")))
    assert result.main.name == "entropy"
    assert result.main.dims == ("unit",)
    assert result.citations == ("richman2000",)
    result.plot()


def test_nothing_alike_is_said():
    with pytest.warns(UserWarning, match="1 of 1 signals have no moments that stay alike"):
        found = nm.SampleEntropy(order=1, tolerance=0.01)([0.0, 1.0, 0.0, 5.0, 9.0, 14.0, 20.0])
    assert math.isinf(float(found))
    with pytest.warns(UserWarning, match="1 of 2 signals have no moments that are alike"):
        found = nm.SampleEntropy(order=1, tolerance=0.01)([[0.0, 1.0, 3.0, 6.0, 10.0], [0.0, 1.0, 0.0, 1.0, 7.0]])
    assert math.isnan(float(found[0]))
    assert float(found[1]) == pytest.approx(math.log(2))
    result = nm.SampleEntropy(order=6).estimate(np.random.default_rng(0).normal(size=(2, 200)))
    assert any("their error is not known" in text for text in result.warnings)
    assert np.isnan(result.data["standard_error"].values).all()


@pytest.mark.parametrize(
    "x",
    [
        np.ones(50),
        np.arange(3.0),
        np.array([1.0, np.nan, 2.0, 3.0, 4.0]),
        np.array([1.0, np.inf, 2.0, 3.0, 4.0]),
        np.zeros((0, 10)),
        np.array(["a", "b"] * 5),
        np.exp(1j * np.arange(10)),
    ],
)
def test_bad_signals_are_refused(x):
    with pytest.raises(InputError):
        nm.SampleEntropy()(x)


def test_bad_parameters_are_refused():
    for parameters in ({"order": 0}, {"order": 1.5}, {"tolerance": 0.0}, {"tolerance": -0.2}, {"tolerance": "SD"}):
        with pytest.raises(OptionError):
            nm.SampleEntropy(**parameters)
    with pytest.raises(InputError, match="too short for an error"):
        nm.SampleEntropy().estimate(np.random.default_rng(0).normal(size=50))
