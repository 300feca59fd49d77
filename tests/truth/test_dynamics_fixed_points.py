"""Fixed points against linear algebra, textbooks, trained networks and an independent search."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from _training import masked_squared_error, train

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.networks import RecurrentNetwork
from neuros_mechint.datasets.tasks import context_decision, flip_flop
from neuros_mechint.neuro.dynamics.fixed_points.continua import find_continua
from neuros_mechint.neuro.dynamics.fixed_points.distinct import distinct
from neuros_mechint.neuro.dynamics.fixed_points.newton import newton_search
from neuros_mechint.neuro.dynamics.fixed_points.search import search_from_many
from neuros_mechint.neuro.dynamics.fixed_points.starts import draw_starts
from neuros_mechint.neuro.dynamics.systems import as_system
from tests.slow import slow_case

SEEDS = [0, 1, *map(slow_case, range(2, 5))]
N_RING = 64


@cache
def trained(seed, cell):
    """A network that learned the flip-flop from scratch within two seconds, and states it visits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nonlinearity = {"nonlinearity": "tanh"} if cell == "rnn" else {}
        model = RecurrentNetwork(3, 16, 3, cell, **nonlinearity)
    random = np.random.default_rng(seed)
    train(
        model,
        draw=lambda step: flip_flop(64, n_steps=24, pulse_probability=0.2, seed=random),
        loss=masked_squared_error,
        n_steps=300,
        learning_rate=1e-2,
        progress=False,
    )
    model = model.eval().requires_grad_(False)
    return model, model.rnn(flip_flop(64, n_steps=100, seed=seed + 100).inputs)[0]


def ring_step(drift=0.0, noise=0.0, gain=2.0):
    """A ring of tanh units with cosine connections; sines make the bump drift around it."""
    angle = torch.arange(N_RING, dtype=torch.float64) * 2 * torch.pi / N_RING
    apart = angle[:, None] - angle[None]
    weights = 2 / N_RING * (gain * apart.cos() + drift * apart.sin())
    rough = np.random.default_rng(7).normal(size=(N_RING, N_RING)) * noise / N_RING**0.5
    weights = weights + torch.from_numpy(rough)
    return lambda x: x + 0.2 * (torch.tanh(x @ weights.T) - x)


def ring_states(step, n_trials=80):
    begin = np.random.default_rng(3).normal(size=(n_trials, N_RING))
    return nm.simulate(step, begin, 40)[:, 20::10]


def same_points(found, expected, tolerance=1e-6):
    if len(found) != len(expected):
        return False
    distances = np.linalg.norm(np.asarray(found)[:, None] - np.asarray(expected)[None], axis=-1)
    return bool((distances.min(0) < tolerance).all() and (distances.min(1) < tolerance).all())


def by_scipy(step, starts):
    """Independent search: MINPACK's hybrid method from one start after the other, kept where it stands still."""
    from scipy.optimize import root

    def displacement(x):
        return (step(torch.from_numpy(x)[None])[0] - torch.from_numpy(x)).numpy()

    points = []
    for start in starts:
        found = root(displacement, start, method="hybr", tol=1e-12)
        if np.linalg.norm(displacement(found.x)) < 1e-10 and all(np.linalg.norm(found.x - p) > 1e-4 for p in points):
            points.append(found.x)
    return np.array(points)


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_maps_are_exact(seed):
    random = np.random.default_rng(seed)
    matrix, shift = 0.6 * random.normal(size=(6, 6)), random.normal(size=6)
    step = lambda x: x @ torch.from_numpy(matrix).T + torch.from_numpy(shift)  # noqa: E731
    found = nm.FixedPointFinder(step, dt=0.01).find(random.normal(size=(30, 6)))
    np.testing.assert_allclose(found.states, [np.linalg.solve(np.eye(6) - matrix, shift)], atol=1e-10)
    np.testing.assert_allclose(found.jacobians[0], matrix, atol=1e-14)
    expected = np.linalg.eigvals(matrix)
    assert np.abs(found.eigenvalues[0][:, None] - expected[None]).min(1).max() < 1e-10
    np.testing.assert_allclose(found.time_constants[0], -0.01 / np.log(np.abs(found.eigenvalues[0])))
    assert found.n_unstable[0] == (np.abs(expected) > 1).sum()
    assert found.index_sum == np.sign(np.linalg.det(np.eye(6) - matrix))


@pytest.mark.parametrize("dt", [0.01, 0.1])
def test_two_wells_and_the_saddle_of_duffing(dt):
    starts = np.random.default_rng(0).normal(size=(100, 2))
    found = nm.FixedPointFinder(nm.rk4(nm.duffing, dt)).find(starts)
    assert same_points(found.states, [[-1, 0], [0, 0], [1, 0]], 1e-12)
    assert sorted(found.stability) == ["saddle", "stable", "stable"]
    assert found.index_sum == 1
    assert not len(found.slow_states)
    saddle = found.rates[found.n_unstable == 1][0]
    # of the equation: v' = x - v / 2 at 0, v' = -2 x - v / 2 in the wells
    np.testing.assert_allclose(np.sort(saddle.real), np.sort(np.roots([1, 0.5, -1])), atol=1e-5)
    well = found.rates[found.n_unstable == 0][0]
    np.testing.assert_allclose(np.abs(well.imag), np.sqrt(2 - 1 / 16), atol=1e-5)
    np.testing.assert_allclose(found.time_constants[found.n_unstable == 0], 4, rtol=1e-4)


def test_fixed_points_of_lorenz_and_henon():
    starts = 10 * np.random.default_rng(0).normal(size=(50, 3))
    found = nm.FixedPointFinder(nm.rk4(nm.lorenz, 0.01)).find(starts)
    c = np.sqrt(8 / 3 * 27)
    assert same_points(found.states, [[0, 0, 0], [c, c, 27], [-c, -c, 27]])
    assert sorted(found.n_unstable) == [1, 2, 2]
    assert found.continua == []
    henon = nm.FixedPointFinder(nm.henon_map).find(starts[:, :2] / 10)
    x = np.roots([1.4, 0.7, -1])
    assert same_points(henon.states, np.stack([x, 0.3 * x], 1))
    assert henon.index_sum == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_flip_flop_of_three_bits_has_27(seed):
    model, visited = trained(seed, "rnn")
    found = nm.FixedPointFinder(nm.adapt(model), n_starts=1024).find(visited)
    assert np.bincount(found.n_unstable).tolist() == [8, 12, 6, 1]
    assert found.index_sum == 1
    assert found.continua == []
    assert not len(found.slow_states)
    assert found.speed.max() < 1e-12
    readout = model.readout(torch.from_numpy(found.states).float()).numpy()
    stable = readout[found.n_unstable == 0]
    assert len({tuple(row) for row in np.sign(stable)}) == 8
    assert np.abs(stable).min() > 0.5


@pytest.mark.parametrize("name", ["flip_flop_rnn", "flip_flop_gru"])
def test_embedded_flip_flops_have_27(name):
    model = nm.load_model(name)
    visited = model.rnn(flip_flop(64, n_steps=60, seed=1).inputs)[0].detach()
    for seed in range(3):
        found = nm.FixedPointFinder(nm.adapt(model), n_starts=1024, seed=seed).find(visited)
        assert np.bincount(found.n_unstable).tolist() == [8, 12, 6, 1]
        assert found.index_sum == 1


@pytest.mark.parametrize("seed", [3, slow_case(0), slow_case(4)])
def test_trained_gru_equals_an_independent_search(seed):
    # networks of seeds 3 and 4 have fewer than 27
    model, visited = trained(seed, "gru")
    finder = nm.FixedPointFinder(nm.adapt(model), n_starts=1024)
    found = finder.find(visited)
    random = np.random.default_rng(seed + 50)
    states = visited.reshape(-1, 16).double().numpy()
    pairs = random.choice(len(states), (300, 2))
    starts = states[pairs].mean(1)
    others = by_scipy(nm.adapt(model).step, starts)
    # MINPACK also strays to points far from where it begins: what both were asked for lies among the states
    reach = 1.5 * np.abs(states).max()
    inside = lambda points: points[np.abs(points).max(1) <= reach]  # noqa: E731
    missed = [p for p in inside(others) if np.linalg.norm(found.states - p, axis=1).min() > 1e-5]
    extra = [p for p in inside(found.states) if np.linalg.norm(others - p, axis=1).min() > 1e-5]
    assert (len(missed), len(extra)) == (0, 0)
    assert found.index_sum == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_fewer_jacobians_find_the_same_points(seed):
    model, visited = trained(seed, "rnn")
    states, same = visited.reshape(-1, 16), torch.zeros(len(visited) * 100, dtype=torch.int64)
    system, starts = as_system(
        nm.adapt(model), draw_starts(states, same, 1024, 0.0, np.random.default_rng(seed + 20))[0]
    )
    plain, quick = newton_search(system, starts), search_from_many(system, starts)
    assert plain.converged.all()
    assert quick.converged.all()
    points = []
    for one in (plain, quick):
        chosen, _ = distinct(one.states, one.speeds, same[: len(starts)], 1e-3)
        points.append(one.states[chosen].numpy())
    assert same_points(*points, 1e-3)
    assert (torch.linalg.norm(plain.states - quick.states, dim=1) < 1e-3).double().mean() > 0.95


@pytest.mark.parametrize("step", [lambda x: x + 1, lambda x: x + 1 + torch.sin(x) / 2, lambda x: x.exp() + 0.5])
def test_a_system_without_fixed_points_has_none(step):
    found = nm.FixedPointFinder(step).find(np.random.default_rng(0).normal(size=(30, 1)))
    assert found.states.shape == (0, 1)
    assert found.index_sum == 0
    assert found.continua == []
    assert "led to no fixed point" in found.warnings[0]
    assert "no fixed points" in found.summary()
    found.plot()


@pytest.mark.parametrize("mu", [1e-3, 1e-5, 1e-8, 1e-11])
def test_a_ghost_is_slow_and_not_fixed(mu):
    step = lambda x: torch.stack([x[:, 0] + x[:, 0] ** 2 + mu, 0.3 * x[:, 1]], 1)  # noqa: E731
    starts = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 2))
    found = nm.FixedPointFinder(step).find(starts)
    assert len(found.states) == 0
    minima = found.data["kind"].values == "minimum"
    assert minima.sum() == 1
    np.testing.assert_allclose(found.data["state"].values[minima], 0, atol=1e-6)
    np.testing.assert_allclose(found.data["speed"].values[minima], mu, rtol=1e-6)
    # just before the fold there are two, and nothing slow is left
    before = nm.FixedPointFinder(lambda x: step(x) - torch.tensor([2 * mu, 0.0])).find(starts)
    assert same_points(before.states, [[mu**0.5, 0], [-(mu**0.5), 0]], 1e-3 * mu**0.5) or mu < 1e-7
    assert not (before.data["kind"].values == "minimum").any()


def test_a_ring_attractor_is_recognised():
    step = ring_step()
    found = nm.FixedPointFinder(step).find(ring_states(step))
    (ring,) = found.continua
    assert ring.kind == "ring"
    assert ring.attracting
    assert len(ring.points) > 40
    assert found.index_sum is None
    assert "marginal" in found.stability
    # a bump is tanh(r cos(angle - phase)) with r = 4 <tanh(r cos) cos>; the length is that of its orbit over phases
    angle, r = np.linspace(0, 2 * np.pi, N_RING, endpoint=False), 2.0
    for _ in range(300):
        r = 4 * np.mean(np.tanh(r * np.cos(angle)) * np.cos(angle))
    points = found.data["state"].values[ring.points]
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), np.linalg.norm(np.tanh(r * np.cos(angle))), rtol=1e-6)
    around = 2 * np.pi * np.linalg.norm(r * np.sin(angle) / np.cosh(r * np.cos(angle)) ** 2)
    np.testing.assert_allclose(ring.length, around, rtol=0.02)
    assert "ring attractor" in found.summary()


@pytest.mark.parametrize(("drift", "noise"), [(0.001, 0.0), (0.0, 0.02)])
def test_a_ring_that_hardly_moves_is_recognised(drift, noise):
    step = ring_step(drift, noise)
    found = nm.FixedPointFinder(step).find(ring_states(step))
    ring = found.continua[0]
    assert ring.kind == "ring"
    assert ring.steps > 1000
    assert len(found.slow_states) > 20


def test_an_integrator_is_a_line_attractor():
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(10, 10)))[0]

    def kinds(*slow):
        weights = torch.from_numpy(basis @ np.diag([*slow, *[0.5] * (10 - len(slow))]) @ basis.T)
        found = nm.FixedPointFinder(lambda x: x @ weights.T).find(random.normal(size=(200, 10)))
        return [one.kind for one in found.continua], found

    (line, found), (plane, _), (leaky, slow), (none, single) = kinds(1.0), kinds(1.0, 1.0), kinds(0.99), kinds(0.9)
    assert (line, plane, leaky, none) == (["line"], ["surface"], ["line"], [])
    along = found.data["state"].values[found.continua[0].points]
    np.testing.assert_allclose(along - np.outer(along @ basis[:, 0], basis[:, 0]), 0, atol=1e-6)
    assert len(slow.states) == len(single.states) == 1  # a leaky one has one fixed point and a slow line
    assert 100 < slow.continua[0].steps < 1000
    assert "a line attractor" in found.summary()
    assert "a slow line through one fixed point, and no line attractor" in slow.summary()
    drifting = nm.FixedPointFinder(lambda x: x * x.new_tensor([1, 0.5]) + x.new_tensor([1e-3, 0]))
    assert "a slow line without a fixed point" in drifting.find(random.normal(size=(200, 2))).summary()


def test_a_trained_decision_maker_has_a_slow_line_in_each_context():
    model = nm.load_model("decision_rnn")
    trials = context_decision(64, seed=1)
    visited = model.rnn(trials.inputs)[0].detach()[:, 5::2]
    cue = trials.inputs[:, 5::2] * torch.tensor([0.0, 0.0, 1.0, 1.0])
    found = nm.FixedPointFinder(nm.adapt(model)).find(visited, cue)
    assert found.data.sizes["held"] == 2
    assert found.index_sum == [1, 1]
    for condition in range(2):
        own = found.data["condition"].values == condition
        fixed = own & (found.data["kind"].values == "fixed")
        assert sorted(found.data["stability"].values[fixed]) == ["saddle", "stable", "stable"]
    assert [one.kind for one in found.continua] == ["line", "line"]
    assert all(one.attracting and one.aligned > 0.95 for one in found.continua)
    assert all(one.n_fixed >= 2 and one.told().startswith("a line attractor") for one in found.continua)


def test_inputs_move_the_points_and_are_kept_apart():
    step = lambda x, u: 0.5 * x + u  # noqa: E731
    found = nm.FixedPointFinder(step).find(np.zeros((4, 1)), [[1.0], [1.0], [2.0], [3.0]])
    assert sorted(found.states.flatten()) == pytest.approx([2, 4, 6])
    assert found.index_sum == [1, 1, 1]
    held = nm.FixedPointFinder(step).find(np.zeros((4, 1)), [1.0])
    assert held.states.item() == pytest.approx(2)


def test_nothing_of_the_caller_changes():
    model = nm.load_model("flip_flop_gru")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    visited = model.rnn(flip_flop(4, n_steps=20, seed=1).inputs)[0].detach()
    array, kept, state = visited.numpy().copy(), visited.clone(), torch.get_rng_state()
    one = nm.FixedPointFinder(nm.adapt(model), n_starts=50, noise=0.1).find(visited)
    two = nm.FixedPointFinder(nm.adapt(model), n_starts=50, noise=0.1).find(array)
    assert torch.equal(visited, kept)
    assert np.array_equal(array, kept.numpy())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert np.array_equal(one.states, two.states)
    other = nm.FixedPointFinder(nm.adapt(model), n_starts=50, noise=0.1, seed=1).find(visited)
    assert not np.array_equal(one.data["n_starts"].values, other.data["n_starts"].values)


def test_results_are_kept(tmp_path):
    for starts in (np.ones((3, 2)), np.random.default_rng(0).normal(size=(50, 2))):
        for step in (nm.rk4(nm.duffing, 0.1), lambda x: x + 1):
            found = nm.FixedPointFinder(step).find(starts)
            again = nm.load_result(found.save(tmp_path / "points.nc"))
            assert again == found
            assert again.continua == found.continua
            found.plot()


@pytest.mark.parametrize(
    ("step", "states", "inputs"),
    [
        (lambda x: x, np.full((2, 2), np.nan), None),
        (lambda x: x, np.zeros((0, 2)), None),
        (lambda x: x[:, :1], np.zeros((2, 2)), None),
        (lambda x: x + torch.randn_like(x), np.zeros((2, 2)), None),
        (lambda x: x - x.mean(0), np.random.default_rng(0).normal(size=(5, 2)), None),
        (lambda x: torch.from_numpy(x.detach().numpy()), np.zeros((2, 2)), None),
        (lambda x: x / 0, np.zeros((2, 2)), None),
        (lambda x, u: x + u, np.zeros((3, 2)), np.zeros((2, 2))),
        ("no step", np.zeros((3, 2)), None),
    ],
)
def test_bad_input_is_refused(step, states, inputs):
    with pytest.raises(InputError):
        nm.FixedPointFinder(step).find(states, inputs)


@pytest.mark.parametrize(
    "options", [{"dt": 0}, {"tolerance": -1}, {"slow_speed": -1}, {"n_starts": 0}, {"noise": -0.1}, {"progress": "no"}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(OptionError):
        nm.FixedPointFinder(lambda x: x / 2, **options).find(np.zeros((2, 2)))


def test_a_step_that_cannot_be_transformed_will_do():
    def step(x):
        return 0.5 * x + 1 if float(x.detach().sum()) > -1e9 else x  # .item() stops torch.func

    system, _ = as_system(step, [[3.0, 1.0]])
    assert not system.transformable
    np.testing.assert_allclose(nm.FixedPointFinder(step).find([[3.0, 1.0]]).states, [[2, 2]])


def test_single_precision_only_is_said():
    weights = torch.tensor([[0.5]])
    found = nm.FixedPointFinder(lambda x: x @ weights + 1).find([[3.0], [5.0]])
    assert found.states.flatten() == pytest.approx([2], abs=1e-5)
    assert any("single precision" in text for text in found.warnings)


def test_the_order_of_the_points_does_not_depend_on_the_starts():
    step = nm.rk4(nm.duffing, dt=0.1)
    orders = []
    for seed in range(5):
        found = nm.FixedPointFinder(step).find(np.random.default_rng(seed).uniform(-2, 2, size=(40, 2)))
        orders.append(found.states[:, 0].round(6).tolist())
        assert (np.diff(found.n_unstable) >= 0).all()
    assert orders == [[-1.0, 1.0, 0.0]] * 5


def test_index_sums_of_several_inputs_are_told():
    def step(state, inputs):
        return torch.tanh(2 * state + inputs)

    starts = np.tile(np.linspace(-1.5, 1.5, 9)[:, None], (2, 1))
    inputs = np.repeat([[0.0], [3.0]], 9, axis=0)
    told = nm.FixedPointFinder(step).find(starts, inputs).summary()
    assert "index sum 1 under each of the inputs: as it must be" in told
    some = nm.FixedPointFinder(step).find([[0.0], [1.0]], [[0.0], [3.0]]).summary()
    assert "index sums: -1 under 1 input, 1 under 1 input" in some


@pytest.mark.parametrize(("dt", "unit"), [(None, "steps"), (1.0, "units of time"), (0.1, "units of time")])
def test_times_are_told_in_their_units(dt, unit):
    found = nm.FixedPointFinder(lambda x: 0.5 * x, dt=dt).find([[1.0]])
    assert found.attributes["time_unit"] == found.data["time_constant"].attrs["units"] == unit
    assert f"slowest time constant {(dt or 1) / np.log(2):.3g} {unit};" in found.summary()


@pytest.mark.parametrize(("n_points", "kind"), [(11, "sheet"), (63, "sheet"), (64, "surface")])
def test_a_few_points_with_two_slow_directions_are_no_surface(n_points, kind):
    points = np.zeros((n_points, 3))
    points[:, :2] = np.random.default_rng(0).uniform(size=(n_points, 2))
    jacobian = np.diag([1.0, 1.0, 0.5])
    values, jacobians = np.tile(np.diag(jacobian), (n_points, 1)), np.tile(jacobian, (n_points, 1, 1))
    (found,) = find_continua(points, np.zeros(n_points), values.astype(complex), jacobians)
    assert found.kind == kind
    assert ("surface attractor" in found.told()) == (kind == "surface")


def test_the_summary_says_where_all_states_went_and_under_which_input():
    def step(x, u=0.0):  # no fixed point left of 0: the slowest place is at -1
        return x + torch.where(x > 0, -x * (x - 1) * (x - 2), ((x + 1) ** 2 + 0.5)) + 0 * u

    starts = np.linspace(-2, 2.5, 90)[:, None]
    found = nm.FixedPointFinder(step, slow_speed=0.01).find(starts)
    about = found.attributes
    assert "no input was held" in found.summary()
    assert "of the others ended" in found.summary()
    assert 0 < about["n_converged"] < 90
    assert about["n_ended_slow"] == 0
    assert f"of the others ended {90 - about['n_converged']} where it is not" in found.summary()
    slow = nm.FixedPointFinder(step, slow_speed=1.0).find(starts)
    assert slow.attributes["n_ended_slow"] > 0
    assert f"of the others ended {slow.attributes['n_ended_slow']} where the system is slow" in slow.summary()
    assert "input held: 0.25" in nm.FixedPointFinder(step).find(starts, inputs=[0.25]).summary()
    alike = nm.FixedPointFinder(lambda x: 0.5 * x).find(starts)
    assert "of the others" not in alike.summary()


@pytest.mark.parametrize("n_units", [1, 3])
def test_a_step_that_changes_nothing_has_no_number_of_points(n_units):
    found = nm.FixedPointFinder(lambda x: 1.0 * x).find(np.random.default_rng(0).normal(size=(200, n_units)))
    assert found.findings[0].startswith("every point is fixed: the step returns all 200 states")
    assert found.warnings == (found.findings[0],)
    assert f"of {n_units} unit{'s' if n_units > 1 else ''}: " in found.findings[1]


def test_a_step_that_forgets_the_state_is_told():
    states = np.random.default_rng(0).normal(size=(50, 3))
    found = nm.FixedPointFinder(lambda x: 0 * x + 0.5).find(states)
    assert found.states == pytest.approx(np.full((1, 3), 0.5))
    assert found.warnings[0].startswith("the step does not depend on the state")
    with pytest.raises(InputError, match="does not depend on the state"):
        nm.FixedPointFinder(lambda x: torch.full_like(x, 0.5)).find(states)
    with pytest.raises(InputError, match="cannot be differentiated"):  # it does depend on it, unseen by torch
        nm.FixedPointFinder(lambda x: (x / 2).detach()).find(states)


def test_directions_that_stand_still_are_a_continuum_of_points():
    gains = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.2], dtype=torch.float64)
    found = nm.FixedPointFinder(lambda x: x * gains).find(np.random.default_rng(0).normal(size=(200, 5)))
    assert "are a sample of a continuum: at each, 3 or more of 5 directions" in found.warnings[0]


@pytest.mark.parametrize(
    ("step", "states"),
    [
        (lambda x: 0.9 * x, np.linspace(-1, 1, 20)[:, None]),
        (lambda x: x + x**3, np.zeros((20, 1))),  # at rest with an eigenvalue of 1, but only there
        (lambda x: x**2, np.zeros((20, 1))),
        (torch.round, np.linspace(-3, 3, 61)[:, None]),  # flat everywhere, but not the same everywhere
        (lambda x: x * x.new_tensor([1.0, 0.5]), np.stack([np.linspace(-1, 1, 40), np.zeros(40)], 1)),  # a line
    ],
)
def test_what_rests_somewhere_or_forgets_somewhere_does_not_do_so_everywhere(step, states):
    assert nm.FixedPointFinder(step).find(states).warnings == ()


TANH_POINTS = 27  # of tanh(2 x) in three units: 0 or one of two in each


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e12])
def test_states_far_larger_than_the_points_find_them_all_and_are_told(scale):
    states = np.random.default_rng(0).normal(size=(400, 3))
    near, far = (nm.FixedPointFinder(lambda x: torch.tanh(2 * x)).find(one) for one in (states, scale * states))
    assert len(near.states) == len(far.states) == TANH_POINTS
    assert near.warnings == ()
    np.testing.assert_allclose(far.states, near.states, atol=1e-8)
    assert "times as large as the fixed points" in far.warnings[0]


@pytest.mark.parametrize("far", [1e3, 1e5, 1e8])
def test_a_state_far_out_does_not_make_points_one(far):
    states = np.random.default_rng(0).normal(size=(400, 3))
    found = nm.FixedPointFinder(lambda x: torch.tanh(2 * x)).find(np.vstack([states, [[far] * 3]]))
    assert len(found.states) == TANH_POINTS


def test_a_network_that_explodes_still_has_its_sixteen_points():
    step = lambda x: torch.relu(3 * x - 0.5)  # noqa: E731  # each unit rests at 0 or 1/4, or explodes
    seen = nm.simulate(step, np.random.default_rng(0).uniform(0, 0.6, (60, 4)), 30)
    found = nm.FixedPointFinder(step).find(seen)
    assert {tuple(row) for row in found.states.round(6) + 0.0} == set(itertools.product((0.0, 0.25), repeat=4))


def test_one_point_at_the_origin_is_found_without_a_word():
    found = nm.FixedPointFinder(lambda x: 0.5 * x).find(1e6 * np.random.default_rng(0).normal(size=(50, 3)))
    assert (len(found.states), found.warnings) == (1, ())


def test_states_too_large_to_be_squared_are_refused():
    with pytest.raises(InputError, match="too large to be told apart"):
        nm.FixedPointFinder(lambda x: torch.tanh(2 * x)).find(1e200 * np.random.default_rng(0).normal(size=(50, 3)))


def test_a_permutation_repels_nothing():
    found = nm.FixedPointFinder(lambda x: torch.roll(x, 1, 1)).find(np.random.default_rng(0).normal(size=(60, 3)))
    assert "no attractor" in found.summary()
    assert "repel" not in found.summary()
