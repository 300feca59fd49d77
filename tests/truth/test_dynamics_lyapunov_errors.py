"""Lyapunov exponents of systems that have known ones, and of motions without chaos."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.neuro.dynamics.lyapunov.spectrum_statistics import N_BLOCKS, exponents_of
from neuros_mechint.neuro.dynamics.lyapunov.tangent_growth import Growth
from tests.slow import slow_case
from tests.truth.lyapunov_starts import LORENZ, starts

# --- errors ----------------------------------------------------------------------------------------------------------


def share_that_holds(step, truth, draw, n_trajectories, n_runs, n_steps):
    held = 0
    for seed in range(n_runs):
        rows = draw(np.random.default_rng(seed), n_trajectories)
        found = nm.lyapunov_spectrum(step, rows, n_steps, warmup=100, seed=seed)
        held += bool(found.data["low"][0] <= truth <= found.data["high"][0])
    return held / n_runs


def on_the_interval(random, n):
    return random.uniform(0.1, 0.9, size=(n, 1))


@pytest.mark.parametrize("n_trajectories", [16, slow_case(1)])
def test_intervals_hold_the_truth(n_trajectories):
    # of 20 draws with 95% each, 16 or fewer come once in 400 times
    assert share_that_holds(nm.logistic_map, math.log(2), on_the_interval, n_trajectories, 20, 300) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("n_trajectories", [1, 4, 16, 64])
def test_intervals_of_many_runs_hold_the_truth(n_trajectories):
    assert share_that_holds(nm.logistic_map, math.log(2), on_the_interval, n_trajectories, 200, 1000) >= 0.9

    def on_the_attractor(random, n):
        return random.uniform(-0.1, 0.1, size=(n, 2))

    share = share_that_holds(nm.henon_map, 0.419217, on_the_attractor, n_trajectories, 200, 1000)
    assert share >= 0.9


def test_what_the_warm_up_of_tangents_is_for():
    rows = nm.simulate(LORENZ, starts(128, 3, 1, 4.0, [0, 0, 25]), 1, discard=2000)[:, 0]  # on the attractor
    without = nm.lyapunov_spectrum(LORENZ, rows, 1000, warmup=0)
    assert without.exponents[1] < -0.04  # biased, and the error says so
    assert abs(without.exponents[1]) < 3 * without.sem[1]
    found = nm.lyapunov_spectrum(LORENZ, rows, 1000, warmup=1000)
    assert abs(found.exponents[1]) < 0.01
    assert found.sem[1] < without.sem[1] / 5


def test_motion_that_has_not_settled_is_told():
    # a slow drift of the parameter that the exponent depends on, from chaos to a stable point
    def step(states):
        x, r = states.unbind(-1)
        return torch.stack([nm.logistic_map(x[:, None], r=r[:, None])[:, 0], 2.5 + 0.999 * (r - 2.5)], -1)

    rows = np.stack([np.random.default_rng(0).uniform(0.2, 0.8, 16), np.full(16, 4.0)], -1)
    found = nm.lyapunov_spectrum(step, rows, 1000, warmup=0)
    assert any("not settled" in warning for warning in found.warnings)
    assert not found.chaotic


def test_several_attractors_are_told():
    def step(states):  # chaos on the left, a stable point on the right
        left = -nm.logistic_map(-states)
        return torch.where(states < 0, left, nm.logistic_map(states, r=2.5))

    rows = np.concatenate([-np.random.default_rng(0).uniform(0.2, 0.8, (8, 1)), np.full((8, 1), 0.3)])
    found = nm.lyapunov_spectrum(step, rows, 1000)
    assert any("several attractors" in warning for warning in found.warnings)
    ends = found.data["by_trajectory"].values[:, 0]
    assert ends[:8] == pytest.approx(math.log(2), abs=0.05)
    assert ends[8:] == pytest.approx(math.log(0.5), abs=1e-6)


@pytest.mark.parametrize("cell", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM])
def test_an_untrained_network_is_on_one_attractor(cell):
    told = []
    for seed in (0, 1, 8, 16):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = nm.adapt(cell(3, 8, batch_first=True))
        width = 16 if cell is torch.nn.LSTM else 8
        starts = np.random.default_rng(seed).uniform(-1, 1, (8, width))
        ends = np.asarray(nm.simulate(network, starts, 300, inputs=np.zeros(3)))[:, -1]
        assert np.ptp(ends, axis=0).max() < 1e-6  # the truth: all states go to one point
        found = nm.lyapunov_spectrum(network, starts, 500, inputs=np.zeros(3), progress=False)
        told += found.warnings
    assert not any("several attractors" in text for text in told)
    apart = [text for text in told if "differ in" in text]
    assert all(text.startswith("all trajectories rest at one fixed point") for text in apart)
    assert apart or cell is torch.nn.RNN  # in some draws directions have not parted yet


def test_fixed_points_of_several_memories_are_counted():
    def step(states):  # to -1 at a rate of one half, to 1 at a rate of one tenth
        return torch.where(states < 0, -1 + 0.5 * (states + 1), 1 + 0.1 * (states - 1))

    found = nm.lyapunov_spectrum(step, [[-2.0], [-0.5], [-0.1], [0.1], [0.5], [2.0], [3.0], [4.0]], 500)
    assert any(text.startswith("trajectories rest at 2 fixed points and differ in 1 of 1") for text in found.warnings)
    # each has its own: ln(1/2) of the three that began below 0, ln(1/10) of the others
    assert found.data["resting_place"].values.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert "largest exponent at each, and of how many trajectories: -0.6931 (3), -2.303 (5)" in found.findings[1]
    alone = nm.lyapunov_spectrum(step, [[-2.0], [-0.5]], 500)
    assert "rest at" not in alone.summary()


def cycle_growth(random, n):
    """Growth on a cycle, whose sums stay within bounds: of some 10 to 100 periods, from random phases."""
    period = random.uniform(1, 9)
    phase = 2 * np.pi * (np.arange(N_BLOCKS + 1)[:, None] / period + random.random(n))
    return np.diff(np.sin(phase) + 0.4 * np.sin(2 * phase + 1), axis=0)


@pytest.mark.parametrize("n", [1, 4, 8])
@pytest.mark.parametrize("kind", ["cycle", "walk"])
def test_intervals_hold_the_exponent_of_cycles_and_of_chance_however_many_trajectories(kind, n):
    held, means, errors, bounded = [], [], [], []
    for seed in range(300):
        random = np.random.default_rng(seed)
        logs = cycle_growth(random, n) if kind == "cycle" else random.normal(size=(N_BLOCKS, n))
        growth = Growth(
            logs[..., None], np.full(N_BLOCKS, 50), np.zeros((n, 1), int), np.ones((N_BLOCKS, n)), np.ones(n, bool)
        )
        found = exponents_of(growth, 1.0, 2e-16, 0.95)
        held.append(found.low[0] <= 0 <= found.high[0])
        means.append(found.mean[0])
        errors.append(found.sem[0])
        bounded.append(found.bounded[0])
    true = float(np.sqrt(np.mean(np.square(means))))
    assert np.mean(held) > 0.91  # of 0.95, three standard errors of 300 runs below
    # segments alone are several times too wide on a cycle
    assert 0.8 < np.median(errors) / true < 2.8
    if kind == "walk":
        assert np.mean(bounded) < 0.03


def test_the_rule_of_the_errors_is_told():
    cycle = nm.rk4(nm.van_der_pol, 0.1)
    few, many = (nm.lyapunov_spectrum(cycle, starts(n, 2), 500, warmup=200, progress=False) for n in (4, 8))
    assert "segments of time" in few.summary()
    assert "scatter of trajectories" in many.summary()
