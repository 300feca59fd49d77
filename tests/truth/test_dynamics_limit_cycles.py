from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.dynamics.limit_cycles.floquet import floquet
from neuros_mechint.neuro.dynamics.limit_cycles.shooting import lagrange_weights
from tests.slow import slow_case

GOLDEN = (math.sqrt(5) - 1) / 2


def stuart_landau(mu, omega=2.0, shear=0.5, sign=1.0):
    """Radius sqrt(mu), frequency omega - shear * mu, Floquet exponent -2 mu; sign -1 makes the cycle repel."""

    def derivative(state):
        x, y = state.unbind(-1)
        growth, turning = sign * (mu - x * x - y * y), omega - shear * (x * x + y * y)
        return torch.stack([growth * x - turning * y, turning * x + growth * y], dim=-1)

    return derivative


def linear(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64)
    return lambda state: state @ matrix.T


def rotation(turns):
    angle = 2 * math.pi * turns
    return linear([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def slow_network(state):
    weight = torch.tensor([[1.32, -0.36], [0.36, 1.32]], dtype=state.dtype)
    return state + 0.2 * (torch.tanh(state @ weight.T) - state)


# Known answers


@pytest.mark.parametrize("start", [[0.01, 0.0], [0.5, 0.0], [3.0, -3.0], [-1.0, 4.0]])
def test_van_der_pol(start):
    cycle = nm.find_limit_cycle(nm.rk4(nm.van_der_pol, 0.05), start)
    assert (cycle.kind, cycle.stable, cycle.found) == ("limit cycle", True, True)
    assert cycle.angular_frequency == pytest.approx(0.94296, abs=1e-5)
    assert cycle.exponents[0] == pytest.approx(0, abs=1e-7)
    assert cycle.exponents[1] == pytest.approx(-1.0594, abs=5e-5)
    assert np.ptp(cycle.orbit[:, 0]) / 2 == pytest.approx(2.0086, abs=2e-3)  # known amplitude, between samples


@pytest.mark.parametrize("mu", [0.05, 2.0, slow_case(0.25), slow_case(1.0)])
def test_stuart_landau_is_exact(mu):
    cycle = nm.find_limit_cycle(nm.rk4(stuart_landau(mu), 0.02), [0.5, 0.0])
    assert cycle.stable
    assert cycle.period == pytest.approx(2 * np.pi / (2.0 - 0.5 * mu), rel=1e-7)
    assert cycle.exponents.real == pytest.approx([0, -2 * mu], abs=2e-6)
    assert np.linalg.norm(cycle.orbit, axis=1) == pytest.approx(np.full(len(cycle.orbit), math.sqrt(mu)), abs=1e-7)


def test_where_the_rotation_stops_there_is_no_cycle():
    found = nm.find_limit_cycle(nm.rk4(stuart_landau(4.0), 0.05), [0.5, 0.0])  # a ring of fixed points
    assert (found.kind, found.stable) == ("fixed point", False)


@pytest.mark.parametrize("mu", [3.0, slow_case(0.3)])
def test_the_period_is_that_of_an_adaptive_solver(mu):
    cycle = nm.find_limit_cycle(nm.rk4(lambda state: nm.van_der_pol(state, mu), 0.01), [1.0, 0.0])

    def upward(_, state):
        return state[0]

    upward.direction = 1
    solved = solve_ivp(
        lambda _, s: [s[1], mu * (1 - s[0] ** 2) * s[1] - s[0]],
        (0, 150),
        [1.0, 0.0],
        method="DOP853",
        rtol=1e-11,
        atol=1e-11,
        events=upward,
    )
    assert cycle.period == pytest.approx(np.diff(solved.t_events[0])[-1], rel=1e-7)


def test_a_periodic_orbit_within_chaos_and_its_multipliers_by_variational_equations():
    """The shortest orbit of the Lorenz attractor, of period 1.558652210716 (Viswanath 2003)."""
    start = [-13.7636, -19.5788, 27.0]
    step = nm.rk4(nm.lorenz, 0.002)
    cycle = nm.find_limit_cycle(step, start, settle=False, n_steps=2000)
    assert (cycle.kind, cycle.stable) == ("limit cycle", False)
    assert cycle.period == pytest.approx(1.558652210716, abs=1e-8)

    def with_tangents(_, values):
        (x, y, z), tangents = values[:3], values[3:].reshape(3, 3)
        jacobian = np.array([[-10, 10, 0], [28 - z, -1, -x], [y, x, -8 / 3]])
        return np.concatenate([[10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], (jacobian @ tangents).ravel()])

    begin = np.concatenate([cycle.orbit[0], np.eye(3).ravel()])
    solved = solve_ivp(with_tangents, (0, cycle.period), begin, method="DOP853", rtol=1e-11, atol=1e-11)
    expected = np.linalg.eigvals(solved.y[3:, -1].reshape(3, 3))
    assert cycle.multipliers[1].real == pytest.approx(expected.real.max(), rel=1e-5)
    assert cycle.exponents.sum().real == pytest.approx(-10 - 1 - 8 / 3, abs=1e-6)  # the divergence


def test_exponents_sum_to_the_mean_divergence():
    """Roessler's period doubles: the second multiplier is negative, the third is 4e-16, below what a product keeps."""
    cycle = nm.find_limit_cycle(nm.rk4(lambda state: nm.rossler(state, c=3.5), 0.02), [1.0, 1.0, 0.0])
    assert cycle.stable
    times = np.arange(len(cycle.orbit)) * 0.02
    closed = np.append(cycle.orbit[:, 0], cycle.orbit[0, 0])
    divergence = np.interp(np.linspace(0, cycle.period, 5000), np.append(times, cycle.period), closed) + 0.2 - 3.5
    assert cycle.exponents.sum().real == pytest.approx(divergence.mean(), abs=1e-3)
    assert -1 < cycle.multipliers[1].real < 0
    assert abs(cycle.multipliers[2]) < 1e-15


@pytest.mark.parametrize("start", [0.95, 1.05])
def test_a_cycle_that_repels_is_found_beside_the_state_given(start):
    repels = nm.rk4(stuart_landau(0.1, omega=1.0, shear=0.0, sign=-1.0), 0.05)
    cycle = nm.find_limit_cycle(repels, [math.sqrt(0.1) * start, 0.0], settle=False)
    assert (cycle.kind, cycle.stable) == ("limit cycle", False)
    assert cycle.period == pytest.approx(2 * np.pi, rel=1e-6)
    assert cycle.exponents[1] == pytest.approx(0.2, abs=1e-6)
    assert "grow" in cycle.summary()


@pytest.mark.parametrize(("r", "period"), [(3.2, 2), (1 + math.sqrt(5), 2), (3.5, 4), (3.55, 8), (3.83, 3), (3.74, 5)])
def test_periodic_orbits_of_the_logistic_map(r, period):
    orbit = nm.find_limit_cycle(lambda state: nm.logistic_map(state, r), [0.3])
    assert (orbit.kind, orbit.stable, orbit.period) == ("periodic orbit", True, period)
    x = orbit.orbit[:, 0]
    assert r * x * (1 - x) == pytest.approx(np.roll(x, -1), abs=1e-12)
    assert orbit.multipliers[0].real == pytest.approx(np.prod(r * (1 - 2 * x)), abs=1e-12)
    if period == 2:
        assert orbit.multipliers[0] == pytest.approx(4 + 2 * r - r**2, abs=1e-9)


@pytest.mark.parametrize(("a", "period"), [(0.6, 2), (0.9, 2), (1.0, 4)])
def test_multipliers_of_henon_multiply_to_its_contraction(a, period):
    orbit = nm.find_limit_cycle(lambda state: nm.henon_map(state, a), [0.1, 0.1])
    assert (orbit.stable, orbit.period) == (True, period)
    assert np.prod(orbit.multipliers) == pytest.approx(0.3**period, rel=1e-10)


def test_an_unstable_orbit_of_chaos_in_closed_form():
    orbit = nm.find_limit_cycle(nm.logistic_map, [0.346], settle=False)
    assert np.sort(orbit.orbit[:, 0]) == pytest.approx([(5 - 5**0.5) / 8, (5 + 5**0.5) / 8])
    assert (orbit.multipliers[0], orbit.stable) == (pytest.approx(-4), False)


def test_a_network_that_turns_slowly_has_a_cycle_of_real_period():
    cycle = nm.find_limit_cycle(slow_network, [0.5, 0.0], dt=1.0)
    assert cycle.stable
    states = nm.simulate(slow_network, [0.5, 0.0], 20_000, discard=1000)[0].numpy()
    before = np.flatnonzero((states[:-1, 1] < 0) & (states[1:, 1] >= 0))
    times = before + states[before, 1] / (states[before, 1] - states[before + 1, 1])
    assert cycle.period == pytest.approx((times[-1] - times[0]) / (len(times) - 1), abs=1e-3)
    as_map = nm.find_limit_cycle(slow_network, [0.5, 0.0], n_steps=3000)
    assert as_map.kind == "none"
    assert "dt=1.0" in as_map.summary()


def test_inputs_are_held():
    def derivative(state, inputs):
        x, y = state.unbind(-1)
        growth = inputs[..., 0] - x * x - y * y
        return torch.stack([growth * x - 2 * y, growth * y + 2 * x], dim=-1)

    step = nm.rk4(derivative, 0.05)
    assert nm.find_limit_cycle(step, [0.5, 0.0], inputs=[0.5]).exponents[1] == pytest.approx(-1, abs=1e-5)
    assert nm.find_limit_cycle(step, [0.5, 0.0], inputs=[-0.5]).kind == "fixed point"


@pytest.mark.parametrize("seed", range(4))
def test_floquet_multipliers_are_exact_over_many_orders(seed):
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(5, 5)) + 3 * np.eye(5)
    core = np.diag([1.5, 0.0, 0.0, -1e-5, 1e-13])
    core[1:3, 1:3] = 0.4 * np.array([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])
    factors = np.array([basis @ core @ np.linalg.inv(basis)] * 3)
    multipliers, logarithms = floquet(factors)
    expected = [1.5**3, 0.064 * np.exp(3j), 0.064 * np.exp(-3j), -1e-15, 1e-39]
    assert sorted(multipliers, key=lambda m: (-round(abs(m), 40), -m.imag)) == pytest.approx(expected, rel=1e-6)
    assert logarithms.real == pytest.approx(np.log(np.abs(multipliers)), abs=1e-9)
    assert np.abs(np.linalg.eigvals(np.linalg.matrix_power(factors[0], 3))).min() > 1e-20  # what the product gives


def test_interpolation_is_exact_for_polynomials():
    value, slope = lagrange_weights(5.3, 12)
    assert value @ np.arange(12.0) ** 7 == pytest.approx(5.3**7)
    assert slope @ np.arange(12.0) ** 7 == pytest.approx(7 * 5.3**6)


# Negative controls


@pytest.mark.parametrize("damping", [0.002, 1.0, slow_case(0.1), slow_case(3.0)])
def test_a_damped_oscillator_has_no_cycle(damping):
    found = nm.find_limit_cycle(nm.rk4(linear([[0, 1], [-1, -damping]]), 0.05), [1.0, 0.0], n_steps=4000)
    assert (found.kind, found.found, found.stable) == ("fixed point", False, False)


@pytest.mark.parametrize("dt", [0.01, 0.05, 0.1])
def test_a_centre_is_no_limit_cycle(dt):
    found = nm.find_limit_cycle(nm.rk4(linear([[0, 1], [-1, 0]]), dt), [1.0, 0.0])
    assert (found.kind, found.stable) == ("continuum of closed orbits", False)
    assert found.period == pytest.approx(2 * np.pi, rel=1e-5)


def test_an_undamped_duffing_oscillator_is_a_centre_whose_period_depends_on_energy():
    step = nm.rk4(lambda state: nm.duffing(state, damping=0.0), 0.04)
    first, second = (nm.find_limit_cycle(step, [start, 0.0]) for start in (1.2, 1.5))
    assert first.kind == second.kind == "continuum of closed orbits"
    assert not first.stable
    assert not second.stable
    assert abs(first.period - second.period) > 0.1


@pytest.mark.parametrize("start", [[1.0, 1.0, 20.0], [-5.0, 2.0, 15.0]])
def test_chaos_of_a_flow_is_no_cycle(start):
    found = nm.find_limit_cycle(nm.rk4(nm.lorenz, 0.01), start, n_steps=4000)
    assert (found.kind, found.found, found.stable) == ("none", False, False)


@pytest.mark.parametrize("step", [nm.henon_map, nm.logistic_map, lambda s: nm.logistic_map(s, 3.9)])
@pytest.mark.parametrize("seed", range(3))
def test_chaos_of_a_map_is_no_cycle(step, seed):
    n_states = 2 if step is nm.henon_map else 1
    start = np.random.default_rng(seed).uniform(0.1, 0.4, n_states)
    assert nm.find_limit_cycle(step, start, n_steps=5000).kind == "none"


@pytest.mark.parametrize("turns", [GOLDEN, 0.3001, 1 / math.pi, 0.01 * math.sqrt(2)])
def test_quasi_periodic_rotation_is_no_cycle(turns):
    assert nm.find_limit_cycle(rotation(turns), [1.0, 0.0], n_steps=5000).kind == "none"


def test_rotation_by_a_fraction_is_a_continuum():
    found = nm.find_limit_cycle(rotation(0.3), [1.0, 0.0])
    assert (found.kind, found.period, found.stable) == ("continuum of closed orbits", 10, False)


def test_a_torus_is_no_cycle():
    def two_clocks(state):
        first, second = stuart_landau(1.0, 1.0, 0.0), stuart_landau(1.0, math.sqrt(2), 0.0)
        return torch.cat([first(state[..., :2]), second(state[..., 2:])], dim=-1)

    assert nm.find_limit_cycle(nm.rk4(two_clocks, 0.1), [1.0, 0.0, 0.5, 0.5], n_steps=3000).kind == "none"


@pytest.mark.parametrize("r", [0.5, 2.0, 2.9])
def test_a_fixed_point_of_a_map_is_no_periodic_orbit(r):
    assert nm.find_limit_cycle(lambda state: nm.logistic_map(state, r), [0.3]).kind == "fixed point"


def test_nothing_is_found_beside_a_state_with_no_orbit():
    found = nm.find_limit_cycle(nm.rk4(linear([[0, 1], [-1, -0.5]]), 0.05), [1.0, 0.0], settle=False, n_steps=2000)
    assert not found.found


# Precision, files, figures


def test_single_precision_and_steps_that_torch_func_cannot_transform():
    weights = torch.tensor([[1.32, -0.36], [0.36, 1.32]])

    def single(state):
        return state + 0.2 * (torch.tanh(state @ weights.T) - state)

    def opaque(state):
        return slow_network(state) if float(state.detach().sum()) < np.inf else state

    expected = nm.find_limit_cycle(slow_network, [0.5, 0.0], dt=1.0).period
    assert nm.find_limit_cycle(single, [0.5, 0.0], dt=1.0).period == pytest.approx(expected, rel=1e-4)
    assert nm.find_limit_cycle(opaque, [0.5, 0.0], dt=1.0).period == pytest.approx(expected, rel=1e-9)


def test_steps_too_long_for_the_cycle_are_warned_of():
    cycle = nm.find_limit_cycle(nm.rk4(nm.van_der_pol, 0.2), [0.5, 0.0])
    assert cycle.period == pytest.approx(6.6633, rel=5e-4)
    assert "reduce dt" in cycle.warnings[0]


CASES = {
    "limit cycle": lambda: nm.find_limit_cycle(nm.rk4(nm.van_der_pol, 0.05), [0.5, 0.0]),
    "periodic orbit": lambda: nm.find_limit_cycle(lambda state: nm.logistic_map(state, 3.5), [0.3]),
    "fixed point": lambda: nm.find_limit_cycle(lambda state: 0.5 * state, [1.0, 2.0]),
    "none": lambda: nm.find_limit_cycle(nm.henon_map, [0.1, 0.1], n_steps=2000),
}


@pytest.mark.parametrize("kind", CASES)
def test_saved_drawn_and_put_in_words(kind, tmp_path):
    found = CASES[kind]()
    assert found.kind == kind
    assert nm.load_result(found.save(tmp_path / "cycle.nc")) == found
    ax = found.plot(Figure().subplots())
    assert ax.get_xlabel()
    assert ax.get_title(loc="left")
    assert {"limit cycle": "stable", "periodic orbit": "stable", "fixed point": "no", "none": "no closed orbit"}[
        kind
    ] in found.summary()


def test_the_state_given_is_left_alone():
    state = torch.tensor([0.5, 0.0], dtype=torch.float64)
    nm.find_limit_cycle(nm.rk4(nm.van_der_pol, 0.05), state)
    assert state.tolist() == [0.5, 0.0]


# Bad input


def not_differentiable(state):
    return torch.from_numpy(0.5 * state.numpy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nm.find_limit_cycle(nm.rk4(lambda x: x**2, 0.1), [3.0]), InputError, "leaves all bounds|not finite"),
        (lambda: nm.find_limit_cycle(nm.henon_map, [np.nan, 0.0]), InputError, "not finite"),
        (lambda: nm.find_limit_cycle(nm.henon_map, np.zeros((2, 2))), InputError, "from one state"),
        (lambda: nm.find_limit_cycle(not_differentiable, [1.0]), InputError, "differentiated"),
        (lambda: nm.find_limit_cycle(3, [1.0]), InputError, "no step"),
        (lambda: nm.find_limit_cycle(nm.rk4(nm.van_der_pol, 0.1), [1.0, 0.0], dt=1.0), OptionError, "another dt"),
        (lambda: nm.find_limit_cycle(nm.henon_map, [0.1, 0.1], dt=-1.0), OptionError, "dt is out of range"),
        (lambda: nm.find_limit_cycle(nm.rk4(stuart_landau(1.0), 0.5), [0.5, 0.0]), InputError, "too long for"),
        (lambda: nm.find_limit_cycle(nm.henon_map, [0.1, 0.1], n_steps=3), OptionError, "n_steps"),
        (lambda: nm.find_limit_cycle(nm.henon_map, [0.1, 0.1], max_period=0), OptionError, "max_period"),
        (lambda: nm.find_limit_cycle(nm.henon_map, [0.1, 0.1], settle="no"), OptionError, "settle"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
