"""Entropy production: rings and rotations with closed forms, equilibrium, bounds, and data that have no answer."""

from __future__ import annotations

import warnings
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.signal import lfilter

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.information.entropy_production.estimate import entropy_production
from neuros_mechint.neuro.information.entropy_production.gaussian import linear_process
from tests.slow import slow_case

STEP = 0.002


@cache
def ring(forth, back, duration=3000.0, seed=0, dt=STEP, n_states=3):
    """States in a ring, with exponential waiting times, seen every ``dt``."""
    random = np.random.default_rng(seed)
    n_jumps = int(1.3 * duration * (forth + back)) + 200
    times = np.cumsum(random.exponential(1 / (forth + back), n_jumps))
    turns = np.where(random.random(n_jumps) < forth / (forth + back), 1, -1)
    states = np.append(0, np.cumsum(turns)) % n_states
    return states[np.searchsorted(times, np.arange(0, duration, dt), side="right")]


@cache
def rotation(speed, n_times=100_000, dt=0.02, seed=0):
    """Two units that decay at rate 1 and turn, driven by noise: exact steps."""
    random = np.random.default_rng(seed)
    multiplier = np.exp((-1 + 1j * speed) * dt)
    noise = random.normal(size=n_times) + 1j * random.normal(size=n_times)
    noise[1:] *= np.sqrt(1 - abs(multiplier) ** 2)  # the first draw is of the stationary distribution
    found: Any = lfilter([1], [1, -multiplier], noise)
    return np.stack([found.real, found.imag], axis=1)


def estimates(made, method, dt, n_sets=5, **options):
    options = {"n_permutations": 39, "progress": False} | options
    return [entropy_production(made(seed), method, dt, seed=seed, **options) for seed in range(n_sets)]


def mean(found):
    return np.mean([one.value for one in found])


# -- closed forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "truth"), [("markov", 1.5 * np.log(4)), ("words", 1.5 * np.log(4)), ("tur", 1.8)])
def test_a_driven_ring_has_its_closed_form_and_bound(method, truth):
    found = estimates(lambda seed: ring(2.0, 0.5, seed=seed), method, STEP)
    assert mean(found) == pytest.approx(truth, rel=0.03)  # 2.0794 and .866 of it
    assert sum(one.interval[0] < truth < one.interval[1] for one in found) >= 4
    assert all(one.p <= 0.05 for one in found)


@pytest.mark.parametrize("method", ["markov", "words", "tur"])
def test_a_ring_at_equilibrium_produces_nothing(method):
    found = estimates(lambda seed: ring(1.0, 1.0, seed=seed), method, STEP)
    assert np.max([abs(one.value) for one in found]) < 0.01
    assert np.median([one.p for one in found]) > 0.1


def test_a_rotation_has_its_closed_form():
    found = estimates(lambda seed: rotation(1.5, seed=seed), "linear", 0.02)
    assert mean(found) == pytest.approx(4.5, rel=0.05)  # 2 w^2 / a
    assert sum(one.interval[0] < 4.5 < one.interval[1] for one in found) >= 4
    # also of samples so far apart that pairs of them show a fifth less
    coarse = estimates(lambda seed: rotation(1.5, dt=0.2, seed=seed), "linear", 0.2)
    assert mean(coarse) == pytest.approx(4.5, rel=0.02)


def test_pairs_far_apart_show_what_they_still_hold():
    """Of a rotation the pairs' divergence is 4 r^2 sin^2(w dt) / (1 - r^2) with r = exp(-a dt)."""
    dt, r = 0.2, np.exp(-0.2)
    truth = 4 * r**2 * np.sin(0.3) ** 2 / (1 - r**2) / dt
    found = estimates(lambda seed: rotation(1.5, dt=dt, seed=seed), "gaussian", dt)
    assert mean(found) == pytest.approx(truth, rel=0.02)
    assert 0.7 * 4.5 < truth < 0.8 * 4.5


def test_the_current_of_a_rotation_is_a_bound_that_short_steps_reach():
    found = estimates(lambda seed: rotation(1.5, 200_000, 0.005, seed=seed), "tur", 0.005, 4)
    assert 0.9 * 4.5 < mean(found) < 1.03 * 4.5
    coarse = estimates(lambda seed: rotation(1.5, dt=0.2, seed=seed), "tur", 0.2)
    assert 0.4 * 4.5 < mean(coarse) < 0.6 * 4.5


@pytest.mark.parametrize("method", ["linear", "gaussian", "tur", slow_case("neural")])
def test_units_without_rotation_produce_nothing(method):
    found = estimates(lambda seed: rotation(0.0, seed=seed), method, 0.02)
    assert np.max([abs(one.value) for one in found]) < 0.01
    assert np.median([one.p for one in found]) > 0.1


@pytest.mark.slow
def test_a_network_finds_a_rotation_on_stretches_it_has_not_seen():
    found = estimates(lambda seed: rotation(1.5, 200_000, seed=seed), "neural", 0.02, 3)
    assert 0.85 * 4.5 < mean(found) < 1.02 * 4.5
    assert all(one.p <= 0.05 for one in found)
    assert "at least" in found[0].summary()


def sheared_cycle(shear, seed, noise=0.2, dt=0.02):
    """A noisy limit cycle that turns one way outside and the other way inside, without mean rotation, and its rate.

    Turning leaves the stationary density exp(r^2 / 2 - r^4 / 4) alone: the rate is the mean of (w(r) r)^2 / noise.
    """
    r = np.linspace(0, 5, 20_001)
    density = r * np.exp((r**2 / 2 - r**4 / 4) / noise)
    density /= density.sum()
    middle = (density @ r**4) / (density @ r**2)
    random = np.random.default_rng(seed)
    states, kept, step = np.exp(2j * np.pi * random.random(100)), [], dt / 5
    for time in range(10_500):
        kicks = random.normal(size=(2, 100))
        square = np.abs(states) ** 2
        states = states + step * states * (1 - square + 1j * shear * (square - middle))
        states += np.sqrt(2 * noise * step) * (kicks[0] + 1j * kicks[1])
        if time >= 500 and time % 5 == 0:
            kept.append(states)
    trials: Any = np.array(kept).T
    return np.stack([trials.real, trials.imag], axis=2), shear**2 * density @ ((r**2 - middle) * r) ** 2 / noise


@pytest.mark.slow
def test_a_network_sees_a_circulation_that_linear_methods_do_not():
    values, truth = sheared_cycle(2.0, seed=0)
    found = {
        method: entropy_production(values, method, 0.02, n_permutations=39, progress=False)
        for method in ("linear", "gaussian", "tur", "neural")
    }
    assert truth == pytest.approx(6.254, abs=1e-3)
    assert 0.8 * truth < found["neural"].value < 1.02 * truth
    assert found["neural"].p <= 0.05
    assert max(abs(found[method].value) for method in ("linear", "gaussian", "tur")) < 0.01


def test_a_linear_process_of_many_units_is_recovered_from_exact_covariances():
    """Against tr(A^T D^-1 A C) + tr(A), which has no irreversible part in it."""
    random = np.random.default_rng(0)
    for n_units in (2, 3, 6):
        drift = random.normal(size=(n_units, n_units)) - 3 * np.sqrt(n_units) * np.eye(n_units)
        root = random.normal(size=(n_units, n_units))
        diffusion = root @ root.T + np.eye(n_units)
        covariance = solve_continuous_lyapunov(drift, -2 * diffusion)
        truth = np.trace(drift.T @ np.linalg.solve(diffusion, drift @ covariance)) + np.trace(drift)
        later = expm(0.05 * drift) @ covariance
        process = linear_process(np.array([*covariance.ravel(), *later.ravel(), 1.0]), n_units, 0.05)
        assert process.drift == pytest.approx(drift, abs=1e-8)
        assert process.diffusion == pytest.approx(diffusion, abs=1e-8)
        assert process.production == pytest.approx(truth, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["markov", "words"])
def test_intervals_cover_and_p_is_small_by_chance_only_as_often_as_it_says(method):
    driven, balanced = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        for shares, found in (((0.4, 0.1, 0.5), driven), ((0.25, 0.25, 0.5), balanced)):
            states = np.cumsum(random.choice([1, -1, 0], p=shares, size=5000)) % 3
            found.append(entropy_production(states, method, n_permutations=39, seed=seed))
    truth = 0.3 * np.log(4)
    assert mean(driven) == pytest.approx(truth, rel=0.02)
    assert np.mean([one.interval[0] < truth < one.interval[1] for one in driven]) >= 0.88
    assert np.mean([one.p <= 0.05 for one in balanced]) <= 0.12
    assert abs(mean(balanced)) < 2e-3


def test_words_see_order_that_steps_do_not():
    """A ring of six states of which every other looks the same: steps balance, and words show half of it."""
    seen = np.array([0, 1, 0, 2, 0, 3])[ring(2.0, 0.5, n_states=6)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # two jumps between samples run one way
        steps, words = (entropy_production(seen, method, STEP) for method in ("markov", "words"))
    assert abs(steps.value) < 0.03  # what two jumps between samples show
    assert words.value == pytest.approx(1.5 * np.log(4) / 2, rel=0.07)
    assert words.interval[0] < 1.5 * np.log(4) / 2 < words.interval[1]
    assert words.p < 0.01


# -- inputs and results ------------------------------------------------------------------------------------------------


def test_unit_and_scale_do_not_matter_and_time_does():
    values = rotation(1.5, 20_000)
    plain = entropy_production(values, "linear", 0.02)
    mixed = entropy_production(values @ np.array([[1e6, 2.0], [-3e6, 0.5]]) + 1e7, "linear", 0.02)
    assert mixed.value == pytest.approx(plain.value, rel=1e-6)
    assert entropy_production(values, "linear", 0.04).value == pytest.approx(plain.value / 2)
    states = ring(2.0, 0.5, 400.0)
    named = entropy_production(10 * states + 7, "markov", STEP)
    assert named.value == entropy_production(states, "markov", STEP).value


def test_the_time_of_a_step_is_that_of_the_recording():
    values = rotation(1.5, 5000)
    recording = nm.Recording(values, dims=("time", "unit"), attrs={"sampling_rate": 50.0})
    known = entropy_production(recording, "linear")
    assert known.attributes["dt"] == pytest.approx(0.02)
    assert known.value == pytest.approx(entropy_production(values, "linear", 0.02).value)
    assert entropy_production(values, "linear").attributes["dt"] == 1


def test_trials_are_not_joined_to_each_other():
    trials = [ring(2.0, 0.5, 100.0, seed)[:, None] for seed in range(10)]
    found = entropy_production(trials, "markov", STEP)
    assert found.attributes["n_steps"] == sum(len(trial) - 1 for trial in trials)
    backwards = entropy_production([trial[::-1] for trial in trials], "markov", STEP)
    assert backwards.value == pytest.approx(found.value)  # as far from its reverse


def test_steps_that_never_run_backwards_are_warned_of():
    random = np.random.default_rng(0)
    one_way = np.cumsum(random.random(4000) < 0.3) % 3
    with pytest.warns(UserWarning, match="never run backwards, such as those from"):
        found = entropy_production(one_way, "markov")
    with pytest.warns(UserWarning, match="never run backwards"):
        longer = entropy_production(np.cumsum(random.random(40_000) < 0.3) % 3, "markov")
    assert longer.value > found.value + 0.5  # there is no answer, and it shows
    bound = entropy_production(one_way, "tur")
    assert bound.value < 1
    assert not bound.warnings


def test_states_seen_too_seldom_are_warned_of():
    random = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="few for the"):
        found = entropy_production(random.integers(40, size=2000), "markov")
    assert found.p > 0.05


def test_short_recordings_are_warned_of():
    with pytest.warns(UserWarning, match="memory"):
        entropy_production(rotation(0.1, 1000, 0.02), "gaussian", 0.02)


GOOD = rotation(1.5, 1000, 0.2)


@pytest.mark.parametrize(
    ("x", "method", "options", "message"),
    [
        (GOOD, "markov", {}, "counts states"),
        (GOOD[:, 0], "words", {}, "not whole"),
        (GOOD[:, 0], "linear", {}, "no circulation"),
        (GOOD[:100], "linear", {}, "too few steps"),
        (np.where(np.arange(1000)[:, None] == 5, np.nan, GOOD), "tur", {}, "NaN"),
        (np.ma.masked_greater(GOOD, 1), "linear", {}, "mask"),
        (np.stack([GOOD[:, 0], np.ones(1000)], 1), "gaussian", {}, "constant"),
        (np.stack([GOOD[:, 0], GOOD[:, 1], GOOD.sum(1)], 1), "gaussian", {}, "follow from others"),
        (np.stack([GOOD[:, 0], GOOD[:, 1], GOOD[:, 1]], 1), "linear", {}, "follow from others"),
        (np.random.default_rng(0).normal(size=(250, 300)), "gaussian", {}, "follow from others"),
        (np.zeros(1000), "markov", {}, "number of states"),
        (np.arange(1000), "markov", {}, "number of states"),
        (np.arange(1000) % 30, "words", {}, "number of states"),
        (rotation(0.0, 1000, 20.0), "linear", {}, "too far apart"),
        (np.random.default_rng(0).normal(size=(500, 13)), "tur", {}, "too many units"),
        ([], "linear", {}, "empty|no array"),
        (GOOD, "liner", {}, "did you mean 'linear'"),
        (GOOD, "linear", {"dt": 0}, "dt is out of range"),
        (GOOD, "linear", {"n_permutations": 5}, "out of range"),
        (GOOD, "linear", {"level": 1}, "coverage"),
    ],
)
def test_bad_input_is_refused(x, method, options, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises((InputError, OptionError), match=message):
            entropy_production(x, method, **options)


def test_a_result_is_told_drawn_and_kept(tmp_path):
    found = entropy_production(ring(2.0, 0.5, 400.0), "markov", STEP)
    assert "not at equilibrium" in found.summary()
    assert found.plot().get_xlabel() == "entropy production (nats per unit of time)"
    assert nm.load_result(found.save(tmp_path / "production.nc")) == found
    still = entropy_production(ring(1.0, 1.0, 400.0, seed=1), "markov", STEP)
    assert "do not show" in still.summary()
    assert entropy_production(ring(2.0, 0.5, 400.0), "markov", STEP).data.identical(found.data)


def test_without_a_method_a_bound_is_told_that_holds_of_states_and_of_units():
    for values in (ring(2.0, 0.5, 100.0), GOOD):
        found = entropy_production(values)
        assert found.value == entropy_production(values, "tur").value
        assert "entropy production: at least" in found.summary()


def test_no_test_where_none_is_asked_for(tmp_path):
    found = entropy_production(ring(2.0, 0.5, 400.0), "markov", STEP, n_permutations=0)
    assert found.p is None
    assert found.value == entropy_production(ring(2.0, 0.5, 400.0), "markov", STEP).value
    assert "not tested: n_permutations=0" in found.summary()
    assert found.plot() is not None
    assert nm.load_result(found.save(tmp_path / "production.nc")) == found


@pytest.mark.parametrize(("method", "noise"), [("linear", 0.02), ("gaussian", 0.0)])
def test_units_that_no_noise_drives_are_warned_of(method, noise):
    """A position that follows a noisy velocity: what it produces is infinite, and grows as samples come closer."""
    random, dt, states = np.random.default_rng(0), 0.02, np.zeros((20_000, 2))
    for (place, speed), state in pairwise(states):
        kicks = np.sqrt(2 * dt) * random.normal(size=2)
        state[:] = place + speed * dt + noise * kicks[0], speed - (place + speed) * dt + kicks[1]
    with pytest.warns(UserWarning, match="noise hardly drives some direction"):
        entropy_production(states, method, dt, progress=False)
    assert not entropy_production(rotation(1.0, 20_000), method, 0.02, progress=False).warnings


def test_processes_that_change_are_warned_of():
    steps = np.random.default_rng(0).normal(size=(5000, 2))
    with pytest.warns(UserWarning, match="not alike all along .variance."):
        entropy_production(steps * np.linspace(1, 3, 5000)[:, None], "gaussian")
    assert not entropy_production(steps, "gaussian").warnings


def test_trials_taken_for_times_are_told():
    with pytest.raises(InputError, match=r"read as 1 trial of 40 times of 300 units(.|\n)*x\[:, :, None\]"):
        entropy_production(np.random.default_rng(0).normal(size=(40, 300)), "linear")


def test_a_network_that_learnt_nothing_is_told():
    """Its zero has no width, and is no certainty."""
    found = entropy_production(np.random.default_rng(0).normal(size=(210, 2)), "neural", progress=False)
    assert found.value == found.error == 0
    assert "learnt nothing" in found.summary()
    assert "interval" not in found.summary()
