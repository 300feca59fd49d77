from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_array_equal

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.recordings.recording import Recording

STIMULI = ["face", "house", "face", "tool"]
REGIONS = ["V1", "IT", "V1"]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.arange(4 * 5 * 3, dtype=float).reshape(4, 5, 3)


@pytest.fixture(scope="module")
def recording(values: np.ndarray) -> Recording:
    return Recording(
        values,
        coords={"stimulus": STIMULI, "unit": [10, 20, 30], "depth": ("unit", [0.1, 0.5, 0.9])},
        sampling_rate=10.0,
        unit_of_measure="uV",
        region=REGIONS,
        attrs={"subject": "m1"},
    )


# --- making one


def test_values_labels_and_facts_are_kept(recording: Recording, values: np.ndarray):
    assert_array_equal(recording.data.values, values)
    assert recording.dims == ("stimulus", "time", "unit")
    assert recording.shape == (4, 5, 3)
    assert recording.regions == ("V1", "IT")
    assert recording.sampling_rate == 10.0
    assert recording.unit_of_measure == "uV"
    assert recording.data.attrs["subject"] == "m1"
    assert recording.data.time.values.tolist() == [0, 0.1, 0.2, 0.3, 0.4]
    assert recording.data.depth.dims == ("unit",)


@pytest.mark.parametrize("kind", ["numpy", "torch", "xarray", "list"])
def test_every_kind_of_array_is_copied_and_never_shared(values: np.ndarray, kind: str):
    own = values.copy()
    data: Any = {
        "numpy": own,
        "torch": torch.from_numpy(own),
        "xarray": xr.DataArray(own, dims=("stimulus", "time", "unit"), attrs={"units": "mV"}),
        "list": own.tolist(),
    }[kind]
    made = Recording(data)
    assert_array_equal(made.data.values, values)
    own[:] = -1
    assert_array_equal(made.data.values, values)
    made.xarray()[:] = -2
    made.tensor()[:] = -2
    made.matrix()[:] = -2
    assert_array_equal(made.data.values, values)
    assert own.flags.writeable
    assert (own == -1).all()


def test_a_recording_cannot_be_written_to(recording: Recording):
    with pytest.raises(ValueError, match="read-only"):
        recording.data.values[0, 0, 0] = 1
    recording.data.attrs["subject"] = "someone else"
    assert recording.data.attrs["subject"] == "m1"


def test_a_dataarray_brings_its_dims_coordinates_and_attributes():
    array = xr.DataArray(
        np.zeros((2, 3)),
        dims=("unit", "time"),
        coords={"time": [0.1, 0.2, 0.3]},
        attrs={"units": "mV", "sampling_rate": 10.0},
    )
    made = Recording(array, region="V4")
    assert made.dims == ("unit", "time")
    assert made.unit_of_measure == "mV"
    assert made.sampling_rate == 10
    assert made.regions == ("V4",)
    assert "region" not in array.coords
    assert array.time.attrs == {}
    again = Recording(made.xarray())
    assert again.data.identical(made.data)


def test_half_precision_and_byte_order_become_what_torch_and_numpy_share():
    assert Recording(torch.ones(2, 1, dtype=torch.bfloat16), ("trial", "unit")).data.dtype == np.float32
    assert Recording(np.ones((2, 1), dtype=">f4"), ("trial", "unit")).tensor().dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": np.zeros((2, 3))}, "2 different names"),
        ({"data": np.zeros((2, 3)), "dims": ("unit", "unit")}, "different names"),
        ({"data": np.zeros(4), "dims": "unit"}, "different names"),
        ({"data": np.zeros((2, 3)), "dims": ("stimulus", "neuron")}, "called 'unit'"),
        ({"data": np.zeros((0, 3)), "dims": ("stimulus", "unit")}, "empty"),
        ({"data": np.array([["a"]]), "dims": ("stimulus", "unit")}, "not real numbers"),
        ({"data": np.ones((1, 1)) * 1j, "dims": ("stimulus", "unit")}, "not real numbers"),
        ({"data": [[1, 2], [3]], "dims": ("stimulus", "unit")}, "not real numbers"),
        ({"data": xr.DataArray(np.zeros((2, 3)), dims=("a", "unit")), "dims": ("unit", "a")}, "contradict"),
    ],
)
def test_data_and_dims_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Recording(**arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"coords": {"stimulus": ["a", "b", "c"]}}, "expected: 4 labels"),
        ({"coords": {"quality": ["a", "b", "c"]}}, "along no axis"),
        ({"coords": {"quality": ("neuron", ["a", "b", "c"])}}, "along no axis"),
        ({"region": ["V1", "V2"]}, "expected: 3 labels"),
        ({"coords": {"time": [0, 0.1, 0.1, 0.2, 0.3]}}, "ascending"),
        ({"coords": {"time": [0, 0.1, np.nan, 0.2, 0.3]}}, "ascending"),
        ({"coords": {"time": list("abcde")}}, "ascending"),
        ({"coords": {"time": [0, 1, 2, 3, 4]}, "sampling_rate": 1000.0}, "contradict the sampling rate"),
        ({"sampling_rate": 0}, "positive number of Hz"),
        ({"sampling_rate": np.nan}, "positive number of Hz"),
    ],
)
def test_labels_that_do_not_fit_are_refused(values: np.ndarray, labels: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Recording(values, **labels)


def test_missing_values_are_refused_with_their_place_unless_they_are_allowed(values: np.ndarray):
    holes = values.copy()
    holes[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="nan at position stimulus=2, time=1, unit=0, 1 such in all"):
        Recording(holes)
    allowed = Recording(holes, allow_missing=True)
    assert np.isnan(allowed.data.values).sum() == 1
    assert np.isnan(allowed.select(time=slice(1, 2), unit=0).data.values).sum() == 1
    holes[0, 0, 0] = np.inf
    with pytest.raises(InputError, match="inf at position stimulus=0"):
        Recording(holes, allow_missing=True)


# --- taking it apart


def test_matrix_has_one_column_per_unit_and_rows_in_the_order_of_the_other_axes(
    recording: Recording, values: np.ndarray
):
    assert_array_equal(recording.matrix().numpy(), values.reshape(20, 3))
    moved = Recording(np.moveaxis(values, 2, 0), ("unit", "stimulus", "time"))
    assert_array_equal(moved.matrix().numpy(), values.reshape(20, 3))
    assert moved.tensor().shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        ({"region": "V1"}, np.s_[:, :, [0, 2]]),
        ({"region": ["V1", "IT"]}, np.s_[:]),
        ({"depth": slice(0.2, None)}, np.s_[:, :, 1:]),
        ({"depth": slice(None, 0.5)}, np.s_[:, :, :2]),
        ({"time": slice(0, 0.2)}, np.s_[:, :3]),
        ({"time": 0.3}, np.s_[:, 3]),
        ({"time": [0.1, 0.4]}, np.s_[:, [1, 4]]),
        ({"stimulus": "face"}, np.s_[[0, 2]]),
        ({"stimulus": ["tool", "face"]}, np.s_[[0, 2, 3]]),
        ({"stimulus": ("tool",)}, np.s_[[3]]),
        ({"stimulus": "tool"}, np.s_[3]),
        ({"unit": 20}, np.s_[:, :, [1]]),
        ({"unit": [30, 10]}, np.s_[:, :, [2, 0]]),
        ({"region": "V1", "time": slice(0, 0.1), "stimulus": "house"}, np.s_[1, :2, [0, 2]]),
    ],
)
def test_select_keeps_what_the_labels_name(
    recording: Recording, values: np.ndarray, labels: dict[str, Any], index: Any
):
    selected = recording.select(**labels)
    expected = values[1][:2][:, [0, 2]] if len(labels) == 3 else values[index]
    assert_array_equal(selected.data.values, expected)
    assert selected.unit_of_measure == "uV"
    assert recording.shape == (4, 5, 3)


def test_select_keeps_the_sampling_rate_only_where_it_stays_true(recording: Recording):
    assert recording.select(time=slice(0.1, 0.3)).sampling_rate == 10
    assert recording.select(time=slice(0, 0.4, 2)).sampling_rate is None
    assert recording.select(time=[0.0, 0.1, 0.4]).sampling_rate is None
    assert recording.sampling_rate == 10


def test_select_by_position_where_an_axis_has_no_labels():
    bare = Recording(np.eye(3), ("trial", "unit"))
    assert bare.select(unit=1).data.values.tolist() == [[0], [1], [0]]
    assert bare.select(trial=[2]).data.values.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"regoin": "V1"}, "did you mean 'region'"),
        ({"region": "V9"}, "among 'V1', 'IT'"),
        ({"region": ["V1", "V9"]}, "no region matches"),
        ({"stimulus": "car"}, "among 'face', 'house', 'tool'"),
        ({"stimulus": ["face", "car"]}, "no stimulus matches"),
        ({"time": slice(3, 4)}, "no time matches"),
        ({"time": 0.123}, "no time matches"),
        ({"unit": 7}, "no unit matches"),
        ({"unit": [10, 7]}, "no unit matches"),
        ({"depth": slice(2, 3)}, "no depth matches"),
        ({"depth": slice("a", "b")}, "no depth matches"),
        ({"depth": slice(0, 1, 2)}, "takes no step"),
    ],
)
def test_select_refuses_labels_that_are_not_there(recording: Recording, labels: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        recording.select(**labels)


def test_repeated_unit_labels_are_all_selected():
    sessions = Recording(np.eye(3), ("trial", "unit"), {"unit": ["a", "b", "a"]})
    assert sessions.select(unit="a").shape == (3, 2)
    assert sessions.select(unit=["a"]).shape == (3, 2)


def test_provenance_tells_the_data_and_what_was_selected(recording: Recording):
    assert recording.provenance.arguments["data"]["shape"] == [4, 5, 3]
    selected = recording.select(region="V1").select(time=slice(0, 0.1))
    assert selected.provenance.arguments["selected"] == ["region='V1'", "time=slice(0, 0.1, None)"]
    assert "selected" not in recording.provenance.arguments
    assert "region" in selected.provenance.to_json()


def test_it_describes_itself_in_text_and_html(recording: Recording):
    assert repr(recording) == "<Recording: 4 stimulus x 5 time x 3 unit, uV, 10 Hz, regions V1, IT>"
    nasty = Recording(np.zeros((1, 1)), ("trial", "unit"), region="<b>")
    assert "&lt;b&gt;" in nasty._repr_html_()
    assert "Recording: 4 stimulus" in recording._repr_html_()
    assert Recording(np.zeros((1, 1)), ("trial", "unit")).regions == ()
