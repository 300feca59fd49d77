"""Recurrence plots whose points and lines are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.statistics.surrogates import phase_randomised
from tests.slow import slow_case

PERIOD, N_TIMES = 25, 500


@pytest.fixture(scope="module")
def circle() -> np.ndarray:
    angle = 2 * np.pi * np.arange(N_TIMES) / PERIOD
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def test_periodic_motion_is_nothing_but_diagonals(circle):
    found = nm.recurrence(circle, radius=0.01)
    lengths = N_TIMES - PERIOD * np.arange(1, N_TIMES // PERIOD)
    assert found.determinism == 1.0
    assert found.data["longest_diagonal"] == N_TIMES - PERIOD
    assert found.data["mean_diagonal"] == lengths.mean()
    assert found.data["diagonal_entropy"].item() == pytest.approx(np.log(len(lengths)))
    assert found.laminarity == 0.0
    # pairs one sample apart are no pairs
    assert found.rate == pytest.approx(lengths.sum() / ((N_TIMES - 1) * (N_TIMES - 2) / 2))


@pytest.mark.parametrize("rate", [0.05, slow_case(0.15)])
def test_noise_has_the_lines_of_chance(rate):
    """Independent pairs: a point is on a line of two or more unless both of its neighbours are missing."""
    ratios = []
    for seed in range(12):
        angle = 2 * np.pi * np.random.default_rng(seed).uniform(size=800)
        # on a circle all states have as many neighbours
        found = nm.recurrence(np.stack([np.cos(angle), np.sin(angle)], 1), rate=rate, theiler=0, seed=seed)
        assert found.rate == pytest.approx(rate, rel=0.02)
        expected = 1 - (1 - found.rate) ** 2
        ratios.append([found.determinism, found.laminarity, found.data["chance_determinism"].item()])
        ratios[-1] = [value / expected for value in ratios[-1]]
    determinism, laminarity, chance = np.mean(ratios, axis=0)
    assert abs(determinism - 1) < 0.04
    assert abs(chance - 1) < 0.04
    assert abs(laminarity - 1) < 0.12  # states that follow each other by chance count in many columns


def test_states_that_share_samples_make_lines_and_the_random_order_shows_it():
    noise = np.random.default_rng(0).normal(size=1000)
    found = nm.recurrence(noise, delay=1, dimension=4)
    assert found.determinism > 0.5
    assert abs(found.determinism - found.data["chance_determinism"].item()) < 0.03


def test_a_rhythm_in_noise_lies_between():
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(1000) / 6.3)
    clean, noisy, noise = (
        nm.recurrence(wave * a + b * rng.normal(size=1000), delay=10, dimension=2).determinism
        for a, b in ((1, 0), (1, 0.2), (0, 1))
    )
    assert noise < 0.2 < noisy < 0.9 < clean


def test_a_state_that_lasts_is_laminar():
    steps = np.repeat(np.random.default_rng(0).permutation(40).astype(float), 10)
    found = nm.recurrence(steps, radius=0.1, dimension=1, theiler=0)
    # square blocks of ten, without their diagonal: verticals of 0 to 9 points on either side of it
    sides = np.concatenate([np.arange(10), np.arange(10)[::-1]])
    assert found.laminarity == pytest.approx(sides[sides >= 2].sum() / sides.sum())
    assert found.data["trapping_time"].item() == pytest.approx(sides[sides >= 2].mean())


def test_points_and_lines_equal_those_of_the_matrix():
    rng = np.random.default_rng(3)
    trials = [np.cumsum(rng.normal(size=(n, 2)), axis=0) for n in (60, 35, 20)]
    theiler, radius = 2, 1.5
    found = nm.recurrence(trials, radius=radius, theiler=theiler, shortest=2)
    points, trial = np.concatenate(trials), np.repeat([0, 1, 2], [60, 35, 20])
    index = np.arange(len(points))
    near = cdist(points, points) <= radius
    near &= (np.abs(index[:, None] - index) > theiler) | (trial[:, None] != trial)
    assert (found.matrix == near).all()
    diagonal, vertical = [], []
    for a in range(3):
        for b in range(3):
            block = near[np.ix_(trial == a, trial == b)]
            for offset in range(-block.shape[0] + 1, block.shape[1]):
                if a < b or (a == b and offset > 0):
                    diagonal += run_lengths(block.diagonal(offset))
            for column in block.T:
                vertical += run_lengths(column)
    for lengths, share in ((diagonal, found.determinism), (vertical, found.laminarity)):
        lengths = np.array(lengths)
        assert share == pytest.approx(lengths[lengths >= 2].sum() / lengths.sum())
    assert found.data["longest_diagonal"] == max(diagonal)
    assert found.data["trapping_time"].item() == pytest.approx(np.mean([n for n in vertical if n >= 2]))


def run_lengths(values: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], values.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_chaos_repeats_itself_for_longer_than_noise_of_its_spectrum():
    import torch

    start = torch.tensor([1.0, 1.0, 25.0], dtype=torch.float64)
    x = nm.simulate(nm.rk4(nm.lorenz, 0.04, n_substeps=2), start, 1500, discard=300)[0, :, :1].numpy()
    chaos = nm.recurrence(x, delay=4, dimension=3)
    for seed in range(3):
        surrogate = phase_randomised(x.T[None], np.random.default_rng(seed))[0].T
        noise = nm.recurrence(surrogate, delay=4, dimension=3)
        assert chaos.data["mean_diagonal"] > 1.5 * noise.data["mean_diagonal"]


def test_saved_drawn_and_said(circle, tmp_path):
    found = nm.recurrence(nm.Recording(circle, ("time", "unit"), sampling_rate=50.0), radius=0.01)
    assert nm.load_result(found.save(tmp_path / "recurrence.nc")) == found
    assert "determinism 1.000" in found.summary()
    assert found.data["longest_diagonal"].attrs["units"] == "s"
    assert found.data["longest_diagonal"] == pytest.approx((N_TIMES - PERIOD) / 50)
    assert found.plot().get_xlabel() == "state (in order of time)"
    long = nm.recurrence(np.random.default_rng(0).normal(size=1200), rate=0.01, dimension=1)
    long.plot()


def test_no_recurrence_at_all():
    found = nm.recurrence(np.arange(50.0), radius=0.1, dimension=1)
    assert found.rate == 0
    assert np.isnan(found.determinism)
    found.plot()


def test_bad_input(circle):
    with pytest.raises(InputError, match="constant"):
        nm.recurrence(np.zeros(100))
    with pytest.raises(InputError, match="too short"):
        nm.recurrence([0.0, 1.0])
    with pytest.raises(InputError, match="too few samples for the embedding"):
        nm.recurrence(circle[:20, 0], delay=10, dimension=4)
    with pytest.raises(InputError, match="too few samples for recurrences"):
        nm.recurrence(circle[:5], theiler=10)
    with pytest.raises(InputError, match="do not fit the memory"):
        nm.recurrence(np.random.default_rng(0).normal(size=(8000, 1)), radius=10.0, dimension=1)
    for options in ({"radius": 0.0}, {"rate": 0.0}, {"rate": 0.9}, {"theiler": -1}, {"shortest": 1}):
        with pytest.raises(OptionError):
            nm.recurrence(circle, **options)
