"""The largest exponent from data: exponents known from theory, nolds at equal settings, and data without chaos."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.statistics.surrogates import phase_randomised
from neuros_mechint.neuro.dynamics.embedding.choices import choose_embedding
from neuros_mechint.neuro.dynamics.embedding.delays import embed
from neuros_mechint.neuro.dynamics.embedding.neighbours import nearest
from neuros_mechint.neuro.dynamics.lyapunov.divergence_curves import kantz_divergence, rosenstein_divergence
from neuros_mechint.neuro.dynamics.lyapunov.divergence_surrogates import compare_with_surrogates, matched_ends
from neuros_mechint.neuro.dynamics.trajectories import trajectories
from tests.slow import slow_case

DT = 0.04
LORENZ, HENON, LOGISTIC = 0.9056, 0.4192, float(np.log(2))
N_SEEDS = 5


def quiet(x, **options):
    """Data without an exponent, or an embedding, warn; here it is the result that is looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nm.largest_lyapunov_exponent(x, progress=False, **options)


def recorded(values: np.ndarray, rate: float) -> nm.Recording:
    return nm.Recording(values, ("time", "unit"), sampling_rate=rate)


@pytest.fixture(scope="module")
def lorenz() -> list[np.ndarray]:
    """Trajectories of 320 s from random states, one per seed."""
    start = torch.randn(N_SEEDS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start += torch.tensor([1.0, 1.0, 25.0])
    return list(nm.simulate(nm.rk4(nm.lorenz, DT, n_substeps=2), start, 8000, discard=500).numpy())


@pytest.fixture(scope="module")
def van_der_pol() -> np.ndarray:
    start = torch.tensor([0.5, 0.1], dtype=torch.float64)
    return nm.simulate(nm.rk4(nm.van_der_pol, 0.1), start, 3000, discard=500)[0].numpy()


def mapped(step, start: list[list[float]], n_steps: int) -> np.ndarray:
    return nm.simulate(step, torch.tensor(start, dtype=torch.float64), n_steps, discard=100).numpy()


@pytest.mark.parametrize("method", ["rosenstein", "kantz"])
@pytest.mark.parametrize("n_seeds", [1, slow_case(3)])
def test_lorenz_from_one_variable_with_automatic_settings(lorenz, method, n_seeds):
    found = [
        nm.largest_lyapunov_exponent(recorded(x[:, :1], 1 / DT), method=method, progress=False)
        for x in lorenz[:n_seeds]
    ]
    exponents = np.array([one.exponent for one in found])
    assert np.abs(exponents / LORENZ - 1).max() < 0.1, exponents
    assert all(one.chaotic for one in found)
    assert all(one.interval[0] < one.exponent < one.interval[1] for one in found)
    assert {one.main.attrs["units"] for one in found} == {"1/s"}


def test_lorenz_from_its_three_variables(lorenz):
    exponents = np.array(
        [nm.largest_lyapunov_exponent(recorded(x, 1 / DT), progress=False).exponent for x in lorenz[:3]]
    )
    # finite distances bend the curve: low by .08 on average (method card)
    assert np.abs(exponents / LORENZ - 1).max() < 0.15, exponents


@pytest.mark.slow
def test_lorenz_over_many_seeds():
    """What the method card says of bias, scatter and intervals."""
    start = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start += torch.tensor([1.0, 1.0, 25.0])
    runs = nm.simulate(nm.rk4(nm.lorenz, DT, n_substeps=2), start, 16_000, discard=500).numpy()
    for n_times, method, units, low, high in (
        (8000, "rosenstein", 1, 0.92, 1.0),
        (8000, "kantz", 1, 0.95, 1.05),
        (16_000, "rosenstein", 1, 0.92, 0.98),
        (8000, "rosenstein", 3, 0.88, 0.96),
    ):
        found = [
            nm.largest_lyapunov_exponent(recorded(x[:n_times, :units], 1 / DT), method, n_surrogates=0, progress=False)
            for x in runs
        ]
        ratio = np.array([one.exponent for one in found]) / LORENZ
        covered = np.mean([one.interval[0] <= LORENZ <= one.interval[1] for one in found])
        sys.stdout.write(
            f"{n_times} {method} {units}: {ratio.mean():.3f} ± {ratio.std():.3f}, "
            f"{np.abs(ratio - 1).max():.3f} at most, covered {covered:.2f}\n"
        )
        assert low < ratio.mean() < high
        assert ratio.std() < 0.06


@pytest.mark.slow
def test_how_often_data_without_chaos_are_called_chaotic():
    claimed = tried = 0
    for seed in range(100, 120):
        for x in noises(seed).values():
            claimed, tried = claimed + quiet(x).chaotic, tried + 1
    sys.stdout.write(f"{claimed} of {tried}\n")
    assert claimed / tried < 0.02


@pytest.mark.parametrize("method", ["rosenstein", "kantz"])
def test_maps(method):
    henon = mapped(nm.henon_map, [[0.1, 0.1], [0.2, -0.1], [-0.1, 0.05]], 3000)
    logistic = mapped(nm.logistic_map, [[0.1234], [0.3], [0.71]], 2000)
    found = np.array([nm.largest_lyapunov_exponent(x[:, :1], method, progress=False).exponent for x in henon])
    assert np.abs(found - HENON).max() < 0.025, found
    found = np.array([nm.largest_lyapunov_exponent(x, method, progress=False).exponent for x in logistic])
    assert np.abs(found - LOGISTIC).max() < 0.015, found


def test_equals_nolds_at_the_same_settings(lorenz):
    nolds = pytest.importorskip("nolds")
    x = lorenz[0][:1500, 0]
    for dimension, delay, theiler, length, first in ((3, 4, 30, 60, 10), (5, 2, 12, 25, 0)):
        theirs = nolds.lyap_r(
            x, emb_dim=dimension, lag=delay, min_tsep=theiler, trajectory_len=length, fit="poly", fit_offset=first
        )
        ours = nm.largest_lyapunov_exponent(
            x,
            delay=delay,
            dimension=dimension,
            theiler=theiler,
            horizon=length - 1,
            region=(first, length - 1),
            n_surrogates=0,
        )
        assert abs(ours.exponent / theirs - 1) < 1e-9
        assert ours.verdict == "not compared"
        assert not ours.chaotic


def brute_force(trials, horizon, theiler):
    """Every pair of states, one trial and one step at a time."""
    sums, count = np.zeros(horizon + 1), 0
    for a, reference in enumerate(trials):
        for i in range(len(reference) - horizon):
            best = (np.inf, 0, 0)
            for b, other in enumerate(trials):
                for j in range(len(other) - horizon):
                    if a == b and abs(i - j) <= theiler:
                        continue
                    best = min(best, (float(np.linalg.norm(reference[i] - other[j])), b, j))
            b, j = best[1:]
            apart = np.linalg.norm(reference[i : i + horizon + 1] - trials[b][j : j + horizon + 1], axis=1)
            sums, count = sums + np.log(apart), count + 1
    return sums / count, count


def test_neighbours_of_other_trials_but_no_step_beyond_a_trial():
    rng = np.random.default_rng(0)
    trials = [rng.normal(size=(n, 2)) for n in (40, 9, 25, 4)]
    expected, count = brute_force(trials, horizon=6, theiler=3)
    found = rosenstein_divergence(embed(trials, 1, 1), horizon=6, theiler=3)
    assert np.allclose(found.curve(), expected, rtol=1e-12)
    assert found.n_references == count == 34 + 3 + 19
    joined = rosenstein_divergence(embed([np.concatenate(trials)], 1, 1), horizon=6, theiler=3)
    assert not np.allclose(joined.curve(), expected, rtol=1e-3)


def test_kantz_counts_every_neighbour_within_the_radius():
    rng = np.random.default_rng(1)
    trials = [rng.normal(size=(n, 2)) for n in (60, 25)]
    radius, horizon, theiler = 0.8, 4, 2
    logarithms = []
    for a, reference in enumerate(trials):
        for i in range(len(reference) - horizon):
            near = [
                np.linalg.norm(reference[i : i + horizon + 1] - other[j : j + horizon + 1], axis=1)
                for b, other in enumerate(trials)
                for j in range(len(other) - horizon)
                if not (a == b and abs(i - j) <= theiler) and np.linalg.norm(reference[i] - other[j]) <= radius
            ]
            if near:
                logarithms.append(np.log(np.mean(near, axis=0)))
    found = kantz_divergence(embed(trials, 1, 1), horizon, theiler, radius)
    assert np.allclose(found.curve(), np.mean(logarithms, axis=0), rtol=1e-12)
    assert found.n_references == len(logarithms)


@pytest.mark.parametrize("n_units", [3, 25])
def test_nearest_neighbours_equal_those_of_all_pairs(n_units):
    rng = np.random.default_rng(2)
    slow = [np.cumsum(rng.normal(size=(n, n_units)), 0) for n in (300, 200)]
    states = embed(slow, 1, 1)
    every = np.arange(500)
    distance = np.linalg.norm(states.points[:, None] - states.points, axis=-1)
    same = states.trial[:, None] == states.trial
    distance[same & (np.abs(states.position[:, None] - states.position) <= 150)] = np.inf
    index, found = nearest(states, every, every, theiler=150)
    assert np.allclose(found, distance.min(1))
    assert (index == distance.argmin(1)).all()


def test_trials_of_different_length_give_the_same_exponent(lorenz):
    pieces = [x[a:b, :1] for x in lorenz for a, b in ((0, 400), (400, 1500), (1500, 2200))]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(pieces))
    one = nm.largest_lyapunov_exponent([pieces[i] for i in order], seed=1, progress=False)
    assert abs(one.exponent / DT / LORENZ - 1) < 0.1
    assert one.chaotic
    assert one.attributes["n_trials"] == 15


def noises(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=3400), np.exp(-0.5 * (np.arange(-100, 101) / 20) ** 2), "valid")
    rhythm = lfilter([1], [1, -2 * 0.97 * np.cos(0.2), 0.97**2], rng.normal(size=3000))
    return {
        "white": rng.normal(size=2500),
        "white, 8 units": rng.normal(size=(2500, 8)),
        "AR(1), .5": lfilter([1], [1, -0.5], rng.normal(size=2500)),
        "AR(1), .95": lfilter([1], [1, -0.95], rng.normal(size=2500)),
        "AR(2)": rhythm,
        "AR(2), cubed": rhythm**3,
        "smoothed": smooth,
        "smoothed, exponential": np.exp(smooth / smooth.std()),
        "random walk": np.cumsum(rng.normal(size=2500)),
    }


@pytest.mark.parametrize(("seed", "every"), [(0, 2), slow_case(0, 1), slow_case(1, 1)])
def test_noise_has_no_exponent(seed, every):
    for name, x in list(noises(seed).items())[::every]:
        found = quiet(x)
        assert np.isnan(found.exponent), name
        assert found.verdict == "no region"
        assert found.region is None
        assert any("no exponent can be read" in text for text in found.warnings)


def test_the_refusal_warns_and_says_why():
    with pytest.warns(UserWarning, match="no exponent can be read, and none is given: neighbours are nearly as far"):
        found = nm.largest_lyapunov_exponent(np.random.default_rng(0).normal(size=(1000, 3)))
    assert found.summary().count("no exponent") == 1
    assert "straight" not in found.summary()


@pytest.mark.parametrize("seeds", [range(3), slow_case(range(3, 10))])
def test_phase_randomised_lorenz_shows_no_chaos(lorenz, seeds):
    for seed in seeds:
        x = lorenz[seed % N_SEEDS][:5000]
        rng = np.random.default_rng(seed)
        for units in (x[:, :1], x):
            surrogate = phase_randomised(units.T[None], rng, together=True)[0].T
            assert not quiet(surrogate).chaotic


def test_the_test_with_surrogates_itself(lorenz):
    """Small for chaos; spread over all values for the surrogates' own surrogates."""
    x = lorenz[0][:2500, :1]
    choice = choose_embedding(trajectories(x), 4, 3, 40)
    assert compare_with_surrogates([x], choice, 30, 39, np.random.default_rng(0)).p == 1 / 40
    p = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        surrogate = phase_randomised(x.T[None], rng, together=True)[0].T
        p.append(compare_with_surrogates([surrogate], choice, 30, 19, rng).p)
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.05) <= 0.2


def test_growth_that_noise_has_too_is_not_called_chaos():
    """Given a region, the slope is what it is; surrogates then say what it is worth."""
    chaotic = 0
    for seed in range(8):
        x = lfilter([1], [1, -0.99], np.random.default_rng(seed).normal(size=2500))
        found = quiet(x, delay=5, dimension=3, region=(1, 8))
        assert found.exponent > 0
        chaotic += found.chaotic
    assert chaotic <= 1


def test_surrogates_keep_correlations_between_units():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 1, 4000)) + 0.5 * rng.normal(size=(1, 2, 4000))
    together = phase_randomised(x, rng, together=True)[0]
    apart = phase_randomised(x, rng)[0]
    assert abs(np.corrcoef(together)[0, 1] - np.corrcoef(x[0])[0, 1]) < 1e-12
    assert abs(np.corrcoef(apart)[0, 1]) < 0.1


def test_ends_are_matched():
    time = np.arange(500)
    x = (np.sin(0.11 * time) + np.sin(0.11 * np.pi * time) / 2)[:, None]
    cut = matched_ends(x)
    assert 400 <= len(cut) < 500
    assert abs(cut[0, 0] - cut[-1, 0]) < 0.2 < abs(x[0, 0] - x[-1, 0])


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_limit_cycle_is_neutral(van_der_pol, noise):
    for seed in range(1 if noise == 0 else 2):
        x = van_der_pol[:, :1] + noise * np.random.default_rng(seed).normal(size=(len(van_der_pol), 1))
        found = quiet(recorded(x, 10.0))
        assert abs(found.exponent) < 1e-3  # per second; the period is 6.7 s
        assert found.verdict == "neutral"


def test_torus_is_neutral_and_a_stable_spiral_contracts():
    time = np.arange(3000)
    torus = np.sin(0.1 * time) + 0.7 * np.sin(0.1 * np.sqrt(2) * time)
    assert quiet(torus).verdict == "neutral"
    time = np.arange(300)
    spirals = [
        (1 + q) * np.exp(-0.01 * time)[:, None] * np.stack([np.cos(0.1 * time + q), np.sin(0.1 * time + q)], 1)
        for q in range(5)
    ]
    found = nm.largest_lyapunov_exponent(spirals, progress=False)
    assert abs(found.exponent + 0.01) < 1e-3
    assert found.verdict == "contracting"


def test_growth_without_bounds_is_not_chaos():
    rng, time = np.random.default_rng(0), np.arange(200)[:, None]
    spirals = [
        (1 + 0.1 * size) * np.exp(0.01 * time) * np.concatenate([np.cos(0.1 * time + q), np.sin(0.1 * time + q)], 1)
        for q, size in zip(rng.uniform(0, 6, 12), rng.normal(size=12), strict=True)
    ]
    found = nm.largest_lyapunov_exponent(spirals, progress=False)
    assert abs(found.exponent - 0.01) < 1e-3
    assert found.verdict == "unbounded"
    saddle = [
        np.concatenate([a * np.exp(0.02 * time), b * np.exp(-0.02 * time)], 1) for a, b in rng.normal(size=(30, 2))
    ]
    assert nm.largest_lyapunov_exponent(saddle, progress=False).verdict == "unbounded"


@pytest.mark.slow
def test_a_rhythm_whose_phase_diffuses_is_hardly_ever_called_chaos():
    """Slow growth is the hardest of the controls: 1 of 48 was called so (method card)."""
    claimed = 0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        for scale in (0.003, 0.01, 0.03):
            phase = 0.1 * np.arange(3000) + np.cumsum(scale * rng.normal(size=3000))
            claimed += sum(quiet(x).chaotic for x in (np.sin(phase), np.stack([np.sin(phase), np.cos(phase)], 1)))
    assert claimed <= 1


def test_too_much_noise_is_refused_rather_than_underestimated(lorenz):
    x = lorenz[0][:, :1]
    noisy = x + 0.2 * x.std() * np.random.default_rng(0).normal(size=x.shape)
    assert np.isnan(quiet(noisy).exponent)


def test_units_and_scale_and_seed(lorenz):
    x = lorenz[1][:3000, :1]
    a = nm.largest_lyapunov_exponent(x, n_surrogates=0, progress=False)
    b = nm.largest_lyapunov_exponent(recorded(1e6 * x - 7, 1 / DT), n_surrogates=0, progress=False)
    assert abs(b.exponent * DT - a.exponent) < 1e-9
    assert a.main.attrs["units"] == "1/sample"
    assert a.region == b.region
    again = nm.largest_lyapunov_exponent(x, n_surrogates=0, progress=False)
    assert a.data.identical(again.data)


def test_saved_drawn_and_said(lorenz, tmp_path):
    before = lorenz[0][:3000].copy()
    found = nm.largest_lyapunov_exponent(recorded(lorenz[0][:3000, :1], 1 / DT), progress=False)
    assert (before == lorenz[0][:3000]).all()
    assert nm.load_result(found.save(tmp_path / "exponent.nc")) == found
    ax = found.plot()
    assert ax.get_xlabel() == "time since states were neighbours (s)"
    assert "chaotic: neighbours part" in found.summary()


def test_bad_data():
    rng = np.random.default_rng(0)
    call = nm.largest_lyapunov_exponent
    with pytest.raises(InputError, match="constant"):
        call(np.ones(500))
    with pytest.raises(InputError, match="NaN"):
        call(np.full(500, np.nan))
    with pytest.raises(InputError, match="too short"):
        call(rng.normal(size=5))
    with pytest.raises(InputError, match="too few samples for the embedding"):
        call(rng.normal(size=100), delay=20, dimension=6)
    with pytest.raises(InputError, match="too few samples to follow neighbours"):
        call(rng.normal(size=(40, 3)), horizon=30)
    with pytest.raises(InputError, match="too few samples to follow neighbours"):
        call(rng.normal(size=(500, 3)), method="kantz", radius=1e-9)
    with pytest.raises(InputError, match="too few samples to choose a delay"):
        call(rng.normal(size=30))


def test_bad_options():
    x, call = np.random.default_rng(0).normal(size=(500, 2)), nm.largest_lyapunov_exponent
    for options in (
        {"method": "wolf"},
        {"n_surrogates": 5},
        {"n_surrogates": -1},
        {"radius": 1.0},
        {"method": "kantz", "radius": 0.0},
        {"horizon": 2},
        {"region": (5, 6)},
        {"region": 5},
        {"region": (0, 50), "horizon": 20},
        {"delay": 0},
        {"dimension": 0},
        {"theiler": -1},
        {"level": 1.0},
    ):
        with pytest.raises(OptionError):
            call(x, **options)


@pytest.mark.parametrize("method", ["rosenstein", "kantz"])
def test_data_that_repeat_exactly_have_no_logarithms(method):
    """Nor have those that do so but for rounding, whose differences grow with the phase's."""
    for x in (np.tile([0.0, 1.0, 0.0, -1.0], 200), np.sin(2 * np.pi * np.arange(2000) / 40)):
        found = quiet(x, method=method, delay=1, dimension=2)
        assert np.isnan(found.exponent)
        assert "alike but for rounding" in found.attributes["reason"]
    assert not quiet(np.sin(2 * np.pi * np.arange(2000) / 40)).chaotic
