"""Controllability: linear systems whose Gramians, energies and reachable spaces are known, and linearised ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from tests.truth.linear_systems import linear_step, linear_system

SEEDS = range(5)


def run(matrix, inputs, controls, start):
    state = np.asarray(start, dtype=float)
    for control in controls:
        state = matrix @ state + inputs @ control
    return state


# -- Gramians ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gramians_are_those_of_scipy_and_of_the_sum(seed):
    a, b, c = linear_system(seed)
    found = nm.controllability(a, b, c)
    np.testing.assert_allclose(found.gramian, solve_discrete_lyapunov(a, b @ b.T), rtol=1e-9)
    np.testing.assert_allclose(found.observability, solve_discrete_lyapunov(a.T, c.T @ c), rtol=1e-9)
    powers = [np.linalg.matrix_power(a, k) for k in range(400)]
    np.testing.assert_allclose(found.gramian, sum(p @ b @ b.T @ p.T for p in powers), rtol=1e-9)
    finite = nm.controllability(a, b, c, horizon=7)
    np.testing.assert_allclose(finite.gramian, sum(p @ b @ b.T @ p.T for p in powers[:7]), rtol=1e-10)
    np.testing.assert_allclose(finite.observability, sum(p.T @ c.T @ c @ p for p in powers[:7]), rtol=1e-10)


def test_a_long_horizon_is_the_infinite_one():
    a, b, c = linear_system(0)
    long, infinite = nm.controllability(a, b, c, horizon=500), nm.controllability(a, b, c)
    for name in ("average_controllability", "controllability_gramian", "observability_gramian"):
        np.testing.assert_allclose(long.data[name], infinite.data[name], rtol=1e-9)
    assert np.array_equal(long.modal, infinite.modal)


def test_the_observability_gramian_is_the_energy_of_what_is_seen():
    a, _, c = linear_system(1)
    start = np.random.default_rng(0).standard_normal(6)
    seen, state = 0.0, start
    for _ in range(12):
        seen += ((c @ state) ** 2).sum()
        state = a @ state
    assert start @ nm.controllability(a, output_matrix=c, horizon=12).observability @ start == pytest.approx(seen)


# -- energy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_control_of_least_energy_steers_the_simulated_system_to_the_target_with_that_energy(seed):
    a, b, _ = linear_system(seed, radius=1.1)  # a finite horizon needs no stability
    random = np.random.default_rng(seed + 100)
    start, target = random.standard_normal((2, 6))
    found = nm.controllability(a, b, horizon=15)
    controls = found.minimum_energy_inputs(target, start)
    energy = found.minimum_energy(target, start)
    assert controls.dims == ("step", "input")
    assert controls.shape == (15, 2)
    np.testing.assert_allclose(run(a, b, controls.values, start), target, atol=1e-9)
    assert (controls.values**2).sum() == pytest.approx(energy, rel=1e-12)
    missing = target - np.linalg.matrix_power(a, 15) @ start
    assert energy == pytest.approx(missing @ np.linalg.solve(found.gramian, missing), rel=1e-7)


def test_every_other_control_that_reaches_the_target_costs_more():
    a, b, _ = linear_system(3)
    found = nm.controllability(a, b, horizon=15)
    target = np.ones(6)
    best = found.minimum_energy_inputs(target).values
    effects = np.hstack([np.linalg.matrix_power(a, 14 - k) @ b for k in range(15)])
    random = np.random.default_rng(0)
    for _ in range(20):
        other = random.standard_normal(30)
        other -= np.linalg.pinv(effects) @ (effects @ other)  # changes nothing at the end
        changed = best + other.reshape(15, 2)
        np.testing.assert_allclose(run(a, b, changed, np.zeros(6)), target, atol=1e-9)
        assert (changed**2).sum() > found.minimum_energy(target) + 0.99 * (other**2).sum()


def test_energy_falls_with_the_horizon_to_that_of_infinite_time():
    a, b, _ = linear_system(2)
    target = np.ones(6)
    energies = [nm.controllability(a, b, horizon=h).minimum_energy(target) for h in (6, 10, 20, 400)]
    assert all(shorter > longer for shorter, longer in itertools.pairwise(energies))
    infinite = nm.controllability(a, b)
    assert infinite.minimum_energy(target) == pytest.approx(energies[-1], rel=1e-7)
    assert infinite.minimum_energy(target) == pytest.approx(
        target @ np.linalg.solve(infinite.gramian, target), rel=1e-7
    )
    with pytest.raises(InputError, match="horizon=20"):
        infinite.minimum_energy_inputs(target)


# -- what can be reached -----------------------------------------------------------------------------------------


def hidden_pair(seed, n_units=24):
    """Return a system of which inputs reach n_reached dimensions, and outputs tell the others, in mixed coordinates."""
    random = np.random.default_rng(seed)
    n_reached = int(random.integers(3, 20))
    a, b = np.zeros((n_units, n_units)), np.zeros((n_units, 2))
    a[:n_reached] = random.standard_normal((n_reached, n_units)) / 5
    n_rest = n_units - n_reached
    a[n_reached:, n_reached:] = random.standard_normal((n_rest, n_rest)) / 6
    b[:n_reached] = random.standard_normal((n_reached, 2))
    mixing = random.standard_normal((n_units, n_units))
    back = np.linalg.inv(mixing)
    return mixing @ a @ back, mixing @ b, back[n_reached:], mixing, n_reached


@pytest.mark.parametrize("seed", range(20))
def test_dimensions_that_inputs_cannot_reach_or_outputs_cannot_tell_are_found(seed):
    a, b, c, mixing, n_reached = hidden_pair(seed)
    found = nm.controllability(a, b, c, horizon=60)
    assert found.rank == n_reached
    assert found.data["observable_dimensions"].item() == 24 - n_reached
    if np.abs(np.linalg.eigvals(a)).max() < 1:
        assert nm.controllability(a, b, c).rank == n_reached
    assert found.minimum_energy(mixing[:, -1]) == np.inf
    with pytest.raises(InputError, match=f"{n_reached} of 24"):
        found.minimum_energy_inputs(mixing[:, -1])


def test_a_chain_is_reached_step_by_step():
    chain = np.diag(np.full(4, 0.5), -1)
    reached = [int(nm.controllability(chain, np.eye(5)[0], horizon=h).rank) for h in range(1, 8)]
    assert reached == [1, 2, 3, 4, 5, 5, 5]
    assert int(nm.controllability(chain, np.eye(5)[4]).rank) == 1
    assert int(nm.controllability(chain, np.zeros(5)).rank) == 0


def test_generic_systems_are_controllable_from_one_input():
    assert [int(nm.controllability(*linear_system(seed, 20, 1)[:2]).rank) for seed in SEEDS] == [20] * 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("horizon", [None, 30])
def test_what_counts_as_reached_is_what_has_a_finite_energy(seed, horizon):
    """Three inputs reach all of 64 dimensions by algebra, but the last of them at energies that rounding drowns."""
    a, b, _ = linear_system(seed, 64, 3, radius=0.5)
    found = nm.controllability(a, b, horizon=horizon)
    axes = np.linalg.svd(np.hstack([np.linalg.matrix_power(a, k) @ b for k in range(horizon or 60)]))
    rank = int((axes[1] > found.attributes["tolerance"] * axes[1][0]).sum())
    assert found.rank == rank < found.data["controllable_at_any_cost"].item()
    for number in (0, rank // 4, rank // 2):
        assert found.minimum_energy(axes[0][:, number]) == pytest.approx(axes[1][number] ** -2, rel=1e-4)
    assert np.isfinite(found.minimum_energy(axes[0][:, rank - 1]))
    assert found.minimum_energy(axes[0][:, rank]) == np.inf
    assert f"inputs reach {rank} of 64 dimensions; " in found.summary()
    assert "infinite along those not reached" in found.summary()
    if horizon:
        with pytest.raises(InputError, match=f"inputs reach {rank} of 64 dimensions; .* by algebra"):
            found.minimum_energy_inputs(axes[0][:, -1])


def test_the_energies_told_are_those_of_the_easiest_and_the_hardest_direction():
    found = nm.controllability(np.diag([0.5, 0.2]), np.diag([1.0, 1e-9]), horizon=1)
    assert found.rank == 2
    assert "1 along the easiest direction, 1e+18 along the hardest" in found.summary()


# -- single units ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_average_controllability_is_the_trace_of_the_gramian_of_that_unit_alone(seed):
    a, _, _ = linear_system(seed)
    for horizon in (None, 9):
        found = nm.controllability(a, horizon=horizon).average
        alone = [np.trace(nm.controllability(a, unit, horizon=horizon).gramian) for unit in np.eye(6)]
        np.testing.assert_allclose(found, alone, rtol=1e-10)


def test_connectomes_give_the_numbers_of_gu_et_al():
    """Symmetric, scaled by one plus the largest singular value; eigenvectors and geometric series written out."""
    random = np.random.default_rng(0)
    weights = np.triu(random.exponential(size=(12, 12)), 1)
    weights += weights.T
    scaled = weights / (1 + np.linalg.svd(weights)[1][0])
    values, vectors = np.linalg.eigh(scaled)
    found = nm.controllability(weights, normalize=True)
    np.testing.assert_allclose(found.average, (vectors**2 / (1 - values**2)).sum(1), rtol=1e-10)
    np.testing.assert_allclose(found.modal, (vectors**2 * (1 - values**2)).sum(1), rtol=1e-10)
    assert np.corrcoef(found.average, found.modal)[0, 1] < -0.8  # as in brains: hubs move slow modes, others fast ones
    with pytest.raises(InputError, match="normalize=True"):
        nm.controllability(weights)


def test_modal_controllability_of_a_matrix_that_is_not_symmetric():
    """Of a cascade, each mode is moved by the units before it: brute force with left eigenvectors by hand."""
    cascade = np.array([[0.9, 0.0], [0.5, 0.1]])
    # left eigenvectors: w A = lambda w; for 0.9: (0.8, ...)
    slow, fast = np.array([1.0, 0.0]), np.array([-0.5, 0.8])
    fast /= np.linalg.norm(fast)
    np.testing.assert_allclose(slow @ cascade, 0.9 * slow, atol=1e-12)
    np.testing.assert_allclose(fast @ cascade, 0.1 * fast, atol=1e-12)
    expected = (1 - 0.81) * slow**2 + (1 - 0.01) * fast**2
    np.testing.assert_allclose(nm.controllability(cascade).modal, expected, rtol=1e-10)


def test_modes_of_equal_eigenvalue_do_not_make_modal_controllability_ambiguous():
    random = np.random.default_rng(0)
    lengths = random.standard_normal((8, 2))
    low_rank = lengths @ random.standard_normal((2, 8))  # six zero eigenvalues
    low_rank *= 0.9 / np.abs(np.linalg.eigvals(low_rank)).max()
    order = random.permutation(8)
    found = nm.controllability(low_rank).modal
    np.testing.assert_allclose(nm.controllability(low_rank[np.ix_(order, order)]).modal, found[order], rtol=1e-6)


# -- linearised --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("trajectory", [False, True])
def test_a_linear_step_gives_what_its_matrices_give(seed, trajectory):
    a, b, c = linear_system(seed)
    step, held = linear_step(a, b), torch.tensor([0.3, -0.2], dtype=torch.float64)
    states = nm.simulate(step, np.ones(6), 12, held)[0]
    matrix = nm.controllability(a, b, c, horizon=8)
    found = nm.controllability(step, None, c, states=states, inputs=held, horizon=8, trajectory=trajectory)
    assert not found.warnings
    for name in (
        "average_controllability",
        "controllability_gramian",
        "observability_gramian",
        "modal_controllability",
    ):
        for one in found.data[name].values:
            np.testing.assert_allclose(one, matrix.data[name].values[0], rtol=1e-10)
    assert len(found.gramian) == (4 if trajectory else 12)
    assert (found.rank == matrix.rank).all()


def test_a_linear_step_without_inputs_is_driven_unit_by_unit():
    a, _, _ = linear_system(0)
    found = nm.controllability(linear_step(a), states=np.zeros(6))
    np.testing.assert_allclose(found.gramian[0], nm.controllability(a).gramian, rtol=1e-10)


def recurrent(seed, n_units=5, gain=0.8):
    random = np.random.default_rng(seed)
    weights = torch.from_numpy(gain * random.standard_normal((n_units, n_units)) / np.sqrt(n_units))
    driven = torch.from_numpy(random.standard_normal((n_units, 2)))
    return lambda x, u: torch.tanh(x @ weights.T + u @ driven.T)


@pytest.mark.parametrize("seed", SEEDS)
def test_small_control_along_a_trajectory_steers_the_network_itself(seed):
    """The error falls with the square of the displacement, so the linearisation is the right one."""
    step = recurrent(seed)
    held = torch.tensor([0.4, -0.3], dtype=torch.float64)
    start = torch.from_numpy(np.random.default_rng(seed).standard_normal(5))
    states = torch.cat([start[None], nm.simulate(step, start, 6, held)[0]])
    found = nm.controllability(step, states=states, inputs=held, trajectory=True)
    assert len(found.gramian) == 1
    direction = np.random.default_rng(seed + 50).standard_normal(5)
    # within reach: along what the Gramian reaches best
    direction = found.gramian[0] @ direction
    direction /= np.linalg.norm(direction)
    errors = []
    for size in (1e-2, 1e-3):
        target = states[-1].numpy() + size * direction
        controls = found.minimum_energy_inputs(target)
        now = start[None]
        for control in controls.values:
            now = step(now, held + torch.from_numpy(control))
        errors.append(np.abs(now[0].numpy() - target).max() / size)
        assert (controls.values**2).sum() == pytest.approx(found.minimum_energy(target))
    assert errors[0] < 0.2
    assert errors[1] < 0.2 * errors[0]


def test_windows_of_a_trajectory_are_products_of_its_jacobians():
    step = recurrent(7)
    held = torch.zeros(2, dtype=torch.float64)
    states = nm.simulate(step, np.ones(5), 10, held)[0]
    found = nm.controllability(step, states=states, inputs=held, horizon=3, trajectory=True)
    a, b = found.data["jacobian"].values, found.data["input_matrix"].values
    for start in range(7):
        first, second, third = a[start + 2] @ a[start + 1] @ b[start], a[start + 2] @ b[start + 1], b[start + 2]
        expected = first @ first.T + second @ second.T + third @ third.T
        np.testing.assert_allclose(found.gramian[start], expected, rtol=1e-10)
        grown = (a[start + 2] @ a[start + 1]) ** 2 + a[start + 2] ** 2 + np.eye(5)
        np.testing.assert_allclose(found.average[start], grown.sum(0), rtol=1e-10)
        seen = np.eye(5) + a[start].T @ a[start] + (a[start + 1] @ a[start]).T @ (a[start + 1] @ a[start])
        np.testing.assert_allclose(found.observability[start], seen, rtol=1e-10)


def test_where_a_state_is_not_fixed_its_drift_is_part_of_the_way():
    a, b, _ = linear_system(4)
    state = np.full(6, 2.0)
    found = nm.controllability(linear_step(a, b), states=state, inputs=[0.0, 0.0], horizon=9)
    target, start = np.ones(6), np.full(6, 0.5)
    assert found.minimum_energy(target, start) == pytest.approx(
        nm.controllability(a, b, horizon=9).minimum_energy(target, start), rel=1e-9
    )
    infinite = nm.controllability(linear_step(a, b), states=state, inputs=[0.0, 0.0])
    assert infinite.minimum_energy(target) == pytest.approx(nm.controllability(a, b).minimum_energy(target), rel=1e-7)


def test_a_step_that_torch_func_cannot_transform_has_the_same_input_jacobian():
    a, b, _ = linear_system(0)
    plain = linear_step(a, b)

    def branches(x, u):
        if float(x.detach().sum()) > 1e9:  # data-dependent, which vmap refuses
            return x
        return plain(x, u)

    states = np.zeros((2, 6))
    found = nm.controllability(branches, states=states, inputs=[0.0, 0.0])
    np.testing.assert_allclose(found.data["input_matrix"].values, [b, b], rtol=1e-12)


def test_an_adapted_network_is_linearised_at_its_states():
    model = nm.adapt(nm.load_model("flip_flop_rnn"))
    n_units = model.initial_state().shape[1]
    found = nm.controllability(model, states=model.initial_state(), inputs=np.zeros(3), horizon=10)
    assert found.data["input_matrix"].shape == (1, n_units, 3)
    assert found.gramian.shape == (1, n_units, n_units)
