"""Signals and the base of their metrics: labels, gradients, chunks and uncertainty, on a metric of known answers."""

import matplotlib.figure
import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.scaling import line_fit
from neuros_mechint.neuro.fractals.signals import signals, varying
from neuros_mechint.neuro.fractals.stimuli.gaussian import fractional_gaussian_noise
from neuros_mechint.neuro.fractals.uncertainty import Calibration


class AggregatedVariance(SignalMetric):
    """H from the variance of block means: biased, and good enough to learn from."""

    quantity = "hurst"
    long_name = "aggregated variance exponent"
    scale_name = "block"
    statistic_name = "standard deviation of block means"
    truths = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
    simulated = "fractional Gaussian noise"
    rows_at_once = 3

    def __init__(self, n_scales=6):
        self.n_scales = n_scales

    def _least(self):
        return 2 ** (self.n_scales + 2)

    def _simulate(self, truth, n_signals, n_samples, seed):
        return fractional_gaussian_noise(truth, n_samples, n_signals, seed)

    def _fit(self, rows):
        scales = 2 ** torch.arange(self.n_scales)
        blocks = [rows[:, : rows.shape[1] // s * s].unflatten(1, (-1, s)) for s in scales.tolist()]
        statistic = torch.stack([some.mean(-1).std(-1) for some in blocks], -1)
        line = line_fit(scales.double().log(), statistic.log())
        return Fit(line.slope + 1, scales.double(), statistic, torch.ones(self.n_scales, dtype=torch.bool), line)


class Spread(SignalMetric):
    """The standard deviation, which has no scales and no model."""

    quantity = "spread"
    long_name = "standard deviation"

    def _least(self):
        return 4

    def _fit(self, rows):
        return Fit(rows.std(-1))


def test_a_call_gives_a_tensor_of_the_leading_shape_whatever_comes():
    metric = AggregatedVariance()
    x = fractional_gaussian_noise(0.7, 2048, 8).reshape(2, 4, 2048)
    found = metric(x)
    assert found.shape == (2, 4)
    torch.testing.assert_close(metric(x[1, 3]), found[1, 3])
    torch.testing.assert_close(metric(x.numpy()), found)
    torch.testing.assert_close(metric(x[0].tolist()), found[0])
    labelled = xr.DataArray(x.numpy().transpose(2, 0, 1), dims=("time", "trial", "unit"))
    torch.testing.assert_close(metric(labelled), found)
    recording = nm.Recording(x.numpy().transpose(0, 2, 1), ("trial", "time", "unit"), sampling_rate=100.0)
    torch.testing.assert_close(metric(recording), found)
    assert signals(recording).sampling_rate == 100
    assert metric(x.float()).dtype == torch.float32
    assert metric(x.bfloat16()).dtype == torch.float64


def test_gradients_pass_through_chunks_and_the_callers_data_stay():
    x = fractional_gaussian_noise(0.7, 512, 5).requires_grad_()
    before = x.detach().clone()
    AggregatedVariance()(x).sum().backward()
    assert x.grad.abs().min() > 0
    assert torch.equal(x.detach(), before)
    array = np.arange(300.0)
    array.flags.writeable = False
    AggregatedVariance()(array)


def test_an_estimate_holds_the_value_its_interval_and_the_fit():
    x = nm.Recording(
        fractional_gaussian_noise([0.3, 0.7], 4096, 2).numpy().T, ("time", "unit"), {"unit": ["a", "b"]}, region="V1"
    )
    metric = AggregatedVariance()
    found = metric.estimate(x, n_simulated=50)
    assert next(iter(found.data.data_vars)) == "hurst"
    assert found.data.unit.values.tolist() == ["a", "b"]
    assert found.data.region.values.tolist() == ["V1", "V1"]
    torch.testing.assert_close(torch.from_numpy(found.values), metric(x))
    assert ((found.data.low < found.values) & (found.values < found.data.high)).all()
    assert found.data.statistic.dims == ("unit", "block")
    predicted = np.exp(np.polyval(np.polyfit(np.log(found.data.block), np.log(found.data.statistic[0]), 1), 0))
    assert found.data.line[0, 0].item() == pytest.approx(predicted)
    assert found.data.r2.values == pytest.approx(np.ones(2), abs=0.01)
    assert "6 scales from 1 to 32 samples" in found.summary()
    assert "50 signals of fractional Gaussian noise" in found.summary()


def test_intervals_hold_the_truth_as_often_as_they_say_also_where_the_metric_is_biased():
    held, inside, bias = [], [], []
    for truth in (0.3, 0.5, 0.75, 0.9):
        x = fractional_gaussian_noise(truth, 512, 400, seed=11)
        found = AggregatedVariance().estimate(x, level=0.9)
        held.append(((found.data.low <= truth) & (truth <= found.data.high)).mean().item())
        inside.append((abs(found.values - truth) <= 1.645 * found.data.standard_error).mean().item())
        bias.append(found.values.mean() - truth)
    assert bias[-1] < -0.06  # so that not to correct for it would fail
    assert inside[-1] < 0.75
    assert min(held) > 0.83
    assert max(held) < 0.97


def test_values_that_no_such_signal_has_get_no_interval():
    ramp = torch.arange(2048.0) + fractional_gaussian_noise(0.5, 2048)[0]
    found = AggregatedVariance().estimate(ramp)
    assert np.isnan(found.data.low.item())
    assert "does not give: no interval" in found.summary()


def test_without_a_model_blocks_are_drawn_anew():
    x = fractional_gaussian_noise(0.5, 2000, 30)
    found = Spread().estimate(x)
    assert found.data.standard_error.mean().item() == pytest.approx(1 / np.sqrt(2 * 2000), rel=0.2)
    assert "blocks of 45 samples drawn anew" in found.summary()
    assert found.to_dataframe().columns.tolist() == ["axis_0", "spread", "standard_error", "low", "high"]


def test_trials_are_averaged_with_an_interval_that_holds():
    trials = nm.Recording(
        fractional_gaussian_noise([0.3, 0.6] * 9, 2048, 18, seed=2).reshape(9, 2, 2048).numpy(),
        ("trial", "unit", "time"),
        {"unit": ["a", "b"]},
    )
    found = AggregatedVariance().estimate(trials, n_simulated=50)
    mean = found.average("trial")
    assert mean.main.dims == ("unit",)
    np.testing.assert_allclose(mean.values, found.values.mean(0))
    low, high = stats.t.interval(0.95, 8, found.values.mean(0), stats.sem(found.values, 0))
    np.testing.assert_allclose([mean.data.low, mean.data.high], [low, high])
    assert "scatter over 9 of trial" in mean.summary()
    assert [text.get_text()[:3] for text in mean.plot().get_legend().get_texts()] == ["a: ", "b: "]
    assert Spread().estimate(trials).average("trial").average("unit").values.shape == ()
    for over in ("trials", "time"):
        with pytest.raises(InputError, match="nothing to average over"):
            found.average(over)
    biased = AggregatedVariance().estimate(fractional_gaussian_noise(0.93, 512, 60)).average("axis_0")
    assert any("keep the error that the method makes" in text for text in biased.warnings)


def test_figures_files_and_seeds(tmp_path):
    x = fractional_gaussian_noise(0.6, 1024, 9)
    for metric in (AggregatedVariance(), Spread()):
        for some in (x, x[:3], x[0]):
            found = metric.estimate(some, n_simulated=20, seed=3)
            ax = found.plot(matplotlib.figure.Figure().subplots())
            assert ax.get_xlabel()
            assert ax.get_ylabel()
            assert nm.load_result(found.save(tmp_path / "found.nc")) == found
        one, same = (metric.estimate(x, n_simulated=20, seed=np.random.default_rng(3)).data.high for _ in range(2))
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(one, metric.estimate(x, n_simulated=20, seed=3).data.high)
        assert not np.array_equal(one, metric.estimate(x, n_simulated=20, seed=4).data.high)


def test_a_calibration_is_made_once(monkeypatch):
    made = []
    monkeypatch.setattr(AggregatedVariance, "_simulate", lambda self, *a: made.append(a) or simulate(self, *a))
    for _ in range(3):
        AggregatedVariance(4).estimate(fractional_gaussian_noise(0.5, 300), n_simulated=15, seed=77)
    assert len(made) == len(AggregatedVariance.truths)
    assert Calibration._fields == ("truths", "means", "deviations")


simulate = AggregatedVariance._simulate


def test_metrics_of_equal_parameters_are_equal():
    assert AggregatedVariance(5) == AggregatedVariance(5)
    assert hash(AggregatedVariance(5)) == hash(AggregatedVariance(5))
    assert AggregatedVariance(5) != AggregatedVariance(6)
    assert repr(AggregatedVariance(5)) == "AggregatedVariance(n_scales=5)"


def test_what_varies():
    x = torch.tensor([[1e9, 1e9 + 1], [0.1 + 0.2, 0.3], [0.0, 0.0], [-1e-250, 1e-250]], dtype=torch.float64)
    assert varying(x).tolist() == [True, False, False, True]
    assert varying(torch.tensor([[1e9, 1e9 + 1]], dtype=torch.float32)).tolist() == [False]


BAD = {
    "no real numbers": torch.zeros(500, dtype=torch.complex64),
    "no real": np.array(["a"] * 500),
    "not finite": np.where(np.arange(500) == 7, np.nan, np.arange(500.0)),
    "is not finite": torch.tensor([0.0] * 499 + [float("inf")]),
    "too short": torch.arange(10.0),
    "is empty": torch.zeros(0, 500),
    "empty": 3.0,
    "constant": torch.ones(2, 500),
    "no array": [[1, 2, 3], [1, 2]],
    "no axis of time": xr.DataArray(np.eye(500), dims=("unit", "stimulus")),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message):
    for ask in (AggregatedVariance(), AggregatedVariance().estimate):
        with pytest.raises(InputError, match=message):
            ask(BAD[message])


def test_which_signals_are_constant_is_said():
    x = torch.randn(3, 4, 500, generator=torch.Generator().manual_seed(0))
    x[1, 2] = 5
    with pytest.raises(InputError, match=r"1 of 12 signals do not, the first at \(1, 2\)"):
        Spread()(x)


def test_an_axis_named_like_a_variable_is_refused():
    x = xr.DataArray(np.random.default_rng(0).normal(size=(3, 500)), dims=("low", "time"))
    with pytest.raises(InputError, match="called low"):
        Spread().estimate(x)


@pytest.mark.parametrize("asked", [{"level": 1.5}, {"level": 1}, {"n_simulated": 3}, {"seed": -1}])
def test_bad_arguments_of_estimate(asked):
    with pytest.raises((OptionError, InputError)):
        Spread().estimate(torch.arange(100.0), **asked)


def test_lines():
    x = torch.arange(6, dtype=torch.float64)
    y = torch.stack([3 - 2 * x, x**2, torch.full((6,), 4.0)])
    fit = line_fit(x, y)
    assert fit.slope.tolist() == pytest.approx([-2, 5, 0])
    assert fit.r2.tolist() == pytest.approx([1, np.corrcoef(x, x**2)[0, 1] ** 2, 0])
    weighted = line_fit(x, y[1], weights=torch.tensor([1.0, 1, 1, 1, 0, 0]))
    assert weighted.slope.item() == pytest.approx(3)
    with pytest.raises(InputError, match="too few scales"):
        line_fit(x[:2], y[:, :2])
