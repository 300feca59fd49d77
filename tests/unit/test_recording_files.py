"""Recordings from files of NWB and Neo: scaled, on the files' clock, and refused where they do not fit."""

from __future__ import annotations

import hashlib
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from neuros_mechint.core.errors import InputError, MissingDependencyError, OptionError, StorageError
from neuros_mechint.core.recordings.recording import Recording

# --- NWB

RATE, START, CONVERSION, OFFSET = 10.0, 0.5, 1e-3, 0.25
RAW = np.arange(90, dtype=np.int16).reshape(30, 3)
GAINS = np.array([1.0, 2.0, 4.0])
SCALED = RAW * (CONVERSION * GAINS) + OFFSET


def add_series(file: Any, pynwb: Any) -> None:
    from pynwb.ecephys import LFP, ElectricalSeries

    region = file.create_electrode_table_region(region=[2, 0, 1], description="in another order")
    lfp = ElectricalSeries(
        name="lfp",
        data=RAW,
        electrodes=region,
        rate=RATE,
        starting_time=START,
        conversion=CONVERSION,
        offset=OFFSET,
        channel_conversion=GAINS,
    )
    module = file.create_processing_module(name="ecephys", description="filtered")
    container = LFP()
    module.add(container)
    container.add_electrical_series(lfp)
    stamps = 0.5 + np.arange(30) / RATE
    gap = stamps + np.where(np.arange(30) >= 20, 1.0, 0.0)
    pieces = {
        "pupil": (np.arange(30.0), stamps),
        "with_gap": (np.arange(30.0), gap),
        "with_nan": (np.where(np.arange(30) == 4, np.nan, 1.0), stamps),
        "irregular": (np.arange(30.0), np.arange(30.0) ** 2),
        "movie": (np.zeros((30, 2, 2)), stamps),
    }
    for name, (data, timestamps) in pieces.items():
        file.add_acquisition(pynwb.TimeSeries(name=name, data=data, unit="mm", timestamps=timestamps, resolution=0.5))
    module.add(pynwb.TimeSeries(name="pupil", data=np.zeros(3), unit="mm", rate=1.0))


@pytest.fixture(scope="module")
def nwb_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile(
        session_description="s", identifier="session-1", session_start_time=datetime(2020, 1, 1, tzinfo=UTC)
    )
    group = file.create_electrode_group(
        name="shank", description="d", location="cortex", device=file.create_device(name="probe")
    )
    for location in ("V1", "V1", "IT"):
        file.add_electrode(group=group, location=location)
    file.create_electrode_table_region(region=[0, 1, 2], description="all")
    file.add_unit_column("quality", "after curation")
    file.add_unit_column("depth", "micrometres")
    observed = [[0.0, 1.5], [1.5, 4.0]]
    file.add_unit(spike_times=[1.35, 1.0, 1.1], quality="good", depth=100.0, electrodes=[0, 1], obs_intervals=observed)
    file.add_unit(spike_times=[2.0], quality="noise", depth=200.0, electrodes=[1, 2], obs_intervals=observed)
    file.add_unit(spike_times=[2.1], quality="good", depth=300.0, electrodes=[2], obs_intervals=[[0.0, 9.0]])
    file.units.resolution = 1 / 30_000
    file.add_trial_column("stimulus", "what was shown")
    file.add_trial_column("go", "time of the go cue")
    file.add_trial_column("time", "a name that clashes with an axis")
    file.add_trial_column("depth", "a name that clashes with a units column")
    for start, stimulus, go in ((1.0, "face", 1.1), (2.0, "house", np.nan), (3.8, "face", 3.9)):
        file.add_trial(start_time=start, stop_time=start + 0.5, stimulus=stimulus, go=go, time=7.0, depth=1)
    add_series(file, pynwb)
    path = tmp_path_factory.mktemp("nwb") / "session.nwb"
    with pynwb.NWBHDF5IO(path, "w") as handle:
        handle.write(file)
    return path


@pytest.fixture(scope="module")
def session(nwb_path: Path) -> Recording:
    return Recording.from_nwb(nwb_path, trials=[0, 1], window=(0, 0.4), bin_width=0.1)


def test_nwb_counts_carry_the_columns_of_both_tables(session: Recording):
    expected = np.zeros((2, 4, 3))
    expected[0, [0, 1, 3], 0] = 1
    expected[1, 0, 1] = 1
    expected[1, 1, 2] = 1
    assert_array_equal(session.data.values, expected)
    labels = session.data.coords
    assert labels["stimulus"].values.tolist() == ["face", "house"]
    assert labels["quality"].values.tolist() == ["good", "noise", "good"]
    assert labels["depth"].dims == ("unit",)
    assert labels["trial_depth"].dims == ("trial",)
    assert labels["trial_time"].values.tolist() == [7, 7]
    assert session.regions == ("V1", "V1/IT", "IT")
    assert session.sampling_rate == 10
    assert session.unit_of_measure == "spikes"
    assert session.data.attrs["spike_time_resolution"] == 1 / 30_000


def test_nwb_provenance_identifies_the_file(session: Recording, nwb_path: Path):
    arguments = session.provenance.arguments
    assert arguments["sha256"] == hashlib.sha256(nwb_path.read_bytes()).hexdigest()
    assert arguments["source"] == str(nwb_path)
    assert arguments["identifier"] == "session-1"


@pytest.mark.parametrize(
    ("units", "chosen"),
    [
        ("quality == 'good'", [0, 2]),
        ("depth > 150 and quality == 'good'", [2]),
        ("id == 1", [1]),
        ([2, 0], [2, 0]),
        (1, [1]),
        (np.array([True, False, True]), [0, 2]),
        (None, [0, 1, 2]),
    ],
)
def test_nwb_units_are_chosen_by_query_ids_or_mask(nwb_path: Path, session: Recording, units: Any, chosen: list[int]):
    part = Recording.from_nwb(nwb_path, units, trials=[0, 1], window=(0, 0.4), bin_width=0.1)
    assert part.data.unit.values.tolist() == chosen
    assert_array_equal(part.data.values, session.data.values[:, :, chosen])


def test_nwb_trials_and_events_are_chosen_and_labels_selected(nwb_path: Path):
    part = Recording.from_nwb(
        nwb_path,
        trials="stimulus == 'face' and start_time < 3",
        align="go",
        window=(-0.1, 0.3),
        bin_width=0.1,
        select={"region": "V1"},
    )
    assert part.data.trial.values.tolist() == [0]
    assert part.data.values[0, :, 0].tolist() == [1, 1, 0, 1]


def test_nwb_default_window_is_600_ms_in_60_bins(nwb_path: Path):
    part = Recording.from_nwb(nwb_path, trials=[0])
    assert part.shape == (1, 60, 3)
    assert part.data.time.values[0] == -0.095


def test_nwb_trials_not_fully_observed_are_kept_with_a_warning(nwb_path: Path):
    with pytest.warns(UserWarning, match="1 of 3 trials reach beyond") as caught:
        part = Recording.from_nwb(nwb_path, window=(0, 0.4), bin_width=0.1)
    assert caught[0].filename == __file__
    assert part.data.fully_observed.values.tolist() == [True, True, False]
    assert part.select(fully_observed=True).shape == (2, 4, 3)
    # The unit whose interval is longer saw all of it.
    alone = Recording.from_nwb(nwb_path, units=[2], window=(0, 0.4), bin_width=0.1)
    assert alone.data.fully_observed.all()


def test_nwb_series_is_scaled_and_on_the_files_clock(nwb_path: Path):
    lfp = Recording.from_nwb(nwb_path, series="lfp")
    assert lfp.dims == ("time", "unit")
    assert_allclose(lfp.data.values, SCALED, rtol=1e-12)
    assert_allclose(lfp.data.time.values, 0.5 + np.arange(30) / 10, rtol=1e-12)
    assert lfp.sampling_rate == RATE
    assert lfp.unit_of_measure == "volts"
    assert lfp.data.unit.values.tolist() == [2, 0, 1]
    assert lfp.regions == ("IT", "V1")
    assert_allclose(Recording.from_nwb(nwb_path, series="lfp", select={"region": "IT"}).data.values, SCALED[:, :1])


def test_nwb_series_is_cut_into_epochs_around_trials(nwb_path: Path):
    epochs = Recording.from_nwb(nwb_path, series="lfp", window=(-0.1, 0.2), trials=[1, 0])
    assert epochs.dims == ("trial", "time", "unit")
    assert epochs.data.time.values.tolist() == [-0.1, 0, 0.1]
    # Trial 1 starts at 2.0 s; the sample at 1.9 s is number 14. Trial 0 starts at 1.0 s.
    assert_allclose(epochs.data.values, [SCALED[14:17], SCALED[4:7]], rtol=1e-12)
    assert epochs.data.stimulus.values.tolist() == ["house", "face"]
    assert epochs.sampling_rate == RATE


def test_nwb_epochs_beyond_the_signal_are_refused_or_filled_with_nan(nwb_path: Path):
    with pytest.raises(InputError, match="2 of 3 epochs reach beyond the signal"):
        Recording.from_nwb(nwb_path, series="lfp", window=(-0.7, 0.0))
    early = Recording.from_nwb(nwb_path, series="lfp", window=(-0.7, 0.0), trials=[0], allow_missing=True).data[0]
    assert np.isnan(early.values[:2]).all()
    assert_allclose(early.values[2:], SCALED[:5])
    late = Recording.from_nwb(nwb_path, series="lfp", window=(-0.5, 0.2), trials=[2], allow_missing=True).data[0]
    assert_allclose(late.values[:2], SCALED[28:])
    assert np.isnan(late.values[2:]).all()
    outside = Recording.from_nwb(nwb_path, series="lfp", window=(3, 4), trials=[2], allow_missing=True)
    assert outside.shape == (1, 10, 3)
    assert np.isnan(outside.data.values).all()


def test_nwb_timestamps_give_the_same_epochs_as_a_rate(nwb_path: Path):
    whole = Recording.from_nwb(nwb_path, series="with_gap")
    assert whole.sampling_rate is None
    assert whole.data.attrs["resolution"] == 0.5
    early = Recording.from_nwb(nwb_path, series="with_gap", window=(-0.7, 0), trials=[0], allow_missing=True)
    assert_array_equal(early.data.values[0, :, 0], [np.nan, np.nan, 0, 1, 2, 3, 4])
    epochs = Recording.from_nwb(nwb_path, series="with_gap", window=(-0.1, 0.2), trials=[0, 1])
    assert epochs.data.values[:, :, 0].tolist() == [[4, 5, 6], [14, 15, 16]]


def test_nwb_epochs_across_a_gap_or_without_a_rate_are_refused(nwb_path: Path):
    with pytest.raises(InputError, match="position 0 spans a gap"):
        Recording.from_nwb(nwb_path, series="with_gap", window=(0, 1), trials=[1])
    with pytest.raises(InputError, match="irregularly sampled"):
        Recording.from_nwb(nwb_path, series="irregular", window=(0, 1))
    with pytest.raises(InputError, match="shorter than a sample"):
        Recording.from_nwb(nwb_path, series="lfp", window=(0, 0.01))


def test_nwb_series_with_missing_samples_needs_permission(nwb_path: Path):
    with pytest.raises(InputError, match="time=4, unit=0"):
        Recording.from_nwb(nwb_path, series="with_nan")
    assert np.isnan(Recording.from_nwb(nwb_path, series="with_nan", allow_missing=True).data.values).sum() == 1


def test_nwb_series_of_the_same_name_are_told_apart_by_path(nwb_path: Path):
    with pytest.raises(InputError, match="several series are called 'pupil'"):
        Recording.from_nwb(nwb_path, series="pupil")
    assert Recording.from_nwb(nwb_path, series="ecephys/pupil").shape == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": "qualty == 'good'"}, "qualty"),
        ({"units": "depth +"}, "query cannot be read"),
        ({"units": "depth"}, "not a condition"),
        ({"units": "quality == 'superb'"}, "no units are left"),
        ({"units": [0, 9]}, r"unknown: \[9\]"),
        ({"units": [0, 0]}, "repeated"),
        ({"units": [True, False]}, "mask does not fit"),
        ({"trials": [3]}, r"unknown: \[3\]"),
        ({"align": "start"}, "did you mean 'start_time'"),
        ({"align": "stimulus"}, "no times 'stimulus'"),
        ({"align": "go"}, "1 of 3 trials have no 'go'"),
        ({"window": (0, 1), "bin_width": 0.3}, "do not fill"),
        ({"window": (0, 1e-4), "bin_width": 1e-5}, "narrower than the spike times are exact"),
        ({"series": "lpf"}, "no series is called 'lpf'"),
        ({"series": "movie"}, "not a recording of channels over time"),
        ({"series": "lfp", "units": [0]}, "a series does not have"),
    ],
)
def test_nwb_requests_that_cannot_be_met_are_refused(nwb_path: Path, arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Recording.from_nwb(nwb_path, **arguments)


def test_nwb_file_without_units_or_trials_says_so(tmp_path: Path):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile(session_description="s", identifier="i", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    with pynwb.NWBHDF5IO(tmp_path / "empty.nwb", "w") as handle:
        handle.write(file)
    with pytest.raises(InputError, match="this file has no units"):
        Recording.from_nwb(tmp_path / "empty.nwb")


def test_files_that_are_missing_damaged_or_something_else_are_storage_errors(tmp_path: Path, nwb_path: Path):
    import h5py

    with pytest.raises(StorageError, match="no file"):
        Recording.from_nwb(tmp_path / "none.nwb")
    (tmp_path / "text.nwb").write_text("not HDF5")
    half = nwb_path.read_bytes()
    (tmp_path / "half.nwb").write_bytes(half[: len(half) // 2])
    h5py.File(tmp_path / "other.nwb", "w").close()
    for name in ("text.nwb", "half.nwb", "other.nwb"):
        with pytest.raises(StorageError, match="cannot be read as an NWB file"):
            Recording.from_nwb(tmp_path / name)


@pytest.mark.parametrize(("library", "read"), [("pynwb", "from_nwb"), ("neo", "from_neo")])
def test_without_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, read: str
):
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / "file.nwb").touch()
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[neuro-io\]"):
        getattr(Recording, read)(tmp_path / "file.nwb")


# --- Neo

SIGNAL = np.arange(40.0).reshape(20, 2)


def neo_segment(shift_ms: float = 0.0, names: tuple[str, ...] = ("a", "b")) -> Any:
    import neo
    import quantities as pq

    segment = neo.Segment()
    for number, name in enumerate(names):
        times = np.array([100.0, 200.0, 350.0])[: 3 - number] + shift_ms
        train = neo.SpikeTrain(times * pq.ms, t_start=0 * pq.s, t_stop=0.45 * pq.s, name=name, region=f"V{number + 1}")
        segment.spiketrains.append(train)
    segment.analogsignals.append(
        neo.AnalogSignal(
            SIGNAL + shift_ms,
            units="mV",
            sampling_rate=0.1 * pq.kHz,
            t_start=50 * pq.ms,
            name="lfp",
            array_annotations={"channel_names": ["left", "right"], "region": ["V1", "V2"]},
        )
    )
    segment.events.append(neo.Event(np.array([100.0, 200.0]) * pq.ms, labels=["x", "y"], name="cue"))
    return segment


@pytest.fixture(scope="module")
def block() -> Any:
    neo = pytest.importorskip("neo")
    block = neo.Block(name="two trials")
    block.segments.extend([neo_segment(), neo_segment(shift_ms=50.0)])
    return block


def test_neo_segments_are_trials_and_milliseconds_become_seconds(block: Any):
    counts = Recording.from_neo(block, bin_width=0.1)
    assert counts.dims == ("trial", "time", "unit")
    assert counts.data.sel(unit="a").values.tolist() == [[0, 1, 1, 1], [0, 1, 1, 0]]
    assert counts.data.sel(unit="b").values.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]
    assert counts.data.segment.values.tolist() == [0, 1]
    assert counts.regions == ("V1", "V2")
    assert counts.data.fully_observed.all()
    assert counts.provenance.arguments["source"] == "neo.Block two trials"


def test_neo_events_align_trials_and_keep_their_labels(block: Any):
    counts = Recording.from_neo(block, align="cue", window=(0, 0.2), bin_width=0.1)
    assert counts.data.event_label.values.tolist() == ["x", "y", "x", "y"]
    assert counts.data.sel(unit="a").values.tolist() == [[1, 1], [1, 1], [1, 1], [1, 0]]
    by_time = Recording.from_neo(block.segments[0], align=[0.1, 0.2], window=(0, 0.2), bin_width=0.1)
    assert_array_equal(by_time.data.values, counts.data.values[:2])


def test_neo_windows_beyond_a_spike_train_are_flagged(block: Any):
    with pytest.warns(UserWarning, match="2 of 4 trials") as caught:
        counts = Recording.from_neo(block, align="cue", window=(0, 0.3), bin_width=0.1)
    assert caught[0].filename == __file__
    assert len(caught) == 1
    assert counts.data.fully_observed.values.tolist() == [True, False, True, False]


def test_neo_signal_is_whole_for_one_segment_and_converted_on_request(block: Any):
    signal = Recording.from_neo(block.segments[0], signal="lfp", unit_of_measure="uV")
    assert signal.dims == ("time", "unit")
    assert_allclose(signal.data.values, SIGNAL * 1000)
    assert signal.unit_of_measure == "uV"
    assert signal.sampling_rate == 100
    assert signal.data.time.values[[0, -1]].tolist() == [0.05, 0.24]
    assert signal.data.unit.values.tolist() == ["left", "right"]
    assert signal.regions == ("V1", "V2")
    assert Recording.from_neo(block.segments[0], signal=0).unit_of_measure == "mV"
    assert block.segments[0].analogsignals[0].magnitude.flags.writeable


def test_neo_signal_of_several_segments_is_stacked_or_cut(block: Any):
    stacked = Recording.from_neo(block, signal="lfp")
    assert_allclose(stacked.data.values, [SIGNAL, SIGNAL + 50])
    assert stacked.data.time.values[0] == 0
    epochs = Recording.from_neo(block, signal="lfp", align="cue", window=(-0.02, 0.02))
    assert_allclose(epochs.data.values[:2], [SIGNAL[3:7], SIGNAL[13:17]])
    assert epochs.data.trial.values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"align": "cu"}, "did you mean 'cue'"),
        ({"align": [0.1]}, "ambiguous in 2 segments"),
        ({"signal": "lpf"}, "did you mean 'lfp'"),
        ({"signal": 3}, "no signal at position 3"),
        ({"signal": "lfp", "align": "cue", "window": (0, 1)}, "beyond the signal"),
    ],
)
def test_neo_requests_that_cannot_be_met_are_refused(block: Any, arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Recording.from_neo(block, **arguments)


@pytest.mark.parametrize("unit", ["s", "nonsense"])
def test_neo_units_that_do_not_convert_are_refused(block: Any, unit: str):
    with pytest.raises(OptionError, match="cannot be converted"):
        Recording.from_neo(block, signal="lfp", unit_of_measure=unit)


def test_neo_segments_that_differ_are_refused():
    neo = pytest.importorskip("neo")
    block = neo.Block()
    with pytest.raises(InputError, match="no segments"):
        Recording.from_neo(block)
    block.segments.extend([neo_segment(), neo_segment(names=("b", "a"))])
    with pytest.raises(InputError, match="same units"):
        Recording.from_neo(block)
    short = neo_segment()
    short.analogsignals[0] = short.analogsignals[0][:10]
    block.segments[1] = short
    with pytest.raises(InputError, match="differ in length"):
        Recording.from_neo(block, signal="lfp")
    short.analogsignals[0] = short.analogsignals[0][:, :1]
    with pytest.raises(InputError, match="differ in kind"):
        Recording.from_neo(block, signal="lfp")
    with pytest.raises(InputError, match="no Neo recording"):
        Recording.from_neo(np.zeros(3))


def test_neo_files_are_read_but_never_unpickled(tmp_path: Path, block: Any):
    import neo

    path = tmp_path / "session.mat"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Neo's writer, not ours
        neo.io.NeoMatlabIO(filename=str(path)).write_block(block)
    counts = Recording.from_neo(path, bin_width=0.1)
    assert_array_equal(counts.data.values, Recording.from_neo(block, bin_width=0.1).data.values)
    assert counts.provenance.arguments["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("session.pkl", "session.unknown"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(StorageError, match="no safe reader"):
            Recording.from_neo(tmp_path / name)
