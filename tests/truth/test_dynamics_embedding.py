"""Delays and dimensions that are known, of one trial and of many, and data that cannot be embedded."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.dynamics.embedding.mutual_information import mutual_information
from neuros_mechint.neuro.dynamics.embedding.neighbours import theiler_window

DT = 0.01


@pytest.fixture(scope="module")
def lorenz() -> np.ndarray:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start += torch.tensor([1.0, 1.0, 25.0])
    return nm.simulate(nm.rk4(nm.lorenz, DT), start, 5000, discard=1500).numpy()


def recorded(values: np.ndarray, rate: float) -> nm.Recording:
    return nm.Recording(values, ("time", "unit"), sampling_rate=rate)


def test_lorenz_unfolds_in_three_dimensions_at_its_delay(lorenz):
    for x in lorenz:
        found = nm.delay_embedding(recorded(x[:, :1], 1 / DT), progress=False)
        assert 0.155 <= found.delay * DT <= 0.185
        assert found.dimension == 3
        shares = found.data["false_neighbours"].values
        assert shares[0] > 0.9
        assert 0.02 < shares[1] < 0.1
        assert shares[2] < 0.01
        assert found.attributes["delay_rule"] == "first minimum of the average mutual information"
        # what is returned are the samples themselves
        delay = found.delay
        assert (found.trials[0] == np.stack([x[: -2 * delay, 0], x[delay:-delay, 0], x[2 * delay :, 0]], 1)).all()


def test_rossler_unfolds_in_three_dimensions_at_a_quarter_of_its_period():
    start = torch.tensor([[1.0, 1.0, 0.0], [2.0, -1.0, 0.0]], dtype=torch.float64)
    for x in nm.simulate(nm.rk4(nm.rossler, 0.1), start, 3000, discard=1000):
        found = nm.delay_embedding(x[:, :1], progress=False)
        assert found.dimension == 3
        assert 12 <= found.delay <= 15  # the period is 58 samples


def test_maps_have_a_delay_of_one_and_henon_two_dimensions():
    start = torch.tensor([[0.1, 0.1], [0.2, -0.1], [-0.1, 0.05]], dtype=torch.float64)
    for x in nm.simulate(nm.henon_map, start, 2500, discard=100):
        found = nm.delay_embedding(x[:, :1])
        assert (found.delay, found.dimension) == (1, 2)
    x = nm.simulate(nm.logistic_map, torch.tensor([0.3], dtype=torch.float64), 2000, discard=100)
    assert nm.delay_embedding(x).dimension == 1


def test_a_wave_is_embedded_at_a_quarter_of_its_period():
    found = nm.delay_embedding(np.sin(np.arange(2000) / 6.3))
    assert found.delay == 10
    assert found.dimension == 2
    assert "first zero of the autocorrelation" in found.attributes["delay_rule"]


def test_noise_never_unfolds():
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=2000)
        with pytest.warns(UserWarning, match="no embedding in up to 10 dimensions has less than 1% false neighbours"):
            found = nm.delay_embedding(noise, progress=False)
        assert found.data["false_neighbours"].min() > 0.1
        assert found.warnings


def test_mutual_information_of_a_gaussian_process():
    """-ln(1 - r^2) / 2 at the correlation r; fine bins lose little of it."""
    rng, r = np.random.default_rng(0), 0.8
    x = np.empty(40_000)
    x[0] = rng.normal()
    for index, shock in enumerate(rng.normal(size=len(x) - 1) * np.sqrt(1 - r**2)):
        x[index + 1] = r * x[index] + shock
    found = mutual_information([x[:25_000, None], x[25_000:, None]], 3)
    expected = -np.log(1 - r ** (2 * np.arange(1, 4))) / 2
    assert np.abs(found[1:] - expected).max() < 0.03
    # no pair of samples lies across the boundary of trials
    shuffled = [x[25_000:, None], x[:25_000, None]]
    assert np.allclose(mutual_information(shuffled, 3), found, rtol=1e-12)


def test_mean_period():
    assert theiler_window([np.sin(2 * np.pi * np.arange(4000) / 50)[:, None]]) == 50
    assert theiler_window([np.cumsum(np.random.default_rng(0).normal(size=(300, 1)), axis=0)]) <= 30


def test_trials_are_never_joined(lorenz):
    pieces = [lorenz[0][:700, :1], lorenz[1][:300, :1], lorenz[2][:1500, :1]]
    found = nm.delay_embedding(pieces, delay=17, dimension=3)
    assert [len(trial) for trial in found.trials] == [666, 266, 1466]
    for trial, piece in zip(found.trials, pieces, strict=True):
        assert (trial[:, 0] == piece[:-34, 0]).all()
        assert (trial[:, 2] == piece[34:, 0]).all()
    chosen = nm.delay_embedding([x[:2500, :1] for x in lorenz], progress=False)
    assert chosen.dimension == 3
    assert 15 <= chosen.delay <= 19


def test_several_units_keep_their_names(lorenz):
    names = ["a", "b"]
    recording = nm.Recording(lorenz[0][:500, :2], ("time", "unit"), {"unit": names}, sampling_rate=100.0)
    found = nm.delay_embedding(recording, delay=5, dimension=2)
    assert found.main.sizes["coordinate"] == 4
    assert found.data["unit"].values.tolist() == ["a", "b", "a", "b"]
    assert np.allclose(found.data["delay"], [0, 0, 0.05, 0.05])
    assert found.data["time"].attrs["units"] == "s"


def test_saved_drawn_and_said(lorenz, tmp_path):
    x = lorenz[0][:2000, :1]
    before = x.copy()
    found = nm.delay_embedding(recorded(x, 1 / DT), progress=False)
    assert (x == before).all()
    assert nm.load_result(found.save(tmp_path / "embedding.nc")) == found
    assert "first minimum of the average mutual information" in found.summary()
    assert "time t + 0.1" in found.plot().get_ylabel()


def test_bad_input(lorenz):
    x = lorenz[0][:, :1]
    with pytest.raises(InputError, match="constant"):
        nm.delay_embedding(np.zeros(100))
    with pytest.raises(InputError, match="too few samples to choose a delay"):
        nm.delay_embedding(x[:40])
    with pytest.raises(InputError, match="too few samples for the embedding"):
        nm.delay_embedding([x[:500], x[:30]], delay=17, dimension=3)
    with pytest.raises(InputError, match="too few samples for the embedding"):
        nm.delay_embedding(x[:60], delay=30)
    with pytest.raises(InputError, match="NaN"):
        nm.delay_embedding(np.where(np.arange(300) == 7, np.nan, 1.0))
    for options in ({"delay": 0}, {"dimension": 0}, {"delay": 1.5}):
        with pytest.raises(OptionError):
            nm.delay_embedding(x, **options)


def test_one_unit_of_many_may_be_silent(lorenz):
    x = np.concatenate([lorenz[0][:2000, :1], np.zeros((2000, 1))], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nm.delay_embedding(x, progress=False)
    assert found.delay == nm.delay_embedding(x[:, :1], progress=False).delay
