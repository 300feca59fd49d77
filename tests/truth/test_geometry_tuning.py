"""Planted tuning curves: what they explain, how fast and in how many dimensions they go, and how well they are read."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.geometry.tuning.manifold import tuning_manifold
from tests.slow import slow_case


class HeadDirection:
    """Cells with bumps of tuning and correlated normal noise."""

    def __init__(self, n_units=16, correlation=0.0, amplitude=3.0, width=2.0):
        self.preferred = np.linspace(0, 2 * np.pi, n_units, endpoint=False)
        self.amplitude, self.width = amplitude, width
        self.noise = (1 - correlation) * np.eye(n_units) + correlation

    def mean(self, heading):
        return self.amplitude * np.exp(self.width * (np.cos(heading[:, None] - self.preferred) - 1))

    def slope(self, heading):
        return -self.width * np.sin(heading[:, None] - self.preferred) * self.mean(heading)

    def trials(self, n_trials, seed):
        random = np.random.default_rng(seed)
        heading = random.uniform(0, 2 * np.pi, n_trials)
        noise = random.normal(size=(n_trials, len(self.preferred))) @ np.linalg.cholesky(self.noise).T
        return self.mean(heading) + noise, heading

    def explained(self):
        signal = self.mean(np.linspace(0, 2 * np.pi, 400, endpoint=False)).var(0)
        return float(np.mean(signal / (signal + 1)))

    def information(self, heading):
        slopes = self.slope(heading)
        return np.einsum("ti,ij,tj->t", slopes, np.linalg.inv(self.noise), slopes)

    def dimension(self):
        spectrum = np.linalg.eigvalsh(np.cov(self.mean(np.linspace(0, 2 * np.pi, 400, endpoint=False)).T))
        return spectrum.sum() ** 2 / (spectrum**2).sum()


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_planted_bumps_are_found(correlation):
    cells = HeadDirection(correlation=correlation)
    found = [tuning_manifold(*cells.trials(1000, seed), seed=seed) for seed in range(6)]
    assert np.mean([one.mean_r2 for one in found]) == pytest.approx(cells.explained(), abs=0.01)
    grid = found[0].data["value"].values
    # squared speed is the linear Fisher information
    information = np.mean([one.speed**2 for one in found], axis=0)
    assert information.mean() == pytest.approx(cells.information(grid).mean(), rel=0.03)
    assert information == pytest.approx(cells.information(grid), rel=0.25)
    assert np.mean([one.dimension for one in found]) == pytest.approx(cells.dimension(), rel=0.03)
    # at the bound of Cramer and Rao the error is normal
    bound = 0.6745 / cells.information(grid).mean() ** 0.5
    assert bound < np.mean([one.decoding_error for one in found]) < 1.15 * bound
    assert all(one.p == 0.05 for one in found)
    assert found[0].curves == pytest.approx(cells.mean(grid), abs=0.5)


@pytest.mark.parametrize(("n_seeds", "most"), [(20, 5), slow_case(150, 16)])
def test_shuffled_trials_explain_nothing(n_seeds, most):
    responses, heading = HeadDirection().trials(200, 0)
    found = [
        tuning_manifold(responses, np.random.default_rng(seed).permutation(heading), seed=seed)
        for seed in range(n_seeds)
    ]
    assert sum(one.p <= 0.05 for one in found) <= most  # .999 of a binomial distribution
    assert max(one.mean_r2 for one in found) < 0.01
    assert np.mean([one.mean_r2 for one in found]) < 0
    assert np.mean([one.decoding_error for one in found]) == pytest.approx(np.pi / 2, abs=0.12)
    assert np.mean([(one.speed**2).mean() for one in found]) < 0.5


def test_units_that_are_not_tuned_are_told_from_those_that_are():
    cells = HeadDirection()
    responses, heading = cells.trials(400, 0)
    responses[:, ::2] = np.random.default_rng(1).normal(size=(400, 8))
    found = tuning_manifold(responses, heading)
    assert (found.r2[::2] < 0.03).all()
    assert (found.r2[1::2] > 0.3).all()


def test_places_on_a_line():
    random = np.random.default_rng(0)
    place, centres = random.uniform(-3, 5, 800), np.linspace(-3, 5, 12)
    mean = 3 * np.exp(-((place[:, None] - centres) ** 2) / 2)
    responses = mean + random.normal(size=mean.shape)
    found = tuning_manifold(responses, place, period=None)
    assert found.mean_r2 == pytest.approx(np.mean(mean.var(0) / (mean.var(0) + 1)), abs=0.03)
    low, high = found.interval
    assert low < found.mean_r2 < high
    grid = found.data["value"].values
    slopes = -(grid[:, None] - centres) * 3 * np.exp(-((grid[:, None] - centres) ** 2) / 2)
    inner = (grid > -2) & (grid < 4)
    assert (found.speed**2)[inner].mean() == pytest.approx((slopes**2).sum(1)[inner].mean(), rel=0.1)
    assert found.decoding_error < 0.3
    # on a line the ends do not meet
    assert tuning_manifold(responses, place, period=8.0).mean_r2 < found.mean_r2


def test_cosines_draw_a_circle_in_a_plane():
    random = np.random.default_rng(0)
    heading = random.uniform(0, 360, 500)
    responses = np.cos(np.radians(heading[:, None] - np.arange(0, 360, 30))) + 0.5 * random.normal(size=(500, 12))
    found = tuning_manifold(responses, heading, period=360)
    assert found.dimension == pytest.approx(2, abs=0.05)
    assert found.attributes["n_terms"] == 1
    assert found.speed == pytest.approx(np.pi / 180 * 6**0.5 / 0.5, rel=0.1)  # the same everywhere


def test_units_of_measurement_do_not_matter_and_the_seed_repeats():
    responses, heading = HeadDirection().trials(200, 0)
    found = tuning_manifold(responses, heading)
    assert tuning_manifold(responses, heading).data.identical(found.data)
    other = tuning_manifold(1e3 * responses + 50, heading + 4 * np.pi)
    assert other.mean_r2 == pytest.approx(found.mean_r2)
    assert other.speed == pytest.approx(found.speed, rel=1e-6)


def test_few_trials_for_many_units_are_warned_of():
    with pytest.warns(UserWarning, match="independent"):
        tuning_manifold(*HeadDirection(60).trials(100, 0))


def test_constant_units_and_fine_tuning_are_warned_of():
    responses, heading = HeadDirection().trials(200, 0)
    responses[:, 3] = 1.0
    with pytest.warns(UserWarning, match="1 of 16 units never vary"):
        found = tuning_manifold(responses, heading)
    assert np.isnan(found.r2[3])
    assert np.isfinite(found.mean_r2)
    with pytest.warns(UserWarning, match="finer"):
        tuning_manifold(*HeadDirection(width=60.0, amplitude=20.0).trials(600, 0))


@pytest.mark.parametrize(
    ("responses", "stimulus", "problem"),
    [
        (np.ones((50, 3)), np.arange(50.0), "no unit varies"),
        (np.ones((50, 3)), np.arange(40.0), "does not fit the trials"),
        (np.random.default_rng(0).normal(size=(30, 3)), np.arange(30.0), "too few trials"),
        (np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2, "too few values"),
        (np.full((50, 3), np.nan), np.arange(50.0), "not finite"),
        (np.ones((50, 3)), np.full(50, np.nan), "not finite"),
    ],
)
def test_input_that_is_refused(responses, stimulus, problem):
    with pytest.raises(InputError, match=problem):
        tuning_manifold(responses, stimulus)


def test_options_that_do_not_exist():
    responses, heading = HeadDirection().trials(60, 0)
    for option in ({"period": -1.0}, {"n_permutations": 3}, {"level": 0.0}):
        with pytest.raises(OptionError):
            tuning_manifold(responses, heading, **option)
    with pytest.raises(InputError, match="folds"):
        tuning_manifold(responses, heading, cv=1)


def test_result_is_drawn_told_and_kept(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = tuning_manifold(*HeadDirection().trials(100, 0))
    assert found.plot(Figure().subplots()).get_ylabel().startswith("speed")
    assert "tuning explains" in found.summary()
    assert load_result(found.save(tmp_path / "tuning.nc")) == found
