"""Energy landscapes of trajectories: double wells with known barriers and passage times, and systems without minima."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.systems import double_well, duffing, rotating_decay
from neuros_mechint.datasets.thermal import langevin
from neuros_mechint.neuro.information.energy.density.blocks import make_blocks
from neuros_mechint.neuro.information.energy.density.densities import kernel_density
from neuros_mechint.neuro.information.energy.density.grids import counts_of_blocks, grid_around
from neuros_mechint.neuro.information.energy.landscape import EnergyLandscape
from neuros_mechint.neuro.information.energy.passages.balance import coarse_states, detailed_balance
from neuros_mechint.neuro.information.energy.passages.passage import passage_time, passage_times_on_grid
from neuros_mechint.neuro.information.energy.valleys.basins import (
    find_basins,
    hypercube,
    lattice,
    lowest_ways,
    merge_tree,
)
from tests.slow import slow_case

KT, DT = 0.35, 0.01
METHODS = ("density", "histogram", "score")


def quiet(*args, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return EnergyLandscape(*args, **options).fit(x)


def exact_time(kT=KT):
    """From -1 to 1 in (x^2 - 1)^2, by the double integral on a fine grid."""
    grid = np.linspace(-3, 3, 60_001)
    weight = np.exp(-((grid**2 - 1) ** 2) / kT)
    below = np.concatenate([[0], np.cumsum((weight[1:] + weight[:-1]) / 2)]) * (grid[1] - grid[0])
    way = (grid >= -1) & (grid <= 1)
    return np.trapezoid(below[way] / weight[way], grid[way]) / kT


@pytest.fixture(scope="module")
def wells():
    return langevin(double_well, [[-1.0], [1.0]] * 150, 6000, dt=DT, temperature=KT, discard=500, seed=0)


@pytest.fixture(scope="module")
def wells_in_a_plane():
    start = [[-1.0, 0.0], [1.0, 0.0]] * 25
    return langevin(double_well, start, 4000, dt=DT, temperature=KT, discard=300, seed=3)


# -- the double well ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_double_well(method, wells):
    fitted = EnergyLandscape(method, temperature=KT, dt=DT).fit(wells)
    assert np.sort(fitted.minima_[:, 0]) == pytest.approx([-1, 1], abs=0.05)
    assert fitted.barriers_[[0, 1], [1, 0]] == pytest.approx([1, 1], abs=0.1)
    assert fitted.occupancy_ == pytest.approx([0.5, 0.5], abs=0.06)
    data = fitted.landscape_.data
    times, errors = (data[name].values[[0, 1], [1, 0]] for name in ("passage_time", "passage_error"))
    assert times.mean() == pytest.approx(exact_time(), rel=0.05)
    assert (np.abs(times - exact_time()) < 3 * errors).all()
    # what was seen, and Kramers' formula, which is a fifth too short at 3 kT
    seen, seen_errors = (data[name].values[[0, 1], [1, 0]] for name in ("observed_time", "observed_error"))
    assert (np.abs(seen - exact_time()) < 3 * seen_errors).all()
    assert data["kramers_time"].values[[0, 1], [1, 0]].mean() == pytest.approx(0.83 * exact_time(), rel=0.08)
    assert data["diffusion"].item() == pytest.approx(KT, rel=0.02)
    assert not fitted.landscape_.attributes["balance_broken"]


def test_passage_times_of_the_true_landscape_are_exact():
    grid = grid_around(np.array([[-2.5], [2.5]]), 1001, 0.0)
    energy = (grid.axes[0] ** 2 - 1) ** 2 / KT
    cells = [grid.cells(np.array([[place]])) for place in (-1.0, 1.0)]
    exact = passage_time(energy, float(grid.step[0]), int(cells[0][0]), int(cells[1][0]), KT)
    assert exact == pytest.approx(exact_time(), rel=1e-3)
    hops = passage_times_on_grid(energy, grid, cells, np.array([KT]))
    assert hops[[0, 1], [1, 0]] == pytest.approx(exact_time(), rel=2e-3)
    assert 2 * np.pi / np.sqrt(8 * 4) * np.exp(1 / KT) == pytest.approx(0.83 * exact_time(), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_double_well_over_seeds(method):
    times, barriers = [], []
    for seed in range(5):
        x = langevin(double_well, [[-1.0], [1.0]] * 60, 20_000, dt=DT, temperature=KT, discard=500, seed=seed)
        fitted = quiet(method, temperature=KT, dt=DT, x=x)
        times.append(fitted.passage_times_[[0, 1], [1, 0]].mean())
        barriers += fitted.barriers_[[0, 1], [1, 0]].tolist()
        assert np.sort(fitted.minima_[:, 0]) == pytest.approx([-1, 1], abs=0.05)
    assert np.mean(times) == pytest.approx(exact_time(), rel=0.03)
    assert times == pytest.approx([exact_time()] * 5, rel=0.08)
    assert barriers == pytest.approx([1] * 10, abs=0.1)


@pytest.mark.parametrize("method", ["density", *map(slow_case, ("histogram", "score"))])
def test_double_well_in_a_plane(method, wells_in_a_plane):
    fitted = quiet(method, temperature=KT, dt=DT, x=wells_in_a_plane)
    assert fitted.minima_[np.argsort(fitted.minima_[:, 0])] == pytest.approx(np.array([[-1, 0], [1, 0]]), abs=0.3)
    assert fitted.barriers_[[0, 1], [1, 0]] == pytest.approx([1, 1], abs=0.15)
    times = fitted.passage_times_[[0, 1], [1, 0]]
    assert times.mean() == pytest.approx(exact_time(), rel=0.15)
    found = fitted.landscape_.data["observed_time"].values[[0, 1], [1, 0]]
    assert times.mean() == pytest.approx(found.mean(), rel=0.2)


def test_path_over_a_fitted_landscape(wells_in_a_plane):
    fitted = quiet("score", temperature=KT, dt=DT, x=wells_in_a_plane)
    path = fitted.path(0, 1)
    assert path.converged
    assert path.saddle == pytest.approx([0, 0], abs=0.1)
    assert path.barrier == pytest.approx(fitted.barriers_[0, 1], abs=0.02)
    assert path.points[0] == pytest.approx(fitted.minima_[0], abs=0.05)
    with pytest.raises(OptionError, match="unknown end 2"):
        fitted.path(0, 2)


def test_more_units_are_projected(wells_in_a_plane):
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0][:2]
    x = wells_in_a_plane @ mixing
    fitted = quiet(temperature=KT, dt=DT, x=x + 0.01 * np.random.default_rng(1).normal(size=x.shape))
    assert "first 2 principal components of 6 units" in fitted.landscape_.attributes["coordinates"]
    assert len(fitted.minima_) == 2
    given = quiet(temperature=KT, dt=DT, projection=mixing[:1].T, x=x)
    assert np.sort(given.minima_[:, 0]) == pytest.approx([-1, 1], abs=0.06)
    assert given.energy(x[0, :5]).shape == (5,)


def test_barriers_of_a_tree_by_hand():
    energy = np.array([0.0, 3.0, 1.0, 2.0, 0.5, 4.0, 2.5])
    basins = find_basins(energy, lattice((7,)))
    assert basins.minima.tolist() == [0, 4, 2, 6]
    assert [(merger.energy, merger.dies, merger.into) for merger in merge_tree(energy, basins)] == [
        (2.0, 2, 1),
        (3.0, 1, 0),
        (4.0, 3, 0),
    ]
    assert energy[lowest_ways(energy, basins)][0, 1:].tolist() == [3.0, 3.0, 4.0]


def test_lowest_ways_over_a_hypercube_equal_a_flood():
    energy = np.random.default_rng(0).normal(size=2**7)
    basins = find_basins(energy, hypercube(7))
    ways = lowest_ways(energy, basins)
    for a, b in [(0, 1), (0, len(ways) - 1), (2, 3)]:
        below = energy[ways[a, b]]
        for level, meets in ((below, True), (below - 1e-9, False)):
            reached, front = {int(basins.minima[a])}, [int(basins.minima[a])]
            while front:
                node = front.pop()
                near = [node ^ (1 << unit) for unit in range(7)]
                new = [one for one in near if energy[one] <= level and one not in reached]
                reached |= set(new)
                front += new
            assert (int(basins.minima[b]) in reached) is meets


def test_kernels_equal_scipy():
    from scipy.stats import gaussian_kde

    samples = np.random.default_rng(0).normal(size=(400, 2))
    grid = grid_around(samples, 128, 0.1)
    counts = counts_of_blocks(samples, np.zeros(400, dtype=np.intp), 1, grid, shared=True)[0]
    width = 0.4 * samples.std(0, ddof=1)
    near = np.exp(-0.5 * (((grid.centres[:, None] - samples) / width) ** 2).sum(2)).sum(1) / (
        400 * 2 * np.pi * width.prod()
    )
    found = kernel_density(counts, grid, width).ravel()
    assert np.abs(found - near).max() < 2e-3 * near.max()
    one = gaussian_kde(samples[:, 0], 0.3)
    line = grid_around(samples[:, :1], 512, 0.1)
    counts = counts_of_blocks(samples[:, :1], np.zeros(400, dtype=np.intp), 1, line, shared=True)[0]
    found = kernel_density(counts, line, np.array([0.3 * samples[:, 0].std(ddof=1)]))
    assert np.abs(found - one(line.axes[0])).max() < 1e-3 * found.max()


# -- negative controls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 20))])
def test_noise_has_one_minimum(method, seed):
    random = np.random.default_rng(seed)
    assert len(quiet(method, x=random.normal(size=5000)).minima_) == 1
    assert len(quiet(method, x=random.normal(size=(5000, 2)) @ [[1, 0.5], [0, 1]]).minima_) == 1
    if method != "score":
        assert len(quiet(method, x=random.uniform(size=5000)).minima_) == 1


@pytest.mark.parametrize("method", METHODS)
def test_one_well_has_one_minimum(method):
    x = langevin(lambda state: -state, np.zeros((20, 1)), 3000, dt=0.02, temperature=0.5, discard=300, seed=0)
    fitted = quiet(method, dt=0.02, x=x)
    assert fitted.minima_ == pytest.approx(np.zeros((1, 1)), abs=0.12)
    shape = fitted.energy([[-1.0], [0.0], [1.0]])
    assert shape[[0, 2]] - shape[1] == pytest.approx([1, 1], abs=0.2)  # x^2 / 2 by kT = .5


def test_independent_samples_have_no_passage_times():
    random = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="hardly further over two samples than over one"):
        fitted = EnergyLandscape().fit(random.choice([-3, 3], size=4000) + random.normal(size=4000))
    assert np.isnan(fitted.passage_times_[0, 1])
    assert len(fitted.minima_) == 2


def test_polynomials_refuse_what_they_cannot_follow():
    random = np.random.default_rng(0)
    with pytest.raises(InputError, match="sharp edge"):
        EnergyLandscape("score").fit(random.uniform(size=5000))
    with pytest.raises(InputError, match="does not follow"):
        EnergyLandscape("score").fit(np.concatenate([random.normal(size=2000), random.normal(size=2000) + 20]))


@pytest.mark.slow
def test_cut_passes_of_polynomials_are_refused():
    """Three narrow wells: eight degrees are too few, and make barriers of 3 kT of 5."""
    corners = torch.tensor([[0.0, 1.0], [0.866, -0.5], [-0.866, -0.5]], dtype=torch.float64)

    def force(state):
        away = state[:, None] - corners
        share = torch.softmax(-away.square().sum(2) / 0.18, 1)
        return -(share[..., None] * away).sum(1) / 0.09

    x = langevin(force, np.zeros((40, 2)), 3000, dt=DT, temperature=0.7, discard=300, seed=0)
    with pytest.raises(InputError, match=r"barrier of .* kT that kernels show"):
        quiet("score", dt=DT, x=x)
    fitted = quiet(dt=DT, x=x)
    assert len(fitted.minima_) == 3
    assert np.linalg.norm(fitted.minima_, axis=1) == pytest.approx([1, 1, 1], abs=0.15)


def test_what_may_be_chance_is_told_and_not_counted():
    random = np.random.default_rng(1)
    x = np.repeat(random.choice([-1.0, 1.0], size=24), 50) + 0.3 * random.normal(size=1200)
    fitted = quiet(x=np.concatenate([x, 0.3 * random.normal(size=300)]))
    told = fitted.landscape_.attributes["may_be_chance"]
    assert len(fitted.minima_) + len(told) >= 2
    assert all(dip["barrier"] > 2 * dip["error"] for dip in told)
    assert ("may be chance" in fitted.landscape_.summary()) == bool(told)


# -- detailed balance --------------------------------------------------------------------------------------------------


def turning(rotation, n_trials=20):
    def drift(state):
        return rotating_decay(state, rotation=rotation)

    return langevin(drift, np.zeros((n_trials, 2)), 2000, dt=0.02, temperature=0.5, discard=200, seed=3)


def test_circling_is_called_a_quasipotential():
    with pytest.warns(
        UserWarning, match=r"quasi-potential, not energy: entropy production [\d.]+ nats per unit of time"
    ):
        fitted = EnergyLandscape(dt=0.02).fit(turning(1.5))
    about = fitted.landscape_.attributes
    assert about["balance_broken"]
    assert 1 < about["entropy_production"] < 4.5  # coarse states show a part of 2 w^2 / a
    assert fitted.landscape_.title == "Quasi-potential landscape"
    assert f"entropy production at least {about['entropy_production']:.2g} nats per unit of time" in (
        fitted.landscape_.summary()
    )


def test_balance_is_rejected_as_often_as_it_says():
    still, rejected = turning(0.0, n_trials=40), 0
    for first in range(0, 40, 2):
        trials = list(still[first : first + 2])
        states = coarse_states(np.concatenate(trials))
        random = np.random.default_rng(first)
        rejected += detailed_balance(states, [2000, 2000], make_blocks(trials), 0.02, random).broken
    assert rejected <= 4  # of 20, at 5%


# -- what is wrong with the data ---------------------------------------------------------------------------------------


def test_smooth_movement_is_no_diffusion():
    time = np.linspace(0, 200, 8000)
    found = quiet(x=np.sin(time) + 0.3 * np.sin(2.3 * time)).landscape_.warnings
    assert any("move smoothly" in text for text in found)


def test_wandering_states_are_flagged():
    random = np.random.default_rng(0)
    found = quiet(x=random.normal(size=5000) + np.linspace(0, 2, 5000)).landscape_.warnings
    assert any("not stationary" in text for text in found)
    assert not quiet(x=random.normal(size=(20, 250, 1)) + 3).landscape_.warnings[1:]


def test_minima_with_nothing_between_are_flagged():
    random = np.random.default_rng(0)
    halves = np.concatenate([random.normal(size=(10, 200)), random.normal(size=(10, 200)) + 20], axis=1)
    fitted = quiet(x=halves[..., None])
    assert any("no sample lies between minima" in text for text in fitted.landscape_.warnings)
    assert len(fitted.minima_) == 2
    short = quiet(x=np.concatenate([random.normal(size=500), random.normal(size=500) + 20]))
    assert any("times their memory" in text for text in short.landscape_.warnings)


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (np.ones(500), "a constant has no landscape"),
        (np.arange(50.0), "too few samples"),
        (np.where(np.arange(500) == 7, np.nan, 1.0), "NaN or infinite"),
        (np.zeros((500, 0)), "empty"),
        (np.where(np.arange(500) == 7, 1e6, np.sin(np.arange(500.0))), "lie so far out"),
        (np.zeros((2, 3, 4, 5)), "not clear which axis"),
        (np.ma.masked_less(np.arange(500.0), 3), "mask"),
        (np.array(["a"] * 500), "no real numbers"),
    ],
)
def test_bad_data(x, problem):
    with pytest.raises(InputError, match=problem):
        EnergyLandscape().fit(x)


def decays(ends, n_trials=20, n_times=60):
    start = np.random.default_rng(0).normal(size=(n_trials, 1, 2))
    return np.asarray(ends) + start * 0.5 ** np.arange(n_times)[:, None]


def test_trajectories_that_come_to_rest_are_told_so_and_not_to_drop_outliers():
    with pytest.raises(InputError, match="all trajectories end in one point") as caught:
        EnergyLandscape().fit(decays([1.0, -1.0]))
    assert "outliers" not in str(caught.value)
    ends = np.zeros((20, 1, 2))
    ends[:3] = 5.0
    with pytest.raises(InputError, match="the points where they end"):
        EnergyLandscape().fit(decays(ends))
    # noise with an outlier comes to no rest, in one trial or in many
    noise = np.random.default_rng(1).normal(size=(20, 60, 2))
    noise[3, 7] = 1e5
    for x in (noise, noise.reshape(1, -1, 2)):
        with pytest.raises(InputError, match="outliers"):
            EnergyLandscape().fit(x)


def test_trajectories_that_stand_still_have_no_landscape():
    held = np.repeat(np.random.default_rng(0).normal(size=(20, 1, 3)), 40, axis=1)
    with pytest.raises(InputError, match="no trajectory moves"):
        EnergyLandscape().fit(held)
    with pytest.raises(InputError, match="800 samples of one state"):
        EnergyLandscape().fit(np.ones((20, 40, 3)))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"method": "kde"}, "unknown method"),
        ({"method": "score", "bandwidth": 0.1}, "has no bandwidth"),
        ({"method": "density", "n_bins": 10}, "has no n_bins"),
        ({"method": "density", "penalty": 0.1}, "has no penalty"),
        ({"method": "ising", "temperature": 2.0}, "has no temperature"),
        ({"temperature": 0.0}, "temperature is out of range"),
        ({"bandwidth": -1.0}, "bandwidth is out of range"),
        ({"projection": np.ones((3, 1))}, "projection does not fit"),
        ({"dt": 0}, "dt is out of range"),
    ],
)
def test_bad_options(options, problem):
    with pytest.raises((OptionError, InputError), match=problem):
        EnergyLandscape(**options).fit(np.random.default_rng(0).normal(size=500))


def test_not_fitted():
    with pytest.raises(InputError, match="no data yet"):
        EnergyLandscape().energy([0.0])


# -- forms -------------------------------------------------------------------------------------------------------------


def test_forms_of_data_and_results(tmp_path, wells):
    trials = wells[:6, :2000]
    labelled = xr.DataArray(trials, dims=("trial", "time", "unit"), attrs={"sampling_rate": 100.0})
    plain = quiet(dt=0.01, x=list(trials)).landscape_
    for other in (torch.from_numpy(trials), labelled):
        found = quiet(dt=None if other is labelled else 0.01, x=other).landscape_
        assert found.data.identical(plain.data)
    kept = trials.copy()
    assert np.array_equal(kept, trials)
    assert load_result(plain.save(tmp_path / "landscape.nc")) == plain
    assert "barrier" in plain.summary()
    assert plain.plot().get_ylabel() == "energy (kT)"
    assert plain.plot_tree().get_title(loc="left") == "Disconnectivity graph"


def test_a_plane_is_drawn(wells_in_a_plane):
    landscape = quiet(temperature=KT, dt=DT, x=wells_in_a_plane[:10]).landscape_
    ax = landscape.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("unit 0", "unit 1")
    assert "no sample near" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_axes_say_what_they_are_and_numbers_can_be_read_on_any_ground(wells_in_a_plane):
    x = wells_in_a_plane[:10]
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    many = np.concatenate([x, 0.05 * np.random.default_rng(1).normal(size=(*x.shape[:2], 4))], axis=2) @ mixing
    landscape = quiet(temperature=KT, dt=DT, x=many).landscape_
    ax = landscape.plot()
    shares = [int(re.fullmatch(rf"principal component {one} \((\d+)% of the variance\)", label)[1])
              for one, label in enumerate((ax.get_xlabel(), ax.get_ylabel()), 1)]  # fmt: skip
    assert shares == [round(100 * one) for one in _shares(many)]
    numbers = [text for text in ax.texts if text.get_text().isdigit()]
    assert len(numbers) == landscape.n_minima
    assert all(text.get_path_effects() and text.get_color() != "white" for text in numbers)
    assert ax.figure.axes[1].get_ylabel().endswith("(units of energy)")
    direction, centre = landscape.data["direction"].values, landscape.data["centre"].values
    seen = (many.reshape(-1, 6) - centre) @ direction.T
    low, high = (landscape.data["x"].values[edge] for edge in (0, -1))
    assert low < seen[:, 0].min() < seen[:, 0].max() < high
    assert quiet(projection=mixing[:1].T, x=many).landscape_.plot().get_xlabel() == "given direction 1"
    assert quiet(x=many[..., 0][..., None]).landscape_.plot().get_xlabel() == "state"


def _shares(x):
    values = np.linalg.eigvalsh(np.cov(x.reshape(-1, x.shape[-1]).T))[::-1]
    return (values / values.sum())[:2]


def test_langevin_and_its_inputs():
    x = langevin(lambda state: -2 * state, np.zeros((400, 1)), 50, dt=0.02, temperature=0.5, discard=200)
    assert x.var() == pytest.approx(0.25, rel=0.1)
    with pytest.raises(InputError, match="no trials"):
        langevin(double_well, [0.0], 10)
    with pytest.raises(InputError, match="leaves all bounds"):
        langevin(double_well, [[5.0]], 10, dt=1.0)
    with pytest.raises(OptionError):
        langevin(duffing, [[0.0, 0.0]], 0)
