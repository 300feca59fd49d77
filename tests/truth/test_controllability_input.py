"""What controllability refuses, says, keeps and leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from tests.truth.linear_systems import linear_step, linear_system

# -- refusals ----------------------------------------------------------------------------------------------------


def test_an_unstable_system_has_no_infinite_gramian_but_a_finite_one():
    with pytest.raises(InputError, match="horizon=20") as raised:
        nm.controllability([[1.2]])
    assert "1.2" in str(raised.value)
    with pytest.raises(InputError, match="unstable"):
        nm.controllability([[1.0]])
    found = nm.controllability([[1.2]], horizon=3)
    assert found.gramian.item() == pytest.approx(1 + 1.44 + 1.44**2)
    assert np.isnan(found.modal).all()
    assert "modal controllability: not defined: unstable" in found.summary()
    step = lambda x: torch.stack([0.5 * x[:, 0], x[:, 1] ** 3], 1)  # noqa: E731
    with pytest.raises(InputError, match="at 1 of 2 states, the first number 1"):
        nm.controllability(step, states=[[0.0, 0.0], [0.0, 1.0]])
    with pytest.raises(InputError, match="infinite"):
        nm.controllability([[1e30]], horizon=50)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[0.5, 0.1]],), {}, "not square"),
        (([[np.nan]],), {}, "not finite"),
        ((np.array([[0.5j]]),), {}, "no real numbers"),
        ((np.ma.masked_invalid([[0.5]]),), {}, "masked"),
        (([[0.5]], [1.0, 2.0]), {}, "input_matrix does not fit"),
        (([[0.5]], None, [[1.0, 2.0]]), {}, "output_matrix does not fit"),
        (([[0.5]],), {"horizon": 0}, "horizon"),
        (([[0.5]],), {"states": [[0.5]]}, "for steps"),
        ((lambda x: 0.5 * x,), {}, "there are none"),
        ((lambda x: 0.5 * x,), {"states": [[1.0]], "trajectory": True}, "no trajectory"),
        ((lambda x: 0.5 * x,), {"states": [[1.0]], "normalize": True}, "as it is"),
        ((lambda x: 0.5 * x,), {"states": [[1.0], [0.5]], "trajectory": True, "horizon": 2}, "at most 1 steps"),
        ((lambda x: x.detach(),), {"states": [[1.0]]}, "differentiated"),
        ((lambda x: 0.5 * x,), {"states": [[np.inf]]}, "not finite"),
    ],
)
def test_what_cannot_be_analysed_is_refused(arguments, options, message):
    with pytest.raises(InputError, match=message):
        nm.controllability(*arguments, **options)


def test_states_given_where_the_input_matrix_belongs_are_told_where_they_belong():
    step = lambda x: 0.5 * x  # noqa: E731
    visited = np.zeros((8, 3))
    for keywords in ({}, {"states": visited}):
        with pytest.raises(InputError, match=r"second argument is the input matrix B(.|\n)*states="):
            nm.controllability(step, visited, **keywords)


def test_options_that_exclude_each_other_are_option_errors():
    with pytest.raises(OptionError):
        nm.controllability([[0.5]], trajectory=True)


def test_targets_that_are_no_states_are_refused():
    found = nm.controllability([[0.5]], horizon=3)
    for target in ([1.0, 2.0], [np.nan]):
        with pytest.raises(InputError, match="target"):
            found.minimum_energy(target)
    with pytest.raises(InputError, match="0 to 0"):
        found.minimum_energy([1.0], point=1)


def test_states_that_are_no_trajectory_of_the_step_are_warned_of():
    states = np.random.default_rng(0).standard_normal((5, 2))
    with pytest.warns(UserWarning, match="no trajectory of this step"):
        found = nm.controllability(lambda x: 0.5 * x, states=states, trajectory=True)
    assert "no trajectory" in found.warnings[0]


# -- result ------------------------------------------------------------------------------------------------------


def test_the_result_is_kept_drawn_and_told(tmp_path):
    a, b, c = linear_system(0)
    one = nm.controllability(a, b, c)
    several = nm.controllability(linear_step(a, b), states=np.zeros((3, 6)), inputs=[0.0, 0.0], horizon=5)
    for found in (one, several):
        assert load_result(found.save(tmp_path / "found.nc")) == found
        assert "inputs reach 6 of 6 dimensions" in found.summary()
        assert found.plot().get_xlabel() == "unit"
    assert "linearised" not in one.summary()
    assert "small displacements" in several.summary()


def test_states_that_differ_by_orders_of_magnitude_are_drawn_in_logarithms():
    step = lambda x: 0.5 * x + x**3  # noqa: E731
    found = nm.controllability(step, states=[[0.0, 0.0], [1.0, 1.0]], horizon=10)
    image = found.plot().images[0]
    np.testing.assert_allclose(image.get_array(), np.log10(found.average))


def test_arguments_are_left_as_they_are():
    a, b, c = linear_system(0)
    copies = [array.copy() for array in (a, b, c)]
    nm.controllability(a, b, c, normalize=True)
    assert all(np.array_equal(array, copy) for array, copy in zip((a, b, c), copies, strict=True))


def test_the_summary_says_what_average_controllability_leaves_out_and_that_no_output_was_given():
    chain = [[0.5, 0.0], [0.4, 0.5]]
    found = nm.controllability(chain, [1.0, 0.0])
    assert "2 units, 1 input, " in found.summary()
    assert "each unit driven alone, whatever input_matrix is" in found.summary()
    assert "observable: not asked, each unit is seen" in found.summary()
    np.testing.assert_array_equal(found.average, nm.controllability(chain).average)  # as Gu et al. define it
    assert "whatever" not in nm.controllability(chain).summary()
    assert "outputs tell 2 of 2" in nm.controllability(chain, output_matrix=[0.0, 1.0]).summary()
