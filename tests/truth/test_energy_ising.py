"""Pairwise maximum entropy models against planted ones, scipy and independent units; energies of Hopfield networks."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.thermal import ising_states
from neuros_mechint.neuro.information.energy.binary.fitted import counted_valleys, descended_valleys
from neuros_mechint.neuro.information.energy.binary.ising import exact_fit, pseudo_fit
from neuros_mechint.neuro.information.energy.binary.walsh import pairwise_energies, states_of
from neuros_mechint.neuro.information.energy.hopfield import asymmetry, hopfield_energy
from neuros_mechint.neuro.information.energy.landscape import EnergyLandscape
from neuros_mechint.neuro.information.energy.valleys.basins import find_basins, hypercube, keep_certain
from tests.slow import slow_case


def planted(n_units, seed, strength=1.0):
    random = np.random.default_rng(seed)
    upper = np.triu(random.normal(size=(n_units, n_units)) * strength * np.sqrt(2 / n_units), 1)
    return random.normal(size=n_units) * 0.1, upper + upper.T


def quiet(*args, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return EnergyLandscape(*args, **options).fit(x)


def upper(couplings):
    return couplings[np.triu_indices(len(couplings), 1)]


def deep_minima(fields, couplings, barrier):
    """Minima that a flood leaves when it fills valleys shallower than a barrier."""
    energy = pairwise_energies(fields, couplings)

    def deep(basins, merger):
        return merger.energy - energy[basins.minima[merger.dies]] > barrier

    basins = keep_certain(energy, find_basins(energy, hypercube(len(fields))), deep)
    return {tuple(state) for state in states_of(basins.minima, len(fields))}


# -- planted couplings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_planted_couplings_and_minima(seed):
    fields, couplings = planted(8, seed, 0.8)
    fitted = quiet("ising", x=ising_states(fields, couplings, 50_000, seed))
    assert np.corrcoef(upper(fitted.couplings_), upper(couplings))[0, 1] >= 0.995
    errors = upper(fitted.couplings_ - couplings)
    assert np.sqrt((errors**2).mean()) < 0.02
    assert 0.6 < (errors / upper(fitted.couplings_se_)).std() < 1.4
    assert np.abs(fitted.fields_ - fields).max() < 0.05
    found = {tuple(state) for state in fitted.minima_}
    # valleys shallower than twice their error may go either way
    assert deep_minima(fields, couplings, 0.25) <= found <= deep_minima(fields, couplings, 0.0)


def test_errors_cover_planted_couplings():
    fields, couplings = planted(5, 0, 0.7)
    off = []
    for seed in range(40):
        fit = exact_fit(ising_states(fields, couplings, 2000, seed))
        off.append(upper(fit.couplings - couplings) / upper(fit.couplings_error))
    assert np.std(off) == pytest.approx(1, abs=0.12)
    assert np.mean(off) == pytest.approx(0, abs=0.15)
    by_units = [pseudo_fit(ising_states(fields, couplings, 2000, seed)) for seed in range(40)]
    assert np.std([upper(fit.couplings - couplings) / upper(fit.couplings_error) for fit in by_units]) < 1.12


def test_exact_fit_equals_scipy():
    states = ising_states(*planted(6, 1), 3000, 1)
    first, second = np.triu_indices(6, 1)

    def features(rows):
        return np.concatenate([rows, rows[:, first] * rows[:, second]], axis=1)

    all_features, wanted = features(states_of(np.arange(64), 6)), features(states).mean(0)

    def loss(parameters):
        weight = all_features @ parameters
        chance = np.exp(weight - weight.max())
        value = np.log(chance.sum()) + weight.max() - parameters @ wanted
        return value, all_features.T @ chance / chance.sum() - wanted

    other = minimize(loss, np.zeros(21), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    fit = exact_fit(states)
    assert np.concatenate([fit.fields, upper(fit.couplings)]) == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize(("n_units", "n_samples"), [(21, 3000), slow_case(30, 50_000)])
def test_many_units_by_pseudo_likelihood(n_units, n_samples):
    fields, couplings = planted(n_units, 0, 0.5)
    fitted = quiet("ising", x=ising_states(fields, couplings, n_samples, 0))
    assert fitted.landscape_.attributes["method"] == "pseudo-likelihood"
    assert np.corrcoef(upper(fitted.couplings_), upper(couplings))[0, 1] >= (0.97 if n_samples < 50_000 else 0.995)
    assert 0.85 < (upper(fitted.couplings_ - couplings) / upper(fitted.couplings_se_)).std() < 1.15
    assert fitted.energy(fitted.minima_)[0] == pytest.approx(0)


def test_descended_valleys_are_those_that_counting_finds():
    fields, couplings = planted(9, 3, 1.2)
    states = ising_states(fields, couplings, 20_000, 3)
    fit = exact_fit(states)
    counted, descended = counted_valleys(fit, states, 1.0), descended_valleys(fit, states)
    places = [[i for i, one in enumerate(descended.states) if (one == state).all()] for state in counted.states]
    assert all(len(place) == 1 for place in places)
    at = [place[0] for place in places]
    assert (descended.passes[np.ix_(at, at)] >= counted.passes - 1e-9).all()  # upper bounds
    assert np.median(descended.passes[np.ix_(at, at)] - counted.passes) < 0.3
    assert counted.shares.sum() == pytest.approx(1)
    seen = np.bincount(counted.of_sample) / len(states)
    assert seen == pytest.approx(counted.shares, abs=0.02)


# -- negative controls -------------------------------------------------------------------------------------------------


def test_independent_units_have_no_couplings():
    rejected, extra = [], 0
    for seed in range(10):
        states = np.random.default_rng(seed).random((5000, 6)) < [0.1, 0.2, 0.3, 0.5, 0.6, 0.5]
        fitted = quiet("ising", x=states)
        rejected += (
            np.abs(upper(fitted.couplings_ / np.where(fitted.couplings_se_, fitted.couplings_se_, 1))) > 2
        ).tolist()
        extra += len(fitted.minima_) - 1
        assert "couplings do not help" in " ".join(fitted.landscape_.warnings)
    assert np.mean(rejected) < 0.1
    assert extra == 0


def test_fair_coins_have_one_minimum():
    for seed in range(5):
        states = np.random.default_rng(seed).integers(2, size=(5000, 7))
        assert len(quiet("ising", x=states).minima_) == 1


def test_triplets_are_no_pairs():
    random = np.random.default_rng(0)
    states = random.choice([-1.0, 1.0], size=(4000, 6))
    states[:, 2] = states[:, 0] * states[:, 1]
    states[:, 5] = states[:, 3] * states[:, 4]
    found = quiet("ising", x=states).landscape_
    assert found.attributes["triples_off"] >= 0.1
    assert found.attributes["held_out_gain"] < 0.01
    pairs = quiet("ising", x=ising_states(*planted(6, 0), 4000, 0)).landscape_
    assert pairs.attributes["triples_off"] <= 0.1
    assert pairs.attributes["held_out_gain"] > 0.1
    assert pairs.attributes["entropy"] < pairs.attributes["independent_entropy"]


def test_memory_widens_errors():
    states = ising_states(*planted(4, 0, 0.5), 1500, 0)
    alone, held = quiet("ising", x=states), quiet("ising", x=np.repeat(states, 10, axis=0))
    assert held.couplings_ == pytest.approx(alone.couplings_, abs=1e-6)
    assert upper(held.couplings_se_) == pytest.approx(upper(alone.couplings_se_), rel=0.35)
    assert "samples depend on each other" in " ".join(held.landscape_.warnings)


# -- coding, bad data, forms -------------------------------------------------------------------------------------------


def test_coding_is_declared_and_changes_nothing():
    spins = ising_states(*planted(4, 0), 2000, 0)
    one, other = quiet("ising", x=spins), quiet("ising", x=(spins > 0))
    assert np.array_equal(one.couplings_, other.couplings_)
    assert (one.landscape_.attributes["coding"], other.landscape_.attributes["coding"]) == ("-1 and 1", "0 and 1")
    assert one.energy(spins[:3]) == pytest.approx(other.energy(spins[:3] > 0))
    assert one.energy(one.minima_)[0] == pytest.approx(0)


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (np.zeros((300, 3)), "units never change"),
        (np.arange(900).reshape(300, 3) % 3, "not binary"),
        (np.repeat([[0, 0], [1, 1]], 150, axis=0), "would be infinite"),
        (np.zeros((100, 3)), "too few samples"),
        (np.arange(300)[:, None] % 2, "one unit has no pairs"),
        (np.where(np.arange(900).reshape(300, 3) == 5, np.nan, 1.0), "NaN or infinite"),
    ],
)
def test_bad_states(x, problem):
    with pytest.raises(InputError, match=problem):
        EnergyLandscape("ising").fit(x)


def test_a_prior_keeps_couplings_finite():
    states = np.repeat([[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]], 150, axis=0)
    with pytest.raises(InputError, match="units 0 and 1: never active and silent"):
        EnergyLandscape("ising").fit(states)
    fitted = quiet("ising", penalty=1e-3, x=states)
    assert 1 < fitted.couplings_[0, 1] < 5
    assert quiet("pseudolikelihood", penalty=1e-3, x=states).couplings_[0, 1] > 1


def test_results_are_kept_and_drawn(tmp_path):
    found = quiet("ising", x=ising_states(*planted(6, 1, 1.2), 3000, 1)).landscape_
    assert load_result(found.save(tmp_path / "ising.nc")) == found
    assert "minimum 0:" in found.summary()
    assert found.plot().get_xlabel()
    assert found.plot_tree().get_ylabel() == "energy (kT)"
    with pytest.raises(InputError, match="no paths"):
        quiet("ising", x=ising_states(*planted(4, 0), 2000, 0)).path(0, 1)


def test_drawn_states_and_their_inputs():
    states = ising_states([0.3] * 21, np.zeros((21, 21)), 4000)  # by Gibbs sampling
    assert states.mean() == pytest.approx(np.tanh(0.3), abs=0.01)
    with pytest.raises(InputError, match="couplings do not fit"):
        ising_states([0.0, 0.0], [[0.0, 1.0], [0.5, 0.0]], 10)


# -- Hopfield networks -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memories():
    patterns = np.random.default_rng(0).choice([-1.0, 1.0], size=(3, 60))
    weights = patterns.T @ patterns / 60
    np.fill_diagonal(weights, 0)
    return patterns, weights


def test_asynchronous_updates_only_lower_the_energy(memories):
    patterns, weights = memories
    random = np.random.default_rng(1)
    for pattern in patterns:
        state = pattern * random.choice([1, -1], p=[0.8, 0.2], size=60)
        energies = []
        for unit in random.permutation(np.tile(np.arange(60), 4)):
            state[unit] = np.sign(weights[unit] @ state) or 1.0
            energies.append(hopfield_energy(weights, state).item())
        assert (np.diff(energies) <= 1e-12).all()
        assert np.array_equal(state, pattern)
        near = pattern * np.where(np.eye(60) == 1, -1, 1)
        assert (hopfield_energy(weights, near) > hopfield_energy(weights, pattern)).all()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "linear"])
def test_continuous_dynamics_only_lower_the_energy(activation, memories):
    weights = (4 if activation in ("tanh", "sigmoid") else 0.5) * torch.from_numpy(memories[1])
    bias = torch.linspace(-0.2, 0.2, 60, dtype=torch.float64)
    rate = getattr(torch, activation, lambda u: u)
    u = torch.from_numpy(np.random.default_rng(2).normal(size=(8, 60)))
    states = [u]
    for _ in range(300):
        states.append(states[-1] + 0.02 * (-states[-1] + rate(states[-1]) @ weights + bias))
    energies = hopfield_energy(weights, torch.stack(states), bias, activation)
    assert (np.diff(energies, axis=0) < 1e-9).all()
    assert (energies[0] - energies[-1] > 0.1).all()


def test_gradient_of_the_energy_is_the_dynamics():
    """dE / dr = -(du / dt): by differences, for rates that saturate and rates that do not."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(3, 3))
    weights, u, bias = weights + weights.T, random.normal(size=3) + 0.5, random.normal(size=3)
    for activation, inverse in (("tanh", np.arctanh), ("sigmoid", lambda r: np.log(r / (1 - r)))):
        rate = np.tanh if activation == "tanh" else (lambda u: 1 / (1 + np.exp(-u)))
        moved = inverse(rate(u) + 1e-6 * np.concatenate([np.eye(3), -np.eye(3)]))
        up, down = hopfield_energy(weights, moved, bias, activation).reshape(2, 3)
        assert (up - down) / 2e-6 == pytest.approx(u - weights @ rate(u) - bias, abs=1e-6)


def test_circling_networks_have_no_energy(memories):
    weights = memories[1]
    assert asymmetry(weights) == 0
    random = np.random.default_rng(0).normal(size=(60, 60)) * (1 - np.eye(60))
    assert asymmetry(random) == pytest.approx(1, abs=0.1)
    with pytest.raises(InputError, match="not symmetric"):
        hopfield_energy(random, memories[0])
    with pytest.warns(UserWarning, match="asymmetry"):
        hopfield_energy(weights + 0.01 * np.abs(weights).mean() * random, memories[0])


@pytest.mark.parametrize(
    ("weights", "states", "options", "problem"),
    [
        (np.zeros((2, 3)), np.ones(2), {}, "no square matrix"),
        (np.eye(2), np.ones(3), {}, "states do not fit"),
        (np.eye(2), [0.0, 1.0], {}, "binary states are -1 and 1"),
        (-np.eye(2), np.ones(2), {}, "self-connections"),
        (np.eye(2), np.ones(2), {"bias": [1.0]}, "bias does not fit"),
        (np.eye(2), np.ones(2), {"activation": "softplus"}, "unknown activation"),
        (np.eye(2) * np.nan, np.ones(2), {}, "not finite"),
    ],
)
def test_bad_networks(weights, states, options, problem):
    with pytest.raises((InputError, OptionError), match=problem):
        hopfield_energy(weights, states, **options)


def test_two_units_are_told_in_words():
    """They have no triples."""
    random = np.random.default_rng(0)
    first = random.choice([-1.0, 1.0], size=1000)
    fitted = EnergyLandscape(method="ising").fit(np.stack([first, first * random.choice([1, 1, -1], 1000)], 1))
    assert "triple" not in fitted.landscape_.summary()
    assert fitted.couplings_[0, 1] == pytest.approx(np.arctanh(1 / 3), abs=0.08)


def test_energies_that_no_number_holds_are_refused():
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(InputError, match="too large for their products"):
        hopfield_energy(weights, [[1e200, 1e308]], activation="relu")
    assert hopfield_energy(weights, [[1e9, -1e9]], activation="tanh") == pytest.approx(1 + 2 * np.log(2), abs=1e-5)
