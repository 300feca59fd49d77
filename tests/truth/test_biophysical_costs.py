"""Costs of activity: computed by hand, the published budget of a cortex, and what training makes of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.tasks import context_decision, flip_flop
from neuros_mechint.neuro.biophysics import costs
from neuros_mechint.neuro.biophysics.costs import metabolic_cost, rate_cost, synaptic_cost
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.training import masked_squared_error, train_biological
from neuros_mechint.neuro.fractals.priors.annealing import AnnealedWeight
from neuros_mechint.neuro.fractals.priors.loss import FractalRegularizationLoss
from neuros_mechint.neuro.fractals.priors.spectral import SpectralPrior
from tests.slow import slow_case

_SHORT = {"coherences": (1.0,), "cue_steps": 2, "stimulus_steps": 10, "response_steps": 3}


def _draw(random):
    return context_decision(32, **_SHORT, seed=random)


def _network(seed: int = 0, **options) -> EIRecurrentNetwork:
    return EIRecurrentNetwork(4, 30, 1, seed=seed, **options)


def _train(network=None, n_steps=30, **options):
    return train_biological(network or _network(), _draw, n_steps, progress=False, **options)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_costs_equal_loops_over_all_synapses():
    random = np.random.default_rng(0)
    rates, weights = random.random((3, 5, 4)), random.normal(size=(6, 4))
    squares = [rates[trial, step, j] ** 2 for trial in range(3) for step in range(5) for j in range(4)]
    assert float(rate_cost(torch.from_numpy(rates))) == pytest.approx(sum(squares) / 60, rel=1e-12)
    paid = 0.0
    for i in range(6):
        for j in range(4):
            paid += abs(weights[i, j]) * sum(rates[trial, step, j] for trial in range(3) for step in range(5)) / 15
    found = synaptic_cost(torch.from_numpy(rates), torch.from_numpy(weights))
    assert float(found) == pytest.approx(paid / 6, rel=1e-12)
    assert float(synaptic_cost(torch.tensor([1.0, 2.0]), torch.tensor([[-3.0, 0.5]]))) == 4.0


def test_the_energy_of_a_cortex_is_the_published_one():
    at_mean_rate = float(metabolic_cost(torch.full((2, 3), 4.0, dtype=torch.float64)))
    assert at_mean_rate == pytest.approx(3.29e9, rel=0.005)
    per_spike = float(metabolic_cost(torch.ones(1, dtype=torch.float64)) - metabolic_cost(torch.zeros(1)))
    assert per_spike == pytest.approx(7.1e8, rel=0.005)
    # the abstract: action potentials 47%, postsynaptic effects 34%, resting potential 13%, recycling 3%
    spikes, vesicles = 4 * costs.ATP_PER_ACTION_POTENTIAL, 4 * costs.VESICLES_PER_ACTION_POTENTIAL
    shares = [spikes, vesicles * 1.4e5, costs.ATP_AT_REST, vesicles * 1.1e4]
    assert [100 * share / at_mean_rate for share in shares] == pytest.approx([47, 34, 13, 3], abs=0.6)
    # and 145 mL of oxygen in 100 g and an hour for one more spike per second: 9.2e7 neurons per g, 6 ATP per O2
    moles = per_spike * 9.2e7 * 100 * 3600 / 6.022e23 / 6
    assert moles * 22.4e3 == pytest.approx(145, rel=0.02)


def test_gradients_are_those_of_finite_differences():
    random = torch.Generator().manual_seed(0)
    rates = (torch.rand(2, 3, 4, generator=random, dtype=torch.float64) + 0.1).requires_grad_()
    weights = (torch.randn(5, 4, generator=random, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(rate_cost, rates)
    assert torch.autograd.gradcheck(synaptic_cost, (rates, weights))
    assert torch.autograd.gradcheck(lambda x: metabolic_cost(x) / 1e8, rates)


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
@pytest.mark.parametrize(("weight", "cost"), [("rate_weight", "rate_cost"), ("synapse_weight", "synaptic_cost")])
def test_training_with_a_cost_lowers_it_below_that_of_training_without(seed, weight, cost):
    ends = {}
    for strength in (0.0, 0.3):
        data = _train(_network(seed), 100, learning_rate=5e-3, seed=seed, **{weight: strength}).history.data
        ends[strength] = float(data[cost][-20:].mean())
    assert ends[0.3] < 0.85 * ends[0.0]  # six seeds: .43 to .74 for rates, .24 to .34 for synapses
    assert ends[0.3] < float(data[cost][0])


def _fractal_end(seed: int, weight: float) -> tuple[float, float]:
    """Train on a flip-flop; return the root of the prior's loss at the end, and the accuracy."""
    trained = train_biological(
        EIRecurrentNetwork(1, 30, 1, alpha=0.5, nonlinearity="softplus", seed=seed),
        lambda random: flip_flop(16, 128, n_bits=1, seed=random),
        150,
        fractal=FractalRegularizationLoss({"spectral": (SpectralPrior(-1.0, axis=1, average=(0,)), weight)}),
        learning_rate=5e-3,
        seed=seed,
        progress=False,
    )
    test = flip_flop(64, 128, n_bits=1, seed=99)
    with torch.no_grad():
        outputs, rates = trained.model.run(test.inputs)
        away = SpectralPrior(-1.0, axis=1, average=(0,))(rates).sqrt()
    assert (trained.history.data["compliance"] == 1).all()
    return float(away), float((outputs.sign() == test.targets)[test.mask].float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_spectral_prior_and_dales_law_hold_together(seed):
    away, accuracy = _fractal_end(seed, 0.5)
    free, _ = _fractal_end(seed, 1e-9)
    assert away < 0.6 * free
    assert accuracy > 0.7  # and rising: these are 150 steps; chance is .5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_terms_together_still_solve_the_decision_task(seed):
    task = {"coherences": (1.0,), "cue_steps": 4, "stimulus_steps": 48, "response_steps": 12}
    prior = SpectralPrior(-1.0, axis=1, average=(0,))
    model, history = train_biological(
        EIRecurrentNetwork(4, 40, 1, alpha=0.3, nonlinearity="softplus", noise=0.1, seed=seed),
        lambda random: context_decision(32, **task, seed=random),
        400,
        fractal=FractalRegularizationLoss({"spectral": (prior, 0.1)}),
        rate_weight=0.01,
        synapse_weight=0.01,
        learning_rate=5e-3,
        seed=seed,
        progress=False,
    )
    test = context_decision(256, **task, seed=99)
    with torch.no_grad():
        outputs, rates = model.run(test.inputs)
        away = float(prior(rates).sqrt())
    assert (history.data["compliance"] == 1).all()
    assert float((outputs.sign() == test.targets)[:, -1].float().mean()) > 0.95
    assert away < 0.4


def test_the_loss_is_the_sum_of_its_parts_and_annealed_priors_advance():
    weight = AnnealedWeight(0.0, 0.4, n_steps=10)
    prior = FractalRegularizationLoss({"spectral": (SpectralPrior(-1.0, axis=1, average=(0,)), weight)})
    trained = train_biological(
        _network(),
        lambda random: context_decision(8, stimulus_steps=60, seed=random),
        6,
        fractal=prior,
        rate_weight=0.2,
        synapse_weight=0.1,
        progress=False,
    )
    data = trained.history.data
    parts = data["task_loss"] + data["fractal_loss"] + 0.2 * data["rate_cost"] + 0.1 * data["synaptic_cost"]
    np.testing.assert_allclose(data["total_loss"], parts, rtol=1e-5)
    assert float(data["fractal_loss"][0]) == 0.0 < float(data["fractal_loss"][1])
    assert prior.step == 0  # the caller's own stands where it was


def test_the_network_given_stays_as_it_was_and_seeds_repeat():
    network = _network(noise=0.1)
    before, state = {name: one.clone() for name, one in network.state_dict().items()}, torch.get_rng_state()
    one, same, other = (_train(network, 5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert network.training
    assert not one.model.training
    assert one.history.data.identical(same.history.data)
    assert not one.history.data.identical(other.history.data)
    assert not torch.equal(one.model.cell.recurrent.weight, network.cell.recurrent.weight)


def test_training_stops_when_validation_no_longer_improves_and_returns_the_best():
    held_out = context_decision(64, **_SHORT, seed=7)
    options = {"validation": held_out, "check_every": 5, "patience": 2, "learning_rate": 0.05}
    model, history = _train(n_steps=400, **options)
    losses = history.data["validation_loss"].values
    assert history.attributes["stopped_early"]
    assert history.data.sizes["step"] == history.data["check"].values[-1] < 400
    assert losses.argmin() == len(losses) - 3
    with torch.no_grad():
        assert float(masked_squared_error(model(held_out.inputs), held_out)) == pytest.approx(losses.min(), rel=1e-5)


def test_checks_under_annealed_priors_compare_and_every_step_can_be_looked_at():
    held_out = context_decision(8, stimulus_steps=60, seed=7)
    prior = SpectralPrior(-1.0, axis=1, average=(0,))
    seen: dict[int, float] = {}

    def look(step, model):
        with torch.no_grad():
            outputs, rates = model.run(held_out.inputs)
            seen[step] = float(masked_squared_error(outputs, held_out) + 0.4 * prior(rates))

    trained = train_biological(
        _network(),
        lambda random: context_decision(8, stimulus_steps=60, seed=random),
        4,
        fractal=FractalRegularizationLoss({"spectral": (prior, AnnealedWeight(0.0, 0.4, n_steps=4))}),
        validation=held_out,
        check_every=2,
        after_step=look,
        progress=False,
    )
    assert list(seen) == [1, 2, 3, 4]
    # with the weight at the end, also after two steps, when training still has half of it
    np.testing.assert_allclose(trained.history.data["validation_loss"], [seen[2], seen[4]], rtol=1e-5)


def test_a_history_is_told_drawn_and_kept(tmp_path):
    history = _train(validation=context_decision(16, **_SHORT, seed=7), check_every=10, rate_weight=0.1).history
    assert "least share of weights of their source's sign at any step: 100%" in history.summary()
    assert "30 of 30 steps" in history.summary()
    axes = history.plot()
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["task loss", "rate cost × weight", "validation loss"]
    assert load_result(history.save(tmp_path / "history.nc")) == history
    assert load_result(_train(n_steps=2).history.save(tmp_path / "short.nc")).data.sizes["check"] == 0


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "log"), (-1.0, "linear"), (0.0, "linear")])
def test_losses_of_any_sign_are_drawn(factor, scale):
    options = {"task_loss": lambda outputs, trials: factor * outputs.square().mean(), "rate_weight": 1e-3}
    axes = _train(n_steps=1, **options).history.plot()
    assert axes.get_yscale() == scale
    drawn = axes.get_lines()[0]
    assert len(drawn.get_ydata()) == 1
    assert drawn.get_marker() == "."  # of one step there is no line
    assert np.isfinite(drawn.get_ydata()).all()


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [rate_cost, metabolic_cost, lambda rates: synaptic_cost(rates, torch.ones(2, 2))])
@pytest.mark.parametrize(
    ("rates", "match"),
    [
        (torch.tensor([1.0, -0.1]), "negative"),
        (torch.tensor([1.0, float("nan")]), "not finite"),
        (torch.tensor([1.0, float("inf")]), "not finite"),
        (torch.zeros(0, 2), "no rates"),
        (torch.tensor(1.0), "no rates"),
        ([1.0, 2.0], "no tensor"),
    ],
)
def test_rates_that_are_none_are_refused(cost, rates, match):
    with pytest.raises(InputError, match=match):
        cost(rates)


@pytest.mark.parametrize("weights", [torch.ones(2, 3), torch.ones(2), torch.full((2, 2), float("nan"))])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        synaptic_cost(torch.ones(4, 2), weights)


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 0},
        {"rate_weight": -1.0},
        {"synapse_weight": float("nan")},
        {"learning_rate": 0.0},
        {"largest_gradient": 0.0},
        {"check_every": 0},
        {"patience": 0, "validation": context_decision(4, **_SHORT)},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(OptionError):
        _train(**options)


@pytest.mark.parametrize(
    ("draw", "match"),
    [(context_decision(4, **_SHORT), "draw is no function"), (lambda random: torch.zeros(2), "no trials of a task")],
)
def test_what_draws_no_trials_is_refused(draw, match):
    with pytest.raises(InputError, match=match):
        train_biological(_network(), draw, 3, progress=False)


def test_patience_needs_validation():
    with pytest.raises(InputError, match="validation"):
        _train(patience=3)


def _trials(inputs=None, targets=None, mask=None):
    return SimpleNamespace(
        inputs=torch.zeros(2, 5, 4) if inputs is None else inputs,
        targets=torch.zeros(2, 5, 1) if targets is None else targets,
        mask=torch.ones(2, 5, 1, dtype=torch.bool) if mask is None else mask,
    )


@pytest.mark.parametrize(
    ("trials", "match"),
    [
        (_trials(inputs=torch.full((2, 5, 4), float("nan"))), "inputs of the trials: some values are not finite"),
        (_trials(targets=torch.full((2, 5, 1), float("inf"))), "targets of the trials: some values are not finite"),
        (_trials(inputs=torch.zeros(2, 5, 3)), "inputs do not fit"),
        (_trials(targets=torch.zeros(2, 5, 2), mask=torch.ones(2, 5, 2, dtype=torch.bool)), "targets do not fit"),
        (_trials(targets=torch.zeros(2, 5, 2)), "mask of the trials does not fit"),
        (_trials(mask=torch.ones(2, 5, 1, dtype=torch.int64)), r"mask of the trials(.|\n)*int64"),
        (_trials(inputs=np.zeros((2, 5, 4))), "no trials of a task(.|\n)*without inputs"),
        (_trials(inputs=torch.zeros(2, 5, 4).double()), "another precision"),
        (_trials(targets=torch.zeros(2, 5, 1) * 1j), "no real numbers"),
        ((torch.zeros(2, 5, 4), torch.zeros(2, 5, 1)), "no trials of a task"),
        (_trials(mask=torch.zeros(2, 5, 1, dtype=torch.bool)), "no answer"),
    ],
)
def test_trials_that_do_not_fit_are_refused(trials, match):
    with pytest.raises(InputError, match=match):
        train_biological(_network(), lambda random: trials, 3, progress=False)


def test_trials_of_validation_are_looked_at_before_training():
    with pytest.raises(InputError, match="mask of the trials"):
        _train(validation=_trials(mask=torch.ones(2, 5, 1)), check_every=50)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"task_loss": lambda outputs, trials: outputs.sum() * math.nan}, "task_loss gave no loss"),
        ({"task_loss": lambda outputs, trials: outputs.sum((0, 1))}, r"task_loss gave no loss(.|\n)*shape \(1,\)"),
        ({"task_loss": lambda outputs, trials: 1.0}, "task_loss gave no loss"),
        ({"task_loss": lambda outputs, trials: outputs.detach().square().mean()}, "no gradient leads"),
        ({"task_loss": lambda outputs, trials: (outputs.sum() * 0).sqrt()}, "gradients of step 1 are not finite"),
        ({"task_loss": None}, "task_loss is no function"),
        ({"after_step": 3}, "after_step is no function"),
        ({"fractal": 0.1}, "no priors"),
    ],
)
def test_losses_that_cannot_be_followed_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        _train(**options)


def test_a_network_that_cannot_be_trained_is_refused():
    with pytest.raises(InputError, match="EIRecurrentNetwork"):
        train_biological(torch.nn.Linear(2, 2), lambda random: None, 3, progress=False)
    with pytest.raises(InputError, match="no gradient leads"):
        train_biological(_network().requires_grad_(False), lambda random: _trials(), 3, progress=False)


@pytest.mark.parametrize("rates", [torch.ones(2, 3) * 1j, torch.ones(2, 3).to_sparse(), torch.ones(2, 3).int(), None])
def test_rates_that_are_no_real_numbers_cost_nothing(rates):
    for cost in (rate_cost, metabolic_cost, lambda given: synaptic_cost(given, torch.ones(1, 3))):
        with pytest.raises(InputError, match="rates are no"):
            cost(rates)
    with pytest.raises(InputError, match="weights are no tensor"):
        synaptic_cost(torch.ones(2, 3), None)


def test_activity_without_bounds_is_refused():
    network = _network(spectral_radius=1e4, alpha=1.0)
    with pytest.raises(InputError, match="grows without bounds"):
        train_biological(network, lambda random: context_decision(4, seed=random), 3, progress=False)
