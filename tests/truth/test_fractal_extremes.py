"""What was broken once: units of any size, masks, signals that are none of the kind, options that mean nothing."""

import pickle
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.statistics.certainty import many_sign_flip_p
from neuros_mechint.neuro.criticality.crackling import _judge

METRICS = (
    nm.HiguchiFractalDimension(),
    nm.PetrosianFractalDimension(),
    nm.KatzFractalDimension(),
    nm.DetrendedFluctuationAnalysis(),
    nm.DetrendedFluctuationAnalysis(scales="nolds"),
    nm.HurstExponent("rs"),
    nm.HurstExponent("wavelet"),
    nm.SpectralSlope(),
    nm.SpectralSlope("multitaper"),
    nm.SpectralSlope("irasa"),
    nm.MultifractalSpectrum(),
    nm.MultifractalSpectrum("leaders"),
    nm.SampleEntropy(),
)
NOISE = nm.fractional_gaussian_noise(0.6, 1024)[0]


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_no_metric_depends_on_the_unit(metric):
    expected = metric(NOISE)
    for size in (1e-280, 1e-170, 1e-30, 1e30, 1e160, 1e307):
        torch.testing.assert_close(metric(NOISE * size), expected, rtol=1e-9, atol=1e-9)
    single = metric(NOISE.float())
    for power in (-90, -60, 60, 120):
        torch.testing.assert_close(metric(NOISE.float() * 2.0**power), single, rtol=2e-6, atol=1e-6)
    mixed = torch.stack([NOISE, NOISE * 1e200, NOISE * 1e-200])
    torch.testing.assert_close(metric(mixed), expected.expand(3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_no_metric_depends_on_the_offset(metric):
    for offset in (-7.0, 1e4):
        torch.testing.assert_close(metric(3 * NOISE + offset), metric(NOISE), rtol=1e-7, atol=1e-7)


def test_lacunarity_and_branching_depend_on_no_unit():
    mass = NOISE.abs()
    activity = nm.branching_process(0.9, 5000).astype(float)
    for size in (1e-200, 1e160):
        torch.testing.assert_close(nm.Lacunarity()(mass * size), nm.Lacunarity()(mass))
        assert nm.branching_ratio(activity * size).ratio == pytest.approx(nm.branching_ratio(activity).ratio)
    with pytest.raises(InputError, match="too large or too small"):
        nm.fit_power_law((np.random.default_rng(0).pareto(1.5, 500) + 1) * 1e100)


def test_gradients_stay_finite_down_to_signals_that_count_as_dead():
    for size in (1e-40, 1e-25, 1e20):
        x = (torch.randn(3, 128, generator=torch.Generator().manual_seed(0)) * size).requires_grad_()
        if size == 1e-40:
            with pytest.warns(UserWarning, match="the loss is zero"):
                loss = nm.SpectralPrior(-1.0)(x)
        else:
            loss = nm.SpectralPrior(-1.0)(x)
        loss.backward()
        assert torch.isfinite(x.grad).all()


def test_masks_are_not_dropped():
    masked = np.ma.masked_array(NOISE.numpy(), mask=np.arange(1024) % 7 == 0)
    for ask in (nm.HurstExponent(), nm.detect_avalanches, lambda x: nm.compute_rdm(x.reshape(4, -1))):
        with pytest.raises(InputError, match="has a mask"):
            ask(masked)


def test_power_at_rounding_is_no_spectrum():
    sine = np.sin(np.arange(1024) * 2 * np.pi / 32)
    with pytest.raises(InputError, match="no power but rounding"):
        nm.SpectralSlope()(sine)
    x = torch.from_numpy(sine).requires_grad_()
    nm.SpectralPrior(-1.0)(x).backward()  # of tapers, which leak power to all frequencies
    assert x.grad.abs().max() < 100


def test_irasa_leaves_a_rhythm_out_as_it_comes():
    pink = nm.colored_noise(1, 2500, 40, seed=1)
    pink = pink / pink.std(-1, keepdim=True)
    rhythm = 2 * 2**0.5 * torch.sin(2 * torch.pi * 10 * torch.arange(2500) / 250)
    slope = nm.SpectralSlope("irasa", fit_range=(2, 40), sampling_rate=250.0)
    assert slope(pink + rhythm).mean().item() == pytest.approx(slope(pink).mean().item(), abs=0.05)


def test_log_normals_are_not_said_to_be_power_laws_with_confidence():
    found = [
        nm.fit_power_law(np.random.default_rng(500 + seed).lognormal(0, spread, 2000), n_resamples=10)
        for spread in (1.0, 2.0, 3.0)
        for seed in range(6)
    ]
    verdicts = [one.verdict for one in found]
    assert verdicts.count("no power law") >= 6
    assert verdicts.count("power law with a cut-off") <= 1
    for one in found:
        if one.is_power_law:
            assert "a log-normal cannot be told apart" in one.summary()


def test_cut_off_power_laws_are_told_from_log_normals():
    x = np.arange(1, 100_000.0)
    chances = x**-1.5 * np.exp(-0.01 * x)
    for seed in range(3):
        values = np.random.default_rng(seed).choice(x, 4000, p=chances / chances.sum())
        assert nm.fit_power_law(values, n_resamples=10).verdict == "power law with a cut-off"


def test_oscillations_are_no_branching():
    oscillating = nm.branching_ratio(np.sin(np.arange(5000) / 5))
    assert any("no branching process" in text for text in oscillating.warnings)
    random, alternating = np.random.default_rng(1), [0.0]
    for _ in range(5000):
        alternating.append(-0.8 * alternating[-1] + random.standard_normal())
    assert "no ratio is known" in nm.branching_ratio(alternating).summary()
    for seed in range(5):  # and branching ones are not called so
        found = nm.branching_ratio(nm.branching_process(0.9, 5000, seed=seed), seed=seed)
        assert not any("no branching process" in text for text in found.warnings)


def test_crackling_that_cannot_be_told_does_not_hold():
    law = SimpleNamespace(verdict="power law", is_power_law=True, attributes={"why": "it fits"})
    none = SimpleNamespace(verdict="no power law", is_power_law=False, attributes={"why": "an exponential fits better"})
    assert _judge({"size": law, "duration": law}, -0.2, 0.3)[0]
    assert _judge({"size": law, "duration": law}, -3.5, 0.3) == (
        False,
        "it cannot be told, as the difference is known only to within 3.80",
    )
    assert _judge({"size": none, "duration": law}, -0.2, 0.3) == (
        False,
        "sizes are no power law (an exponential fits better)",
    )


def test_boxes_larger_than_the_graph_are_not_fitted():
    path = nx.path_graph(60)
    few = nm.GraphFractalDimension(box_sizes=[2, 3, 5, 9])(path)
    torch.testing.assert_close(nm.GraphFractalDimension(box_sizes=[2, 3, 5, 9, 1000])(path), few)


def test_many_heads_can_be_significant():
    changes = np.random.default_rng(0).normal(1.0, 0.1, size=(144, 16))
    changes[0, 5] = np.nan
    p = many_sign_flip_p(changes, seed=0)
    assert (p * 144 < 0.05).all()
    noise = many_sign_flip_p(np.random.default_rng(0).normal(size=(144, 16)), seed=0)
    assert (noise * 144 > 0.05).mean() > 0.98


def test_results_can_go_to_other_processes():
    found = nm.HurstExponent().estimate(NOISE, n_simulated=10)
    assert pickle.loads(pickle.dumps(found)) == found


class TestLosses:
    def test_a_weight_of_zero_hides_nothing_and_spoils_nothing(self):
        x = torch.full((1, 128), torch.inf)
        assert nm.FractalRegularizationLoss({"a": (nm.SpectralPrior(), 0.0)})(x).item() == 0

    @pytest.mark.parametrize("name", ["", "a.b", "keys"])
    def test_names_that_no_module_can_have(self, name):
        with pytest.raises(OptionError, match="needs a name"):
            nm.FractalRegularizationLoss({name: (nm.SpectralPrior(), 1.0)})

    def test_what_gives_no_scalar_is_no_loss(self):
        with pytest.raises(InputError, match="gave no loss"):
            nm.FractalRegularizationLoss({"a": (torch.nn.Identity(), 1.0)})(NOISE)

    def test_axes(self):
        assert nm.HiguchiPrior(axis=np.int64(1)).axis == 1
        with pytest.raises(OptionError, match="comes twice"):
            nm.HiguchiPrior(axis=1, average=(0, -3))(torch.zeros(2, 128, 3))
        with pytest.raises(OptionError, match="no sequence of axes"):
            nm.HiguchiPrior(average=1)


def test_options_that_mean_nothing():
    for ask in (
        lambda: nm.HurstExponent("dfa", vanishing_moments=3),
        lambda: nm.SpectralSlope("welch", bandwidth=3.0),
        lambda: nm.branching_ratio(np.arange(100), offset="yes"),
        lambda: nm.fit_power_law(np.arange(1.0, 200), discrete="no"),
    ):
        with pytest.raises(OptionError):
            ask()


def test_metrics_that_give_nothing_are_told():
    acts = nm.Activations({"h": NOISE[None, :, None].expand(3, 1024, 1)}, {"h": ("sample", "time", "unit")})
    with pytest.raises(InputError, match="gives no numbers"):
        nm.site_complexity(acts, lambda signals: None)
