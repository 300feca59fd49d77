"""Recordings queried, averaged, laid out as repetitions, joined across sessions and with models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from neuros_mechint.adapters.recording import RecordingAdapter
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.alignment.samples import paired

SHOWN = ["face", "car", "face", "tool", "car", "face", "tool", "car", "tool"]
CATEGORY = {"face": "animate", "car": "inanimate", "tool": "inanimate"}
TIMES = [-0.1, 0.0, 0.1, 0.2]


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(3.0, size=(9, 4, 5))


@pytest.fixture(scope="module")
def trials(counts: np.ndarray) -> Recording:
    return Recording(
        counts,
        ("trial", "time", "unit"),
        {
            "stimulus": ("trial", SHOWN),
            "category": ("trial", [CATEGORY[name] for name in SHOWN]),
            "correct": ("trial", np.arange(9) % 4 != 0),
            "time": TIMES,
            "depth": ("unit", [0.1, 0.4, 0.5, 0.8, 1.2]),
            "quality": ("unit", [3, 1, 2, 3, 3]),
        },
        sampling_rate=10.0,
        unit_of_measure="spikes",
        region=["V1", "V1", "IT", "IT", "V4"],
    )


# --- query


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("region == 'V1'", np.s_[:, :, :2]),
        ("region == 'V1' and depth > 0.2", np.s_[:, :, [1]]),
        ("region != 'V1'", np.s_[:, :, 2:]),
        ("region in ['V1', 'V4', 'MT']", np.s_[:, :, [0, 1, 4]]),
        ("region not in ('V1', 'V4')", np.s_[:, :, [2, 3]]),
        ("not (region == 'V1' or region == 'V4')", np.s_[:, :, [2, 3]]),
        ("0.4 <= depth < 0.8", np.s_[:, :, [1, 2]]),
        ("depth > -1", np.s_[:]),
        ("depth >= 0.8 or quality == 1", np.s_[:, :, [1, 3, 4]]),
        ("quality > depth", np.s_[:]),
        ("'V1' == region", np.s_[:, :, :2]),
        ("correct", np.s_[[1, 2, 3, 5, 6, 7]]),
        ("not correct", np.s_[[0, 4, 8]]),
        ("stimulus == 'face'", np.s_[[0, 2, 5]]),
        ("time >= 0", np.s_[:, 1:]),
        ("time >= 0 and time <= 0.1", np.s_[:, 1:3]),
        ("trial < 3", np.s_[:3]),  # an axis without labels counts
        ("unit in [0, 4]", np.s_[:, :, [0, 4]]),
    ],
)
def test_a_query_keeps_what_fulfils_it(trials: Recording, counts: np.ndarray, condition: str, index: Any):
    found = trials.query(condition)
    assert_array_equal(found.data.values, counts[index])
    assert found.dims == trials.dims
    assert found.unit_of_measure == "spikes"


def test_parts_joined_by_and_may_be_about_different_axes(trials: Recording, counts: np.ndarray):
    found = trials.query("region == 'IT' and stimulus in ['car', 'tool'] and time > 0 and depth < 0.6")
    assert_array_equal(found.data.values, counts[np.ix_([1, 3, 4, 6, 7, 8], [2, 3], [2])])
    assert found.regions == ("IT",)
    assert found.sampling_rate == 10
    assert "region == 'IT' and stimulus" in found.provenance.arguments["selected"][0]
    assert trials.query("time < 0 or time > 0.1").sampling_rate is None


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("regoin == 'V1'", "did you mean 'region'"),
        ("area == 'V1'", "one of .*stimulus.*depth"),
        ("region == V1", "no labels are called 'V1'"),
        ("region == 'V1' or stimulus == 'face'", "stimulus == 'face'\" is about trial and unit at once"),
        ("not (region == 'V1' and time > 0)", "time and unit at once"),
        ("region == 'MT'", "no unit fulfils"),
        ("region == 'V1' and region == 'IT'", "no unit fulfils"),
        ("depth > 99 and stimulus == 'face'", "no unit fulfils"),
        ("region > 0.5", "compares text with numbers"),
        ("depth == 'deep'", "compares text with numbers"),
        ("depth in [0.1, 'deep']", "list of other things"),
        ("region = 'V1'", "cannot be read"),
        ("depth >", "cannot be read"),
        ("", "cannot be read"),
        ("depth", "not a condition"),
        ("0.5", "is not a condition"),
        ("depth and correct", "not a condition"),
        ("1 < 2", "compares no labels"),
        ("depth in 0.5", "lists go with 'in'"),
        ("depth == [0.5]", "lists go with 'in'"),
        ("depth is 0.5", "none of these"),
        ("region == 'V1' & depth > 0.5", "none of these"),
        ("len(region) > 1", "none of these"),
        ("region.dtype == 'V1'", "none of these"),
        ("depth[0] > 0", "none of these"),
        ("(lambda: 1)() == depth", "none of these"),
        ("[r for r in region] == region", "none of these"),
        ("depth > (x := 1)", "none of these"),
        ("f'{region}' == region", "none of these"),
        ("__import__('os').system('true') == 0", "none of these"),
    ],
)
def test_what_a_query_cannot_say_is_refused(trials: Recording, condition: str, message: str):
    with pytest.raises(InputError, match=message):
        trials.query(condition)


# --- average


def test_average_by_stimulus_is_the_mean_of_its_trials(trials: Recording, counts: np.ndarray):
    mean = trials.average(by="stimulus")
    assert mean.dims == ("stimulus", "time", "unit")
    assert mean.data.stimulus.values.tolist() == ["face", "car", "tool"]
    for row, name in enumerate(("face", "car", "tool")):
        rows = [index for index, shown in enumerate(SHOWN) if shown == name]
        assert_allclose(mean.data.values[row], counts[rows].mean(0), rtol=1e-12)
    assert mean.data.n_averaged.values.tolist() == [3, 3, 3]
    assert mean.data.category.values.tolist() == ["animate", "inanimate", "inanimate"]
    assert "correct" not in mean.data.coords  # differs between trials of a stimulus
    assert mean.regions == ("V1", "IT", "V4")
    assert mean.sampling_rate == 10
    assert trials.average("trial", by="stimulus").data.identical(mean.data)


def test_means_of_counts_are_said_to_be_means_of_spikes(trials: Recording):
    mean = trials.average(by="stimulus")
    assert mean.data.dtype == float
    assert mean.unit_of_measure == "spikes"
    assert mean.data.attrs["cell_methods"] == "trial: mean (by stimulus)"
    assert "mean spikes" in repr(mean)
    assert "mean" not in repr(trials)
    again = mean.average("time")
    assert again.data.attrs["cell_methods"] == "trial: mean (by stimulus) time: mean"
    assert again.provenance.arguments["derived"] == ["average(by='stimulus')", "average(axis='time')"]


def test_average_over_an_axis_drops_its_labels(trials: Recording, counts: np.ndarray):
    over_time = trials.average("time")
    assert_allclose(over_time.data.values, counts.mean(1), rtol=1e-12)
    assert over_time.dims == ("trial", "unit")
    assert over_time.sampling_rate is None
    assert "time" not in over_time.data.coords
    over_trials = trials.average("trial")
    assert over_trials.dims == ("time", "unit")
    assert not {"stimulus", "category", "correct", "trial"} & set(over_trials.data.coords)
    assert over_trials.regions == trials.regions


def test_average_of_a_continuous_signal_keeps_its_unit():
    signal = Recording(
        np.arange(8.0).reshape(4, 2), ("stimulus", "unit"), {"stimulus": list("abab")}, unit_of_measure="uV"
    )
    mean = signal.average(by="stimulus")
    assert mean.matrix().tolist() == [[2, 3], [4, 5]]
    assert mean.data.stimulus.values.tolist() == ["a", "b"]
    assert mean.unit_of_measure == "uV"
    assert mean.data.n_averaged.values.tolist() == [2, 2]


def test_missing_values_are_left_out_of_means_and_stay_where_nothing_was_recorded():
    values = [[1.0, np.nan], [3.0, np.nan], [np.nan, 5.0]]
    shown = {"stimulus": ("trial", ["a", "a", "b"])}
    trials = Recording(values, ("trial", "unit"), shown, allow_missing=True)
    assert_array_equal(trials.average(by="stimulus").data.values, [[2.0, np.nan], [np.nan, 5.0]])
    assert_array_equal(trials.average("trial").data.values, [2.0, 5.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no axis to average over"),
        ({"axis": "unit"}, "units are kept apart"),
        ({"by": "region"}, "units are kept apart"),
        ({"axis": "stimulus"}, "'trial' or 'time'"),
        ({"axis": "time", "by": "stimulus"}, "does not label 'time'"),
        ({"by": "stimulos"}, "did you mean 'stimulus'"),
    ],
)
def test_averages_that_make_no_sense_are_refused(trials: Recording, arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        trials.average(**arguments)


# --- repetitions


def test_repetitions_hold_every_trial_once(trials: Recording, counts: np.ndarray):
    found = trials.repetitions()
    assert found.dims == ("repetition", "stimulus", "time", "unit")
    assert found.shape == (3, 3, 4, 5)
    assert found.data.dtype == counts.dtype  # counts stay counts
    assert found.data.stimulus.values.tolist() == ["face", "car", "tool"]
    assert_array_equal(found.data.sel(stimulus="car").values, counts[[1, 4, 7]])
    assert found.data.category.values.tolist() == ["animate", "inanimate", "inanimate"]
    assert_allclose(found.average("repetition").data.values, trials.average(by="stimulus").data.values, rtol=1e-12)
    assert found.unit_of_measure == "spikes"
    assert "mean" not in repr(found)


def test_unequal_numbers_of_repetitions_are_refused_or_filled(trials: Recording, counts: np.ndarray):
    uneven = trials.query("trial < 7")  # 3 faces, 2 cars, 2 tools
    with pytest.raises(InputError, match="2 of 'car', 3 of 'face'"):
        uneven.repetitions()
    filled = uneven.repetitions(allow_missing=True)
    assert np.isnan(filled.data.values[2, 1:]).all()
    assert_array_equal(filled.data.values[:2, 1], counts[[1, 4]])
    assert np.isfinite(filled.data.values[:, 0]).all()
    assert_allclose(filled.average("repetition").data.values, uneven.average(by="stimulus").data.values, rtol=1e-12)
    assert uneven.average(by="stimulus").data.n_averaged.values.tolist() == [3, 2, 2]


def test_repetitions_by_another_label_or_twice(trials: Recording):
    assert trials.query("stimulus != 'tool'").repetitions(by="category").shape == (3, 2, 4, 5)
    with pytest.raises(InputError, match="axis 'repetition' already"):
        trials.repetitions().repetitions()
    with pytest.raises(InputError, match="units are kept apart"):
        trials.repetitions(by="region")
    repeated = Recording(np.eye(4), ("stimulus", "unit"), {"stimulus": list("abab")})
    assert repeated.repetitions().shape == (2, 2, 4)


# --- sessions


def session(order: list[str], first: float, n_units: int, **more: Any) -> Recording:
    values = [[first + ord(name) + 0.1 * unit for unit in range(n_units)] for name in order]
    options: dict[str, Any] = {"region": "V1", "unit_of_measure": "Hz", "attrs": {"subject": "m1"}} | more
    labels = {"stimulus": order, "category": ("stimulus", [name.upper() for name in order])}
    return Recording(values, ("stimulus", "unit"), labels, **options)


def test_sessions_are_joined_by_stimulus_label():
    one, two = session(list("abc"), 0, 2), session(list("cab"), 1000, 3, region="IT", attrs={"subject": "m1", "day": 2})
    both = Recording.concatenate({"monday": one, "tuesday": two})
    assert both.dims == ("stimulus", "unit")
    assert both.data.stimulus.values.tolist() == list("abc")
    assert_array_equal(both.data.values[:, :2], one.data.values)
    assert_array_equal(both.data.values[:, 2:], two.data.values[[1, 2, 0]])
    assert both.sessions == ("monday", "tuesday")
    assert both.regions == ("V1", "IT")
    assert both.data.category.values.tolist() == list("ABC")
    assert both.data.attrs == {"subject": "m1", "units": "Hz"}
    assert_array_equal(both.select(session="tuesday").data.values, two.data.values[[1, 2, 0]])
    assert both.query("session == 'monday' and region == 'V1'").shape == (3, 2)
    assert both.provenance.arguments["recordings"]["monday"]["method"] == "Recording"
    assert Recording.concatenate([one, two]).sessions == ()


def test_sessions_may_also_add_stimuli_of_the_same_units():
    def day(stimuli: str, units: list[int]) -> Recording:
        values = np.add.outer([ord(name) for name in stimuli], units)
        return Recording(values, ("stimulus", "unit"), {"stimulus": list(stimuli), "unit": units})

    grown = Recording.concatenate([day("ab", [1, 2, 3]), day("cd", [3, 1, 2])], along="stimulus")
    assert_array_equal(grown.data.values, np.add.outer([97, 98, 99, 100], [1, 2, 3]))
    with pytest.raises(InputError, match="only in recording 0: 3"):
        Recording.concatenate([day("ab", [1, 2, 3]), day("cd", [1, 2])], along="stimulus")


def test_repetitions_and_times_of_sessions_have_to_fit(trials: Recording):
    one = trials.repetitions()
    two = trials.query("time >= 0").repetitions()
    assert Recording.concatenate([one, one]).shape == (3, 3, 4, 10)
    with pytest.raises(InputError, match="do not agree along 'time'"):
        Recording.concatenate([one, two])
    with pytest.raises(InputError, match="do not agree along 'repetition'"):
        Recording.concatenate([one, one.query("repetition < 2")])
    late = Recording(one.data.values, one.dims, {"stimulus": one.data.stimulus.values, "time": [0.0, 0.1, 0.2, 0.3]})
    with pytest.raises(InputError, match="different units"):
        Recording.concatenate([one, late])
    late = Recording(late.data, unit_of_measure="spikes")
    with pytest.raises(InputError, match="other times"):
        Recording.concatenate([one, late])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (session(list("abd"), 0, 2), "only in recording 0: 'c'; only in recording 1: 'd'"),
        (session(list("aba"), 0, 2), "repeated in recording 1"),
        (session(list("abc"), 0, 2, unit_of_measure="spikes"), "different units"),
        (Recording(np.eye(3), ("stimulus", "unit"), unit_of_measure="Hz"), "recording 1 cannot be joined"),
        (Recording(np.ones((3, 2, 2)), unit_of_measure="Hz"), "different axes"),
        (np.eye(3), "ndarray among them"),
    ],
)
def test_sessions_that_do_not_fit_are_refused(other: Any, message: str):
    with pytest.raises(InputError, match=message):
        Recording.concatenate([session(list("abc"), 0, 2), other])


def test_nothing_and_axes_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="nothing to concatenate"):
        Recording.concatenate([])
    with pytest.raises(InputError, match="no such axis"):
        Recording.concatenate([session(list("abc"), 0, 2)], along="trial")


def test_labels_that_only_some_sessions_have_are_left_out_with_a_warning():
    plain = session(list("abc"), 0, 2)
    bare = Recording(plain.data.drop_vars("region"))
    with pytest.warns(UserWarning, match="left out: region") as caught:
        both = Recording.concatenate([plain, bare])
    assert caught[0].filename == __file__
    assert both.regions == ()


# --- joined with a model


def test_model_and_recording_are_joined_by_stimulus_label_never_by_position():
    recording = session(list("abcd"), 0, 3)
    tensors = {"embed": torch.tensor([[3.0], [0.0], [2.0], [1.0]])}
    acts = Activations(tensors, {"embed": ("sample", "unit")}).with_labels(sample=list("dacb"))
    x, y, labels = paired(acts.xarray("embed"), recording)
    assert labels == tuple("dacb")
    assert_allclose(np.diff(y[np.argsort(x[:, 0])], axis=0), 1, rtol=1e-9)
    assert_array_equal(recording.select(stimulus=acts.coords["sample"]).data.values, y)
    with pytest.raises(InputError, match="Y has labels and X has none"):
        paired(tensors["embed"], recording)
    with pytest.raises(InputError, match="only in Y: 'd'"):
        paired(acts.xarray("embed")[1:], recording)
    captured = RecordingAdapter(recording).capture(list("bcad"), "region.V1")
    assert_array_equal(paired(acts.xarray("embed"), captured.xarray("region.V1"))[1], y)


def test_labels_of_activations_have_to_fit():
    acts = Activations({"embed": torch.zeros(2, 3)}, {"embed": ("sample", "unit")})
    with pytest.raises(InputError, match="labels of axis 'sample' do not fit"):
        acts.with_labels(sample=["a"])
    with pytest.raises(InputError, match="labels of axis 'stimulus' do not fit"):
        acts.with_labels(stimulus=["a", "b"])
    assert acts.with_labels(sample=["a", "b"]).with_labels(sample=["c", "d"]).coords == {"sample": ["c", "d"]}
    assert acts.coords == {}


def test_missing_labels_are_no_stimulus_and_dates_and_mixtures_stay_what_they_are():
    values = np.arange(24.0).reshape(8, 3)

    def trials(labels):
        return Recording(values, ("trial", "unit"), {"stimulus": ("trial", labels)})

    for missing in ([np.nan, 1.0, 2.0, 3.0] * 2, np.array(["NaT", "2020-01-01"] * 4, dtype="datetime64[ns]")):
        with pytest.raises(InputError, match="labels of stimulus are missing"):
            trials(missing).average(by="stimulus")
    dates = np.array(["2020-01-01", "2021-01-01"] * 4, dtype="datetime64[s]")
    assert trials(dates).average(by="stimulus").data.stimulus.dtype.kind == "M"
    mixed = trials(np.array(["a", 1, "b", 2] * 2, dtype=object)).average(by="stimulus")
    assert mixed.data.stimulus.values.tolist() == ["a", 1, "b", 2]
