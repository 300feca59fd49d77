"""Systems: what a step may be, its Jacobians, integration and simulation, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.dynamics.systems import as_system
from neuros_mechint.neuro.dynamics.trajectories import trajectories

STATES = np.random.default_rng(0).normal(size=(5, 3))


def by_differences(system: Any, states: torch.Tensor, h: float = 1e-6) -> torch.Tensor:
    """Return Jacobians by central differences."""
    columns = []
    for unit in torch.eye(states.shape[1], dtype=states.dtype):
        columns.append((system(states + h * unit) - system(states - h * unit)) / (2 * h))
    return torch.stack(columns, dim=2)


class Untransformable(torch.autograd.Function):
    """A sine that torch.func does not know."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * ctx.saved_tensors[0].cos()


@pytest.mark.parametrize(
    ("step", "transformable"),
    [
        (nm.rk4(nm.lorenz, 0.01), True),
        (lambda s: Untransformable.apply(s) * s.roll(1, 1), False),
    ],
)
def test_jacobians_are_those_of_central_differences(step: Any, transformable: bool) -> None:
    system, states = as_system(step, STATES)
    assert system.transformable is transformable
    torch.testing.assert_close(system.jacobians(states), by_differences(system, states), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["flip_flop_rnn", "flip_flop_gru"])
def test_an_adapted_network_steps_in_double_precision_and_stays_as_it_is(name: str) -> None:
    model = nm.load_model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapter = nm.adapt(model)
    size, n_inputs = model.rnn.hidden_size, model.rnn.input_size
    inputs = np.random.default_rng(1).normal(size=(4, n_inputs))
    system, states = as_system(adapter, np.random.default_rng(0).normal(size=(4, size)) / 2, inputs)
    assert states.dtype == torch.float64
    torch.testing.assert_close(system.jacobians(states), by_differences(system, states), rtol=1e-6, atol=1e-8)
    # and it is the network: in single precision the module itself gives the same
    single = model.rnn(torch.tensor(inputs, dtype=torch.float32)[:, None], states.float()[None])[0][:, 0]
    torch.testing.assert_close(system(states).float(), single, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # weights that change later are seen
    with torch.no_grad():
        next(model.rnn.parameters()).zero_()
    changed = model.rnn(torch.tensor(inputs, dtype=torch.float32)[:, None], states.float()[None])[0][:, 0]
    torch.testing.assert_close(system(states).float(), changed, rtol=1e-5, atol=1e-6)


def test_a_step_in_single_precision_only() -> None:
    weight = torch.eye(3)
    system, states = as_system(lambda s: s @ weight, STATES)
    assert states.dtype == system.jacobians(states).dtype == torch.float32


def test_inputs_are_held_and_matched_to_rows() -> None:
    system, states = as_system(lambda s, u: s + u, STATES, [1.0, 2.0, 3.0])
    torch.testing.assert_close(system(states), states + torch.tensor([1.0, 2, 3], dtype=torch.float64))
    system, states = as_system(lambda s, u: s + u, [0.0, 0.0], [[1.0, 2.0], [3.0, 4.0]])
    assert system(states).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    rows = torch.tensor([1])
    assert system(states[rows], system.rows(rows)).tolist() == [[3.0, 4.0]]


def test_nothing_of_the_caller_changes() -> None:
    given = STATES.copy()
    torch_state = torch.random.get_rng_state()
    as_system(nm.rk4(nm.lorenz, 0.01), given)
    nm.simulate(nm.rk4(nm.lorenz, 0.01), given, 3)
    np.testing.assert_array_equal(given, STATES)
    assert torch.equal(torch_state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (None, "there is no step"),
        (nn.GRU(2, 3), "nm.adapt"),
        (lambda s: s[:, :1], "does not return states"),
        (lambda s: s.numpy(), "does not return states"),
        (lambda s: torch.stack([s[0], s[1], s[2]]), "rows"),
        (lambda s: torch.stack([s[0], s[1], s[2], s[3], s[4]]), "single row"),
        (lambda s: s.add_(1), "changes the states"),
        (lambda s: s / 0, "not finite"),
        (lambda s: s + torch.randn_like(s), "random"),
        (lambda s: s - s.mean(0), "depend on each other"),
        (lambda s: torch.from_numpy(np.sin(s.numpy())), "differentiated"),
        (lambda s: torch.from_numpy(np.sin(s.detach().numpy())), "differentiated"),
        (lambda s: s @ torch.eye(2), "cannot be called"),
        (lambda s: s.half(), "does not return states"),
        (lambda s: s.long(), "does not return states"),
        (lambda s: s + 0j, "does not return states"),
        # torch sees the first term only
        (lambda s: s + 0.5 * s.detach().sin(), "is not how it changes"),
        (nm.rk4(lambda s: torch.from_numpy(np.sin(s.detach().numpy())), 0.5), "is not how it changes"),
    ],
)
def test_steps_that_are_none(step: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_system(step, STATES)


@pytest.mark.parametrize(
    ("states", "inputs", "says"),
    [
        (np.full((2, 3), np.nan), None, "states: some values are not finite"),
        (np.zeros((2, 3, 4)), None, "flatten"),
        (np.zeros((0, 3)), None, "wrong shape"),
        (["a"], None, "states: these are no real numbers"),
        (STATES, [[np.inf] * 3], "inputs: some values are not finite"),
        (STATES, np.zeros((2, 3)), "do not match"),
        (STATES + 1j, None, "real numbers"),
        (np.ma.masked_array(STATES, STATES > 0), None, "mask"),
    ],
)
def test_states_and_inputs_that_are_none(states: Any, inputs: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_system(lambda s, *u: s, states, inputs)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_rows_and_chance_are_seen_whatever_the_size_of_states(size: float) -> None:
    states = STATES * size
    assert as_system(lambda s: 0.5 * s, states)[0].n_states == 3
    with pytest.raises(InputError, match="depend on each other"):
        as_system(lambda s: 0.5 * s + 0.4 * s.mean(0), states)
    with pytest.raises(InputError, match="random"):
        as_system(lambda s: 0.5 * s + 0.1 * size * torch.randn_like(s), states)


@pytest.mark.parametrize("step", [torch.relu, torch.abs, lambda s: (s.float() * 0.5).double(), lambda s: 0.5 * s])
def test_kinks_and_single_precision_inside_are_no_wrong_gradients(step: Any) -> None:
    assert as_system(step, np.zeros((3, 2)))[0].n_states == 2


def test_runge_kutta_is_of_fourth_order() -> None:
    def error(n: int) -> float:
        end = nm.simulate(nm.rk4(nm.duffing, 1 / n), [[0.5, 0.0]], 2 * n)[0, -1]
        fine = nm.simulate(nm.rk4(nm.duffing, 1 / 1024), [[0.5, 0.0]], 2 * 1024)[0, -1]
        return float((end - fine).norm())

    assert math.log2(error(16) / error(32)) == pytest.approx(4, abs=0.15)
    one, four = (nm.rk4(nm.duffing, 0.1, n_substeps=n) for n in (1, 4))
    fine = nm.simulate(nm.rk4(nm.duffing, 0.025), [[0.5, 0.0]], 4)[:, -1]
    torch.testing.assert_close(four(torch.tensor([[0.5, 0.0]], dtype=torch.float64)), fine)
    assert one.dt == four.dt == 0.1
    bad: list[Any] = [0, -1, math.nan, "a"]
    for dt in bad:
        with pytest.raises(OptionError):
            nm.rk4(nm.duffing, dt)
    with pytest.raises(InputError, match="no derivative"):
        nm.rk4(bad[0], 0.1)


def test_simulation_is_the_step_repeated() -> None:
    matrix = torch.tensor([[0.9, 0.2], [-0.2, 0.9]], dtype=torch.float64)
    found = nm.simulate(lambda s: s @ matrix.T, [[1.0, 0.0]], 10, discard=3)
    expected = torch.stack([torch.linalg.matrix_power(matrix, n)[:, 0] for n in range(4, 14)])
    torch.testing.assert_close(found[0], expected)
    driven = nm.simulate(lambda s, u: s + u, [[0.0]], 3, inputs=[[[1.0], [2.0], [3.0]]])
    assert driven.flatten().tolist() == [1.0, 3.0, 6.0]
    with pytest.raises(InputError, match="leaves all bounds"):
        nm.simulate(lambda s: s**3, [[3.0]], 100)
    with pytest.raises(InputError, match="number of steps"):
        nm.simulate(lambda s, u: s + u, [[0.0]], 4, inputs=[[[1.0], [2.0], [3.0]]])


@pytest.mark.parametrize("inputs", ["abc", [[1.0], [1.0, 2.0]], object(), np.ones((1, 5, 2)) * 1j, np.ones((1, 0, 2))])
def test_inputs_of_steps_that_are_none(inputs: Any) -> None:
    with pytest.raises(InputError, match="inputs"):
        nm.simulate(lambda s, u: s, STATES, n_steps=5, inputs=inputs)


def test_a_masked_input_is_refused() -> None:
    with pytest.raises(InputError, match="mask"):
        nm.simulate(lambda s, u: s, STATES, 5, inputs=np.ma.masked_array(np.ones((1, 5, 2)), np.eye(5, 2)[None]))


def test_trajectories_from_whatever_holds_them() -> None:
    values = np.random.default_rng(0).normal(size=(3, 10, 2))
    labelled = xr.DataArray(
        values.transpose(2, 1, 0),
        dims=("unit", "time", "trial"),
        coords={"unit": ["a", "b"]},
        attrs={"sampling_rate": 50},
    )
    for x in (values, torch.tensor(values), list(values), labelled, nm.Recording(labelled)):
        found = trajectories(x)
        assert found.lengths == (10, 10, 10)
        np.testing.assert_array_equal(np.stack(found.trials), values)
    assert found.sampling_rate == 50
    assert found.units == ("a", "b")
    assert found.dt == 0.02
    ragged = trajectories([values[0], values[1][:4]])
    before, after = ragged.pairs(lag=2)
    np.testing.assert_array_equal(before, np.concatenate([values[0][:-2], values[1][:2]]))
    np.testing.assert_array_equal(after, np.concatenate([values[0][2:], values[1][2:4]]))
    assert trajectories(values[0, :, 0]).trials[0].shape == (10, 1)


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        (np.zeros((3, 4, 5, 2)), {}, "which axis"),
        (np.full((5, 2), np.nan), {}, "list of trials"),
        (np.zeros((5, 0)), {}, "empty"),
        ([np.zeros((5, 2)), np.zeros((5, 3))], {}, "differ in their units"),
        (np.zeros((5, 2)), {"least": 6, "why": "for the test"}, "at least 6 times in each trial, for the test"),
        (np.zeros((5, 2)), {"fewest_trials": 2}, "too few trials"),
        (np.zeros((5, 2)) + 1j, {}, "real numbers"),
        (xr.DataArray(np.zeros((5, 2)), dims=("a", "unit")), {}, "axis of time"),
        (np.ma.masked_array(STATES, STATES > 0), {}, "mask"),
        ([[[1.0, 2.0], [1.0]], [[1.0]]], {}, "no array"),
        (STATES * 1e200, {}, "too large"),
        (STATES * 1e-200, {}, "too small"),
        (xr.DataArray(np.zeros((5, 2)), dims=("time", "unit"), attrs={"sampling_rate": 0}), {}, "out of range"),
        (
            [xr.DataArray(np.zeros((5, 2)), {"unit": order}, ("time", "unit")) for order in (["a", "b"], ["b", "a"])],
            {},
            "label their units differently",
        ),
    ],
)
def test_trajectories_that_are_none(x: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        trajectories(x, **options)


class _Reader(nn.Module):
    """A network over time, with a readout."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.recurrent, self.readout = recurrent, nn.Linear(4, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.readout(self.recurrent(inputs)[0])


class _CellStep(nn.Module):
    """A step, by a cell inside."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 3)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.cell(states.new_zeros(len(states), 2), states)


@pytest.mark.parametrize("n_inputs", [3, 2])
def test_a_module_that_holds_a_gru_is_sent_to_adapt(n_inputs):
    model = _Reader(nn.GRU(n_inputs, 4, batch_first=True))
    with pytest.raises(InputError, match=r"pass nm\.adapt\(module\)"):
        as_system(model, STATES)
    adapted, states = as_system(nm.adapt(model), np.zeros((2, 4)), np.ones(n_inputs))
    assert adapted.jacobians(states).shape == (2, 4, 4)


def test_a_module_that_is_a_step_by_a_cell_is_one():
    assert as_system(_CellStep(), STATES)[0].n_states == 3
