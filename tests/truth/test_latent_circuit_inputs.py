"""Latent circuits: exact derivatives, units, kinds of data, silent columns, results, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.circuits.latent.channels import split_signed_channels
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.matching import correlation
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.observations import observations
from neuros_mechint.neuro.circuits.latent.parameters import Circuit
from neuros_mechint.neuro.circuits.latent.perturbation import latent_perturbation_test
from neuros_mechint.neuro.circuits.latent.residuals import squared_error
from neuros_mechint.neuro.circuits.latent.rotations import nearest_orthogonal, small_rotation
from neuros_mechint.neuro.circuits.latent.scaling import scaled
from neuros_mechint.neuro.circuits.latent.selection import select_latent_size
from neuros_mechint.neuro.circuits.latent.sensitivities import normal_equations

WIRING = np.array([[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, -0.6, 0.3], [0.9, 0.0, 0.0, 0.0], [0.0, -0.7, 1.2, 0.4]])


def recorded(noise=0.02, n_trials=30, repeats=1):
    """Return inputs, activity and outputs of a circuit of two inputs, a hidden node and an output."""
    random = np.random.default_rng(0)
    inputs = random.uniform(0, 1.2, (n_trials, 6, 2)).repeat(6, axis=1).repeat(repeats, axis=0)
    states = simulate(WIRING, np.eye(4, 2), inputs, 0.2)
    activity = states @ np.linalg.qr(random.standard_normal((12, 4)))[0].T
    activity += noise * states.std() * random.standard_normal(activity.shape)
    return inputs, activity, 1.5 * states[:, :, 3:]


@pytest.fixture(scope="module")
def data():
    return recorded()


@pytest.fixture(scope="module")
def model(data):
    return LatentCircuitModel(4, n_inputs=2, n_outputs=1).fit(*data)


@pytest.mark.parametrize("teacher", [False, True])
def test_derivatives_are_exact(data, teacher):
    random = np.random.default_rng(1)
    seen = observations(*data)
    seen = seen._replace(weights=random.uniform(0.5, 1.5, len(seen.weights)))
    problem = scaled(seen, 4)
    targets, layout = problem.targets(problem.basis), problem.layout
    circuit = Circuit(WIRING + 0.1 * random.standard_normal(WIRING.shape), np.array([0.8, 1.1]), 0.3, np.array([1.2]))
    rotation = nearest_orthogonal(random.standard_normal((4, 4)))
    vector, found = layout.pack(circuit), normal_equations(targets, circuit, rotation, teacher)

    def cost(step):
        moved = layout.unpack(vector + step[: layout.n_parameters])
        turned = small_rotation(step[layout.rotation], 4) @ rotation
        return squared_error(targets, moved, turned, teacher)

    steps = 1e-6 * np.eye(layout.n_steps)
    slope = np.array([(cost(step) - cost(-step)) / 2e-6 for step in steps])
    assert found.cost == pytest.approx(cost(np.zeros(layout.n_steps)), rel=1e-12)
    assert np.abs(2 * found.slope - slope).max() < 1e-5 * np.abs(slope).max()
    # near a perfect fit the curvature of the cost is twice the matrix
    assert np.linalg.eigvalsh(found.matrix).min() > -1e-9 * found.matrix.max()


def test_the_matrix_is_the_curvature_where_nothing_is_missed():
    seen = observations(*recorded(noise=0.0))
    problem = scaled(seen, 4)
    found = LatentCircuitModel(4).fit_observations(seen)
    inputs = np.diag(found.input_weights_) * problem.inputs / problem.activity
    outputs = found.output_weights_[:, 3] * problem.activity / problem.outputs
    circuit = Circuit(found.connectivity_, inputs, found.alpha_, outputs)
    targets, rotation = problem.targets(problem.basis), nearest_orthogonal(found.embedding_.T @ problem.basis)
    normal, layout = normal_equations(targets, circuit, rotation), problem.layout
    step = 1e-4 * np.random.default_rng(0).standard_normal(layout.n_steps)
    moved = layout.unpack(layout.pack(circuit) + step[: layout.n_parameters])
    cost = squared_error(targets, moved, small_rotation(step[layout.rotation], 4) @ rotation)
    assert cost == pytest.approx(step @ normal.matrix @ step, rel=0.02)


def test_units_do_not_matter(data, model):
    inputs, activity, outputs = data
    scale = np.array([100.0, 0.01])
    other = LatentCircuitModel(4).fit(inputs * scale, 7 * activity, 1e-3 * outputs)
    assert np.allclose(other.connectivity_, model.connectivity_, atol=1e-6)
    assert np.allclose(other.connectivity_se_, model.connectivity_se_, atol=1e-6)
    assert np.allclose(other.input_weights_ * scale, 7 * model.input_weights_, rtol=1e-5)
    assert np.allclose(other.output_weights_, model.output_weights_ * 1e-3 / 7, rtol=1e-5)


def test_all_kinds_of_data_give_the_same_circuit(data, model):
    tensors = [torch.from_numpy(values) for values in data]
    labelled = [
        xr.DataArray(values, dims=("trial", "time", axis))
        for values, axis in zip(data, ("input", "unit", "output"), strict=True)
    ]
    recordings = [data[0], Recording(data[1].transpose(0, 2, 1), dims=("trial", "unit", "time")), list(data[2])]
    for inputs, activity, outputs in (tensors, labelled, recordings):
        found = LatentCircuitModel(4).fit(inputs, activity, outputs)
        assert np.array_equal(found.connectivity_, model.connectivity_)


def test_nothing_of_the_caller_changes_and_seeds_repeat(data, model):
    before = [values.copy() for values in data]
    again = LatentCircuitModel(4).fit(*data)
    assert all(np.array_equal(old, new) for old, new in zip(before, data, strict=True))
    assert np.array_equal(again.connectivity_, model.connectivity_)
    assert repr(again) == "LatentCircuitModel(n_nodes=4)"


def test_prediction_and_score(data, model):
    inputs, activity, outputs = data
    predicted = model.predict(inputs)
    assert np.array_equal(predicted.latents, model.latents_)
    assert np.allclose(predicted.activity, predicted.latents @ model.embedding_.T)
    assert np.allclose(predicted.outputs, predicted.latents @ model.output_weights_.T)
    assert model.score(inputs, activity) == pytest.approx(model.r2_)
    assert model.score(inputs, activity, outputs) == pytest.approx((model.r2_ + model.r2_outputs_) / 2)


def test_trials_of_the_same_inputs_are_averaged():
    inputs, activity, outputs = recorded(noise=0.3, repeats=4)
    model = LatentCircuitModel(4).fit(inputs, activity, outputs)
    assert (model.averaged_, model.n_trials_, model.n_conditions_) == (True, 120, 30)
    labelled = LatentCircuitModel(4).fit(inputs, activity, outputs, np.arange(30).repeat(4).astype(str))
    assert np.allclose(labelled.connectivity_, model.connectivity_, atol=1e-6)  # other order of conditions
    apart = LatentCircuitModel(4).fit(inputs, activity, outputs, conditions=np.arange(120))
    assert not apart.averaged_
    assert np.abs(apart.connectivity_ - model.connectivity_).max() < 0.1  # means lose nothing here
    assert model.r2_ < model.r2_conditions_


def test_conditions_of_different_inputs_are_averaged_only_where_there_is_noise():
    for noise, averaged in ((0.0, False), (0.3, True)):
        inputs, activity, outputs = recorded(noise=noise, repeats=2)
        inputs = inputs + 1e-3 * np.random.default_rng(0).standard_normal(inputs.shape)
        activity = activity - activity[:, :1] * (noise == 0)
        found = LatentCircuitModel(4).fit(inputs, activity, outputs, np.arange(30).repeat(2))
        assert found.averaged_ is averaged


def test_silent_outputs_and_inputs_have_weights_of_zero_and_are_named(data, model):
    inputs, activity, outputs = data
    with pytest.warns(UserWarning, match="output 0 is silent"):
        mute = LatentCircuitModel(4).fit(inputs, activity, np.zeros_like(outputs))
    assert not mute.output_weights_.any()
    assert np.isnan(mute.r2_outputs_)
    assert mute.r2_ == pytest.approx(model.r2_, abs=0.01)
    assert mute.score(inputs, activity, np.zeros_like(outputs)) == pytest.approx(mute.r2_)
    assert "outputs none" in mute.result_.summary()
    with pytest.warns(UserWarning, match="do not pin|input 2 is silent"):  # the node of a silent input is one too many
        deaf = LatentCircuitModel(5).fit(np.concatenate([inputs, np.zeros_like(outputs)], -1), activity, outputs)
    assert any("input 2 is silent" in doubt for doubt in deaf.doubts_)
    assert not deaf.input_weights_[:, 2].any()
    both = np.concatenate([outputs, np.zeros_like(outputs)], -1)
    with pytest.warns(UserWarning, match="output 1 is silent"):
        half = LatentCircuitModel(4).fit(inputs, activity, both)
    order = [0, 1, 3, 2]  # the node of the silent output is the hidden one
    assert correlation(half.connectivity_[np.ix_(order, order)], WIRING) > 0.99


def test_more_nodes_than_dimensions_are_survived_and_doubted():
    inputs, activity, outputs = recorded(noise=0.0)
    with pytest.warns(UserWarning, match="do not pin"):
        found = LatentCircuitModel(6).fit(inputs, activity, outputs)
    assert np.abs(found.embedding_.T @ found.embedding_ - np.eye(6)).max() < 1e-5
    assert found.r2_ > 0.99


def test_activity_that_does_not_start_from_rest_is_doubted(data):
    inputs, activity, outputs = data
    with pytest.warns(UserWarning, match="do not pin|starts at|no two"):
        found = LatentCircuitModel(4).fit(inputs, activity + 1.0, outputs)
    assert any("starts at" in doubt for doubt in found.doubts_)


def test_a_lone_descent_is_said_to_be_one(data):
    with pytest.warns(UserWarning, match="one descent was not compared with another"):
        found = LatentCircuitModel(4, n_starts=1).fit(*data)
    assert not found.agreed_
    assert not LatentCircuitModel(4, n_starts=2).fit(*data).doubts_


def test_outputs_that_no_circuit_produces_are_named_with_the_way_out(data):
    inputs, activity, outputs = data
    signed = outputs - outputs.mean()
    noisy = outputs + 0.4 * outputs.std() * np.random.default_rng(1).standard_normal(outputs.shape)
    assert noisy.min() < 0  # but not clearly
    given = {"signed": signed, "split": split_signed_channels(signed), "noisy": noisy}
    found, scores = {}, {}
    for name, shown in given.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = LatentCircuitModel(4).fit(inputs, activity, shown)
        found[name] = [str(one.message) for one in told if "never negative" in str(one.message)]
        scores[name] = model.r2_outputs_
    assert scores["signed"] < 0.8
    assert len(found["signed"]) == 1
    assert "output 0 goes from" in found["signed"][0]
    assert "nm.split_signed_channels(outputs)" in found["signed"][0]
    assert found["split"] == found["noisy"] == []


@pytest.mark.parametrize("tonic", [False, True])
def test_negative_inputs_are_lost_where_their_node_is_silent_and_used_where_it_is_not(tonic):
    random = np.random.default_rng(0)
    inputs = random.uniform((-1, 0.8), (1, 1.2), (40, 6, 2)).repeat(6, axis=1)
    wiring = np.array([[0.0, 3.0 * tonic, 0.0], [0.0, 0.0, -0.4], [0.8, 0.3, 0.0]])
    states = simulate(wiring, np.eye(3, 2), inputs, 0.2)
    activity = states @ np.linalg.qr(random.standard_normal((12, 3)))[0].T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = LatentCircuitModel(3).fit(inputs, activity, states[:, :, 2:])
    assert correlation(found.connectivity_, wiring) > 0.99
    lost = [doubt for doubt in found.doubts_ if "negative part of input 0 is lost" in doubt]
    assert len(lost) == (not tonic)
    assert all("split_signed_channels(inputs)" in doubt for doubt in lost)


def test_the_result_says_what_was_found(data, model, tmp_path):
    result = model.result_
    assert result.connectivity.dims == ("target", "source")
    assert result.connectivity["source"].values.tolist() == ["input 0", "input 1", "hidden 0", "output 0"]
    assert "hidden 0 to output 0 1.2" in result.summary()
    assert result.citations == ("langdon2025",)
    assert load_result(result.save(tmp_path / "circuit.nc")) == result
    axes = result.plot()
    assert axes.get_xlabel() == "sending node"
    assert axes.get_ylabel() == "receiving node"
    assert len(axes.texts) == 16
    sizes = select_latent_size(*data, sizes=[3, 4], cv=2, progress=False)
    assert sizes.plot().get_xlabel() == "nodes"
    assert load_result(sizes.save(tmp_path / "sizes.nc")) == sizes


def labelled(data, **coords) -> Any:
    names = {"trial": np.arange(30), **coords}
    return [
        xr.DataArray(values, {name: names[name] for name in ("trial", axis) if name in names}, ("trial", "time", axis))
        for values, axis in zip(data, ("input", "unit", "output"), strict=True)
    ]


def test_nodes_are_named_after_inputs_and_outputs(data, model):
    given = labelled(data, input=["cue", "tone"], output=["lick"])
    names = ["cue", "tone", "hidden 0", "lick"]
    by_label = LatentCircuitModel(4).fit(*given)
    by_name = LatentCircuitModel(4).fit(*data, input_names=["cue", "tone"], output_names=("lick",))
    for found in (by_label, by_name):
        assert np.array_equal(found.connectivity_, model.connectivity_)
        circuit = found.result_
        assert circuit.data["source"].values.tolist() == circuit.data["target"].values.tolist() == names
        assert circuit.data["input"].values.tolist() == names[:2]
        assert circuit.data["output"].values.tolist() == names[3:]
        assert "hidden 0 to lick 1.2" in circuit.summary()
        assert [label.get_text() for label in circuit.plot().get_xticklabels()] == names
    assert by_name.estimate(*given, cv=2, progress=False).data["source"].values.tolist() == names
    test = latent_perturbation_test(by_label, lambda change: data[2] * 1.0, data[0], n_controls=1, progress=False)
    assert test.data["source"].values.tolist() == names
    numbered = LatentCircuitModel(4).fit(*labelled(data, input=[0, 1], output=[0])).result_
    assert numbered.data["source"].values.tolist() == ["input 0", "input 1", "hidden 0", "output 0"]
    shared = LatentCircuitModel(4).fit(*data, input_names=["left", "lick"], output_names=["lick"]).result_
    assert shared.data["source"].values.tolist() == ["input left", "input lick", "hidden 0", "output lick"]
    with pytest.warns(UserWarning, match="lick is silent"):
        LatentCircuitModel(4).fit(given[0], given[1], 0 * given[2])
    with pytest.raises(InputError, match="in another order than in the fit"):
        by_label.predict(given[0][:, :, ::-1])


@pytest.mark.parametrize("names", [["cue"], ["cue", "cue"], "ab", 3])
def test_names_that_do_not_name_the_columns_are_refused(data, names):
    with pytest.raises(InputError, match="input_names"):
        LatentCircuitModel(4).fit(*data, input_names=names)


def test_trials_in_another_order_are_refused(data):
    inputs, activity, outputs = labelled(data)
    order = np.random.default_rng(0).permutation(30)
    for wrong in ((inputs[order], activity, outputs), (inputs, activity, outputs[order])):
        with pytest.raises(InputError, match="label the axis 'trial' otherwise"):
            LatentCircuitModel(4).fit(*wrong)
    conditions = xr.DataArray(np.arange(30), {"trial": order}, ("trial",))
    with pytest.raises(InputError, match="conditions label the axis 'trial' otherwise"):
        LatentCircuitModel(4).fit(inputs, activity, outputs, conditions)
    together = LatentCircuitModel(4).fit(inputs[order], activity[order], outputs[order])
    assert correlation(together.connectivity_, WIRING) > 0.99
    with pytest.raises(InputError, match="inputs label the axis"):
        together.score(inputs[order], activity)
    later = inputs.assign_coords(time=np.arange(36) + 1.0)
    with pytest.raises(InputError, match="label the axis 'time' otherwise"):
        LatentCircuitModel(4).fit(later, activity.assign_coords(time=np.arange(36) * 1.0), outputs)


@pytest.mark.parametrize(
    ("conditions", "match"),
    [
        (np.ma.array(np.arange(30), mask=np.arange(30) < 3), "mask"),
        (1j * np.arange(30), "labels of one kind"),
        (np.full(30, "NaT", dtype="datetime64[s]"), "30 of 30 missing"),
        ([None, *range(29)], "1 of 30 missing"),
        (np.array([0, "a"] * 15, dtype=object), "labels of one kind"),
        ([[1], [1, 2]] * 15, "no array"),
    ],
)
def test_conditions_that_label_nothing_are_refused(data, conditions, match):
    with pytest.raises(InputError, match=match):
        LatentCircuitModel(4).fit(*data, conditions=conditions)


def test_signed_channels_become_pairs_and_lose_nothing():
    signed = np.random.default_rng(0).standard_normal((3, 5, 2))
    parts = split_signed_channels(signed)
    assert parts.min() == 0
    assert np.array_equal(parts[..., ::2] - parts[..., 1::2], signed)
    assert np.array_equal(parts[..., ::2] + parts[..., 1::2], np.abs(signed))
    coords = {"trial": [5, 6, 7], "input": ["motion", "color"], "side": ("trial", ["l", "r", "l"])}
    named = split_signed_channels(xr.DataArray(signed, coords, ("trial", "time", "input"), attrs={"units": "V"}))
    assert np.array_equal(named, parts)
    assert named["input"].values.tolist() == ["motion +", "motion -", "color +", "color -"]
    assert named["side"].values.tolist() == ["l", "r", "l"]
    assert named.attrs == {"units": "V"}
    assert np.array_equal(split_signed_channels(torch.from_numpy(signed)), parts)
    for wrong in (3.0, [np.nan], "a", 1j * signed, np.ma.masked_less(signed, 0)):
        with pytest.raises(InputError):
            split_signed_channels(wrong)


def test_one_node_is_a_circuit_too():
    inputs = np.random.default_rng(0).uniform(0, 1, (10, 5, 1)).repeat(4, axis=1)
    states = simulate(np.array([[0.5]]), np.eye(1), inputs, 0.2)
    with pytest.warns(UserWarning, match="shared by 1 inputs and 1 outputs"):
        found = LatentCircuitModel(1).fit(inputs, states @ np.array([[0.6, 0.8]]), 2 * states)
    assert found.connectivity_.item() == pytest.approx(0.5, abs=1e-4)
    assert found.result_.data["source"].values.tolist() == ["input 0 = output 0"]


def broken(data, index, change):
    values = [array.copy() for array in data]
    values[index] = change(values[index])
    return values


def with_nan(values):
    values[3, 5, 0] = np.nan
    return values


@pytest.mark.parametrize(
    ("index", "change", "match"),
    [
        (0, lambda values: values[:, :-1], "inputs are not aligned"),
        (0, lambda values: values[1:], "inputs are not aligned"),
        (2, lambda values: values[:, 1:], "outputs are not aligned"),
        (2, lambda values: values[:, :, 0], "outputs are not aligned"),
        (0, with_nan, "inputs have NaN"),
        (1, with_nan, "activity have NaN"),
        (2, with_nan, "outputs have NaN"),
        (1, lambda values: values[:, :, :3], "fewer units than nodes"),
        (1, np.zeros_like, "there is no activity"),
        (1, np.ones_like, "there is no activity that varies"),
        (1, lambda values: np.ma.masked_less(values, 0), "mask"),
        (2, lambda values: 1j * values, "no real numbers"),
        (1, lambda values: values[:, :1], "activity are too short"),
        (1, lambda values: values[..., None], "which axis of activity"),
        (1, lambda values: [values[0], *values[1:, :-1]], "differ in their length"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, index, change, match):
    with pytest.raises(InputError, match=match):
        LatentCircuitModel(4).fit(*broken(data, index, change))


def test_too_few_trials_or_numbers_are_refused(data):
    with pytest.raises(InputError, match="fewer trials than nodes"):
        LatentCircuitModel(4).fit(*(values[:3] for values in data))
    with pytest.raises(InputError, match="fewer numbers than parameters"):
        LatentCircuitModel(4).fit(*(values[:5, :2] for values in data))
    with pytest.raises(InputError, match="fewer conditions than folds"):
        select_latent_size(*data, sizes=[3, 4], conditions=np.zeros(30))
    with pytest.raises(InputError, match="do not label"):
        LatentCircuitModel(4).fit(*data, conditions=np.zeros(29))


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"n_nodes": 0}, "n_nodes"),
        ({"n_nodes": 1}, "more inputs than nodes"),
        ({"n_nodes": 4, "n_inputs": 3}, "n_inputs is not that of the data"),
        ({"n_nodes": 4, "n_outputs": 2}, "n_outputs is not that of the data"),
        ({"n_nodes": 4, "alpha": 0}, "alpha"),
        ({"n_nodes": 4, "alpha": 1.5}, "alpha"),
        ({"n_nodes": 4, "source_signs": [1, 1, 1]}, "source_signs"),
        ({"n_nodes": 4, "source_signs": [1, 2, 1, 1]}, "source_signs"),
        ({"n_nodes": 4, "source_signs": 1}, "source_signs"),
        ({"n_nodes": 4, "n_starts": 0}, "n_starts"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(data, parameters, match):
    with pytest.raises(OptionError, match=match):
        LatentCircuitModel(**parameters).fit(*data)
    with pytest.raises(OptionError):
        select_latent_size(*data, sizes=[4])


@pytest.mark.parametrize("sizes", [None, 3, "ab", [], [4], [[3], [4]]])
def test_sizes_that_leave_no_choice_are_refused(data, sizes):
    with pytest.raises(OptionError, match="sizes"):
        select_latent_size(*data, sizes=sizes)
    with pytest.raises(InputError, match="no activity that varies"):
        select_latent_size(data[0], np.ones_like(data[1]), np.ones_like(data[2]), sizes=[3, 4])


@pytest.mark.parametrize("signs", ["+-+-", [[1], [1, 2], 3, 4], [None, 1, 1, 1], np.ma.array([1, 1, 1, 1], mask=True)])
def test_signs_that_are_no_numbers_are_refused(data, signs):
    with pytest.raises(InputError, match="source_signs"):
        LatentCircuitModel(4, source_signs=signs).fit(*data)


def test_what_is_not_fitted_and_other_columns_are_refused(data, model):
    inputs, activity, outputs = data
    with pytest.raises(InputError, match="not fitted"):
        LatentCircuitModel(4).predict(inputs)
    with pytest.raises(InputError, match="other inputs"):
        model.predict(inputs[:, :, :1])
    with pytest.raises(InputError, match="other activity"):
        model.score(inputs, activity[:, :, :5])
    with pytest.raises(InputError, match="not aligned"):
        model.score(inputs[1:], activity, outputs)
