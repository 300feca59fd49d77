from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.recordings.binning import bin_centers, bin_spikes, bin_units, count_bins
from neuros_mechint.core.recordings.recording import Recording


def test_bins_are_half_open_at_edges_start_and_stop():
    spikes = [
        0.9,
        1.0,
        1.1,
        1.15,
        1.2,
        1.3,
    ]  # before, at the start, on an edge, inside, on an edge, at the stop
    assert bin_spikes(spikes, [1.0], window=(0, 0.3), bin_width=0.1).tolist() == [[1, 2, 1]]


@pytest.mark.parametrize("align", [0.0, 0.1, 0.3, 0.7, 1.1, 1e3 + 0.1, 86_400.3, 1e6 + 0.7])
def test_sums_that_miss_an_edge_by_rounding_count_as_on_it(align: float):
    edges = [align + 0.1 * k for k in range(10)]
    one_in_each = np.ones((1, 10), dtype=int)
    assert_array_equal(bin_spikes(edges, [align], window=(0, 1), bin_width=0.1), one_in_each)
    accumulated = align + np.cumsum(np.full(10, 0.1)) - 0.1
    assert_array_equal(bin_spikes(accumulated, [align], window=(0, 1), bin_width=0.1), one_in_each)


def test_plain_floor_would_get_these_edges_wrong():
    # The negative control of the tests above: without a tolerance 0.3 falls into the bin before its own.
    assert np.floor(0.3 / 0.1) == 2
    assert bin_spikes([0.3], [0.0], window=(0, 0.5), bin_width=0.1).tolist() == [[0, 0, 0, 1, 0]]


def test_a_spike_counts_as_on_the_edge_up_to_a_nanosecond_before_it():
    spikes = [0.1 - 0.5e-9, 0.2 - 2e-9]
    assert bin_spikes(spikes, [0.0], window=(0, 0.3), bin_width=0.1).tolist() == [[0, 2, 0]]


def test_the_nanosecond_holds_at_the_start_and_the_stop_of_the_window_too():
    just_before = [1.0 - 0.5e-9, 1.2 - 0.5e-9]
    assert bin_spikes(just_before, [1.0], window=(0, 0.2), bin_width=0.1).tolist() == [[1, 0]]
    assert bin_spikes([1.0 - 2e-9], [1.0], window=(0, 0.2), bin_width=0.1).tolist() == [[0, 0]]


def test_times_too_coarse_for_a_nanosecond_still_find_their_edges():
    align = 1.7e9  # seconds since 1970: neighbouring floats lie 0.24 microseconds apart
    spikes = align + np.arange(60) * 0.01
    assert_array_equal(bin_spikes(spikes, [align], window=(0, 0.6), bin_width=0.01), np.ones((1, 60), dtype=int))


def test_unsorted_spikes_count_the_same_and_stay_unsorted():
    spikes = np.array([0.25, 0.05, 0.15, 0.05])
    before = spikes.copy()
    assert bin_spikes(spikes, [0.0], window=(0, 0.3), bin_width=0.1).tolist() == [[2, 1, 1]]
    assert_array_equal(spikes, before)


def test_a_spike_counts_once_in_each_overlapping_window():
    counts = bin_spikes([0.5], [0.5, 0.4, 0.3], window=(0, 0.2), bin_width=0.1)
    assert counts.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_no_spike_counts_zero_everywhere():
    assert bin_spikes([], [0.0, 1.0], window=(0, 1), bin_width=0.5).tolist() == [[0, 0], [0, 0]]


def test_poisson_counts_are_conserved_over_tiling_windows():
    rng = np.random.default_rng(0)
    spikes = np.cumsum(rng.exponential(1 / 40, size=20_000))
    events = np.arange(0, 400, 0.5)
    counts = bin_spikes(spikes, events, window=(0, 0.5), bin_width=0.005)
    assert counts.sum() == np.count_nonzero(spikes < 400)
    assert counts.sum() > 15_000
    expected = np.histogram(spikes, bins=np.arange(401))[0]  # no spike lies on an edge here, so any method agrees
    assert_array_equal(counts.reshape(400, -1).sum(axis=1), expected)
    assert counts.mean() == pytest.approx(40 * 0.005, rel=0.05)


STEP = Decimal("0.0001")
ticks = st.integers(-20_000, 20_000)


@settings(max_examples=150)
@given(
    spikes=st.lists(ticks, max_size=40),
    events=st.lists(ticks, min_size=1, max_size=4),
    start=st.integers(-3_000, 3_000),
    width=st.integers(1, 700),
    n_bins=st.integers(1, 12),
    epoch=st.sampled_from([0, 3_600, 123_456]),
)
def test_counts_equal_exact_rational_arithmetic(spikes, events, start, width, n_bins, epoch):
    """Times lie on a grid of 0.1 ms, so many are on edges; the reference counts in integers of ticks."""
    expected = np.zeros((len(events), n_bins), dtype=int)
    for row, event in enumerate(events):
        for spike in spikes:
            place = Fraction(spike - event - start, width)
            if 0 <= place < n_bins:
                expected[row, place.__floor__()] += 1

    def seconds(tick: int) -> float:
        return float(tick * STEP)

    counts = bin_spikes(
        [epoch + seconds(spike) for spike in spikes],
        [epoch + seconds(event) for event in events],
        window=(seconds(start), seconds(start + n_bins * width)),
        bin_width=seconds(width),
    )
    assert_array_equal(counts, expected)


def test_centers_are_the_middles_of_the_bins_without_rounding_noise():
    centers = bin_centers((-0.1, 0.5), 0.01)
    assert centers.shape == (60,)
    assert centers[0] == -0.095
    assert centers[10] == 0.005
    assert centers[-1] == 0.495


@pytest.mark.parametrize(
    ("window", "width", "n_bins"), [((-0.1, 0.5), 0.01, 60), ((0, 0.3), 0.1, 3), ((0, 1), 1 / 3, 3)]
)
def test_widths_that_divide_the_window_only_up_to_rounding_are_accepted(window, width, n_bins):
    assert count_bins(window, width) == n_bins


@pytest.mark.parametrize(("width", "hint"), [(0.3, "bin_width=0.25"), (0.7, "bin_width=0.5"), (2.0, "bin_width=1 ")])
def test_a_width_that_does_not_divide_the_window_names_the_nearest_ones(width, hint):
    with pytest.raises(InputError, match="do not fill") as caught:
        count_bins((0, 1), width)
    assert hint in str(caught.value)


@pytest.mark.parametrize("width", [0, -0.01, np.nan, np.inf, 1e-9, "0.1", None])
def test_impossible_widths_are_refused(width):
    with pytest.raises(InputError, match="bin width"):
        count_bins((0, 1), width)


@pytest.mark.parametrize("window", [(0.5, -0.1), (0, 0), (0, np.nan), (0, np.inf), 0.5, (0, 1, 2), "ab"])
def test_impossible_windows_are_refused(window):
    with pytest.raises(InputError, match="not an interval"):
        count_bins(window, 0.1)


@pytest.mark.parametrize(
    ("spikes", "events", "message"),
    [
        ([0.1, np.nan], [0.0], "nan at position 1"),
        ([0.1, np.inf], [0.0], "inf at position 1"),
        ([[0.1], [0.2]], [0.0], "flat array"),
        ([[0.1], [0.2, 0.3]], [0.0], "flat array"),
        (["0.1"], [0.0], "flat array"),
        ([0.1], [np.nan], "event times are not all finite"),
        ([0.1], [], "no event"),
    ],
)
def test_times_that_cannot_be_binned_are_refused(spikes, events, message):
    with pytest.raises(InputError, match=message):
        bin_spikes(spikes, events, window=(0, 1), bin_width=0.1)


def test_the_error_names_the_unit_whose_times_are_bad():
    with pytest.raises(InputError, match="spike times of unit 1"):
        bin_units([[0.1], [np.nan]], 2, [0.0], window=(0, 1), bin_width=0.1)


def test_times_with_units_are_refused_rather_than_read_as_seconds():
    quantities = pytest.importorskip("quantities")
    with pytest.raises(InputError, match="rescale"):
        bin_spikes([100.0, 200.0] * quantities.ms, [0.0], window=(0, 1), bin_width=0.1)


def test_recording_from_spike_times_holds_exact_counts_and_labels():
    recording = Recording.from_spike_times(
        [[1.0, 1.1, 2.05], np.array([]), [1.2]],
        events=[1, 2],
        window=(0, 0.2),
        bin_width=0.1,
        region=["V1", "V1", "IT"],
    )
    assert recording.dims == ("trial", "time", "unit")
    assert recording.data.values.tolist() == [[[1, 0, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 0]]]
    assert recording.data.time.values.tolist() == [0.05, 0.15]
    assert recording.sampling_rate == 10
    assert recording.unit_of_measure == "spikes"
    assert recording.regions == ("V1", "IT")


@pytest.mark.parametrize("spike_times", [[], [0.1, 0.2], np.array([0.1, 0.2])])
def test_spike_times_that_are_not_one_array_per_unit_are_refused(spike_times):
    with pytest.raises(InputError, match="one array per unit"):
        Recording.from_spike_times(spike_times, events=[0.0], window=(0, 1), bin_width=0.1)


def test_nwb_spikes_are_counted_exactly_one_of_them_on_a_bin_edge(tmp_path: Path):
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    file = pynwb.NWBFile(
        session_description="known spikes",
        identifier="known",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
    )
    # Trials start at 0.3 and 1.3. With bins of 0.1 s, 0.3 + 3 * 0.1 is an edge that plain arithmetic misses.
    file.add_unit(spike_times=[0.3, 0.3 + 3 * 0.1, 0.65, 0.8, 1.25, 1.7])
    file.add_unit(spike_times=[1.3 - 0.1])
    file.add_trial(start_time=0.3, stop_time=1.0)
    file.add_trial(start_time=1.3, stop_time=2.0)
    with pynwb.NWBHDF5IO(tmp_path / "known.nwb", "w") as handle:
        handle.write(file)
    recording = Recording.from_nwb(tmp_path / "known.nwb", window=(-0.1, 0.5), bin_width=0.1)
    #                         -.1 0  .1 .2 .3 .4
    assert_array_equal(
        recording.data.transpose("unit", "trial", "time"),
        [[[0, 1, 0, 0, 2, 0], [1, 0, 0, 0, 0, 1]], [[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]],
    )
