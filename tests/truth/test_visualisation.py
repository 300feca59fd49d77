"""Optimal stimuli against closed forms: weights, eigenvectors, filters, impulse responses, rows of an embedding."""

from __future__ import annotations

import copy
import random
import re

import matplotlib.figure
import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.visualisation.quasi_newton import maximise
from neuros_mechint.causal.visualisation.stimuli import Stimuli, transformed
from neuros_mechint.causal.visualisation.visualizer import FeatureVisualizer

SEEDS = (0, 1, 2, 3, 4)
each_seed = pytest.mark.parametrize("seed", SEEDS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    a, b = (np.asarray(one.detach() if isinstance(one, torch.Tensor) else one, dtype=float).ravel() for one in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def linear(seed=0, n_inputs=30):
    layer = nn.Linear(n_inputs, 5)
    with torch.no_grad():
        layer.weight.copy_(normal(5, n_inputs, seed=seed))
        layer.bias.copy_(normal(5, seed=seed + 1))
    return layer


class Function(nn.Module):
    """A differentiable function of the input as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def maximize(module, site, like, call=None, **options):
    return FeatureVisualizer(nm.adapt(module), progress=False, **options).maximize(site, like, **(call or {}))


# -- any input under a norm or bounds ----------------------------------------------------------------------------


@each_seed
def test_the_optimum_of_a_linear_unit_is_its_weights(seed):
    layer = linear(seed)
    found = maximize(layer, ":out[unit=3]", torch.zeros(1, 30), norm=2.0, seed=seed)
    weights = layer.weight[3].detach()
    for stimulus in found.data["stimulus"].values:
        assert cosine(stimulus, weights) > 1 - 1e-6
    assert found.activation == pytest.approx(float(2 * weights.norm() + layer.bias[3].detach()), rel=1e-5)
    assert found.agreement > 1 - 1e-6
    assert found.n_optima == 1
    assert found.spread < 1e-4
    assert not found.warnings
    # the negative control: what is as large but random reaches much less, and another unit's weights are no optimum
    assert found.data["random_activation"].max() < 0.8 * found.activation
    assert abs(cosine(found.best, layer.weight[2].detach())) < 0.7


@each_seed
def test_between_bounds_the_optimum_of_a_linear_unit_lies_in_a_corner(seed):
    layer = linear(seed)
    found = maximize(layer, ":out[unit=3]", torch.zeros(1, 30), bounds=(-1.0, 2.0), seed=seed)
    weights = layer.weight[3].detach()
    assert np.allclose(found.best, torch.where(weights > 0, 2.0, -1.0), atol=1e-3)
    assert found.data["slack"][0] < 1e-3
    assert found.data["random_activation"].max() < found.activation
    assert not found.warnings


@each_seed
def test_the_optimum_of_a_quadratic_unit_is_the_top_eigenvector(seed):
    matrix = normal(20, 20, seed=seed)
    matrix = matrix + matrix.T
    values, vectors = torch.linalg.eigh(matrix.double())
    module = Function(lambda inputs: ((inputs @ matrix) * inputs).sum(1, keepdim=True))
    found = maximize(module, ":out[unit=0]", torch.zeros(1, 20), norm=1.0, seed=seed)
    for stimulus in found.data["stimulus"].values:
        assert abs(cosine(stimulus, vectors[:, -1])) > 1 - 1e-5
    assert found.activation == pytest.approx(float(values[-1]), rel=1e-5)
    # the unit does not tell a vector from its negative, and the starts show it
    assert found.n_optima == 2
    assert set(np.sign(found.data["similarity"].values.ravel())) == {-1, 1}


def test_an_optimum_that_wants_less_energy_says_so():
    module = Function(lambda inputs: -inputs.square().sum(1, keepdim=True) + inputs[:, :1])
    found = maximize(module, ":out[unit=0]", torch.zeros(1, 4), norm=3.0)
    assert "at a smaller norm the unit would be more active" in found.warnings
    assert found.data["norm_slope"][0] == pytest.approx(-15, rel=1e-3)
    few = maximize(linear(), ":out[unit=0]", torch.zeros(1, 30), norm=3.0, n_steps=1)
    assert "still on the way up" in few.warnings[0]


# -- images ------------------------------------------------------------------------------------------------------


def gabor(seed, size=11):
    draw = np.random.default_rng(seed)
    angle, phase, wavelength = draw.uniform(0, np.pi), draw.uniform(0, 2 * np.pi), draw.uniform(4.5, 7)
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = torch.exp(-(x**2 + y**2) / 2 / 2.5**2) * torch.cos(2 * np.pi * along / wavelength + phase)
    wave = wave - wave.mean()
    return wave / wave.norm()


def frequency(image):
    """Return the strongest frequency of an image, in cycles per pixel along each axis."""
    power = np.abs(np.fft.fft2(np.asarray(image), (128, 128)))
    row, column = np.unravel_index(power.argmax(), power.shape)
    y, x = np.fft.fftfreq(128)[[row, column]]
    return np.array([y, x])


def cnn(seed):
    """A small network whose first unit is a Gabor filter, and whose second has the same weights in random order."""
    net = nn.Sequential(nn.Conv2d(1, 4, 11), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3), nn.ReLU())
    wave = gabor(seed)
    with torch.no_grad():
        for place, parameter in enumerate(net.parameters()):
            parameter.copy_(0.1 * normal(*parameter.shape, seed=place))
        net[0].weight[0, 0] = wave
        net[0].weight[1, 0] = wave.flatten()[torch.randperm(121, generator=torch.Generator().manual_seed(seed))].view(
            11, 11
        )
        net[0].bias[:2] = -0.2
    return net


@each_seed
@pytest.mark.parametrize("parametrization", ["fourier", "direct"])
def test_a_gabor_unit_recovers_its_filter(seed, parametrization):
    examples = normal(100, 1, 20, 20, seed=seed)
    field = np.zeros((20, 20))
    field[4:15, 6:17] = gabor(seed)
    options = {"norm": 3.0, "seed": seed, "parametrization": parametrization, "n_starts": 3}
    like = torch.zeros(1, 1, 20, 20)
    found = maximize(cnn(seed), "1[channel=0, height=4, width=6]", like, {"examples": examples}, **options)
    for stimulus in found.data["stimulus"].values:
        assert cosine(stimulus, field) > 0.99
    assert found.activation == pytest.approx(2.8, abs=0.01)
    assert found.data["example_activation_rescaled"].max() < 0.5 * found.activation
    other = maximize(cnn(seed), "1[channel=1, height=4, width=6]", like, **(options | {"n_starts": 1}))
    assert abs(cosine(other.best, field)) < 0.5


def best_grating(network):
    """Return the frequency of the square grating that drives the first channel most, of all tried, and how much."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    sizes, angles = np.arange(0.08, 0.3, 0.02), np.arange(0, np.pi, np.pi / 12)
    waves = np.array([[size * np.sin(angle), size * np.cos(angle)] for size in sizes for angle in angles])
    shifts = np.arange(0, 2 * np.pi, np.pi / 4)
    gratings = [(torch.sin(2 * np.pi * (w[0] * y + w[1] * x) + shift) > 0).float() for w in waves for shift in shifts]
    reached = network[:2](torch.stack(gratings)[:, None])[:, 0].mean((1, 2)).detach()
    return waves[int(reached.argmax()) // len(shifts)], float(reached.max())


@pytest.mark.parametrize("seed", SEEDS[:3])
@pytest.mark.parametrize(("transformed", "share"), [(False, 0.9), (True, 0.7)])
def test_a_channel_between_bounds_gets_the_best_grating(seed, transformed, share):
    # what is driven also through small transformations is somewhat smoother
    moves = {"jitter": 2, "rotate": 3.0, "rescale": 0.03, "n_steps": 200} if transformed else {}
    options = {"bounds": (0.0, 1.0), "n_starts": 3, "n_steps": 100, "seed": seed} | moves
    found = maximize(cnn(seed), "1[channel=0]", torch.zeros(1, 1, 32, 32), {"reduce": "mean"}, **options)
    stimuli = found.data["stimulus"].values
    assert stimuli.min() >= 0
    assert stimuli.max() <= 1
    expected, reached = best_grating(cnn(seed))
    assert found.activation > share * reached
    wave = frequency((stimuli[0, 0] - stimuli[0, 0].mean()) * np.hanning(32)[:, None] * np.hanning(32))
    assert min(np.linalg.norm(wave - expected), np.linalg.norm(wave + expected)) < 0.04
    assert found.activation > 2.5 * found.data["random_activation"].max()


def test_what_a_unit_does_not_see_is_grey():
    found = maximize(
        cnn(0), "1[channel=0, height=4, width=6]", torch.zeros(1, 1, 20, 20), bounds=(0.0, 1.0), n_starts=3, n_steps=100
    )
    outside = found.data["stimulus"].values.copy()[:, 0]
    outside[:, 4:15, 6:17] = 0.5
    assert (outside == 0.5).all()
    assert found.agreement > 0.95


def test_fourier_stimuli_have_the_spectrum_and_the_colours_of_photographs():
    stimuli = Stimuli((3, 32, 32), norm=1.0, fourier=True)
    images = stimuli(stimuli.draw(400, torch.Generator().manual_seed(0), torch.zeros(1))).double()
    assert images.flatten(1).norm(dim=1) == pytest.approx(torch.ones(400), rel=1e-5)
    amplitudes = torch.fft.fft2(images.mean(1)).abs().square().mean(0).sqrt()[0, 1:16].numpy()
    slope = np.polyfit(np.log(np.arange(1, 16)), np.log(amplitudes), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    expected = root @ root.T
    expected = expected / np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.corrcoef(images.movedim(1, 0).flatten(1).numpy()) == pytest.approx(expected, abs=0.03)
    # in grey there is nothing to be correlated, and the variance is one wherever the range lies
    grey = Stimuli((1, 32, 31), bounds=(-5.0, 5.0), fourier=True)
    free = grey.draw(400, torch.Generator().manual_seed(0), torch.zeros(1))
    raw = torch.asin((grey(1e-2 * free) / 5).double()) / 1e-2
    assert float(raw.var()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("fourier", [False, True])
def test_random_stimuli_have_the_energy_asked_for_and_keep_the_range(fourier):
    stimuli = Stimuli((1, 16, 16), bounds=(-1.0, 3.0), fourier=fourier)
    free = stimuli.draw(50, torch.Generator().manual_seed(0), torch.zeros(1))
    for energy in (1.0, 300.0, 1000.0):
        drawn = stimuli.of_energy(free, torch.tensor(energy))
        assert stimuli.energy(drawn) == pytest.approx(torch.full((50,), energy), rel=1e-3)
        assert drawn.min() >= -1
        assert drawn.max() <= 3
        assert len(drawn.unique(dim=0)) == 50


def test_transformations_shift_by_whole_pixels_and_keep_the_range():
    images = torch.rand(20, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    shifted = transformed(images, torch.Generator().manual_seed(1), jitter=2, rotate=0.0, rescale=0.0)
    inside = (slice(None), slice(2, -2), slice(2, -2))
    shifts = []
    for before, after in zip(images, shifted, strict=True):
        moves = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        same = [move for move in moves if torch.allclose(before.roll(move, (1, 2))[inside], after[inside], atol=1e-5)]
        shifts += same
        assert len(same) == 1
    assert len(set(shifts)) > 8
    turned = transformed(images, torch.Generator().manual_seed(1), jitter=2, rotate=30.0, rescale=0.2)
    assert turned.min() >= 0
    assert turned.max() <= 1
    assert (turned - images).abs().mean() > 0.1
    # a disc is a disc whichever way it is turned, also where pixels are not as many along both sides
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(61.0) - 30, indexing="ij")
    disc = torch.exp(-(x**2 + y**2) / 50).expand(10, 1, 41, 61)
    turned = transformed(disc, torch.Generator(), jitter=0, rotate=180.0, rescale=0.0)
    assert torch.allclose(turned[..., 13:-13], disc[..., 13:-13], atol=0.02)  # farther out lies the mirror image


def test_the_search_gets_to_the_top_of_curved_ridges_of_any_height():
    def ridges(rows):
        rows = rows.detach().requires_grad_()
        bends = 100 * (rows[:, 1] - rows[:, 0] ** 2) ** 2 + (1 - rows[:, 0]) ** 2
        values = -bends * torch.tensor([1e-6, 1.0, 1e6], dtype=rows.dtype)
        return values.detach(), torch.autograd.grad(values.sum(), rows)[0]

    top, trace = maximise(ridges, torch.tensor([[-1.2, 1.0]] * 3, dtype=torch.float64), range(300))
    assert torch.allclose(top, torch.ones(3, 2, dtype=torch.float64), atol=1e-3)
    assert trace.shape[1] < 200
    assert (trace.diff(dim=1) >= 0).all()


# -- sequences ---------------------------------------------------------------------------------------------------


class LinearRNN(nn.Module):
    """``h[t] = W h[t - 1] + B u[t]``, for inputs ``(batch, time, n_inputs)``."""

    def __init__(self, seed):
        super().__init__()
        self.recurrent, self.inward = 0.3 * normal(8, 8, seed=seed), normal(8, 2, seed=seed + 100)

    def forward(self, inputs):
        state, states = inputs.new_zeros(len(inputs), 8), []
        for now in inputs.unbind(1):
            state = state @ self.recurrent.T + now @ self.inward.T
            states.append(state)
        return torch.stack(states, 1)


def reversed_impulse_response(recurrent, inward, unit, n_steps):
    return torch.stack([(torch.linalg.matrix_power(recurrent, lag) @ inward)[unit] for lag in reversed(range(n_steps))])


@each_seed
def test_the_optimum_of_a_linear_network_is_its_impulse_response_reversed(seed):
    network = LinearRNN(seed)
    found = maximize(network, ":out[unit=3, position=-1]", torch.zeros(1, 20, 2), norm=2.0, seed=seed)
    response = reversed_impulse_response(network.recurrent, network.inward, 3, 20)
    for stimulus in found.data["stimulus"].values:
        assert cosine(stimulus, response) > 1 - 1e-5
    assert found.activation == pytest.approx(2 * float(response.norm()), rel=1e-5)
    assert found.data["random_activation"].max() < 0.8 * found.activation


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_torch_rnn_at_a_time_step_and_in_a_window(batch_first):
    network = nn.RNN(2, 8, nonlinearity="relu", bias=False, batch_first=batch_first)
    with torch.no_grad():  # without negative weights or inputs it is linear
        network.weight_hh_l0.copy_(0.15 * normal(8, 8).abs())
        network.weight_ih_l0.copy_(normal(8, 2, seed=1).abs())
    like = torch.zeros(1, 20, 2) if batch_first else torch.zeros(20, 1, 2)
    weights = [weight.detach() for weight in (network.weight_hh_l0, network.weight_ih_l0)]
    found = maximize(network, "hidden[unit=3, time=12]", like, norm=2.0)
    assert found.best.dims == ("time", "unit")
    assert cosine(found.best[:13], reversed_impulse_response(*weights, 3, 13)) > 1 - 1e-6
    assert np.abs(found.best[13:]).max() < 1e-3  # nothing after the time step can matter
    window = maximize(network, "hidden[unit=3, time=12]", like, {"at": ":in[time=5:11]"}, norm=2.0)
    assert window.best["time"].values.tolist() == [5, 6, 7, 8, 9, 10]
    assert cosine(window.best, reversed_impulse_response(*weights, 3, 13)[5:11]) > 1 - 1e-6
    mean = maximize(network, "hidden[unit=3]", like, {"reduce": "mean"}, norm=2.0)
    summed = sum(
        np.pad(reversed_impulse_response(*weights, 3, length), ((0, 20 - length), (0, 0))) for length in range(1, 21)
    )
    assert cosine(mean.best, summed) > 1 - 1e-6


@pytest.mark.parametrize("options", [{"norm": 4.0}, {"bounds": (-1.0, 1.0)}])
def test_a_trained_network_has_one_optimum_above_all_examples(options):
    examples = 0.3 * normal(200, 30, 4)
    model = nm.load_model("decision_rnn")
    found = maximize(
        model, "hidden[unit=3, time=-1]", examples[:1], {"examples": examples}, n_starts=3, n_steps=150, **options
    )
    assert found.n_optima == 1
    assert found.spread < 1e-3
    assert found.activation > found.data["random_activation"].max()
    assert found.activation > found.data["example_activation"].max()
    rerun = nm.adapt(model).capture(torch.tensor(found.best.values[None]), "hidden")["hidden"][0, -1, 3]
    assert float(rerun) == pytest.approx(found.activation, abs=1e-5)
    if "norm" in options:
        assert np.linalg.norm(found.best) == pytest.approx(4, rel=1e-5)
    else:
        assert np.abs(found.best).max() <= 1


# -- tokens ------------------------------------------------------------------------------------------------------


def reader(direction, table):
    """Embed tokens by a table, and read one direction at every position."""
    module = nn.Sequential(nn.Embedding(*table.shape), nn.Linear(table.shape[1], 1, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(table)
        module[1].weight.copy_(direction[None])
    return module


@each_seed
def test_the_nearest_token_and_what_is_lost_by_it(seed):
    table = 3 * torch.linalg.qr(normal(16, 16, seed=seed))[0]
    tokens = torch.arange(16)[None, :5]
    at = {"at": "0"}
    exact = maximize(reader(table[7], table), "1[unit=0, position=2]", tokens, {"at": "0[position=2]"}, seed=seed)
    assert (exact.data["nearest_token"] == 7).all()
    assert exact.data["token_similarity"].values == pytest.approx(1, abs=1e-5)
    assert exact.data["token_activation"].values == pytest.approx(exact.data["activation"].values, rel=1e-4)
    # a direction that no token has: the best token is known, and so is the share of the activation that it reaches
    between = 0.8 * table[4] + 0.6 * table[9]
    module = reader(between, table)
    found = maximize(module, "1[unit=0]", tokens, at | {"reduce": "mean"}, seed=seed)
    assert (found.data["nearest_token"] == 4).all()
    assert found.data["token_similarity"].values == pytest.approx(0.8, abs=5e-4)  # sqrt of single precision
    assert found.activation == pytest.approx(9, rel=1e-4)
    assert found.data["token_activation"][0] == pytest.approx(0.8 * 9, rel=1e-4)
    assert "7.2 instead of 9" in found.summary()
    assert not found.warnings
    assert found.data["random_activation"].max() < found.activation


@pytest.mark.parametrize("backend", ["torch", "transformer_lens"])
def test_tokens_of_a_transformer(backend):
    network = nm.load_model("induction")
    model = nm.adapt(nm.load_model("induction", backend=backend))
    tokens = torch.randint(1, 60, (40, 10), generator=torch.Generator().manual_seed(0))
    visualizer = FeatureVisualizer(model, n_starts=3, n_steps=80, progress=False)
    # a query is a linear function of the embedding
    query = visualizer.maximize("blocks.0.q[head=1, unit=5, position=-1]", tokens[:1], at="embed[position=-1]")
    table = network.token_embedding.weight.detach()
    row = network.blocks[0].attention.query.weight[16 + 5].detach()
    assert cosine(query.best, row) > 1 - 1e-6
    cosines = torch.nn.functional.normalize(table, dim=1) @ row / row.norm()
    assert int(query.data["nearest_token"][0]) == int(cosines.argmax())
    assert float(query.data["token_similarity"][0]) == pytest.approx(float(cosines.max()), abs=1e-5)
    # what is said of the real tokens is what the model does with them
    logit = visualizer.maximize("logits[unit=5, position=-1]", tokens[:1], examples=tokens)
    for start in range(3):
        real = torch.tensor(logit.data["nearest_token"].values[start][None])
        expected = float(network(real)[0, -1, 5].detach())
        assert float(logit.data["token_activation"][start]) == pytest.approx(expected, abs=1e-3)
    norms = np.linalg.norm(logit.data["stimulus"], axis=-1)
    assert norms == pytest.approx(float(table.norm(dim=1).median()), rel=1e-4)
    assert logit.activation > 2 * logit.data["example_activation"].max()
    assert logit.activation > logit.data["token_activation"].max()
    no_more_than_random = float(logit.data["token_activation"][0]) <= float(logit.data["random_activation"].max())
    assert ("nearest tokens reach no more than random" in " ".join(logit.warnings)) == no_more_than_random


def test_features_of_a_dictionary_are_units_too():
    class Halves:
        def encode(self, x):
            return torch.relu(torch.cat([x, -x], -1))

        def decode(self, features):
            return features[..., :5] - features[..., 5:]

    layer = linear()
    model = nm.adapt(nn.Sequential(layer, nn.Linear(5, 1))).with_sae(Halves(), "0")
    found = FeatureVisualizer(model, norm=4.0).maximize("0.sae.features[feature=7]", torch.zeros(1, 30))
    assert cosine(found.best, -layer.weight[2].detach()) > 1 - 1e-6


# -- confidence, examples, controls ------------------------------------------------------------------------------


def test_examples_are_compared_at_the_same_norm():
    layer = linear()
    weights = layer.weight[0].detach()
    examples = torch.cat([10 * normal(50, 30, seed=3), (0.1 * weights)[None]])
    found = maximize(layer, ":out[unit=0]", torch.zeros(1, 30), {"examples": examples}, norm=1.0)
    assert found.data.attrs["best_example"] == 50
    assert float(found.data["example_similarity"][50]) == pytest.approx(1, abs=1e-5)
    assert float(found.data["example_activation_rescaled"][50]) == pytest.approx(found.activation, rel=1e-5)
    assert np.linalg.norm(found.data["best_example"]) == pytest.approx(1, rel=1e-5)
    # as they are, larger examples reach more: that is no fault of the optimum
    assert found.data["example_activation"].max() > found.activation
    assert not found.warnings


def test_an_example_that_beats_the_optimum_is_told():
    hidden, found_easily = torch.eye(40)[0], torch.eye(40)[1]

    def needle(inputs):
        return (inputs @ found_easily + 50 * torch.relu(inputs @ hidden - 0.9))[:, None]

    examples = torch.cat([normal(20, 40), hidden[None]])
    found = maximize(Function(needle), ":out[unit=0]", torch.zeros(1, 40), {"examples": examples}, norm=1.0)
    assert cosine(found.best, found_easily) > 0.99
    assert found.warnings == ("example 20 of the data drives the unit more than the optimum that was found",)


def test_a_dead_unit_is_refused_and_silent_starts_are_counted():
    layer = nn.Sequential(linear(), nn.ReLU())
    with torch.no_grad():
        layer[0].bias[1] = -1e3
    for options in ({"norm": 1.0}, {"bounds": (-1.0, 1.0)}):
        with pytest.raises(nm.errors.InputError, match="does not respond to ':in': its gradient is 0"):
            maximize(layer, "1[unit=1]", torch.zeros(1, 30), **options)
    assert maximize(layer, "0[unit=1]", torch.zeros(1, 30), norm=1.0).agreement > 1 - 1e-6
    with torch.no_grad():
        layer[0].bias[1] = -0.6 * layer[0].weight[1].norm()  # one in some thousands of random stimuli drives it
    found = maximize(layer, "1[unit=1]", torch.zeros(1, 30), norm=1.0, n_starts=60)
    n_silent = found.attributes["n_silent_starts"]
    assert 0 < n_silent == 60 - found.data.sizes["start"]
    assert found.warnings == (f"{n_silent} of 60 starts found no stimulus to which the unit responds",)
    for stimulus in found.data["stimulus"].values:
        assert cosine(stimulus, layer[0].weight[1].detach()) > 1 - 1e-5
    before = maximize(
        nn.Sequential(linear(), linear(n_inputs=5)), "1[unit=0]", torch.zeros(1, 30), {"at": "0"}, norm=1.0
    )
    assert before.best.sizes["unit"] == 5
    with pytest.raises(nm.errors.InputError, match="does not respond to '1'"):
        maximize(nn.Sequential(linear(), linear(n_inputs=5)), "0[unit=0]", torch.zeros(1, 30), {"at": "1"}, norm=1.0)


def test_a_unit_that_no_stimulus_moves_far_is_no_optimum():
    flat = Function(lambda inputs: inputs.norm(dim=1, keepdim=True) + 1e-9 * inputs[:, :1])
    found = maximize(flat, ":out[unit=0]", torch.zeros(1, 30), norm=2.0)
    assert "no more than a random stimulus of the same energy reaches: this is no optimum" in found.warnings


# -- what is left alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_of_the_caller_is_changed(mode):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Dropout(0.5)).train()
    with torch.no_grad():
        net[0].weight.copy_(normal(2, 1, 3, 3, seed=4))
        net[0].bias.fill_(0.1)
    net[0].weight.requires_grad_(False)
    net[2].eval()
    before = copy.deepcopy(net)
    states = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    like = torch.zeros(1, 1, 8, 8)
    with mode():
        options = {"bounds": (0.0, 1.0), "n_steps": 20, "n_starts": 2, "jitter": 1}
        found = maximize(net, "3[channel=0, height=2, width=2]", like, {"examples": normal(3, 1, 8, 8)}, **options)
    assert np.isfinite(found.best).all()
    assert not like.any()
    for old, new in zip(before.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [part.training for part in net.modules()] == [part.training for part in before.modules()]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


class Failing(nn.Module):
    """A linear model that fails after some runs."""

    def __init__(self, n_runs):
        super().__init__()
        self.layer, self.left = linear(), n_runs

    def forward(self, inputs):
        self.left -= 1
        if self.left < 0:
            raise KeyError("lost")
        return self.layer(inputs)


@pytest.mark.parametrize("n_runs", [0, 3, 5, 9])
def test_an_error_of_the_model_says_when_and_leaves_all_as_it_was(n_runs):
    model = Failing(n_runs).train()
    model.layer.bias.requires_grad_(False)
    states = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyError, match="lost") as caught:
        maximize(model, "layer[unit=0]", torch.zeros(1, 30), norm=1.0)
    notes = " ".join(getattr(caught.value, "__notes__", ()))
    if n_runs >= 3:
        assert "in the search for the optimal stimulus of 'layer[unit=0]' at ':in'" in notes
    if n_runs == 9:
        assert re.search(r"in run \d of the ascent", notes)
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(old, new) for old, new in zip(before.values(), model.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


@pytest.mark.parametrize(("norm", "dtype"), [(1e19, torch.float32), (1e-18, torch.float32), (1e39, torch.float64)])
def test_any_norm_that_the_precision_holds_will_do(norm, dtype):
    layer = nn.Linear(30, 1, bias=False, dtype=dtype)
    found = maximize(layer, ":out[unit=0]", torch.zeros(1, 30, dtype=dtype), norm=norm, n_starts=3)
    assert cosine(found.best / norm, layer.weight) > 1 - 1e-6
    assert found.n_optima == 1


def test_an_optimum_in_the_middle_of_the_range_is_one():
    bowl = Function(lambda inputs: -(inputs - 0.5).square().sum(1, keepdim=True))
    found = maximize(bowl, ":out[unit=0]", torch.zeros(1, 6), bounds=(0.0, 1.0))
    assert found.best.values == pytest.approx(0.5, abs=1e-4)
    assert found.n_optima == 1
    assert found.agreement == 1


def test_a_seed_repeats_a_result():
    options = {"norm": 1.0, "n_steps": 3}
    one, two = (maximize(linear(), ":out[unit=0]", torch.zeros(1, 30), seed=7, **options) for _ in range(2))
    assert one.data.identical(two.data)
    other = maximize(linear(), ":out[unit=0]", torch.zeros(1, 30), seed=8, **options)
    assert not np.array_equal(one.data["stimulus"], other.data["stimulus"])


# -- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "site", "like", "options"),
    [
        (linear(), ":out[unit=0]", torch.zeros(1, 30), {"norm": 1.0}),
        (linear(n_inputs=90), ":out[unit=0]", torch.zeros(1, 90), {"norm": 1.0}),
        (LinearRNN(0), ":out[unit=0, position=-1]", torch.zeros(1, 9, 2), {"norm": 1.0}),
        (Function(lambda x: x.mean((1, 2))[:, None]), ":out[unit=0]", torch.zeros(1, 9, 12), {"bounds": (0.0, 1.0)}),
        (Function(lambda x: x.mean((1, 2, 3, 4))[:, None]), ":out[unit=0]", torch.zeros(1, 1, 2, 3, 3), {"norm": 1.0}),
        (cnn(0), "1[channel=0, height=1, width=1]", torch.zeros(1, 1, 16, 16), {"norm": 3.0}),
        (nn.Conv2d(3, 1, 5), ":out[channel=0, height=1, width=1]", torch.zeros(1, 3, 9, 7), {"bounds": (0.0, 1.0)}),
        (nn.Conv2d(2, 1, 5), ":out[channel=0, height=1, width=1]", torch.zeros(1, 2, 9, 7), {"norm": 1.0}),
        (nm.load_model("induction"), "logits[unit=5, position=-1]", torch.arange(6)[None], {}),
    ],
)
def test_every_kind_of_stimulus_is_drawn_and_kept(module, site, like, options, tmp_path):
    found = maximize(module, site, like, {"examples": like}, n_steps=10, n_starts=2, **options)
    ax = found.plot(matplotlib.figure.Figure(figsize=found.figure_size).subplots())
    assert ax.get_title(loc="left").startswith("Optimal stimulus of")
    assert "2 starts reach" in found.summary()
    assert nm.load_result(found.save(tmp_path / "found.nc")) == found
    assert {"start", "stimulus", "activation"} <= set(found.to_dataframe())


def test_images_are_drawn_on_one_scale_with_what_they_reach():
    examples = 10 * normal(5, 1, 16, 16)
    found = maximize(
        cnn(0), "1[channel=0, height=1, width=1]", torch.zeros(1, 1, 16, 16), {"examples": examples},
        norm=3.0, n_starts=3, n_steps=60,
    )  # fmt: skip
    ax = found.plot(matplotlib.figure.Figure(figsize=found.figure_size).subplots())
    labels = [label.get_text() for label in ax.get_xticklabels()]
    reached = float(found.data["example_activation_rescaled"].max())
    assert labels == [
        f"3 of 3 starts\nreach {found.activation:.3g}\nnorm 3",
        f"best example\nreaches {reached:.3g}\nnorm 3",
    ]
    (image,) = ax.images
    assert image.colorbar.ax.get_ylabel() == "value of a pixel"
    assert np.nanmax(np.abs(image.get_array()[:, 17:])) == pytest.approx(abs(found.data["best_example"]).max())
    assert "scaled to the optimum's norm of 3" in found.summary()


# -- what is refused ---------------------------------------------------------------------------------------------

LIKE = torch.zeros(1, 30)


@pytest.mark.parametrize(
    ("options", "call", "error", "message"),
    [
        ({"norm": None}, {}, "InputError", "neither"),
        ({"bounds": (0, 1)}, {}, "InputError", "both"),
        ({"norm": 0.0}, {}, "OptionError", "norm is out of range"),
        ({"norm": float("nan")}, {}, "OptionError", "norm is out of range"),
        ({"norm": 1e39}, {}, "OptionError", "norm does not fit the precision of the place, float32"),
        ({"norm": 1e-30}, {}, "OptionError", "norm does not fit the precision"),
        ({"norm": None, "bounds": (0.0, 1e39)}, {}, "OptionError", "bounds does not fit the precision"),
        ({"norm": None, "bounds": (1.0, 1.0 + 1e-12)}, {}, "OptionError", "apart by more than rounding"),
        ({"norm": None, "bounds": (1, 0)}, {}, "OptionError", "the upper of the bounds"),
        ({"norm": None, "bounds": (0, float("inf"))}, {}, "OptionError", "the upper of the bounds"),
        ({"norm": None, "bounds": 3.0}, {}, "OptionError", "bounds are two numbers"),
        ({"n_steps": 0}, {}, "OptionError", "n_steps is out of range"),
        ({"n_steps": -3}, {}, "OptionError", "n_steps is out of range"),
        ({"n_starts": 0}, {}, "OptionError", "n_starts is out of range"),
        ({"seed": -1}, {}, "InputError", "negative"),
        ({"parametrization": "fourrier"}, {}, "OptionError", "did you mean 'fourier'"),
        ({"parametrization": "fourier"}, {}, "OptionError", "only images"),
        ({"jitter": 2}, {}, "OptionError", "only images"),
        ({"jitter": 0.5}, {}, "OptionError", "jitter is out of range"),
        ({"rotate": 200.0}, {}, "OptionError", "rotate is out of range"),
        ({"rescale": 1.0}, {}, "OptionError", "rescale is out of range"),
        ({}, {"site": ":out"}, "InputError", "is not one unit"),
        ({}, {"site": "nowhere[unit=0]"}, "SiteError", "no site 'nowhere'"),
        ({}, {"site": ":out[unit=9]"}, "SiteError", "out of range"),
        ({}, {"site": ":out[head=0]"}, "SiteError", "no axis 'head'"),
        ({}, {"site": "*[unit=0]"}, "SiteError", "several sites"),
        ({}, {"site": ":out[unit=0, sample=0]"}, "SiteError", "index of samples"),
        ({}, {"at": "nowhere"}, "SiteError", "no site 'nowhere'"),
        ({}, {"reduce": "sum"}, "OptionError", "unknown reduce"),
        ({}, {"like": torch.zeros(2, 30)}, "InputError", "one sample"),
        ({}, {"like": torch.zeros(1, 29)}, "InputError", "could not run on these inputs"),
        ({}, {"like": torch.full((1, 30), torch.nan)}, "InputError", "not finite"),
        ({}, {"examples": torch.full((2, 30), torch.inf)}, "InputError", "not finite"),
        ({}, {"examples": torch.zeros(2, 29)}, "InputError", "could not run on these inputs"),
        ({}, {"vocabulary": torch.zeros(4, 3)}, "InputError", "no table of embeddings"),
    ],
)
def test_what_does_not_fit_is_refused(options, call, error, message):
    call = {"site": ":out[unit=0]", "like": LIKE} | call
    with pytest.raises(getattr(nm.errors, error), match=message):
        FeatureVisualizer(nm.adapt(linear()), **({"norm": 1.0} | options)).maximize(**call)


def test_images_and_sequences_of_another_shape_are_refused():
    with pytest.raises(nm.errors.InputError, match="could not run on these inputs"):
        maximize(cnn(0), "1[channel=0, height=1, width=1]", torch.zeros(1, 3, 20, 20), norm=1.0)
    with pytest.raises(nm.errors.InputError, match=r"add height=0, width=0"):
        maximize(cnn(0), "1[channel=0]", torch.zeros(1, 1, 20, 20), norm=1.0)
    examples = {"examples": torch.zeros(3, 8, 2)}
    with pytest.raises(nm.errors.InputError, match="another shape than the stimulus"):
        maximize(LinearRNN(0), ":out[unit=0, position=-1]", torch.zeros(1, 9, 2), examples, norm=1.0)


def test_models_that_cannot_be_climbed_are_refused():
    with pytest.raises(nm.errors.InputError, match="no adapter"):
        FeatureVisualizer(linear(), norm=1.0).maximize(":out[unit=0]", LIKE)
    recording = nm.adapt(nm.Recording(np.ones((3, 4)), dims=("sample", "unit")))
    with pytest.raises(nm.errors.CapabilityError, match="cannot be edited"):
        FeatureVisualizer(recording, norm=1.0).maximize("data[unit=0]", None)

    class WithoutGradients(type(nm.adapt(linear()))):
        capabilities = frozenset({"capture", "intervene"})

    with pytest.raises(nm.errors.CapabilityError, match="has no gradients"):
        FeatureVisualizer(WithoutGradients(linear()), norm=1.0).maximize(":out[unit=0]", LIKE)
    for odd in ("x", [[1.0], [1.0, 2.0]], object()):
        with pytest.raises(nm.errors.InputError, match="no table of embeddings"):
            FeatureVisualizer(nm.adapt(linear()), norm=1.0).maximize(":out[unit=0]", LIKE, vocabulary=odd)
    with pytest.raises(nm.errors.CapabilityError, match="by itself than in a batch"):
        maximize(Function(lambda x: x - x.mean(0) + x.square()), ":out[unit=0]", LIKE, norm=1.0)
    table = copy.deepcopy(nm.load_model("induction"))
    table.token_embedding.register_forward_hook(lambda _module, _inputs, output: output.tanh())
    with pytest.raises(nm.errors.InputError, match="pass vocabulary="):
        maximize(table, "logits[unit=5, position=-1]", torch.arange(6)[None])
