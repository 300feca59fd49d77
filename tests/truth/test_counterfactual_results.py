"""What interventions, lesions and dose-responses say of themselves, keep, leave alone and refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from tests.truth.small_networks import first, normal, summing

# -- what is said, kept and left alone -------------------------------------------------------------------------------


def test_results_repeat_are_saved_and_drawn(tmp_path):
    model, inputs = summing([1.0, -2.0, 0.5]), normal(7, 3)
    effect = nm.do(model, inputs, {"0[unit=1]": 0.0}, first)
    curve = nm.steer(model, inputs, "0", [1.0, 1.0, 0.0], [-1, 0, 1], first, seed=3)
    again = nm.steer(model, inputs, "0", [1.0, 1.0, 0.0], [-1, 0, 1], first, seed=3)
    assert curve.data.identical(again.data)
    for number, result in enumerate((effect, curve)):
        assert nm.load_result(result.save(tmp_path / f"{number}.nc")) == result
        assert result.plot().get_ylabel()
    assert "95% interval" in effect.summary()
    assert "19 random controls" in curve.summary()


def test_nothing_of_the_caller_is_changed():
    model, inputs, direction = summing([1.0, -2.0, 0.5]), normal(7, 3), normal(3, seed=1)
    before = [model.fingerprint(), inputs.clone(), direction.clone(), torch.get_rng_state(), np.random.get_state()[1]]  # noqa: NPY002
    nm.steer(model, inputs, "0", direction, [-1, 1], first)
    nm.lesion(model, inputs, "0", None, first)
    nm.ate(model, inputs, "0", inputs.flip(0), 0.0, first)
    after = [model.fingerprint(), inputs, direction, torch.get_rng_state(), np.random.get_state()[1]]  # noqa: NPY002
    assert before[0] == after[0]
    assert all(np.array_equal(one, other) for one, other in zip(before[1:], after[1:], strict=True))
    assert not any(module._forward_hooks for module in model.module.modules())


def test_one_sample_gives_numbers_without_intervals_but_no_average():
    model, inputs = summing([1.0, 2.0]), torch.ones(1, 2)
    alone = nm.do(model, inputs, {"0[unit=0]": 0.0}, first)
    assert alone.value == -1
    assert np.isnan(alone.data["low"])
    assert "one value only" in alone.warnings[0]
    curve = nm.steer(model, inputs, "0", [1.0, 0.0], [0, 1], first, n_controls=0)
    assert curve.data["low"].isnull().all()
    assert curve.warnings
    assert curve.plot().get_xlabel()
    with pytest.raises(nm.errors.InputError, match="one sample has no average"):
        nm.ate(model, inputs, "0", 1.0, 0.0, first)
    with pytest.raises(nm.errors.InputError, match="one sample has no average"):
        nm.ate(model, torch.ones(4, 2), "0", 1.0, 0.0, torch.sum)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: nm.do(m, x, {"nowhere": 0.0}, first), "SiteError", "no site"),
        (lambda m, x: nm.do(m, x, {}, first), "InputError", "nothing to set"),
        (lambda m, x: nm.do(m, x, {"0": float("nan")}, first), "InputError", "not finite"),
        (lambda m, x: nm.do(m, x, {"0": "high"}, first), "InputError", "no number"),
        (lambda m, x: nm.do(m, x, {"0": torch.zeros(5)}, first), "InputError", "do not fit"),
        (lambda m, x: nm.do(m.module, x, {"0": 0.0}, first), "InputError", "no adapter"),
        (lambda m, x: nm.ate(m, x, "0[unit=9]", 1.0, 0.0, first), "SiteError", "out of range"),
        (lambda m, x: nm.steer(m, x, "nowhere", [1.0, 0, 0], [0, 1], first), "SiteError", "no site"),
        (lambda m, x: nm.steer(m, x, "*", [1.0, 0, 0], [0, 1], first), "SiteError", "names 2 sites"),
        (lambda m, x: nm.steer(m, x, "0", [1.0, 0], [0, 1], first), "InputError", "another width"),
        (lambda m, x: nm.steer(m, x, "0", [0.0, 0, 0], [0, 1], first), "InputError", "length zero"),
        (lambda m, x: nm.steer(m, x, "0", [np.inf, 0, 0], [0, 1], first), "InputError", "finite"),
        (lambda m, x: nm.steer(m, x, "0", np.eye(3), [0, 1], first), "InputError", "no direction"),
        (lambda m, x: nm.steer(m, x, "0[unit=0]", [1.0], [0, 1], first), "InputError", "no features"),
        (lambda m, x: nm.steer(m, x, "0", [1.0, 0, 0], [0, 1], first, n_controls=-1), "OptionError", "n_controls"),
        (lambda m, x: nm.steer(m.module, x, "0", [1.0, 0, 0], [0, 1], first), "InputError", "no adapter"),
        (lambda m, x: nm.dose_response(m, x, "0", [0, np.nan], first), "InputError", "no curve"),
        (lambda m, x: nm.dose_response(m, x, "0", [1.0], first), "InputError", "no curve"),
        (lambda m, x: nm.dose_response(m, x, "0", [1, 1, 2], first), "InputError", "no curve"),
        (lambda m, x: nm.dose_response(m, x, "0", ["much"], first), "InputError", "no numbers"),
        (lambda m, x: nm.dose_response(m, x, 3, [0, 1], first), "InputError", "callable"),
        (lambda m, x: nm.dose_response(m, x, lambda d: d, [0, 1], first), "InputError", "no edits"),
        (lambda m, x: nm.lesion(m, x, "0", [3], first), "InputError", "no units"),
        (lambda m, x: nm.lesion(m, x, "0", [0, 0], first), "InputError", "no units"),
        (lambda m, x: nm.lesion(m, x, "0", [], first), "InputError", "no units"),
        (lambda m, x: nm.lesion(m, x, "0", 0.01, first), "InputError", "holds no unit"),
        (lambda m, x: nm.lesion(m, x, "0", [0], first, doses=[0, 2]), "OptionError", "fractions"),
        (lambda m, x: nm.lesion(m, x, "0", [0], first, method="cut"), "OptionError", "unknown method"),
        (lambda m, x: nm.mean_difference_direction(x, [0, 1]), "InputError", "do not fit"),
        (lambda m, x: nm.mean_difference_direction(x, [0] * 7), "InputError", "two classes"),
        (lambda m, x: nm.mean_difference_direction(x[:, 0], [0] * 7), "InputError", "do not fit"),
        (lambda m, x: nm.mean_difference_direction(x * np.nan, [0] * 6 + [1]), "InputError", "not finite"),
        (lambda m, x: nm.mean_difference_direction(x * 0, [0] * 6 + [1]), "InputError", "do not differ"),
        (lambda m, x: nm.do(m, x, nm.SetComponent("0", [1.0, 0], 0.0), first), "InputError", "another width"),
        (lambda m, x: nm.do(m, x, nm.SetComponent("0", [0.0, 0, 0], 0.0), first), "InputError", "length zero"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, message):
    with pytest.raises(getattr(nm.errors, error), match=message):
        call(summing([1.0, -2.0, 0.5]), normal(7, 3))


def test_a_recording_cannot_be_edited():
    recording = nm.adapt(nm.Recording(np.zeros((3, 4, 5)), dims=("stimulus", "time", "unit")))
    with pytest.raises(nm.errors.CapabilityError):
        nm.do(recording, None, {"activity": 0.0}, first)


def test_rounding_is_no_response_and_units_do_not_matter():
    """A change within rounding has the same sign in every sample: to a test of signs it would be certain."""
    model = nm.adapt(torch.nn.Linear(4, 1, bias=False))
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    ulp = nm.dose_response(
        model, inputs, lambda dose: nm.Scale(":out", 1 + 1.2e-7 * dose), [0, 1, 2], lambda output: 5 + output[:, 0] ** 2
    )
    assert ulp.attributes["slope_p"] == 1
    assert (ulp.data["p"] == 1).all()
    found = [
        nm.lesion(model, inputs, ":in", [0, 2], lambda output, unit=unit: unit * output[:, 0], n_controls=4)
        for unit in (1.0, 1e-12)
    ]
    assert found[0].attributes["p_control"] == found[1].attributes["p_control"]
    assert found[0].attributes["slope_p"] == pytest.approx(found[1].attributes["slope_p"])
