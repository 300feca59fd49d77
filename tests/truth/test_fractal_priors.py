"""Priors: what they cost where the answer is known, their gradients, and that they break no training."""

from __future__ import annotations

import itertools
import warnings

import networkx
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.priors.graph import shortest_paths
from tests.slow import slow_case

SIGNAL_PRIORS = {
    "spectral": lambda **keywords: nm.SpectralPrior(-1.0, **keywords),
    "higuchi": lambda **keywords: nm.HiguchiPrior(1.5, **keywords),
    "scaling": lambda **keywords: nm.TemporalScaleInvariance(1.0, **keywords),
    "straightness": lambda **keywords: nm.TemporalScaleInvariance(**keywords),
    "smoothness": lambda **keywords: nm.MultifractalSmoothness(**keywords),
}
each_prior = pytest.mark.parametrize("name", SIGNAL_PRIORS)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


# What they cost


def test_the_spectral_prior_is_the_squared_distance_of_the_slope():
    x = noise(3, 5, 200)
    metric = nm.SpectralSlope(fit_range=(0.05, 0.4))
    slopes = metric(x)
    assert nm.SpectralPrior(-1.5, metric)(x).item() == pytest.approx((slopes + 1.5).square().mean().item(), rel=1e-12)
    on_average = nm.SpectralPrior(-1.5, metric, average=(0,))(x)
    assert on_average.item() == pytest.approx((slopes.mean(0) + 1.5).square().mean().item(), rel=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_of_the_target_exponent_costs_nothing_and_other_noise_its_distance(exponent):
    x = nm.colored_noise(exponent, 256, 400, seed=1)
    for target in (0.0, -1.0, -2.0):
        loss = nm.SpectralPrior(target, average=(0,))(x).item()
        assert loss**0.5 == pytest.approx(abs(target + exponent), abs=0.08)


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.7])
def test_motion_of_the_target_dimension_costs_nothing(hurst):
    x = nm.fractional_brownian_motion(hurst, 256, 400, seed=1)
    for target in (1.3, 1.5, 1.7):
        loss = nm.HiguchiPrior(target, average=(0,))(x).item()
        assert loss**0.5 == pytest.approx(abs(target - (2 - hurst)), abs=0.03)


def test_scale_invariance_is_the_distance_from_a_line_fitted_by_numpy():
    x = noise(4, 512).cumsum(-1)
    metric = nm.DetrendedFluctuationAnalysis(scales=(8, 16, 32, 64))
    logs = metric.estimate(x, n_simulated=10).data["statistic"].values
    logs, scales = np.log(logs), np.log([8, 16, 32, 64])
    expected, slopes = [], []
    for row in logs:
        line = np.polyfit(scales, row, 1)
        slopes.append(line[0])
        expected.append(np.mean((row - np.polyval(line, scales)) ** 2))
    assert nm.TemporalScaleInvariance(metric=metric)(x).item() == pytest.approx(np.mean(expected), rel=1e-9)
    with_target = np.mean(np.add(expected, np.subtract(slopes, 0.8) ** 2))
    assert nm.TemporalScaleInvariance(0.8, metric)(x).item() == pytest.approx(with_target, rel=1e-9)


def test_a_time_scale_costs_and_noise_without_one_does_not():
    metric = nm.DetrendedFluctuationAnalysis(scales=(8, 16, 32, 64, 128))
    prior = nm.TemporalScaleInvariance(metric=metric, average=(0,))
    scale_free = nm.fractional_gaussian_noise(0.8, 4096, 32, seed=1)
    slow = torch.sin(2 * torch.pi * torch.arange(4096) / 24 + 6 * noise(32, 1))
    assert prior(scale_free).item() < 1e-3
    assert prior(slow).item() > 0.1


def test_smoothness_of_a_cascade_is_that_of_its_theory():
    q = (1.0, 2.0, 3.0, 4.0)
    prior = nm.MultifractalSmoothness(nm.MultifractalSpectrum(q=q))
    cascade = nm.multiplicative_cascade(16, p=0.75)
    h = [1 / one - np.log2(0.75**one + 0.25**one) / one for one in q]
    roughness = lambda h: np.mean([(h[i] - 2 * h[i + 1] + h[i + 2]) ** 2 for i in range(2)])  # noqa: E731
    assert prior(cascade).item() == pytest.approx(roughness(h), rel=0.25)  # exponents are within .06
    found = prior.metric.generalized_hurst(cascade).flatten().tolist()
    assert prior(cascade).item() == pytest.approx(roughness(found), rel=1e-9)
    one_exponent = nm.fractional_gaussian_noise(0.7, 2**14)
    assert prior(one_exponent).item() < roughness(h) / 20


# Gradients, and training


@each_prior
def test_gradients(name):
    prior = SIGNAL_PRIORS[name](axis=1, average=(0,))
    x = noise(2, 64, 2, seed=3).cumsum(1).requires_grad_()
    assert torch.autograd.gradcheck(prior, (x,), fast_mode=True)


@each_prior
@pytest.mark.parametrize("n_steps", [64, slow_case(256)])
def test_descent_on_short_signals_lowers_the_loss(name, n_steps):
    prior = SIGNAL_PRIORS[name](axis=1)
    x = noise(4, n_steps, 3, seed=4).float().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.02)
    first = prior(x).item()
    for _ in range(60):
        optimizer.zero_grad()
        prior(x).backward()
        assert torch.isfinite(x.grad).all()
        optimizer.step()
    assert prior(x).item() < 0.2 * first


@each_prior
def test_the_axis_of_time_can_be_any(name):
    x = noise(3, 80, 4)
    expected = SIGNAL_PRIORS[name]()(x.transpose(1, 2))
    assert SIGNAL_PRIORS[name](axis=1)(x).item() == pytest.approx(expected.item(), rel=1e-12)
    assert SIGNAL_PRIORS[name](axis=-2)(x).item() == pytest.approx(expected.item(), rel=1e-12)
    averaged = SIGNAL_PRIORS[name](axis=1, average=(2,))(x)
    assert SIGNAL_PRIORS[name](axis=2, average=(0,))(x.permute(2, 0, 1)).item() == pytest.approx(averaged.item())


@each_prior
def test_dead_units_are_left_out_and_get_no_gradient(name):
    for average in ((), (0,)):
        prior = SIGNAL_PRIORS[name](axis=1, average=average)
        alive = noise(3, 100, 2).float()
        with_dead = torch.cat([alive, torch.full((3, 100, 1), 0.3), torch.zeros(3, 100, 1)], dim=2)
        with_dead[0, :, 0] = 1.0  # silent in one trial
        with_dead.requires_grad_()
        prior(with_dead).backward()
        assert torch.isfinite(with_dead.grad).all()
        assert (with_dead.grad[:, :, 2:] == 0).all()
        assert (with_dead.grad[0, :, 0] == 0).all()
        assert (with_dead.grad[1:, :, :2] != 0).any(1).all()
        alive_only = prior(with_dead.detach()[:, :, :2])
        assert prior(with_dead).item() == pytest.approx(alive_only.item(), rel=1e-5)


@each_prior
def test_half_precision_is_computed_in_double(name):
    x = noise(3, 100, 2, seed=2).bfloat16().requires_grad_()
    loss = SIGNAL_PRIORS[name](axis=1)(x)
    loss.backward()
    assert loss.item() == pytest.approx(SIGNAL_PRIORS[name](axis=1)(x.detach().double()).item())
    assert x.grad.dtype == torch.bfloat16
    assert torch.isfinite(x.grad).all()


@each_prior
def test_where_all_units_are_dead_the_loss_is_zero_and_says_so(name):
    x = torch.zeros(2, 100, 3, requires_grad=True)
    with pytest.warns(UserWarning, match="the loss is zero") as caught:
        loss = SIGNAL_PRIORS[name](axis=1)(x)
    assert caught[0].filename == __file__
    loss.backward()
    assert loss.item() == 0
    assert (x.grad == 0).all()


@each_prior
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_finite_signal_gives_a_gradient_that_is_not_finite(name, dtype):
    random = np.random.default_rng(7)
    steps = np.arange(100)
    signals = {
        "period of two": (-1.0) ** steps,
        "period of four": np.sin(np.pi / 2 * steps).round(),
        "one spike": (steps == 50) * 1.0,
        "one spike at the end": (steps == 99) * 1.0,
        "one step": (steps > 50) * 1.0,
        "ramp": steps * 1.0,
        "silent for most of the time": np.maximum(0, random.standard_normal(100)) * (steps > 80),
        "saturated": np.tanh(20 * random.standard_normal(100)),
        "tiny": 1e-30 * random.standard_normal(100),
        "huge": 1e15 * random.standard_normal(100),
        "on a large offset": 1e4 + random.standard_normal(100),
    }
    prior = SIGNAL_PRIORS[name]()
    for label, signal in signals.items():
        x = torch.from_numpy(signal[None]).to(dtype).requires_grad_()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no signal varies")  # some have no such measure
            loss = prior(x)
        loss.backward()
        assert torch.isfinite(loss), label
        assert torch.isfinite(x.grad).all(), label


def test_signals_without_a_value_are_left_out_as_dead_ones_are():
    prior = nm.HiguchiPrior(1.5)
    x = noise(8, 100)
    x[[2, 5]] = torch.tensor([1.0, -1.0]).double().repeat(50)  # no length in steps of two
    x.requires_grad_()
    loss = prior(x)
    loss.backward()
    others = [0, 1, 3, 4, 6, 7]
    assert loss.item() == pytest.approx(prior(x.detach()[others]).item(), rel=1e-12)
    assert (x.grad[[2, 5]] == 0).all()
    assert (x.grad[others] != 0).any(1).all()


def test_a_metric_that_does_not_fit_the_signals_is_no_silent_zero():
    too_narrow = nm.SpectralPrior(-1.0, nm.SpectralSlope(fit_range=(0.1, 0.101)))
    with pytest.raises(InputError, match="too few frequencies"):
        too_narrow(noise(2, 100))
    with pytest.raises(InputError, match="no log-log plot"):
        nm.TemporalScaleInvariance(metric=nm.PetrosianFractalDimension())(noise(2, 100))


@each_prior
def test_bad_input(name):
    prior = SIGNAL_PRIORS[name](axis=1)
    with pytest.raises(InputError, match="a loss needs a tensor"):
        prior(np.zeros((2, 100, 3)))
    with pytest.raises(InputError, match="not finite"):
        prior(noise(2, 100, 3).log())
    with pytest.raises(InputError, match="too short"):
        prior(noise(2, 5, 3))
    with pytest.raises(InputError, match="no such axis"):
        prior(noise(100))
    with pytest.raises(InputError, match="no such average"):
        SIGNAL_PRIORS[name](axis=1, average=(4,))(noise(2, 100, 3))
    with pytest.raises(OptionError, match="time cannot be averaged"):
        SIGNAL_PRIORS[name](axis=1, average=(-2,))(noise(2, 100, 3))
    with pytest.raises(OptionError, match="axis is no axis"):
        SIGNAL_PRIORS[name](axis=1.5)


def test_options_that_do_not_exist():
    with pytest.raises(OptionError, match="target_slope"):
        nm.SpectralPrior(float("nan"))
    with pytest.raises(OptionError, match="target_dimension"):
        nm.HiguchiPrior(2.5)
    with pytest.raises(OptionError, match="target_exponent"):
        nm.TemporalScaleInvariance(float("inf"))
    with pytest.raises(OptionError, match="too few moments"):
        nm.MultifractalSmoothness(nm.MultifractalSpectrum(q=(1, 2)))


# Graphs


def lattice(length, n_axes):
    return torch.from_numpy(networkx.to_numpy_array(networkx.grid_graph([length] * n_axes, periodic=True)))


@pytest.mark.parametrize(("length", "n_axes", "within"), [(64, 1, 0.01), (200, 1, 0.01), (16, 2, 0.1), (24, 2, 0.1)])
def test_balls_in_a_lattice_grow_with_its_number_of_axes(length, n_axes, within):
    graph = lattice(length, n_axes)
    assert nm.GraphFractalityPrior().dimension(graph).item() == pytest.approx(n_axes, abs=within)
    losses = {target: nm.GraphFractalityPrior(target)(graph).item() for target in (1.0, 2.0, 3.0)}
    assert min(losses, key=losses.get) == n_axes
    assert losses[n_axes] <= within**2


def test_the_growth_exponent_is_that_of_its_definition_with_paths_by_networkx():
    random = np.random.default_rng(0)
    weights = np.triu(random.random((30, 30)) * (random.random((30, 30)) < 0.15), 1)
    weights += weights.T
    graph = networkx.from_numpy_array(weights)
    for *_, edge in graph.edges(data=True):
        edge["length"] = 1 / edge["weight"]
    distances = networkx.floyd_warshall_numpy(graph, weight="length")
    np.fill_diagonal(distances, np.inf)
    connected = np.isfinite(distances).any(1)
    distances = distances[connected] / distances[connected].min(1).mean()
    radii = np.geomspace(1.5, 0.4 * distances[np.isfinite(distances)].max(), 8)
    mass = [np.mean(1 + (1 / (1 + (distances / radius) ** 10)).sum(1)) for radius in radii]
    expected = np.polyfit(np.log(radii), np.log(mass), 1)[0]
    found = nm.GraphFractalityPrior().dimension(torch.from_numpy(weights))
    assert found.item() == pytest.approx(expected, rel=1e-9)
    assert nm.GraphFractalityPrior().dimension(torch.from_numpy(50 * weights)).item() == pytest.approx(expected)


def test_shortest_paths_are_those_of_scipy():
    from scipy.sparse.csgraph import shortest_path

    random = np.random.default_rng(1)
    weights = random.random((3, 40, 40)) * (random.random((3, 40, 40)) < 0.03)
    weights = weights + weights.transpose(0, 2, 1)
    expected = np.stack([shortest_path(one) for one in weights])
    lengths = torch.from_numpy(np.where(weights > 0, weights, np.inf))
    lengths.diagonal(dim1=1, dim2=2).zero_()
    assert np.isinf(expected).any()
    assert np.allclose(shortest_paths(lengths).numpy(), expected, rtol=1e-12)


def test_gradients_of_graphs():
    scores = (3 * noise(2, 12, 12)).requires_grad_()
    prior = nm.GraphFractalityPrior(1.5)
    assert torch.autograd.gradcheck(lambda scores: prior(scores.exp()), (scores,))
    weights = scores.detach().exp()
    holes = weights.detach().clone()
    holes[0, 3] = holes[0, :, 3] = 0  # a node that is alone
    holes[1, :6, 6:] = holes[1, 6:, :6] = 0  # two parts
    holes.requires_grad_()
    nm.GraphFractalityPrior(1.5)(holes).backward()
    assert torch.isfinite(holes.grad).all()
    assert (holes.grad != 0).any()


def test_descent_on_attention_moves_its_growth_exponent():
    scores = (3 * noise(2, 24, 24)).requires_grad_()
    prior = nm.GraphFractalityPrior(2.0)
    optimizer = torch.optim.Adam([scores], lr=0.05)
    first = prior.dimension(scores.softmax(-1)).tolist()
    for _ in range(100):
        optimizer.zero_grad()
        prior(scores.softmax(-1)).backward()
        optimizer.step()
    last = prior.dimension(scores.softmax(-1)).tolist()
    assert max(first) < 1.6
    assert last == pytest.approx([2, 2], abs=0.1)


def test_graphs_without_room_are_left_out():
    prior = nm.GraphFractalityPrior(1.0)
    ring, empty, full = lattice(32, 1), torch.zeros(32, 32).double(), torch.ones(32, 32).double()
    assert len(prior.dimension(torch.stack([empty, ring, full]))) == 1
    assert prior(torch.stack([empty, ring, full])).item() == pytest.approx(prior(ring).item(), rel=1e-12)
    for nothing in (empty, full):
        weights = nothing.clone().requires_grad_()
        with pytest.warns(UserWarning, match="the loss is zero"):
            loss = prior(weights)
        loss.backward()
        assert loss.item() == 0
        assert (weights.grad == 0).all()


def test_bad_graphs():
    prior = nm.GraphFractalityPrior()
    for bad in (torch.ones(5), torch.ones(5, 6), torch.ones(3, 3), torch.ones(0, 5, 5)):
        with pytest.raises(InputError, match="no graph"):
            prior(bad)
    for bad in (-torch.ones(5, 5), torch.full((5, 5), torch.nan)):
        with pytest.raises(InputError, match="cannot be turned into lengths"):
            prior(bad)
    with pytest.raises(OptionError, match="target_dimension"):
        nm.GraphFractalityPrior(-1.0)
    with pytest.raises(OptionError, match="reach"):
        nm.GraphFractalityPrior(reach=1.5)


# Several at once


def test_the_sum_is_that_of_its_terms():
    x = noise(4, 128, 3).float()
    parts = {"spectral": (nm.SpectralPrior(-1.0, axis=1), 0.1), "higuchi": (nm.HiguchiPrior(1.5, axis=1), 2.0)}
    loss = nm.FractalRegularizationLoss(parts)
    terms = loss.terms(x)
    assert {name: term.item() for name, term in terms.items()} == {
        name: pytest.approx(weight * prior(x).item()) for name, (prior, weight) in parts.items()
    }
    assert loss(x).item() == pytest.approx(sum(term.item() for term in terms.values()))


def test_each_prior_can_look_at_a_tensor_of_its_own():
    loss = nm.FractalRegularizationLoss(
        {"spectral": (nm.SpectralPrior(-1.0, axis=1), 0.5), "graph": (nm.GraphFractalityPrior(1.0), 0.25)}
    )
    x, attention = noise(4, 128, 3), lattice(16, 2)
    expected = 0.5 * nm.SpectralPrior(-1.0, axis=1)(x) + 0.25 * nm.GraphFractalityPrior(1.0)(attention)
    assert loss({"spectral": x, "graph": attention}).item() == pytest.approx(expected.item())
    with pytest.raises(InputError, match="do not fit the priors"):
        loss({"spectral": x})
    with pytest.raises(InputError, match="a loss needs a tensor"):
        loss([1.0, 2.0])


def test_annealed_weights_are_functions_of_the_step():
    linear, cosine, step = (nm.AnnealedWeight(1.0, 0.2, 10, shape) for shape in ("linear", "cosine", "step"))
    assert [linear(at) for at in (0, 5, 10, 50)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert [cosine(at) for at in (0, 5, 10, 50)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert cosine(1) > linear(1)
    assert [step(at) for at in (0, 9, 10, 50)] == [1.0, 1.0, 0.2, 0.2]
    for one in (linear, cosine, step):
        values = [one(at) for at in range(12)]
        assert all(before >= after for before, after in itertools.pairwise(values))
        assert values == [one(at) for at in range(12)]


def test_a_resumed_training_goes_on_with_the_same_weight():
    make = lambda: nm.FractalRegularizationLoss(  # noqa: E731
        {"spectral": (nm.SpectralPrior(-1.0, axis=1), nm.AnnealedWeight(0.0, 1.0, 8, "cosine"))}
    )
    first, resumed = make(), make()
    first.advance(3)
    resumed.load_state_dict(first.state_dict())
    assert first.weights == resumed.weights == {"spectral": nm.AnnealedWeight(0.0, 1.0, 8, "cosine")(3)}
    x = noise(2, 64, 2)
    assert first(x).item() == resumed(x).item() > 0


def test_a_prior_of_weight_zero_costs_nothing_and_can_be_trained_through():
    loss = nm.FractalRegularizationLoss(
        {"spectral": (nm.SpectralPrior(-1.0, axis=1), nm.AnnealedWeight(0.0, 1.0, 2, "step"))}
    )
    x = noise(2, 64, 2).requires_grad_()
    loss(x).backward()
    assert (x.grad == 0).all()
    loss.advance(2)
    loss(x).backward()
    assert (x.grad != 0).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nm.FractalRegularizationLoss({}), "there are no priors"),
        (lambda: nm.FractalRegularizationLoss({"a": nm.SpectralPrior()}), "needs a name and a weight"),
        (lambda: nm.FractalRegularizationLoss({"a": (1.0, 1.0)}), "a is no prior"),
        (lambda: nm.FractalRegularizationLoss({"a": (nm.SpectralPrior(), -1.0)}), "the weight of a is no weight"),
        (lambda: nm.AnnealedWeight(0.0, 1.0, 0), "n_steps is out of range"),
        (lambda: nm.AnnealedWeight(0.0, 1.0, 10, "expo"), "unknown shape"),
        (lambda: nm.AnnealedWeight(0.0, float("inf"), 10), "end is no weight"),
        (lambda: nm.AnnealedWeight(0.0, 1.0, 10)(-1), "step is out of range"),
    ],
)
def test_sums_and_weights_that_do_not_exist(make, message):
    with pytest.raises(OptionError, match=message):
        make()
