"""Tangling of curves on which it can be written down: a circle, a figure of eight, and trials that cross."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

N_TIMES = 400
ANGLE = 2 * np.pi * np.arange(3 * N_TIMES) / N_TIMES  # three times around, so that the middle has no ends
CIRCLE = np.stack([np.cos(ANGLE), np.sin(ANGLE)], axis=1)
EIGHT = np.stack([np.cos(ANGLE), np.sin(2 * ANGLE)], axis=1)
STEP = 2 * np.pi / N_TIMES
MIDDLE = slice(N_TIMES, 2 * N_TIMES)


def at(result, trial=0):
    return result.main.values[trial]


def test_circle_is_as_low_as_written_down():
    found = at(nm.trajectory_tangling(CIRCLE))[MIDDLE]
    speed = np.sin(STEP)  # of central differences, per radius
    # most tangled with the other side: 4 speed^2 / (4 + 0.1), total variance 1
    assert found == pytest.approx(np.full(N_TIMES, 4 * speed**2 / 4.1), rel=1e-3)


def test_figure_of_eight_is_as_high_at_the_crossing_as_written_down():
    result = nm.trajectory_tangling(EIGHT)
    found = at(result)[MIDDLE]
    crossing = N_TIMES // 4  # at x = 0, y = 0, with the directions (-1, -2) and (1, -2)
    assert found[crossing] == pytest.approx(4 * np.sin(STEP) ** 2 / 0.1, rel=1e-3)
    assert result.data["with_time"].values[0, N_TIMES + crossing] % N_TIMES == 3 * N_TIMES // 4
    assert found.max() == pytest.approx(found[crossing], rel=0.02)
    circle = at(nm.trajectory_tangling(CIRCLE))[MIDDLE]
    assert found[crossing] > 30 * circle.max()
    # a third dimension in which the branches are apart takes the crossing away
    lifted = np.column_stack([EIGHT, 3 * np.sin(ANGLE)])
    assert at(nm.trajectory_tangling(lifted))[MIDDLE].max() < found.max() / 4


def test_trials_are_tangled_with_each_other_and_never_joined():
    time = np.linspace(-1, 1, 101)
    rising = np.stack([time, time], axis=1)
    falling = np.stack([time, -time], axis=1)[:81]
    one = nm.trajectory_tangling([rising])
    both = nm.trajectory_tangling([rising, falling])
    assert one.values == pytest.approx(np.zeros(99), abs=1e-20)  # one direction throughout
    variance = np.concatenate([rising, falling]).var(0).sum()
    expected = 0.04**2 / (0.1 * variance)
    assert at(both)[50] == pytest.approx(expected, rel=1e-9)
    assert both.data["with_trial"].values[0, 50] == 1
    assert both.data["with_time"].values[0, 50] == 50
    assert both.data["distance"].values[0, 50] < 1e-9
    assert np.isnan(at(both, 1)[80:]).all()
    assert np.all(both.data["with_trial"].values[1, 80:] == -1)
    assert both.values.size == 178
    backwards = nm.trajectory_tangling([rising, rising[::-1]])  # the same path both ways
    assert backwards.values.min() > 0


def test_epsilon_and_the_unit_of_time():
    plain = nm.trajectory_tangling(EIGHT)
    crossing = N_TIMES + N_TIMES // 4
    assert at(nm.trajectory_tangling(EIGHT, epsilon=0.2))[crossing] == pytest.approx(at(plain)[crossing] / 2, rel=1e-3)
    recorded = xr.DataArray(EIGHT, dims=("time", "unit"), attrs={"sampling_rate": 50.0})
    found = nm.trajectory_tangling(recorded)
    assert found.values == pytest.approx(2500 * plain.values, rel=1e-9)
    assert found.main.attrs["units"] == "1/s²"
    assert nm.trajectory_tangling(1e3 * EIGHT - 40).values == pytest.approx(plain.values, rel=1e-6)


def test_equals_a_loop_over_pairs_of_times():
    random = np.random.default_rng(0)
    trials = [random.normal(size=(n, 5)).cumsum(0) for n in (30, 20)]
    found = nm.trajectory_tangling(trials, n_components=3)
    joined = np.concatenate(trials)
    axes = np.linalg.svd(joined - joined.mean(0), full_matrices=False)[2][:3]
    states = [(trial - joined.mean(0)) @ axes.T for trial in trials]
    speeds = np.concatenate([np.gradient(trial, axis=0)[1:-1] for trial in states])
    states = np.concatenate([trial[1:-1] for trial in states])
    epsilon = 0.1 * joined.var(0).sum()
    for row in (0, 17, 31, 45):
        ratio = ((speeds - speeds[row]) ** 2).sum(1) / (((states - states[row]) ** 2).sum(1) + epsilon)
        assert found.values[row] == pytest.approx(ratio.max(), rel=1e-9)


def test_ends_of_a_trial_are_no_more_tangled_than_the_same_times_within_a_longer_one():
    """What is cut out of a long recording has the tangling it has there, with noise too: no end stands out."""
    starts = np.arange(N_TIMES // 2, 3 * N_TIMES // 2, N_TIMES // 20)
    for noise in (0.0, 0.02, 0.1):
        raised, highest = [], []
        for seed, start in enumerate(starts):
            loop = CIRCLE + noise * np.random.default_rng(seed).normal(size=CIRCLE.shape)
            cut = slice(start, start + N_TIMES + 1)
            alone, epsilon = nm.trajectory_tangling(loop[cut]), loop[cut].var(0).sum() / loop.var(0).sum()
            within = at(nm.trajectory_tangling(loop, epsilon=0.1 * epsilon))[cut]
            raised.append(np.nanmax(at(alone)) / np.nanmax(within))
            highest.append(np.nanargmax(at(alone)) in (0, 1, N_TIMES - 1, N_TIMES))
        # fewer times to be tangled with can only lower it
        assert max(raised) < 1 + 1e-9  # with one-sided differences up to 1.4 in noise
        assert sum(highest) <= 3  # with one-sided differences 13 of 20 without noise


def test_tangling_is_that_of_the_known_derivative():
    angle = 2 * np.pi * np.arange(200) / 200 * 0.98
    knot = np.stack([np.cos(angle), np.sin(angle), 0.3 * np.cos(2 * angle + 1)], axis=1)
    speed = np.stack([-np.sin(angle), np.cos(angle), -0.6 * np.sin(2 * angle + 1)], axis=1) * (angle[1] - angle[0])
    ways = ((speed[1:-1, None] - speed[None, 1:-1]) ** 2).sum(-1)
    apart = ((knot[1:-1, None] - knot[None, 1:-1]) ** 2).sum(-1)
    expected = (ways / (apart + 0.1 * knot.var(0).sum())).max(1)
    assert nm.trajectory_tangling(knot).values == pytest.approx(expected, rel=2e-3)


def test_noise_tangles_and_smooth_flow_does_not():
    random = np.random.default_rng(0)
    noisy = CIRCLE + 0.05 * random.normal(size=CIRCLE.shape)
    clean, rough = (nm.trajectory_tangling(x).percentile(90) for x in (CIRCLE, noisy))
    assert rough > 10 * clean


@pytest.mark.parametrize(
    ("x", "options", "error", "problem"),
    [
        (np.ones((50, 3)), {}, InputError, "does not vary"),
        (np.full((50, 3), np.nan), {}, InputError, "NaN"),
        (CIRCLE[:3], {}, InputError, "too short"),
        (CIRCLE, {"n_components": 3}, OptionError, "n_components is too large"),
        (CIRCLE, {"epsilon": 0.0}, OptionError, "epsilon"),
        (CIRCLE, {"epsilon": np.inf}, OptionError, "epsilon"),
    ],
)
def test_bad_input(x, options, error, problem):
    with pytest.raises(error, match=problem):
        nm.trajectory_tangling(x, **options)


def test_the_result_says_shows_and_keeps(tmp_path):
    found = nm.trajectory_tangling(torch.from_numpy(EIGHT))
    assert "nearly the state of trial 0" in found.summary()
    assert found.plot(Figure().subplots()).get_ylabel() == "tangling Q (1/sample²)"
    assert nm.load_result(found.save(tmp_path / "tangling.nc")) == found
    assert "2 standard deviations from that of trial 0" in nm.trajectory_tangling(CIRCLE).summary()  # the other side
    many = nm.trajectory_tangling(np.stack([CIRCLE[:50] + 0.01 * trial for trial in range(12)]))
    assert many.plot(Figure().subplots()).get_xlabel() == "time (samples)"


def test_trials_that_differ_and_do_not_move_have_no_tangling():
    still = np.repeat(np.random.default_rng(0).normal(size=(3, 1, 4)), 40, axis=1)
    with pytest.raises(InputError, match="does not vary"):
        nm.trajectory_tangling(still)
