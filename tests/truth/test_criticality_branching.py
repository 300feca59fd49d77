"""The branching ratio of processes that have a known one, of which all units are seen, or one in twenty."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.neuro.criticality.regressions import block_sums, fit_exponential, whiteness_p
from tests.slow import slow_case

N_STEPS = 100_000
FEW = {"n_resamples": 10}  # where the interval is not what is tested


@pytest.mark.parametrize("sampled", [1.0, 0.05])
@pytest.mark.parametrize("ratio", [0.9, 0.98])
def test_ratio_whether_all_units_are_seen_or_one_in_twenty(ratio, sampled):
    for seed in range(3):
        activity = nm.branching_process(ratio, N_STEPS, sampled=sampled, seed=seed)
        found = nm.branching_ratio(activity, **FEW)
        assert found.ratio == pytest.approx(ratio, abs=0.02)
        # the variance of a Poisson branching process is its mean / (1 - m^2)
        fano = 1 / (1 - ratio**2)
        amplitude = sampled * fano / (sampled * fano + 1 - sampled)
        assert found.data["amplitude"].item() == pytest.approx(amplitude, abs=0.06)
        one_step = found.data["one_step"].item()
        assert one_step == pytest.approx(amplitude * ratio, abs=0.06)
        if sampled < 1:
            assert one_step < ratio - 0.3  # what the multistep estimator is for
            assert nm.branching_ratio(activity, method="one_step", **FEW).ratio == one_step


@pytest.mark.parametrize(("sampled", "n_runs", "spread"), [(0.05, 14, 0.12), slow_case(1.0, 10, 0.02)])
def test_weak_branching_in_a_network_of_a_thousand_units(sampled, n_runs, spread):
    found = [
        nm.branching_ratio(nm.branching_process(0.5, N_STEPS, 20.0, 1000, sampled, seed), **FEW).ratio
        for seed in range(n_runs)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert np.std(found) < spread


def test_activity_without_memory_has_no_ratio():
    unknown = 0
    for seed in range(20):
        found = nm.branching_ratio(np.random.default_rng(seed).poisson(5, 10_000), seed=seed, **FEW)
        unknown += bool(np.isnan(found.ratio))
        if np.isnan(found.ratio):
            assert "without any memory" in found.warnings[0]
            assert np.isnan(found.interval).all()
            assert np.isnan(found.data["autocorrelation_time"].item())
    assert unknown >= 18  # 1 in 100 is expected to be taken for memory
    assert nm.branching_ratio(nm.branching_process(0.3, 10_000), **FEW).ratio == pytest.approx(0.3, abs=0.1)


def test_scale_and_offset_of_activity_do_not_matter():
    activity = nm.branching_process(0.95, 20_000, sampled=0.2)
    first = nm.branching_ratio(activity)
    again = nm.branching_ratio(0.37 * activity - 12.5)
    assert again.ratio == pytest.approx(first.ratio, abs=1e-9)
    assert again.interval == pytest.approx(first.interval, abs=1e-9)
    assert nm.branching_ratio(np.stack([activity, activity])).ratio == pytest.approx(first.ratio, abs=1e-9)


def test_trials_are_not_joined_and_share_a_mean():
    ratio = 0.9
    trials = np.stack([nm.branching_process(ratio, 500, sampled=0.2, seed=seed) for seed in range(100)])
    recording = nm.Recording(trials[..., None], ("trial", "time", "unit"), sampling_rate=250.0)
    found = nm.branching_ratio(recording)
    assert found.ratio == pytest.approx(ratio, abs=0.02)
    assert found.interval[0] < ratio < found.interval[1]
    assert found.attributes["n_blocks"] == 200
    tau = found.data["autocorrelation_time"].item()
    assert tau == pytest.approx(-1 / np.log(found.ratio))
    assert f"{tau / 250:.3g} s" in found.summary()
    # every second trial backwards in the array changes nothing; joined trials would be other data
    again = nm.branching_ratio(recording.xarray().transpose("unit", "time", "trial")[..., ::-1])
    assert again.ratio == pytest.approx(found.ratio, abs=1e-12)


def test_an_offset_takes_up_drifts_between_trials():
    ratio, random = 0.9, np.random.default_rng(0)
    trials = np.stack([nm.branching_process(ratio, 1000, sampled=0.2, seed=seed) for seed in range(60)]).astype(float)
    drifting = xr.DataArray(trials + 15.5 * random.normal(size=(60, 1)), dims=("trial", "time"))
    without, with_offset = (nm.branching_ratio(drifting, k_max=60, offset=offset, **FEW) for offset in (False, True))
    assert with_offset.ratio == pytest.approx(ratio, abs=0.03)
    assert with_offset.data["offset"].item() > 0.3
    assert without.ratio > ratio + 0.05


def test_slopes_are_those_of_the_definition():
    random = np.random.default_rng(3)
    activity = random.normal(size=(4, 103))
    deviation = activity - activity.mean()
    expected = [(deviation[:, :-lag] * deviation[:, lag:]).mean() / (deviation**2).mean() for lag in range(1, 13)]
    for length in (10, 37, 103, 1000):
        sums = block_sums(activity, 12, length)
        np.testing.assert_allclose(sums.slopes(), expected, rtol=1e-10)
        assert sums.n_pairs.sum(0).tolist() == [4 * (103 - lag) for lag in range(13)]
    twice = sums.slopes(np.array([[2.0, 2.0, 2.0, 2.0]]))
    np.testing.assert_allclose(twice[0], expected, rtol=1e-10)
    found = nm.branching_ratio(xr.DataArray(activity, dims=("trial", "time")), k_max=12, **FEW)
    np.testing.assert_allclose(found.data["slope"].values, expected, rtol=1e-10)


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.9, 0.99, 0.9999])
def test_exact_exponentials_are_found(ratio):
    lag = np.arange(1, 61)
    rows = np.stack([0.05 * ratio**lag, 0.8 * ratio**lag])
    found = fit_exponential(rows)
    np.testing.assert_allclose(found.ratio, ratio, atol=1e-10)
    np.testing.assert_allclose(found.amplitude, [0.05, 0.8], rtol=1e-9)
    if ratio < 0.999:
        found = fit_exponential(rows + 0.1, offset=True)
        np.testing.assert_allclose(found.ratio, ratio, atol=1e-9)
        np.testing.assert_allclose(found.offset, 0.1, atol=1e-8)


def test_p_of_no_memory_is_uniform_without_memory():
    random = np.random.default_rng(0)
    p = [whiteness_p(random.normal(size=30) / 100, 10_000, False, random, n_draws=200) for _ in range(300)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_few_blocks_and_other_doubts_are_said():
    short = nm.branching_ratio(nm.branching_process(0.98, 3000, seed=2), **FEW)
    assert any("blocks or trials only" in text for text in short.warnings)
    one = nm.branching_ratio(nm.branching_process(0.9, 5000), method="one_step")
    assert "too low where not all" in one.warnings[-1]
    assert one.interval[0] < one.ratio < one.interval[1]
    rising = np.linspace(0, 50, 3000) + np.random.default_rng(0).normal(size=3000)
    assert any("hardly fall" in text for text in nm.branching_ratio(rising, k_max=40, **FEW).warnings)


def test_seed_saving_and_figure(tmp_path):
    activity = nm.branching_process(0.9, 5000, sampled=0.3)
    found = nm.branching_ratio(activity, seed=1)
    assert nm.branching_ratio(activity, seed=1).data.identical(found.data)
    assert nm.branching_ratio(activity, seed=2).interval != found.interval
    assert nm.load_result(found.save(tmp_path / "ratio.nc")) == found
    axes = found.plot(Figure().subplots())
    np.testing.assert_allclose(
        axes.lines[1].get_ydata(), found.data["amplitude"].item() * found.ratio ** axes.lines[1].get_xdata()
    )


@pytest.mark.parametrize(
    ("activity", "options", "message"),
    [
        (np.arange(19), {}, "trials are too short"),
        (np.ones(50), {}, "does not vary"),
        (np.stack([np.arange(30.0), -np.arange(30.0)]) + 0.5, {}, "population does not vary"),
        (np.r_[np.arange(30), -1], {}, "negative counts"),
        (np.r_[np.arange(30.0), np.nan], {}, "NaN or infinite"),
        (np.arange(40), {"k_max": 21}, "k_max is too large"),
        (np.arange(40), {"k_max": 1}, "k_max is out of range"),
        (np.arange(40), {"k_max": 2, "offset": True}, "k_max is out of range"),
        (np.arange(40), {"method": "multi"}, "did you mean 'multistep'"),
        (np.arange(40), {"level": 0}, "level is out of range"),
        (np.arange(40), {"n_resamples": 5}, "n_resamples is out of range"),
    ],
)
def test_activity_without_a_ratio_is_refused(activity, options, message):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.branching_ratio(activity, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "drive", "n_units", "sampled", "n_steps"),
    [
        (0.9, 10.0, None, 1.0, 100_000),
        (0.9, 10.0, None, 0.05, 100_000),
        (0.98, 10.0, None, 1.0, 100_000),
        (0.98, 10.0, None, 0.05, 100_000),
        (0.5, 20.0, 1000, 1.0, 100_000),
        (0.5, 20.0, 1000, 0.05, 100_000),
        (0.9, 10.0, None, 1.0, 5_000),
        (0.98, 10.0, None, 0.2, 10_000),
    ],
)
def test_intervals_cover_the_ratio(ratio, drive, n_units, sampled, n_steps):
    covered = 0
    for seed in range(100):
        activity = nm.branching_process(ratio, n_steps, drive, n_units, sampled, seed)
        low, high = nm.branching_ratio(activity, n_resamples=500, seed=seed).interval
        covered += low <= ratio <= high
    assert covered >= 90
