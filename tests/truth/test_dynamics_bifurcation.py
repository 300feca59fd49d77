from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError

STARTS = np.random.default_rng(0).uniform(-1.5, 1.5, (12, 1))
PLANE = np.random.default_rng(0).uniform(-1.5, 1.5, (8, 2))


def flow(derivative, dt=0.1):
    """A derivative ``(states, value)`` as what the scan takes."""
    return lambda value: nm.rk4(lambda state: derivative(state, value), dt)


def kinds(scan):
    return [one.kind for one in scan.bifurcations]


def stuart_landau(state, mu):
    x, y = state.unbind(-1)
    growth, turning = mu - x * x - y * y, 2 + mu
    return torch.stack([growth * x - turning * y, turning * x + growth * y], dim=-1)


def brusselator(state, b):
    x, y = state.unbind(-1)
    return torch.stack([1 + x * x * y - (b + 1) * x, b * x - x * x * y], dim=-1)


# Known answers, on grids with and without the place itself


@pytest.mark.parametrize("n_values", [pytest.param(9, marks=pytest.mark.slow), 10])
def test_pitchfork(n_values):
    scan = nm.bifurcation_scan(flow(lambda x, r: r * x - x**3), np.linspace(-1, 1, n_values), STARTS)
    assert kinds(scan) == ["supercritical pitchfork"]
    assert scan.bifurcations[0].value == pytest.approx(0, abs=1e-9)
    assert scan.bifurcations[0].eigenvalue == pytest.approx(1)
    assert scan.bifurcations[0].branches == (0, 1, 2)
    last = np.sort(scan.states[:, -1, 0])
    assert last == pytest.approx([-1, 0, 1])
    assert scan.n_unstable[np.argsort(scan.states[:, -1, 0]), -1].tolist() == [0, 1, 0]
    assert scan.n_unstable[0, 0] == 0


@pytest.mark.parametrize("n_values", [pytest.param(9, marks=pytest.mark.slow), 10])
def test_fold(n_values):
    scan = nm.bifurcation_scan(flow(lambda x, r: r + x**2), np.linspace(-1, 1, n_values), STARTS)
    assert kinds(scan) == ["fold"]
    assert scan.bifurcations[0].value == pytest.approx(0, abs=1e-6)
    assert scan.bifurcations[0].eigenvalue == pytest.approx(1, abs=1e-3)
    assert np.isnan(scan.states[:, -1]).all()
    r = scan.values[:3]
    assert np.sort(scan.states[:, :3, 0], axis=0) == pytest.approx(np.stack([-np.sqrt(-r), np.sqrt(-r)]))


@pytest.mark.parametrize("n_values", [pytest.param(9, marks=pytest.mark.slow), 10])
def test_transcritical(n_values):
    scan = nm.bifurcation_scan(flow(lambda x, r: r * x - x**2), np.linspace(-1, 1, n_values), STARTS)
    assert kinds(scan) == ["transcritical"]
    assert scan.bifurcations[0].value == pytest.approx(0, abs=1e-9)
    assert scan.bifurcations[0].branches == (0, 1)


def test_both_folds_of_an_s_shaped_branch():
    scan = nm.bifurcation_scan(flow(lambda x, r: r + x - x**3), np.linspace(-1, 1, 7), STARTS)
    exact = 2 / (3 * math.sqrt(3))
    assert kinds(scan) == ["fold", "fold"]
    assert [one.value for one in scan.bifurcations] == pytest.approx([-exact, exact], abs=1e-6)
    assert [one.state[0] for one in scan.bifurcations] == pytest.approx([3**-0.5, -(3**-0.5)], abs=1e-2)


def test_a_subcritical_pitchfork_whose_branches_turn_around():
    scan = nm.bifurcation_scan(flow(lambda x, r: r * x + x**3 - x**5), np.linspace(-0.5, 0.4, 6), STARTS)
    assert kinds(scan) == ["fold", "fold", "subcritical pitchfork"]
    assert [one.value for one in scan.bifurcations] == pytest.approx([-0.25, -0.25, 0], abs=1e-6)


@pytest.mark.slow  # two folds of one scan are in the tests beside it
def test_an_imperfect_pitchfork_is_a_fold():
    scan = nm.bifurcation_scan(flow(lambda x, r: 0.01 + r * x - x**3), np.linspace(-1, 1, 10), STARTS)
    assert kinds(scan) == ["fold"]
    assert scan.bifurcations[0].value == pytest.approx(3 * 0.005 ** (2 / 3), abs=1e-6)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_pitchfork_along_any_direction_of_many(seed):
    rng = np.random.default_rng(seed)
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(5, 5)))[0])
    shift = torch.from_numpy(rng.normal(size=5))

    def derivative(state, r):
        along = (state - shift) @ turn
        return torch.cat([r * along[:, :1] - along[:, :1] ** 3, -along[:, 1:]], dim=1) @ turn.T

    starts = shift.numpy() + rng.normal(size=(12, 5))
    scan = nm.bifurcation_scan(flow(derivative), [-0.8, -0.3, 0.4, 1.0], starts)
    assert kinds(scan) == ["supercritical pitchfork"]
    assert scan.bifurcations[0].value == pytest.approx(0, abs=1e-7)
    assert scan.bifurcations[0].state == pytest.approx(shift.numpy(), abs=1e-6)


def test_hopf_of_stuart_landau_and_its_frequency():
    scan = nm.bifurcation_scan(flow(stuart_landau, 0.02), np.linspace(-1, 1, 8), PLANE)
    assert kinds(scan) == ["Hopf"]
    assert scan.bifurcations[0].value == pytest.approx(0, abs=1e-7)
    assert scan.data["frequency"].item() == pytest.approx(2, abs=1e-6)
    assert "2 radians / unit of time" in scan.summary()


def test_hopf_of_the_brusselator():
    """The fixed point (1, b) loses stability at b = 2, with a frequency of 1."""
    scan = nm.bifurcation_scan(flow(brusselator, 0.05), np.linspace(1.2, 3, 7), [[1.0, 1.0], [0.5, 2.0]])
    assert kinds(scan) == ["Hopf"]
    assert scan.bifurcations[0].value == pytest.approx(2, abs=1e-6)
    assert scan.data["frequency"].item() == pytest.approx(1, abs=1e-6)
    assert scan.bifurcations[0].state == pytest.approx([1, 2], abs=1e-6)


def test_logistic_map():
    scan = nm.bifurcation_scan(lambda r: lambda x: nm.logistic_map(x, r), np.linspace(0.5, 3.3, 9), STARTS)
    assert kinds(scan) == ["transcritical", "period doubling"]
    assert [one.value for one in scan.bifurcations] == pytest.approx([1, 3], abs=1e-9)
    assert scan.bifurcations[1].eigenvalue == pytest.approx(-1)
    assert scan.eigenvalues.real.max(2)[:, -1] == pytest.approx([3.3, 2 - 3.3]) or scan.eigenvalues.real.max(2)[
        :, -1
    ] == pytest.approx([2 - 3.3, 3.3])


@pytest.mark.slow  # as Henon's of period two, which is quicker
def test_period_two_of_the_logistic_map_doubles_at_one_plus_root_six():
    def twice(r):
        return lambda x: nm.logistic_map(nm.logistic_map(x, r), r)

    scan = nm.bifurcation_scan(twice, np.linspace(2.9, 3.6, 8), STARTS)
    assert kinds(scan) == ["supercritical pitchfork", "period doubling", "period doubling"]
    exact = [3, 1 + math.sqrt(6), 1 + math.sqrt(6)]
    assert [one.value for one in scan.bifurcations] == pytest.approx(exact, abs=1e-7)


def test_henon_folds_and_doubles():
    scan = nm.bifurcation_scan(lambda a: lambda s: nm.henon_map(s, a), [-0.2, -0.04, 0.2, 0.4, 0.6], PLANE[:4])
    assert {"fold", "period doubling"} == set(kinds(scan))
    fold, doubling = scan.bifurcations
    assert fold.value == pytest.approx(-(0.7**2) / 4, abs=1e-6)
    assert doubling.value == pytest.approx(3 * 0.7**2 / 4, abs=1e-7)
    assert "leaves all bounds" in scan.warnings[0]  # one branch goes to infinity where a is 0


def test_henon_of_period_two_doubles():
    def twice(a):
        return lambda s: nm.henon_map(nm.henon_map(s, a), a)

    scan = nm.bifurcation_scan(twice, np.linspace(0.5, 1, 5), PLANE)
    doubled = [one.value for one in scan.bifurcations if one.kind == "period doubling"]
    assert doubled == pytest.approx([0.7**2 + 1.3**2 / 4] * 2, abs=1e-6)


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.5])
def test_a_network_that_begins_to_turn(angle):
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    scan = nm.bifurcation_scan(lambda gain: lambda x: torch.tanh(gain * x @ turn.T), np.linspace(0.5, 1.4, 6), PLANE)
    turning = [one for one in scan.bifurcations if one.kind == "Neimark-Sacker"]
    assert [one.value for one in turning] == pytest.approx([1], abs=1e-9)
    assert abs(np.angle(turning[0].eigenvalue)) == pytest.approx(angle, abs=1e-9)


@pytest.mark.parametrize(("sign", "kind"), [(1, "supercritical pitchfork"), (-1, "period doubling")])
def test_a_unit_that_excites_or_inhibits_itself(sign, kind):
    scan = nm.bifurcation_scan(lambda w: lambda x: torch.tanh(sign * w * x), np.linspace(0.4, 1.5, 6), STARTS)
    assert kinds(scan) == [kind]
    assert scan.bifurcations[0].value == pytest.approx(1, abs=1e-6)


def test_a_branch_that_no_initial_state_leads_to_is_found_across_its_fold():
    scan = nm.bifurcation_scan(flow(lambda x, r: r - x**2), np.linspace(-0.5, 2, 6), [[1.0]])
    assert kinds(scan) == ["fold"]
    assert scan.n_branches == 2


@pytest.mark.parametrize("scale", [0.05, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (1.0, 20.0))])
def test_a_pitchfork_and_a_crossing_whose_branches_no_initial_state_leads_to(scale):
    def forks(state, r):
        return r * state - state**3 / scale**2

    def crosses(state, r):
        return r * state - state**2 / scale

    for derivative, kind in ((forks, "supercritical pitchfork"), (crosses, "transcritical")):
        scan = nm.bifurcation_scan(flow(derivative), np.linspace(-1, 0.9, 4), [[0.0]])
        assert kinds(scan) == [kind]
        assert scan.bifurcations[0].value == pytest.approx(0, abs=1e-6)


def test_inputs_are_held():
    def make_step(r):
        return nm.rk4(lambda state, inputs: r + inputs + state**2, 0.1)

    scan = nm.bifurcation_scan(make_step, np.linspace(-1, 1, 5), STARTS, inputs=[-0.5])
    assert scan.bifurcations[0].value == pytest.approx(0.5, abs=1e-6)


# Whether anything was missed


def test_the_index_sum_of_all_points_is_one_and_of_some_is_not():
    r = [-1, -0.2, 0.3, 1]
    all_of_them = nm.bifurcation_scan(flow(lambda x, r: r * x - x**3), r, STARTS)
    assert all_of_them.index_sum.tolist() == [1, 1, 1, 1]
    assert "index sum 1 at each value: as it must be" in all_of_them.summary()
    missing = nm.bifurcation_scan(flow(lambda x, r: 9 * (1 - x**2) * x + r * 0), [0.1, 0.2, 0.3], [[0.001]])
    assert missing.n_branches < 3
    assert set(missing.index_sum) == {-1}
    assert "and then fixed points are missing" in missing.summary()
    folded = nm.bifurcation_scan(flow(lambda x, r: r + x**2), [-1, -0.4, 0.3], STARTS)
    assert folded.index_sum.tolist() == [0, 0, 0]  # no ball is sent into itself, and pairs come and go


def test_the_index_sum_changes_where_a_point_leaves_all_bounds():
    scan = nm.bifurcation_scan(lambda r: lambda x: x + 0.1 * (1 + r * x), [-1, -0.5, 0.5, 1], STARTS)  # at -1 / r
    assert scan.index_sum.tolist() == [1, 1, -1, -1]
    assert "index sums from -1 to 1: where it changes, as between -0.5 and 0.5" in scan.summary()


# Negative controls


def oscillator(state, damping):
    x, v = state.unbind(-1)
    return torch.stack([v, -x - damping * v], dim=-1)


QUIET = {
    "damping, which passes from turning to creeping": flow(oscillator),
    "a point that moves": flow(lambda state, value: value - state),
    "a centre, whose eigenvalues all have modulus 1": flow(lambda state, value: oscillator(state, 0.0) * value, 0.05),
    "a saddle": lambda value: lambda state: state * state.new_tensor([1 + value, 0.5]),
    "a map that contracts": lambda value: lambda state: torch.tanh(state / (1 + value)),
}


@pytest.mark.parametrize("name", QUIET)
def test_where_nothing_happens_nothing_is_found(name):
    scan = nm.bifurcation_scan(QUIET[name], np.linspace(0.5, 3, 7), PLANE)
    assert (kinds(scan), scan.n_branches, scan.warnings) == ([], 1, ())
    assert "no bifurcation" in scan.summary()


def test_no_fixed_point_at_all():
    scan = nm.bifurcation_scan(flow(lambda x, r: r + x**2), [0.5, 0.7, 1.0], STARTS)
    assert (scan.n_branches, kinds(scan)) == (0, [])
    assert "no isolated fixed point" in scan.warnings[0]


def test_a_line_of_fixed_points_is_warned_of():
    scan = nm.bifurcation_scan(flow(lambda s, r: s * s.new_tensor([0.0, -r])), [0.5, 0.7, 1.0], PLANE)
    assert (scan.n_branches, kinds(scan)) == (0, [])
    assert any("not isolated" in text for text in scan.warnings)


# Files and figures


@pytest.mark.parametrize("name", ["pitchfork", "nothing", "no point"])
def test_saved_drawn_and_put_in_words(name, tmp_path):
    make_step, values = {
        "pitchfork": (flow(lambda x, r: r * x - x**3), [-1, -0.2, 0.3, 1]),
        "nothing": (flow(lambda x, r: r - x), [0, 1, 2]),
        "no point": (flow(lambda x, r: r + x**2), [1, 2, 3]),
    }[name]
    scan = nm.bifurcation_scan(make_step, values, STARTS)
    assert nm.load_result(scan.save(tmp_path / "scan.nc")) == scan
    loaded = nm.load_result(scan.save(tmp_path / "again.nc"))
    assert [one.value for one in loaded.bifurcations] == [one.value for one in scan.bifurcations]
    ax = scan.plot(Figure().subplots())
    drawn = {text.get_text() for text in ax.get_legend().get_texts()}
    assert drawn == {"stable", "unstable"} | set(kinds(scan))
    assert str(scan.n_branches) in scan.summary()


def test_the_states_given_are_left_alone():
    starts = torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    nm.bifurcation_scan(flow(lambda x, r: r * x - x**3), [0.5, 0.7, 1.0], starts)
    assert starts.flatten().tolist() == [0.5, -0.5]


def test_a_step_in_single_precision():
    weight = torch.ones(1)
    scan = nm.bifurcation_scan(lambda w: lambda x: torch.tanh(w * x * weight), np.linspace(0.4, 1.5, 6), STARTS)
    assert kinds(scan) == ["supercritical pitchfork"]
    assert scan.bifurcations[0].value == pytest.approx(1, abs=1e-3)


# Bad input


def numpy_step(value):
    return lambda state: torch.from_numpy(value * state.numpy())


@pytest.mark.parametrize(
    ("make_step", "values", "starts", "message"),
    [
        (QUIET["a saddle"], [0.5, 0.4, 0.6], PLANE, "do not increase"),
        (QUIET["a saddle"], [0.5, 0.5, 0.6], PLANE, "do not increase"),
        (QUIET["a saddle"], [0.5, 0.6], PLANE, "too few"),
        (QUIET["a saddle"], [[0.5, 0.6, 0.7]], PLANE, "too few"),
        (QUIET["a saddle"], [0.5, np.nan, 0.7], PLANE, "not finite"),
        (QUIET["a saddle"], ["low", "mid", "high"], PLANE, "no real numbers"),
        (QUIET["a saddle"], [0.5, 0.6, 0.7], [[np.inf, 0.0]], "not finite"),
        (nm.henon_map, None, PLANE, "too few|no real"),
        (3, [0.5, 0.6, 0.7], PLANE, "there is no system"),
        (lambda value: value, [0.5, 0.6, 0.7], PLANE, "make_step returns no step"),
        (numpy_step, [0.5, 0.6, 0.7], PLANE, "differentiated"),
        (lambda r: lambda x: x / (r - 0.6), [0.5, 0.6, 0.7], PLANE, "at a parameter of 0.6: the step is not finite"),
    ],
)
def test_bad_input_is_refused(make_step, values, starts, message):
    with pytest.raises(InputError, match=message):
        nm.bifurcation_scan(make_step, values, starts)


def test_several_inputs_are_refused():
    with pytest.raises(InputError, match="one input"):
        nm.bifurcation_scan(QUIET["a saddle"], [0.5, 0.6, 0.7], PLANE, inputs=np.zeros((3, 2)))


def test_a_value_that_is_moved_is_told_and_a_mask_is_refused():
    def make(r):
        return lambda x: x + 0.1 * (r * x - x**3)

    scan = nm.bifurcation_scan(make, [-1.0, 0.0, 1.0, 2.0], [[0.1]])
    assert any("0 to 0.001" in warning for warning in scan.warnings)
    with pytest.raises(InputError, match="mask"):
        nm.bifurcation_scan(make, np.ma.masked_array([-1.0, 0.5, 7.0, 8.0], [0, 0, 0, 1]), [[0.1]])


@pytest.mark.parametrize("make_step", [lambda x, r: x + r - x**2, lambda x: x + 1 - x**2, lambda x: x.sin()])
def test_a_step_in_place_of_a_function_that_makes_one_is_told(make_step):
    with pytest.raises(InputError, match=r"lambda value: lambda states: step\(states, value\)"):
        nm.bifurcation_scan(make_step, np.linspace(-1, 1, 5), STARTS)
