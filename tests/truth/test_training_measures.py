"""Noise scale, sharpness, learning coefficient and kernels against closed forms, exact Hessians and quadrature."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import ortho_group
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError
from neuros_mechint.core.random import torch_generator
from neuros_mechint.training.learning_coefficient import Settings, langevin_chain, local_learning_coefficient
from neuros_mechint.training.noise_scale import gradient_noise_scale, part_gradients
from neuros_mechint.training.norms import by_layer, layer_norms, learning_speed
from neuros_mechint.training.objective import Objective
from neuros_mechint.training.sharpness import largest_eigenvalue, sharpness
from neuros_mechint.training.similarity import kernel_vector, trajectory
from tests.slow import slow_case

mse = nn.functional.mse_loss


def half_mse(output, target):
    return (output - target).square().mean() / 2


def line(weights):
    """A linear model of given weights, without an intercept."""
    model = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(weights, dtype=torch.float32)[None])
    return model


def network(seed=0, sizes=(3, 6, 2)):
    torch.random.fork_rng()
    random = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(sizes[0], sizes[1]), nn.Tanh(), nn.Linear(sizes[1], sizes[2])]
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random, dtype=torch.float64) / 2)
    x = torch.randn(20, sizes[0], generator=random, dtype=torch.float64)
    return model, x, torch.randn(20, sizes[2], generator=random, dtype=torch.float64)


# -- gradient noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_noise_scale_of_linear_regression_is_that_of_the_closed_form(noise):
    """Of normal inputs: signal |d|^2, noise (n + 1) |d|^2 + n noise^2, where d is how far the weights are off."""
    away = np.array([1.0, -1.0, 0.5, 0.0, 0.0])
    truth = ((5 + 1) * (away @ away) + 5 * noise**2) / (away @ away)
    found = []
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        x, error = torch.randn(2000, 5, generator=random), noise * torch.randn(2000, 1, generator=random)
        found.append(gradient_noise_scale(line(away), x, error, half_mse, n_parts=50))
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(truth, abs=3 * values.std() / 20**0.5)
    assert values.std() < 0.15 * truth
    assert np.mean([low < truth < high for low, high in (one.interval for one in found)]) >= 0.8
    assert np.mean([one.error for one in found]) == pytest.approx(values.std(), rel=0.6)


def test_at_a_minimum_the_gradient_is_lost_in_its_noise():
    random = torch.Generator().manual_seed(1)
    x = torch.randn(400, 5, generator=random)
    found = gradient_noise_scale(line(np.zeros(5)), x, torch.randn(400, 1, generator=random), half_mse)
    assert found.value > 300
    assert found.warnings
    random = torch.Generator().manual_seed(0)
    few = torch.randn(8, 5, generator=random)
    lost = gradient_noise_scale(line(np.zeros(5)), few, torch.randn(8, 1, generator=random), half_mse, n_parts=4)
    assert lost.value == np.inf
    assert "lost in its noise" in lost.summary()
    assert lost.plot().texts[0].get_text() == "infinite"
    without = gradient_noise_scale(line(np.ones(5)), x[:1].repeat(64, 1), torch.zeros(64, 1), half_mse)
    assert without.value == pytest.approx(0, abs=1e-5)  # samples that are all alike: no noise


def test_parts_of_other_sizes_make_the_gradient_of_all():
    model, x, y = network()
    objective = Objective(model, x, y, mse)
    loss, whole = objective.gradient()
    parts = part_gradients(objective, 7)
    assert sorted(set(parts.sizes)) == [2, 3]
    assert parts.loss == pytest.approx(loss)
    for one, other in zip(parts.total, whole, strict=True):
        torch.testing.assert_close(one, other)


# -- sharpness ---------------------------------------------------------------------------------------------------------


def hessian(model, x, y):
    """The exact one, by autograd."""
    objective = Objective(model, x, y, mse)
    return torch.func.hessian(lambda w: objective.value(weights=w))(objective.flat_weights())


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_is_the_largest_eigenvalue_of_the_exact_hessian(seed):
    model, x, y = network(seed)
    exact = torch.linalg.eigvalsh(hessian(model, x, y))
    found = sharpness(model, x, y, mse, tolerance=1e-8, seed=seed)
    assert exact[0] < 0  # a saddle: the largest, not the largest in size
    assert found.value == pytest.approx(float(exact[-1]), rel=1e-6)
    assert not found.warnings
    assert found.largest_rate == pytest.approx(2 / found.value)


def test_gradient_descent_settles_below_the_largest_rate_and_not_above():
    x = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    found = sharpness(line([1.0, 1.0]), x, torch.zeros(2, 1), mse)

    def descend(rate):
        model = line([1.0, 1.0])
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(100):
            optimizer.zero_grad()
            mse(model(x), torch.zeros(2, 1)).backward()
            optimizer.step()
        return float(model.weight.detach().abs().max())

    assert descend(0.95 * found.largest_rate) < 0.1
    assert descend(1.05 * found.largest_rate) > 10


def test_a_search_that_stops_early_says_so():
    random = np.random.default_rng(0)
    values = torch.as_tensor(np.sort(random.uniform(0, 1, 300)))
    matrix = torch.as_tensor(ortho_group.rvs(300, random_state=0)) * values
    matrix = matrix @ torch.as_tensor(ortho_group.rvs(300, random_state=0)).T
    short = largest_eigenvalue(lambda v: matrix @ v, torch.ones(300, dtype=torch.float64), most_products=5)
    assert short.residual > 1e-2
    # there is an eigenvalue that near
    assert float((values - short.value).abs().min()) <= short.residual
    model, x, y = network()
    assert "most_products" in sharpness(model, x, y, mse, most_products=2).warnings[0]


def test_a_loss_that_is_linear_in_the_weights_is_flat():
    found = sharpness(line([1.0, 1.0]), torch.ones(4, 2), loss=torch.mean)
    assert found.value == 0
    assert found.largest_rate == np.inf


# -- local learning coefficient ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 5))])
def test_a_regular_model_has_half_as_many_as_weights(seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 6, generator=random)
    model = line(np.ones(6))
    found = local_learning_coefficient(
        model, x, model(x).detach(), mse, n_chains=3, n_steps=800, seed=seed, progress=False
    )
    # in closed form: each direction of curvature h adds half of n beta h / (n beta h + localisation)
    strength = 300 / np.log(300)
    curvature = torch.linalg.eigvalsh(2 * x.T @ x / 300).double().numpy()
    exact = 0.5 * (strength * curvature / (strength * curvature + 1)).sum()
    assert exact == pytest.approx(6 / 2, rel=0.02)
    assert abs(found.value - exact) < 4 * found.error + 0.05
    assert found.value == pytest.approx(3, rel=0.2)
    # what the loss holds and what the localisation holds make all of them
    assert found.value + found.held == pytest.approx(3, rel=0.2)


def quadrature(strength, localisation):
    """Mean of strength * (a b)^2 under exp(-strength (a b)^2 - localisation (a^2 + b^2) / 2); b in closed form."""

    def weight(a):
        return np.exp(-localisation * a**2 / 2) / np.sqrt(localisation + 2 * strength * a**2)

    def mean_given(a):
        return strength * a**2 / (localisation + 2 * strength * a**2)

    total = quad(weight, 0, 10, points=[1e-3, 1e-2, 0.1], limit=500)[0]
    return quad(lambda a: weight(a) * mean_given(a), 0, 10, points=[1e-3, 1e-2, 0.1], limit=500)[0] / total


def test_a_product_of_two_weights_has_one_half_where_a_regular_model_has_one():
    # twofold, so the approach to 1/2 is slow: as 1 / log(n)
    limits = [quadrature(10.0**power, 1.0) for power in (2, 4, 6, 12)]
    assert limits == sorted(limits)
    assert 0.45 < limits[-1] < 0.5

    def product(w, _):
        return (w[0] * w[1]) ** 2

    def both(w, _):
        return w.square().sum()

    settings = Settings(strength=300.0, localisation=1.0, n_steps=1200, n_blocks=1, step_size=None)
    exact = quadrature(300.0, 1.0)
    found = [300 * langevin_chain(product, torch.zeros(2), settings, torch_generator(seed)).loss for seed in range(3)]
    assert abs(np.mean(found) - exact) < 4 * np.std(found, ddof=1) / 3**0.5
    assert np.mean(found) == pytest.approx(exact, abs=0.1)
    assert abs(np.mean(found) - 0.5) < 0.2
    regular = langevin_chain(both, torch.zeros(2), settings, torch_generator(0))
    assert 300 * regular.loss == pytest.approx(1, abs=0.1)


def test_weights_that_do_nothing_are_held_by_the_localisation_alone():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))

        def forward(self, x):
            return x @ self.used + 0 * self.idle.sum()

    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    model = Idle()
    found = local_learning_coefficient(model, x, model(x).detach(), mse, n_chains=2, n_steps=600, progress=False)
    assert found.value == pytest.approx(1.5, abs=0.4)
    assert found.held == pytest.approx(2, abs=0.6)


@pytest.mark.slow
def test_blocks_of_samples_come_near_the_exact_chain():
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    model = line(np.ones(6))
    y = model(x).detach() + 0.1 * torch.randn(300, 1, generator=torch.Generator().manual_seed(1))
    found = local_learning_coefficient(model, x, y, mse, batch_size=50, n_chains=2, n_steps=2000, progress=False)
    assert found.value == pytest.approx(3, rel=0.3)


def test_away_from_a_minimum_the_coefficient_is_negative_and_says_so():
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    found = local_learning_coefficient(line([3.0, 3.0]), x, torch.zeros(100, 1), mse, n_steps=200, progress=False)
    assert found.value < 0
    assert "no minimum" in found.warnings[0]


def test_steps_that_are_too_long_are_told():
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    model = line([1.0, 1.0])
    y = model(x).detach()
    found = local_learning_coefficient(model, x, y, mse, n_steps=100, step_size=10.0, progress=False)
    assert any("too long" in text for text in found.warnings)


# -- likeness of representations ---------------------------------------------------------------------------------------


def test_kernels_give_the_debiased_cka_of_the_library_and_share_its_invariances():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 40, 7))
    y += x
    rotation = ortho_group.rvs(7, random_state=0)
    vectors = [kernel_vector(one) for one in (x, y, 3 * x @ rotation + 1, random.normal(size=(40, 7)))]
    products = np.stack(vectors) @ np.stack(vectors).T
    assert products[0, 1] == pytest.approx(nm.CKA().score(x, y), rel=1e-10)
    assert products[0, 2] == pytest.approx(1, rel=1e-12)
    assert np.diag(products) == pytest.approx(np.ones(4))
    assert abs(products[0, 3]) < 0.25  # nothing shared
    assert np.isnan(kernel_vector(np.ones((5, 2)))).all()


def test_a_trajectory_has_the_distances_of_cka():
    random = np.random.default_rng(0)
    start, end = random.normal(size=(2, 30, 5))
    vectors = np.stack([kernel_vector((1 - t) * start + t * end) for t in np.linspace(0, 1, 6)])
    places, share = trajectory(vectors @ vectors.T, 5)
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    np.testing.assert_allclose(apart**2, 2 - 2 * vectors @ vectors.T, atol=1e-10)
    assert (np.diff(share) <= 0).all()
    assert share.sum() == pytest.approx(1)
    assert places[-1, 0] > places[0, 0]


# -- norms -------------------------------------------------------------------------------------------------------------


def test_learning_speed_is_the_change_relative_to_the_layer_and_by_step():
    before = [torch.full((2, 2), 2.0), torch.zeros(2), torch.ones(3)]
    now = [torch.full((2, 2), 2.0), torch.full((2,), 0.4), torch.ones(3)]
    layers = by_layer(["0.weight", "0.bias", "head.weight"])
    assert list(layers) == ["0", "head"]
    np.testing.assert_allclose(learning_speed(before, now, layers, 10), [0.4 * 2**0.5 / 4 / 10, 0])
    np.testing.assert_allclose(layer_norms(now, layers), [(16 + 0.32) ** 0.5, 3**0.5], rtol=1e-6)
    assert np.isnan(learning_speed([torch.zeros(2)], [torch.ones(2)], {"new": [0]}, 1)).all()


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [gradient_noise_scale, sharpness, local_learning_coefficient])
def test_bad_input_is_refused(method):
    model, x, y = network()
    with pytest.raises(InputError, match="no loss"):
        method(model, x)
    with pytest.raises(InputError, match="no scalar"):
        method(model, x, y, lambda output, target: (output - target).square())
    with pytest.raises(InputError, match="do not fit"):
        method(model, x, y[:5], mse)
    with pytest.raises(InputError, match="not finite"):
        method(model, x * torch.nan, y, mse)
    with pytest.raises(InputError, match="could not run"):
        method(model, x[:, :2], y, mse)
    with pytest.raises(CapabilityError, match="no weights that are trained"):
        method(network()[0].requires_grad_(False), x, y, mse)


def test_options_out_of_range_are_refused():
    model, x, y = network()
    with pytest.raises(InputError, match="fewer samples than parts"):
        gradient_noise_scale(model, x, y, mse, n_parts=21)
    for options in ({"n_chains": 1}, {"localisation": 0}, {"n_steps": 1}, {"step_size": -1.0}, {"n_samples": 2}):
        with pytest.raises(OptionError):
            local_learning_coefficient(model, x, y, mse, **options)
    with pytest.raises(OptionError, match="tolerance"):
        sharpness(model, x, y, mse, tolerance=0)


def test_a_loss_that_is_not_finite_has_no_sharpness_and_no_coefficient():
    model, x, y = network()
    for method in (sharpness, local_learning_coefficient):
        with pytest.raises(InputError, match="not finite"):
            method(model, x, y, lambda output, target: mse(output, target) / 0)


def test_results_are_saved_and_drawn(tmp_path):
    model, x, y = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = [
            gradient_noise_scale(model, x, y, mse, n_parts=4),
            sharpness(model, x, y, mse),
            local_learning_coefficient(model, x, y, mse, n_steps=20, progress=False),
        ]
    for one in found:
        assert nm.load_result(one.save(tmp_path / "one.nc")) == one
        assert f"{one.value:.3g}"[:3] in one.summary()
        one.plot()
