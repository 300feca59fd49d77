"""Passages that trials cut off, and what a caller of energy landscapes may get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.systems import double_well
from neuros_mechint.datasets.thermal import langevin
from neuros_mechint.neuro.information.energy.landscape import EnergyLandscape
from neuros_mechint.neuro.information.energy.passages.waits import observed_passage
from neuros_mechint.neuro.information.energy.results import DensityLandscape
from tests.truth.test_energy_landscape import DT, KT, exact_time, quiet


@pytest.fixture(scope="module")
def wells():
    return langevin(double_well, [[-1.0], [1.0]] * 75, 3000, dt=DT, temperature=KT, discard=500, seed=0)


# -- passages that were seen -------------------------------------------------------------------------------------------


def test_waits_that_trials_cut_off_and_ways_that_take_time():
    """Waits of mean 40 and then 20 on the way, in trials of 60: all time by arrivals would be 80 and not 60."""
    random, trials = np.random.default_rng(0), []
    for _ in range(4000):
        leaves = int(random.exponential(40.0))
        places = np.full(leaves + 40, -1)
        places[: leaves + 1], places[leaves + 20 :] = 0, 1
        trials.append(places[:60] if len(places) > 60 else np.append(places, np.ones(60 - len(places), dtype=int)))
    found = observed_passage(trials, 1.0)
    assert found.mean == pytest.approx(59.5, abs=3 * found.error)
    assert found.error < 1.6
    assert all(len(places) == 60 for places in trials)


def test_waits_of_long_trials_are_all_that_was_waited_by_arrivals():
    random = np.random.default_rng(0)
    places = np.concatenate([[kind] * int(random.exponential(30.0) + 1) for _ in range(500) for kind in (0, 1)])
    waited = (places == 0).sum() / 500
    assert observed_passage([places], 2.0).mean == pytest.approx(2 * waited, rel=0.02)


@pytest.mark.slow
def test_passages_seen_in_trials_as_long_as_they_take_are_those_of_the_double_integral():
    """Without the time in transit it is 8% too long: 25.2 where 23.3 is exact."""
    seen = []
    for seed in range(4):
        x = langevin(double_well, [[-1.0], [1.0]] * 200, n_steps=2000, temperature=KT, seed=seed)
        data = quiet(x=x, temperature=KT, dt=0.01).landscape_.data
        seen += [float(data["observed_time"][0, 1]), float(data["observed_time"][1, 0])]
    assert np.mean(seen) == pytest.approx(exact_time(), rel=0.06)


# -- what a caller may get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["density", "histogram"])
def test_rounded_values_are_refused_until_their_noise_is_added(method):
    """Of values with one decimal each would be a minimum."""
    x = np.random.default_rng(0).normal(size=(3000, 1))
    with pytest.raises(InputError, match=r"values come in steps(.|\n)*steps of 0.1 in dimension 0"):
        quiet(method, x=np.round(x, 1))
    noise = np.random.default_rng(1).uniform(-0.05, 0.05, x.shape)
    assert quiet(method, x=np.round(x, 1) + noise).n_minima_ == 1
    if method == "density":
        assert quiet(method, x=np.round(x, 1), bandwidth=0.2).n_minima_ == 1


@pytest.mark.parametrize("options", [{"bandwidth": 1e6}, {"bandwidth": 1e-9}, {"bandwidth": [0.1, 0.1]}])
def test_bandwidths_that_no_grid_holds(options, wells):
    """Kernels a million wide would need as many cells."""
    with pytest.raises(OptionError, match="bandwidth"):
        quiet(x=wells[:4], **options)


def test_more_bins_than_a_grid_holds(wells):
    with pytest.raises(OptionError, match="n_bins is out of range"):
        quiet("histogram", x=wells[:4], n_bins=10**6)


def test_trials_taken_for_times_are_told(wells):
    with pytest.raises(InputError, match=r"read as 1 trial of 40 times of 1400 units(.|\n)*x\[:, :, None\]"):
        quiet(x=wells[:40, :1400, 0])
    found = quiet(x=np.concatenate([wells[:150, :300, 0]] * 2)[:250])
    assert any("x[:, :, None]" in text for text in found.landscape_.warnings)


def test_states_of_another_coding_have_no_energy():
    spins = np.random.default_rng(0).choice([-1.0, 1.0], size=(500, 3))
    fitted = quiet("ising", x=spins)
    for states in ([[0.0, 1.0, 1.0]], [[3.0, 1.0, 1.0]]):
        with pytest.raises(InputError, match="not coded as those of the fit"):
            fitted.energy(states)
    assert np.allclose(quiet("ising", x=(spins + 1) / 2).energy((spins[:5] + 1) / 2), fitted.energy(spins[:5]))


def test_verdicts_are_properties(wells):
    fitted = quiet(x=wells, temperature=KT, dt=DT)
    found = fitted.landscape_
    assert fitted.n_minima_ == found.n_minima == 2
    assert fitted.balance_p_ == found.balance_p > 0.05
    assert not fitted.balance_broken_
    assert isinstance(found, DensityLandscape)
    assert fitted.observed_times_[0, 1] == found.observed_times[0, 1] == float(found.data["observed_time"][0, 1])
    plane = quiet(x=langevin(double_well, [[-1.0, 0.0], [1.0, 0.0]] * 10, 1000, dt=DT, temperature=KT))
    with pytest.raises(OptionError, match="from one minimum to another"):
        plane.path(0, 0)


def test_states_on_a_line_have_a_landscape_along_it(wells):
    line = wells[:20]
    along = quiet(x=line * np.array([1.0, 2.0, -2.0]))
    assert along.minima_.shape == (2, 1)
    assert sorted(along.minima_[:, 0]) == pytest.approx([-3, 3], abs=0.3)
    with pytest.raises(InputError, match="states lie on a line"):
        quiet(x=line * np.array([1.0, 2.0]))


def test_trials_of_two_times_are_refused():
    with pytest.raises(InputError, match="too short to see how states move"):
        quiet(x=np.random.default_rng(0).normal(size=(300, 2, 1)))
    spins = np.random.default_rng(0).choice([-1.0, 1.0], size=(300, 2, 3))  # of binary states order does not matter
    assert quiet("ising", x=spins).couplings_.shape == (3, 3)


def test_units_that_are_on_or_off_belong_to_the_other_method():
    states = np.random.default_rng(0).choice([-1.0, 1.0], size=(2000, 6))
    with pytest.raises(InputError, match="method='ising'"):
        EnergyLandscape().fit(states)
