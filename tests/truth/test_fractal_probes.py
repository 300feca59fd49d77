"""Probes of complexity by site, against activations whose Hurst exponent is known, and attention whose graph is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.neuro.fractals.probes.site_complexity import ComplexityProbe
from tests.truth.lag_variance import LagVariance

DIMS = ("sample", "time", "unit")
HURST = {"a": 0.3, "b": 0.5, "c": 0.65, "d": 0.8}


def noise(hurst, n_samples=6, n_steps=1024, n_units=8, seed=0):
    flat = nm.fractional_gaussian_noise(hurst, n_steps, n_samples * n_units, seed=seed)
    return flat.reshape(n_samples, n_units, n_steps).mT


def activations(mask=None, dims=DIMS, **tensors):
    acts = nm.Activations(tensors, dict.fromkeys(tensors, dims))
    return acts.with_attention_mask(mask) if mask is not None else acts


@pytest.fixture(scope="module")
def result():
    tensors = {site: noise(hurst, seed=i) for i, (site, hurst) in enumerate(HURST.items())}
    return nm.site_complexity(activations(**tensors), LagVariance(), n_controls=2)


def test_planted_exponents_are_found_site_by_site(result):
    assert list(result.data["site"].values) == list(HURST)
    for site, hurst in HURST.items():
        one = result.data.sel(site=site)
        assert abs(float(one["value"]) - hurst) < 0.03
        assert float(one["low"]) < float(one["value"]) < float(one["high"])


def test_detrended_fluctuations_find_the_exponents_too():
    tensors = {
        site: noise(hurst, n_samples=4, n_steps=4096, seed=20 + i) for i, (site, hurst) in enumerate(HURST.items())
    }
    found = nm.site_complexity(activations(**tensors), nm.DetrendedFluctuationAnalysis())
    np.testing.assert_allclose(found.values, list(HURST.values()), atol=0.03)
    np.testing.assert_allclose(found.data["control"], 0.5, atol=0.03)


def test_random_order_has_no_memory(result):
    np.testing.assert_allclose(result.data["control"], 0.5, atol=0.02)
    significant = (result.data["p"] < 0.05).values
    assert significant[[0, 2, 3]].all()


@pytest.mark.parametrize("seed", range(5))
def test_white_noise_does_not_differ_from_its_control(seed):
    found = nm.site_complexity(activations(x=noise(0.5, seed=seed)), LagVariance(), seed=seed)
    assert float(found.data["p"][0]) > 0.01


def test_values_do_not_depend_on_units_of_the_activation():
    x = noise(0.7)
    one, two = (nm.site_complexity(activations(x=y), LagVariance()).data for y in (x, 1e3 * x + 50))
    np.testing.assert_allclose(one["per_unit"], two["per_unit"], atol=1e-8)


def test_values_agree_with_the_metric_itself():
    x = noise(0.7, n_samples=3, n_units=5)
    found = nm.site_complexity(activations(x=x), LagVariance())
    by_hand = LagVariance()(x.mT)
    np.testing.assert_allclose(found.data["per_sample"][0], by_hand.mean(1))
    np.testing.assert_allclose(found.data["per_unit"][0], by_hand.mean(0))
    assert ComplexityProbe(LagVariance())(activations(x=x)) == {"x": pytest.approx(float(by_hand.mean()))}


# -- the unit of inference -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_over_samples_cover_where_units_are_copies_of_each_other():
    """Sixty units that are one and the same are one observation: an interval over samples knows, one over units not."""
    covered = {"sample": 0, "unit": 0}
    truth = float(LagVariance()(nm.fractional_gaussian_noise(0.5, 256, 20_000, seed=1)).mean())
    for seed in range(200):
        x = noise(0.5, n_samples=8, n_steps=256, n_units=1, seed=seed).expand(-1, -1, 60)
        x = x + 0.01 * noise(0.5, n_samples=8, n_steps=256, n_units=60, seed=1000 + seed)
        for over in covered:
            data = nm.site_complexity(activations(x=x), LagVariance(), over=over, n_controls=0).data
            covered[over] += bool(data["low"][0] <= truth <= data["high"][0])
    assert covered["sample"] >= 180
    assert covered["unit"] <= 60


def test_one_sample_has_no_interval_over_samples():
    acts = activations(x=noise(0.7, n_samples=1))
    found = nm.site_complexity(acts, LagVariance())
    assert np.isnan(found.data["low"]).all()
    assert any("one sample only" in text and "over='unit'" in text for text in found.warnings)
    over_units = nm.site_complexity(acts, LagVariance(), over="unit")
    assert over_units.data["low"].notnull().all()
    assert over_units.attributes["inference"] == "over units"


# -- what is left out ------------------------------------------------------------------------------------------------


def test_dead_units_are_counted_and_left_out():
    x = noise(0.7)
    x[:, :, 2] = 3.0  # dead
    x[0, :, 5] = 0.0  # silent in one sample
    found = nm.site_complexity(activations(x=x), LagVariance())
    assert int(found.data["n_dead"][0]) == 1
    assert int(found.data["n_constant"][0]) == 7
    assert any("7 of 48 signals are constant and left out (1 units" in text for text in found.warnings)
    alive = [unit for unit in range(8) if unit != 2]
    np.testing.assert_allclose(found.data["per_sample"][0, 1:], LagVariance()(x[1:, :, alive].mT).mean(1))


def test_a_dead_site_is_told_and_the_others_stay():
    found = nm.site_complexity(activations(x=noise(0.7), dead=torch.ones(6, 1024, 3)), LagVariance())
    assert np.isnan(found.values.sel(site="dead"))
    assert abs(float(found.values.sel(site="x")) - 0.7) < 0.03
    assert any("no signal has a value at dead" in text for text in found.warnings)
    found.plot()
    found.summary()


@pytest.mark.parametrize("left", [False, True])
def test_padding_stays_out(left):
    x, lengths = noise(0.7, n_samples=4), torch.tensor([1024, 1024, 600, 500])
    mask = torch.arange(1024) < lengths[:, None]
    mask = mask.flip(1) if left else mask
    loud = torch.where(mask[..., None], x, 1e6)
    found = nm.site_complexity(activations(mask, ("sample", "position", "unit"), x=loud), LagVariance())
    for sample in range(4):
        by_hand = LagVariance()(x[sample, mask[sample]].T).mean()
        np.testing.assert_allclose(found.data["per_sample"][0, sample], by_hand)
    assert abs(float(found.data["control"][0]) - 0.5) < 0.03  # no padding came in with the random order either
    assert any("from 500 to 1024 steps" in text for text in found.warnings)


def test_samples_that_are_too_short_are_left_out():
    mask = torch.arange(1024) < torch.tensor([1024, 900, 20])[:, None]
    acts = activations(mask, ("sample", "position", "unit"), x=noise(0.7, n_samples=3))
    found = nm.site_complexity(acts, LagVariance())
    assert np.isnan(found.data["per_sample"][0, 2])
    assert any("1 samples are too short" in text for text in found.warnings)


def test_a_metric_without_order_equals_its_control():
    found = nm.site_complexity(activations(x=noise(0.7)), lambda rows: rows.std(-1))
    np.testing.assert_allclose(found.data["control"], found.values)
    assert float(found.data["p"][0]) == 1


# -- models and stores -----------------------------------------------------------------------------------------------


def test_models_and_stores_give_the_same(tmp_path):
    model, x = nm.adapt(nn.GRU(2, 4, batch_first=True)), noise(0.7, n_samples=3, n_steps=128, n_units=2).float()
    held = nm.site_complexity(model.capture(x, "hidden"), LagVariance())
    asked = nm.site_complexity(model, LagVariance(), "hidden", inputs=x)
    stored = nm.site_complexity(model.capture(x, "hidden", to=tmp_path / "store"), LagVariance())
    assert held.data.identical(asked.data)
    assert held.data.identical(stored.data)


def test_axes_are_found_and_heads_are_units():
    z = torch.randn(2, 64, 3, 5, generator=torch.Generator().manual_seed(0))
    acts = nm.Activations(
        {"z": z, "pattern": torch.ones(2, 3, 64, 64), "out": z[:, 0, 0]},
        {
            "z": ("sample", "position", "head", "unit"),
            "pattern": ("sample", "head", "query", "key"),
            "out": ("sample", "unit"),
        },
    )
    found = nm.site_complexity(acts, LagVariance())
    assert list(found.data["site"].values) == ["z"]
    np.testing.assert_allclose(found.data["per_unit"][0], LagVariance()(z.double().permute(0, 2, 3, 1)).mean(0).ravel())
    with pytest.raises(nm.errors.InputError, match="no axis of time"):
        nm.site_complexity(acts, LagVariance(), "pattern")
    with pytest.raises(nm.errors.InputError, match="no site has an axis"):
        nm.site_complexity(acts, LagVariance(), axis="time")


def test_the_result_is_told_drawn_saved_and_reported(result, tmp_path):
    assert "in random order" in result.summary()
    assert nm.load_result(result.save(tmp_path / "sites.nc")) == result
    report = nm.Report("sites")
    report.add(result)
    assert "Hurst exponent of each site" in report.to_html()
    assert result.plot().get_ylabel().startswith("Hurst exponent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"over": "head"}, "unknown over"),
        ({"metric": 3}, "cannot be called"),
        ({"metric": lambda rows: rows}, "one real number per signal"),
        ({"metric": lambda rows: rows.mean()}, "one real number per signal"),
        ({"axis": "layer"}, "unknown axis"),
        ({"level": 1.5}, "level"),
        ({"n_controls": -1}, "n_controls"),
        ({"sites": "nowhere"}, "no site"),
        ({"source": torch.ones(3)}, "no activations"),
        ({"inputs": torch.ones(3)}, "there already"),
        ({"source": nm.adapt(nn.GRU(2, 4))}, "without inputs"),
        ({"sampling_rate": -1.0}, "sampling_rate"),
    ],
)
def test_bad_calls_are_refused(change, message):
    call = {"source": activations(x=noise(0.5, n_steps=64)), "metric": LagVariance(), **change}
    with pytest.raises((nm.errors.InputError, nm.errors.SiteError), match=message):
        nm.site_complexity(call.pop("source"), call.pop("metric"), **call)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(2, 64, 3), "no signal has a value"),
        (torch.full((2, 64, 3), torch.nan), "NaN"),
        (torch.ones(2, 64, 3, dtype=torch.long), "finite real numbers"),
        (torch.rand(2, 8, 3, generator=torch.Generator().manual_seed(0)), "too short"),
    ],
)
def test_bad_activations_are_refused(x, message):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.site_complexity(activations(x=x), LagVariance())
