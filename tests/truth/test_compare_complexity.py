"""Comparisons of complexity: planted differences, none where there is none, and what matching removes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import firwin, resample_poly
from scipy.stats import kstest, mannwhitneyu

import neuros_mechint as nm
from neuros_mechint.core.statistics.surrogates import phase_randomised
from neuros_mechint.neuro.fractals.comparison.effect_sizes import effect_intervals, effect_sizes
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from tests.truth.lag_variance import LagVariance

DIMS = ("sample", "time", "unit")
QUICK = {"n_resamples": 500, "surrogates": False}


class RateOf(SignalMetric):
    """Zero crossings per second: a metric whose values are in Hz."""

    quantity = "rate"
    long_name = "crossings per second"
    per_second = 1.0

    def _least(self):
        return 2

    def _on(self, found):
        metric = RateOf()
        metric.per_second = found.sampling_rate or 1.0
        return metric

    def _fit(self, rows):
        return Fit((rows[:, 1:] * rows[:, :-1] < 0).double().mean(-1) * self.per_second)


def noise(hurst, n_steps, n_units, seed):
    return nm.fractional_gaussian_noise(hurst, n_steps, n_units, seed=seed).T


def model(hurst, n_steps=1024, n_units=30, seed=0, n_samples=1):
    x = noise(hurst, n_steps, n_samples * n_units, seed).reshape(n_steps, n_samples, n_units).transpose(0, 1)
    return nm.Activations({"h": x}, {"h": DIMS})


def brain(hurst, n_steps=1024, n_units=30, seed=1, rate=None, **coords):
    return nm.Recording(noise(hurst, n_steps, n_units, seed), ("time", "unit"), coords or None, sampling_rate=rate)


# -- known answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("own", "other"), [(0.5, 0.8), (0.8, 0.5)])
def test_a_planted_difference_is_found_with_its_sign_and_size(own, other, seed):
    found = nm.compare_complexity(
        model(own, seed=2 * seed), brain(other, seed=2 * seed + 1), LagVariance(), match="length", **QUICK
    )
    data = found.data.isel(site=0)
    assert abs(float(data["difference"]) - (own - other)) < 0.04
    assert np.sign(data["hedges_g"]) == np.sign(own - other)
    assert abs(float(data["hedges_g"])) > 5
    assert float(data["cliffs_delta"]) == np.sign(own - other)
    assert float(data["p"]) < 0.01
    assert float(data["hedges_g_low"]) <= float(data["hedges_g"]) <= float(data["hedges_g_high"])


def test_detrended_fluctuations_find_the_difference_too():
    metric = nm.DetrendedFluctuationAnalysis()
    found = nm.compare_complexity(model(0.5, 4096), brain(0.8, 4096), metric, match="length", **QUICK)
    assert abs(float(found.data["difference"][0]) + 0.3) < 0.03
    assert float(found.data["p"][0]) < 0.01


def test_effect_sizes_have_their_definitions():
    random = np.random.default_rng(0)
    x, y = random.normal(0.5, 1, 23), random.normal(0, 2, 31)
    found = effect_sizes(x, y)
    pooled = np.sqrt((22 * x.var(ddof=1) + 30 * y.var(ddof=1)) / 52)
    np.testing.assert_allclose(found.hedges_g, (x.mean() - y.mean()) / pooled * (1 - 3 / (4 * 52 - 1)))
    np.testing.assert_allclose(found.cliffs_delta, 2 * mannwhitneyu(x, y).statistic / (23 * 31) - 1)
    shifted = effect_sizes(1e6 + 10 * x, 1e6 + 10 * y)
    np.testing.assert_allclose(
        [shifted.hedges_g, shifted.cliffs_delta], [found.hedges_g, found.cliffs_delta], rtol=1e-6
    )


def test_effect_sizes_are_unbiased():
    random = np.random.default_rng(1)
    g = [effect_sizes(random.normal(1, 1, 8), random.normal(0, 1, 8)).hedges_g for _ in range(4000)]
    assert abs(np.mean(g) - 1) < 0.03  # Cohen's d would be 1.06


@pytest.mark.slow
def test_intervals_of_effect_sizes_cover():
    """40 values a side, true g 0.8 and its Cliff's delta 2 Phi(0.8 / sqrt(2)) - 1 = 0.428."""
    random, covered = np.random.default_rng(2), np.zeros(3)
    for seed in range(400):
        low, high = effect_intervals(random.normal(0.8, 1, 40), random.normal(0, 1, 40), seed=seed)
        covered += [a <= true <= b for a, b, true in zip(low, high, (0.8, 0.8, 0.4284), strict=True)]
    assert (covered / 400 > 0.91).all(), covered / 400


@pytest.mark.slow
def test_intervals_that_draw_sessions_cover_where_units_of_one_are_alike():
    random, covered = np.random.default_rng(3), {"units": 0, "sessions": 0}
    for seed in range(300):
        session = np.repeat(np.arange(12), 10)
        y = random.normal(0, 1, 12)[session] + random.normal(0, 0.5, 120)
        for name, groups in (("units", ()), ("sessions", [str(one) for one in session])):
            low, high = effect_intervals(random.normal(0, 1, 60), y, seed=seed, groups=groups)
            covered[name] += bool(low.difference <= 0 <= high.difference)
    assert covered["sessions"] / 300 > 0.88
    assert covered["units"] / 300 < 0.75


# -- nothing where there is nothing ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("hurst", [0.5, 0.8])
def test_equal_exponents_give_uniform_p(hurst):
    p = []
    for seed in range(400):
        sides = model(hurst, 512, 25, 2 * seed), brain(hurst, 512, 35, 2 * seed + 1)
        p.append(float(nm.compare_complexity(*sides, LagVariance(), match="length", **QUICK).data["p"][0]))
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.08


@pytest.mark.parametrize("match", ["length", "none"])
def test_different_lengths_make_a_difference_that_matching_removes(match):
    """H = 0.7 on both sides, 2048 and 128 steps: the estimate is lower in short signals."""
    found = [
        nm.compare_complexity(
            model(0.7, 2048, 30, 2 * seed), brain(0.7, 128, 30, 2 * seed + 1), LagVariance(), match=match, **QUICK
        )
        for seed in range(12)
    ]
    difference = np.mean([float(one.data["difference"][0]) for one in found])
    n_significant = sum(float(one.data["p"][0]) < 0.05 for one in found)
    if match == "none":
        assert difference > 0.03
        assert n_significant >= 8
        assert any("different lengths" in text for text in found[0].warnings)
    else:
        assert abs(difference) < 0.01
        assert n_significant <= 3
        assert found[0].attributes["n_samples"] == [128]
        assert found[0].attributes["n_windows"] == [1]


def smooth(n_steps, n_units, seed):
    """An autoregressive process with a time constant of 10 steps: unlike a power law, it has a time scale."""
    from scipy.signal import lfilter

    white = np.random.default_rng(seed).normal(size=(n_steps + 200, n_units))
    return lfilter([1], [1, -np.exp(-0.1)], white, axis=0)[200:]


@pytest.mark.parametrize("match", ["length and sampling", "length"])
def test_different_sampling_makes_a_difference_that_matching_removes(match):
    """One process at 1000 Hz, and recorded at 250 Hz behind a sharp filter."""
    found = []
    for seed in range(12):
        fast = nm.Activations({"h": torch.from_numpy(smooth(4096, 30, 2 * seed))[None]}, {"h": DIMS})
        slow = resample_poly(smooth(4096 + 800, 30, 2 * seed + 1), 1, 4, axis=0, window=firwin(801, 0.24))[100:-100]
        recording = nm.Recording(slow, ("time", "unit"), sampling_rate=250.0)
        found.append(nm.compare_complexity(fast, recording, LagVariance(), sampling_rate=1000.0, match=match, **QUICK))
    difference = np.mean([float(one.data["difference"][0]) for one in found])
    n_significant = sum(float(one.data["p"][0]) < 0.05 for one in found)
    if match == "length":
        assert difference > 0.1
        assert n_significant == 12
    else:
        assert abs(difference) < 0.01
        assert n_significant <= 3
        assert found[0].attributes["sampling_rate"] == [200.0]


@pytest.mark.parametrize("seed", range(5))
def test_binned_spikes_are_met_by_means_over_bins(seed):
    """Sums of fGn over bins are fGn again, exactly: both sides have the same law at the rate of the bins."""
    recording = nm.Recording(
        noise(0.7, 1024, 30, 2 * seed + 1), ("time", "unit"), sampling_rate=250.0, attrs={"bin_width": 0.004}
    )
    found = nm.compare_complexity(
        model(0.7, 4096, 30, 2 * seed), recording, LagVariance(), sampling_rate=1000.0, **QUICK
    )
    assert found.attributes["resampling"] == "bins"
    assert found.attributes["sampling_rate"] == [250.0]
    assert abs(float(found.data["difference"][0])) < 0.02
    assert float(found.data["p"][0]) > 0.01


def test_equal_rates_are_left_alone():
    one = nm.compare_complexity(model(0.5), brain(0.5, rate=100.0), LagVariance(), sampling_rate=100.0, **QUICK)
    two = nm.compare_complexity(model(0.5), brain(0.5), LagVariance(), match="length", **QUICK)
    assert one.data.identical(two.data)
    assert one.attributes["sampling_rate"] == [100.0]


def test_metrics_in_hertz_get_one_rate_or_step_by_step_none():
    white = nm.compare_complexity(model(0.5), brain(0.5, rate=50.0), RateOf(), sampling_rate=100.0, **QUICK)
    assert abs(float(white.data["model"].mean()) / float(white.data["recording"].mean()) - 1) < 0.2  # at 40 Hz both
    for match, expected in (("length", 0.5), ("none", None)):
        raw = nm.compare_complexity(
            model(0.5), brain(0.5, rate=50.0), RateOf(), sampling_rate=100.0, match=match, **QUICK
        )
        # step by step in cycles per step on both sides; as they are, each in its own Hz
        wanted = (expected or 50, expected or 25)
        assert np.allclose([float(raw.data[side].mean()) for side in ("model", "recording")], wanted, rtol=0.05)


def test_as_many_windows_are_taken_of_either_side():
    found = nm.compare_complexity(model(0.5, n_samples=7), brain(0.5, 4000), LagVariance(), match="length", **QUICK)
    assert any("3 of 7 windows of the model are compared" in text for text in found.warnings)
    assert found.attributes["n_windows"] == [3]  # 4000 // 1024 of the recording, 7 of the model
    spread = [float(found.data[side].std()) for side in ("model", "recording")]
    assert abs(spread[0] / spread[1] - 1) < 0.5
    shorter = nm.compare_complexity(
        model(0.5, n_samples=7), brain(0.5, 4000), LagVariance(), match="length", n_samples=100, **QUICK
    )
    assert shorter.attributes["n_windows"] == [40]


# -- surrogates ------------------------------------------------------------------------------------------------------


def skewness_of_steps(rows):
    """Zero for a series that can be run backwards; not so for a saw-tooth, whatever its spectrum."""
    steps = rows.diff()
    return (steps**3).mean(-1) / steps.square().mean(-1) ** 1.5


def test_surrogates_tell_a_difference_of_spectra_from_others():
    time = torch.arange(1000, dtype=torch.float64)
    phase = torch.rand(1, 30, generator=torch.Generator().manual_seed(0))
    saw = ((time[:, None] / 25 + phase) % 1) + 0.1 * noise(0.5, 1000, 30, 5)
    acts = nm.Activations({"saw": saw[None]}, {"saw": DIMS})
    reversible = nm.Recording(phase_randomised(saw.T[None].numpy(), np.random.default_rng(1))[0].T, ("time", "unit"))
    found = nm.compare_complexity(acts, reversible, skewness_of_steps, match="length").data
    assert abs(float(found["hedges_g"][0])) > 5
    assert abs(float(found["hedges_g_surrogate"][0])) < 1
    spectra = nm.compare_complexity(model(0.5), brain(0.8), LagVariance(), match="length").data
    assert abs(float(spectra["difference"][0]) - float(spectra["difference_surrogate"][0])) < 0.02


# -- what is told ----------------------------------------------------------------------------------------------------


def test_units_pooled_over_sessions_are_told_and_drawn_together():
    sessions = ["monday"] * 10 + ["tuesday"] * 12 + ["friday"] * 8
    recording = brain(0.5, session=("unit", sessions))
    found = nm.compare_complexity(model(0.5), recording, LagVariance(), match="length")
    assert "by session" in found.attributes["inference"]
    assert any("pooled over 3 sessions" in text and "few for an interval" in text for text in found.warnings)
    one = nm.compare_complexity(
        model(0.5), brain(0.5, session=("unit", ["monday"] * 30)), LagVariance(), match="length"
    )
    assert one.attributes["inference"] == "over units"


def test_dead_and_silent_units_are_left_out():
    acts, recording = model(0.5)["h"].clone(), brain(0.5).xarray()
    acts[..., 3] = 0
    recording[:, [4, 5]] = 1.0
    found = nm.compare_complexity(
        nm.Activations({"h": acts}, {"h": DIMS}), nm.Recording(recording), LagVariance(), match="length", **QUICK
    )
    assert np.isnan(found.data["model"][0]).sum() == 1
    assert np.isnan(found.data["recording"][0]).sum() == 2
    assert sum("left out" in text for text in found.warnings) == 2


def test_padding_and_trials_are_pieces_of_their_own():
    x = noise(0.7, 1024, 20, 0)[None].repeat(2, 1, 1)
    mask = torch.arange(1024) < torch.tensor([1024, 300])[:, None]
    acts = nm.Activations({"h": torch.where(mask[..., None], x, 1e6)}, {"h": ("sample", "position", "unit")})
    trials = nm.Recording(noise(0.7, 400, 60, 1).reshape(400, 3, 20).transpose(0, 1), ("trial", "time", "unit"))
    found = nm.compare_complexity(acts.with_attention_mask(mask), trials, LagVariance(), match="length", **QUICK)
    assert found.attributes["n_samples"] == [300]
    assert found.attributes["n_windows"] == [3]
    assert abs(float(found.data["difference"][0])) < 0.05


@pytest.fixture(scope="module")
def several():
    tensors = {f"layer {i}": model(h, seed=10 + i)["h"] for i, h in enumerate((0.5, 0.65, 0.8))}
    acts = nm.Activations(tensors, dict.fromkeys(tensors, DIMS))
    return nm.compare_complexity(acts, brain(0.8), LagVariance(), match="length")


def test_the_result_is_told_drawn_saved_and_reported(several, tmp_path):
    assert list(np.round(several.data["difference"].values, 1)) == [-0.3, -0.1, 0.0]
    assert "Hedges' g" in several.summary()
    assert nm.load_result(several.save(tmp_path / "comparison.nc")) == several
    report = nm.Report("comparison")
    report.add(several)
    report.add(nm.compare_complexity(model(0.5), brain(0.8), LagVariance(), match="length", **QUICK))
    assert "model against recording" in report.to_html()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"match": "time"}, "unknown match"),
        ({"match": "length and sampling"}, "how fast the model is sampled"),
        ({"match": "length and sampling", "sampling_rate": 10.0}, "how fast the recording is sampled"),
        ({"n_samples": 5000}, "no windows of this length"),
        ({"n_samples": 16}, "too short"),
        ({"metric": "dfa"}, "cannot be called"),
        ({"recording": torch.ones(3)}, "no signals of units"),
        ({"recording": nm.Recording(np.eye(3), ("stimulus", "unit"))}, "no signals of units"),
        ({"recording": nm.Recording([[np.nan, 1.0]] * 99, ("time", "unit"), allow_missing=True)}, "missing"),
        ({"recording": nm.Recording(np.ones((99, 4)), ("time", "unit"))}, "too few units"),
        ({"recording": brain(0.5, n_units=1)}, "too few units"),
        ({"source": 3}, "no activations"),
    ],
)
def test_bad_calls_are_refused(change, message):
    call = {"source": model(0.5), "recording": brain(0.5), "metric": LagVariance(), "match": "length", **change}
    with pytest.raises(nm.errors.InputError, match=message):
        nm.compare_complexity(**call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resampling": "decimate"}, "unknown resampling"),
        ({"resampling": "bins", "sampling_rate": 150.0}, "do not fit"),
        ({"sampling_rate": 1e6}, "too far apart"),
        ({"sampling_rate": 5000.0}, "too short to be resampled"),
    ],
)
def test_rates_that_cannot_be_matched_are_refused(change, message):
    call = {"sampling_rate": 150.0, **change}
    with pytest.raises(nm.errors.InputError, match=message):
        nm.compare_complexity(model(0.5, 512), brain(0.5, 512, rate=100.0), LagVariance(), **call)


def test_seeds_repeat_and_the_data_stay():
    acts, recording = model(0.5, n_samples=3), brain(0.5, 4000)
    before = acts["h"].clone()
    one, two = (nm.compare_complexity(acts, recording, LagVariance(), match="length", seed=3) for _ in range(2))
    assert one.data.identical(two.data)
    assert torch.equal(acts["h"], before)
