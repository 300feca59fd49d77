"""Lyapunov exponents of systems that have known ones, and of motions without chaos."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from tests.slow import slow_case
from tests.truth.lyapunov_starts import LORENZ, starts


def rotation(angle):
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    return lambda states: states @ turn.T


def within(found, index, truth, n_errors=4.0):
    return abs(found.exponents[index] - truth) < n_errors * found.sem[index]


# --- known answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_logistic_map(seed):
    rows = np.random.default_rng(seed).uniform(0.1, 0.9, size=(64, 1))
    found = nm.lyapunov_spectrum(nm.logistic_map, rows, 3000, seed=seed)
    assert found.exponents[0] == pytest.approx(math.log(2), abs=2e-3)
    assert within(found, 0, math.log(2))
    assert found.sem[0] < 1e-3
    assert found.chaotic
    assert found.entropy == found.exponents[0]
    assert found.kaplan_yorke_dimension == 1


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_henon_map(seed):
    found = nm.lyapunov_spectrum(nm.henon_map, starts(64, 2, seed, 0.1), 5000, seed=seed)
    assert found.exponents == pytest.approx([0.4192, -1.6232], abs=4e-3)
    assert within(found, 0, 0.41922)
    assert found.exponents.sum() == pytest.approx(math.log(0.3), abs=1e-12)
    assert found.kaplan_yorke_dimension == pytest.approx(1.2583, abs=4e-3)
    assert found.chaotic
    assert not found.warnings


def test_lorenz():
    found = nm.lyapunov_spectrum(LORENZ, starts(384, 3, 1, 4.0, [0, 0, 25]), 2000, warmup=1500)
    assert abs(found.exponents[1]) < 0.005
    assert found.exponents.sum() == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-3)
    for index, truth in enumerate((0.9056, 0.0, -14.572)):
        assert found.exponents[index] == pytest.approx(truth, abs=0.015)
        assert within(found, index, truth)
    assert found.kaplan_yorke_dimension == pytest.approx(2.0622, abs=2e-3)
    assert found.chaotic
    assert found.data["exponents"].attrs["units"] == "1 / unit of time"


@pytest.mark.slow  # a flow of three exponents, as Lorenz's
def test_rossler():
    found = nm.lyapunov_spectrum(nm.rk4(nm.rossler, 0.05), starts(96, 3, 2), 4000, warmup=1500)
    for index, (truth, tolerance) in enumerate(((0.0714, 0.004), (0.0, 0.002), (-5.394, 0.02))):
        assert found.exponents[index] == pytest.approx(truth, abs=tolerance)
        assert within(found, index, truth)
    assert found.chaotic


@pytest.mark.parametrize("seed", range(3))
def test_linear_systems_have_the_logarithms_of_their_eigenvalues(seed):
    random = np.random.default_rng(seed)
    basis = random.normal(size=(5, 5)) + 3 * np.eye(5)
    eigenvalues = np.array([0.95, -0.7, 0.4, 0.2, -0.05])
    matrix = torch.from_numpy(basis @ np.diag(eigenvalues) @ np.linalg.inv(basis))
    found = nm.lyapunov_spectrum(lambda states: states @ matrix.T, random.normal(size=(3, 5)), 200, seed=seed)
    assert found.exponents == pytest.approx(np.log(np.abs(eigenvalues)), abs=1e-12)
    assert found.verdict == "stable"
    # an axis that tangents could stay on is left by random ones
    found = nm.lyapunov_spectrum(lambda states: states * torch.tensor([0.5, 0.9]), [[1.0, 1.0]], 100, dt=0.1)
    assert found.exponents == pytest.approx(np.log([0.9, 0.5]) / 0.1, abs=1e-6)  # float32 of the step's own tensor


def test_flow_of_a_linear_equation():
    matrix = torch.tensor([[-0.1, 2.0], [0.0, -0.5]], dtype=torch.float64)
    found = nm.lyapunov_spectrum(nm.rk4(lambda x: x @ matrix.T, 0.05), [[1.0, 1.0]], 1000, warmup=2000)
    assert found.exponents == pytest.approx([-0.1, -0.5], abs=1e-7)


def test_sum_of_a_random_network_is_the_mean_log_determinant():
    for seed in range(3):
        weights = torch.from_numpy(1.5 * starts(24, 24, seed) / 24**0.5)
        rows = starts(8, 24, seed + 10)

        def step(states, weights=weights):
            return torch.tanh(states @ weights.T)

        found = nm.lyapunov_spectrum(step, rows, 400, warmup=100, seed=seed)
        path = nm.simulate(step, rows, 500)
        gain = 1 - path[:, 100:] ** 2
        expected = float(torch.linalg.slogdet(weights)[1] + gain.log().sum(-1).mean())
        assert found.exponents.sum() == pytest.approx(expected, abs=1e-8)
        assert (np.diff(found.exponents) <= 0).all()


def test_large_random_networks_are_chaotic_above_gain_one_only():
    for gain, verdict in ((0.8, "stable"), (2.0, "chaotic")):
        weights = torch.from_numpy(gain * starts(100, 100, 5) / 10)
        found = nm.lyapunov_spectrum(lambda s, w=weights: torch.tanh(s @ w.T), starts(16, 100, 6), 500, n_exponents=3)
        assert found.verdict == verdict
        assert found.exponents.shape == (3,)
        assert np.isnan(found.kaplan_yorke_dimension) == (verdict == "chaotic")


# --- no chaos where there is none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_trajectories", [1, slow_case(16)])
def test_limit_cycle(n_trajectories):
    found = nm.lyapunov_spectrum(nm.rk4(nm.van_der_pol, 0.02), starts(n_trajectories, 2, 3), 3000)
    assert abs(found.exponents[0]) < 1e-3
    assert found.exponents[1] == pytest.approx(-1.0594, abs=2e-3)
    assert found.verdict == "neutral"
    assert found.kaplan_yorke_dimension == 1
    assert found.entropy == 0
    assert "no chaos found" in found.summary()


def test_trajectories_that_move_together_are_not_taken_for_independent_ones():
    # all in the same phase: their scatter is next to nothing, but their common error is not
    rows = np.array([[2.0, 0.0]]) + starts(32, 2, 4, 1e-6)
    found = nm.lyapunov_spectrum(nm.rk4(nm.van_der_pol, 0.02), rows, 1000)
    assert found.data["sem_trajectories"].values[0] < 1e-6
    assert found.sem[0] > abs(found.exponents[0])
    assert not found.chaotic


def test_rotation_and_slow_separation_are_not_chaos():
    found = nm.lyapunov_spectrum(rotation(1.0), starts(16, 2, 5), 500)
    assert found.exponents == pytest.approx([0, 0], abs=1e-12)
    assert found.verdict == "neutral"
    # neighbours of different speed separate linearly, so that the exponent so far is above 0 at any time

    def twist(states):
        angle, speed = states.unbind(-1)
        return torch.stack([torch.remainder(angle + speed, 2 * math.pi), speed], -1)

    for seed in range(3):
        for warmup in (0, 500):
            found = nm.lyapunov_spectrum(twist, starts(16, 2, seed), 1500, warmup=warmup, seed=seed)
            assert found.exponents[0] > 0
            assert not found.chaotic
    two = torch.tensor([1.0, 2**0.5], dtype=torch.float64)

    def torus(states):
        return torch.remainder(states + two + 0.3 * torch.sin(states), 2 * math.pi)

    assert not nm.lyapunov_spectrum(torus, starts(16, 2, 7), 3000).chaotic


def test_unstable_motion_is_not_called_chaotic():
    found = nm.lyapunov_spectrum(nm.logistic_map, [[0.75]], 300)  # the unstable fixed point
    assert found.exponents[0] == pytest.approx(math.log(2))
    assert found.verdict == "at_rest"
    found = nm.lyapunov_spectrum(lambda states: 1.1 * states, [[1.0]], 500)
    assert found.verdict == "unbounded"
    found = nm.lyapunov_spectrum(nm.rk4(nm.duffing, 0.05), starts(8, 2, 6), 1500)
    assert found.verdict == "stable"
    assert found.exponents == pytest.approx([-0.25, -0.25], abs=1e-3)  # both wells: -damping / 2
    for seed in range(4):
        windows = np.random.default_rng(seed).uniform(0.2, 0.8, size=(16, 1))
        assert nm.lyapunov_spectrum(lambda x: nm.logistic_map(x, r=3.83), windows, 1000).verdict == "stable"


def test_superstable_motion_has_an_exponent_of_minus_infinity(tmp_path):
    for r in (2.0, 1 + 5**0.5):  # cycles of period 1 and 2 that pass the maximum
        found = nm.lyapunov_spectrum(lambda x, r=r: nm.logistic_map(x, r=r), starts(4, 1, 0, 0.05, 0.5), 500)
        assert found.exponents[0] == -np.inf
        assert np.isnan(found.sem[0])
        assert found.verdict == "stable"
        assert found.kaplan_yorke_dimension == 0
        assert "singular" in found.warnings[0]
        assert nm.load_result(found.save(tmp_path / "found.nc")) == found
        found.plot(Figure().subplots())


def test_forgotten_directions_leave_the_others_right():
    # the third variable forgets itself, and the second is a copy: rank 1 of 3
    def step(states):
        x = nm.logistic_map(states[:, :1])
        return torch.cat([x, x, 0.5 * x], -1)

    rows = np.random.default_rng(0).uniform(0.1, 0.9, size=(16, 3))
    found = nm.lyapunov_spectrum(step, rows, 2000)
    assert found.exponents[0] == pytest.approx(math.log(2), abs=5e-3)
    assert (found.exponents[1:] == -np.inf).all()
    assert found.kaplan_yorke_dimension == 1
    assert found.entropy == found.exponents[0]


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_driven_networks_use_the_first_inputs_for_the_warm_up():
    weights = torch.from_numpy(1.2 * starts(8, 8, 1) / 8**0.5)
    drive = torch.from_numpy(starts(4 * 600, 2, 2).reshape(4, 600, 2))
    into = torch.from_numpy(starts(8, 2, 3))

    def step(states, inputs):
        return torch.tanh(states @ weights.T + inputs @ into.T)

    rows = starts(4, 8, 4)
    found = nm.lyapunov_spectrum(step, rows, 500, inputs=drive)
    assert found.attributes["warmup"] == 100
    assert found.attributes["driven"]
    states, logs = torch.from_numpy(rows), 0.0
    for time in range(600):
        states = step(states, drive[:, time])
        if time >= 100:
            logs = logs + (1 - states**2).log().sum(-1).mean() + torch.linalg.slogdet(weights)[1]
    assert found.exponents.sum() == pytest.approx(float(logs) / 500, abs=1e-8)
    # strong inputs make the response of a network reproducible that is chaotic without
    strong = nm.lyapunov_spectrum(step, rows, 500, inputs=5 * drive, n_exponents=1)
    assert strong.verdict == "stable"
    held = nm.lyapunov_spectrum(step, rows, 500, inputs=drive[:, 0], n_exponents=2)
    same = nm.lyapunov_spectrum(step, rows, 500, inputs=drive[:, :1].expand(-1, 1500, -1), n_exponents=2)
    assert held.exponents == pytest.approx(same.exponents, abs=1e-9)
    for wrong in (drive[:, :500], drive[:, :300]):
        with pytest.raises(InputError, match="number of steps"):
            nm.lyapunov_spectrum(step, rows, 500, inputs=wrong)
    with pytest.raises(InputError, match="number of steps"):
        nm.lyapunov_spectrum(step, rows, 500, inputs=drive, warmup=50)
    drive[0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        nm.lyapunov_spectrum(step, rows, 500, inputs=drive)


def test_adapted_networks_and_what_they_leave_untouched():
    cell = torch.nn.RNN(3, 12, batch_first=True)
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    generator_state = torch.get_rng_state()
    rows = starts(8, 12, 1)
    kept = rows.copy()
    found = nm.lyapunov_spectrum(nm.adapt(cell), rows, 200, n_exponents=2, inputs=np.zeros(3))
    assert np.array_equal(rows, kept)
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert all(torch.equal(before[name], value) for name, value in cell.state_dict().items())
    assert found.verdict == "stable"  # weights as they are drawn


# --- bad input -------------------------------------------------------------------------------------------------------


def test_steps_that_lead_nowhere():
    with pytest.raises(InputError, match="leaves all bounds") as raised:
        nm.lyapunov_spectrum(lambda x: x**2 + 1, [[1.0], [0.1]], 200)
    assert "from step" in str(raised.value)
    with pytest.raises(InputError, match="leaves all bounds"):
        nm.lyapunov_spectrum(nm.rk4(nm.lorenz, 0.5), [[1.0, 1.0, 20.0]], 200)

    def root(x):
        return x.clamp_min(0).sqrt() * 0

    with pytest.raises(InputError, match="derivative of root is not finite"):
        nm.lyapunov_spectrum(root, [[1.0]], 200)
    with pytest.raises(InputError, match="cannot be differentiated"):
        nm.lyapunov_spectrum(lambda x: torch.from_numpy(np.cos(x.numpy())), [[1.0]], 200)
    with pytest.raises(InputError, match="not finite"):
        nm.lyapunov_spectrum(nm.logistic_map, [[np.nan]], 200)
    with pytest.raises(InputError, match="random"):
        nm.lyapunov_spectrum(lambda x: x + torch.randn_like(x), [[1.0]], 200)


def test_steps_that_change_from_call_to_call():
    calls = []

    def step(states):
        calls.append(0)
        return 0.5 * states + (1.0 if len(calls) > 40 else 0.0)

    with pytest.raises(InputError, match="not the same function"):
        nm.lyapunov_spectrum(step, [[1.0]], 4000)


def test_options():
    for n_steps in (0, 99, 2.5, "many"):
        with pytest.raises(OptionError):
            nm.lyapunov_spectrum(nm.logistic_map, [[0.3]], n_steps)
    for wrong in ({"n_exponents": 2}, {"n_exponents": 0}, {"dt": 0}, {"warmup": -1}, {"compiled": "yes"}, {"level": 2}):
        with pytest.raises(OptionError):
            nm.lyapunov_spectrum(nm.logistic_map, [[0.3]], 100, **wrong)
    with pytest.raises(OptionError, match="dt is not that of the step"):
        nm.lyapunov_spectrum(LORENZ, [[1.0, 1.0, 20.0]], 100, dt=0.02)


def test_seeds_and_single_precision():
    rows = starts(32, 2, 0, 0.1)
    first, again = (nm.lyapunov_spectrum(nm.henon_map, starts(8, 2, 0, 0.1), 300, seed=3) for _ in range(2))
    assert np.array_equal(first.exponents, again.exponents)
    single = nm.lyapunov_spectrum(lambda x: nm.henon_map(x.float()), rows, 2000)
    assert single.attributes["dtype"] == "float32"
    assert single.exponents == pytest.approx([0.4192, -1.6232], abs=0.01)
    assert any("single precision" in warning for warning in single.warnings)


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_summary_figure_and_file(tmp_path):
    found = nm.lyapunov_spectrum(nm.henon_map, starts(16, 2, 0, 0.1), 1000)
    text = found.summary()
    for words in ("chaotic: nearby states", "0.4", "1 above 0", "Kaplan-Yorke", "entropy at most", "16 trajectories"):
        assert words in text
    axes = found.plot(Figure().subplots())
    assert axes.get_xlabel() == "time after the warm-up (steps)"
    assert axes.get_ylabel() == "mean so far (1 / step)"
    assert found.data["running"].values[-1] == pytest.approx(found.exponents, abs=1e-12)
    assert len(found.plot_spectrum(Figure().subplots()).containers) == 1
    assert nm.load_result(found.save(tmp_path / "found.nc")) == found
    assert found.data["entropy_sem"].item() == pytest.approx(found.sem[0], rel=0.5)
    assert found.citations == ("benettin1980", "kaplan1979", "eckmann1985")
