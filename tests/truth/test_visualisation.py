"""Optimal stimuli against closed forms: weights, eigenvectors, filters, impulse responses, rows of an embedding."""

from __future__ import annotations

import copy
import random
import re

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.visualisation.quasi_newton import maximise
from neuros_mechint.causal.visualisation.stimuli import Stimuli, transformed
from tests.slow import slow_case
from tests.truth.small_networks import normal
from tests.truth.visualised_networks import SEEDS, Function, cnn, cosine, each_seed, gabor, linear, maximize

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


def frequency(image):
    """Return the strongest frequency of an image, in cycles per pixel along each axis."""
    power = np.abs(np.fft.fft2(np.asarray(image), (128, 128)))
    row, column = np.unravel_index(power.argmax(), power.shape)
    y, x = np.fft.fftfreq(128)[[row, column]]
    return np.array([y, x])


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
@pytest.mark.parametrize("parametrisation", ["fourier", "direct"])
def test_a_gabor_unit_recovers_its_filter(seed, parametrisation):
    examples = normal(100, 1, 20, 20, seed=seed)
    field = np.zeros((20, 20))
    field[4:15, 6:17] = gabor(seed)
    options = {"norm": 3.0, "seed": seed, "parametrisation": parametrisation, "n_starts": 3}
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


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
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
