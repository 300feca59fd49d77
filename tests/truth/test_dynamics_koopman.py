"""Eigenvalues, modes and eigenfunctions of systems whose Koopman operator is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, MissingDependencyError, OptionError
from neuros_mechint.neuro.dynamics.koopman import regression
from neuros_mechint.neuro.dynamics.koopman.decomposition import dynamic_modes
from neuros_mechint.neuro.dynamics.koopman.regression import REGRESSIONS, principal_directions
from tests.slow import slow_case

PAIRS = ((0.995, 0.2), (0.98, 0.7), (0.95, 1.9))
TRUE = np.array([size * np.exp(sign * 1j * angle) for size, angle in PAIRS for sign in (1, -1)])
VAN_DER_POL = 2 * np.pi / 6.6632868593231  # its period for mu = 1, known to 13 digits


CASES = [("dmd", 1, 64), ("dmd", 1, 6), ("hankel", 8, 64), ("hankel", 12, 1)]


def linear(seed, n_times=200, n_units=64, noise=0.0, start=None):
    """Six eigenvalues in as many units as you like, and noise of so many standard deviations of the units."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(99).normal(size=(64, 6)))[0][:n_units]
    step = np.zeros((6, 6))
    for index, value in enumerate(TRUE[::2]):
        block = slice(2 * index, 2 * index + 2)
        step[block, block] = [[value.real, -value.imag], [value.imag, value.real]]
    state = random.normal(size=6) if start is None else start
    states = [state]
    for _ in range(n_times - 1):
        states.append(step @ states[-1])
    clean = np.array(states) @ axes.T
    return clean + noise * clean.std() * random.normal(size=clean.shape)


def distance(found, true=TRUE):
    """Largest distance from a true eigenvalue to the nearest one that was found."""
    return max(np.abs(np.asarray(found) - value).min() for value in true)


def pairs(states):
    return torch.from_numpy(states[:-1].copy()), torch.from_numpy(states[1:].copy())


@pytest.mark.parametrize("kind", REGRESSIONS)
@pytest.mark.parametrize(
    ("method", "delays", "n_units"), [("dmd", 1, 64), ("dmd", 1, 6), ("hankel", 8, 64), ("hankel", 12, 1)]
)
def test_without_noise_eigenvalues_are_exact(kind, method, delays, n_units):
    for seed in range(3):
        koopman = nm.KoopmanOperator(method, 6, delays, regression=kind).fit(linear(seed, n_units=n_units))
        assert distance(koopman.eigenvalues_) < 1e-10
        assert koopman.rank_ == 6
        assert (koopman.residuals_ < 1e-8).all()


def test_rank_is_that_of_the_data_unless_given():
    assert nm.KoopmanOperator().fit(linear(0)).rank_ == 6
    assert nm.KoopmanOperator("hankel", delays=20).fit(linear(0)).rank_ == 6
    for seed in range(5):
        assert nm.KoopmanOperator(rank="optimal").fit(linear(seed, noise=0.05)).rank_ == 6
        assert nm.KoopmanOperator().fit(linear(seed, noise=0.05)).rank_ == 64


@pytest.mark.parametrize("settings", [{"method": "hankel", "delays": 20}, {"regression": "total_least_squares"}])
def test_noise_of_one_percent_hardly_moves_eigenvalues(settings):
    errors = [
        distance(nm.KoopmanOperator(rank=6, **settings).fit(linear(seed, noise=0.01)).eigenvalues_)
        for seed in range(20)
    ]
    assert max(errors) < 2e-3
    # and where the rank is found from the data
    assert distance(nm.KoopmanOperator(rank="optimal", **settings).fit(linear(0, noise=0.01)).eigenvalues_) < 2e-3


@pytest.mark.parametrize("kind", REGRESSIONS[1:])
def test_noise_does_not_damp_modes_where_it_is_corrected_for(kind):
    # a lasting oscillation in two units: by least squares it seems to decay, by noise variance / signal variance
    time, noise, steps = np.arange(4000), 0.2, []
    wave = np.stack([np.cos(0.3 * time), np.sin(0.3 * time)], 1)
    for name in ("least_squares", kind):
        found = [
            abs(nm.KoopmanOperator(regression=name).fit(wave + noise * random.normal(size=wave.shape)).eigenvalues_[0])
            for random in map(np.random.default_rng, range(5))
        ]
        steps.append(np.mean(found))
    assert steps[0] == pytest.approx(1 / (1 + noise**2 / 0.5), abs=0.005)
    assert steps[1] == pytest.approx(1, abs=0.005)


def test_forward_backward_keeps_the_side_of_eigenvalues():
    states = np.cumprod(np.full((40, 3), [-0.9, 0.8, -0.3]), axis=0)
    koopman = nm.KoopmanOperator(regression="forward_backward").fit(states)
    assert sorted(koopman.eigenvalues_.real) == pytest.approx([-0.9, -0.3, 0.8], abs=1e-10)


def test_trials_of_any_length_make_one_operator():
    whole = linear(3, n_times=200, n_units=8)
    cut = [whole[:70], whole[69:100], whole[99:]]  # states at the cuts are in both: the pairs are those of the whole
    one, several = nm.KoopmanOperator().fit(whole), nm.KoopmanOperator().fit(cut)
    assert one.n_pairs_ == several.n_pairs_ == 199
    np.testing.assert_allclose(several.eigenvalues_, one.eigenvalues_, atol=1e-12)
    np.testing.assert_allclose(several.modes_, one.modes_, atol=1e-10)
    other = [linear(seed, n_times=length) for seed, length in enumerate((12, 40, 25, 90))]
    for method, delays in (("dmd", 1), ("hankel", 10)):
        koopman = nm.KoopmanOperator(method, delays=delays).fit(other)
        assert distance(koopman.eigenvalues_) < 1e-10
        assert koopman.n_pairs_ == sum(len(trial) - delays for trial in other)
    # joined as one trial, the jumps between trials become part of the dynamics
    assert distance(nm.KoopmanOperator("hankel", rank=6, delays=10).fit(np.concatenate(other)).eigenvalues_) > 1e-3


def test_many_sets_at_once_equal_one_at_a_time():
    sets = np.stack([linear(seed, noise=0.02) for seed in range(8)])
    before, after = torch.from_numpy(sets[:, :-1].copy()), torch.from_numpy(sets[:, 1:].copy())
    for kind in REGRESSIONS:
        found = dynamic_modes(before, after, 6, kind)
        for index in range(len(sets)):
            alone = dynamic_modes(*pairs(sets[index]), 6, kind)
            for ours, other in zip(found, alone, strict=True):
                if ours.shape != found.modes.shape and ours.shape != found.weights.shape:
                    torch.testing.assert_close(ours[index], other, rtol=1e-9, atol=1e-11)
            whole = found.weights[index] @ found.modes[index].mT
            torch.testing.assert_close(whole, alone.weights @ alone.modes.mT, rtol=1e-9, atol=1e-11)


def test_pydmd_finds_the_same():
    from pydmd import DMD, HankelDMD

    for seed in range(3):
        states = linear(seed, noise=0.05)
        for kind, theirs in (("least_squares", {}), ("total_least_squares", {"tlsq_rank": 6})):
            peer = DMD(svd_rank=6, **theirs).fit(states.T)
            ours = nm.KoopmanOperator(rank=6, regression=kind).fit(states)
            assert distance(ours.eigenvalues_, peer.eigs) < 1e-12
            for value, mode in zip(peer.eigs, peer.modes.T, strict=True):
                same = ours.modes_[:, np.abs(ours.eigenvalues_ - value).argmin()]
                likeness = abs(mode.conj() @ same) / np.linalg.norm(mode) / np.linalg.norm(same)
                assert likeness == pytest.approx(1, abs=1e-10)
        peer = HankelDMD(svd_rank=6, d=10).fit(states.T)
        ours = nm.KoopmanOperator("hankel", rank=6, delays=10).fit(states)
        assert distance(ours.eigenvalues_, peer.eigs) < 1e-10
        assert nm.KoopmanOperator(rank="optimal").fit(states).rank_ == DMD(svd_rank=0).fit(states.T).modes.shape[1]


def six_directions(smallest, floor=0.0):
    """All six modes show in each of six directions, of which the last two are weak; noise in all, or 58 empty ones."""
    axes = np.linalg.qr(np.random.default_rng(99).normal(size=(64, 6)))[0]
    mixed = np.linalg.qr(np.random.default_rng(98).normal(size=(6, 6)))[0]
    states = linear(0) @ axes @ mixed @ np.diag([1, 1, 1, 1, smallest, smallest]) @ axes.T
    return states + floor * np.random.default_rng(0).normal(size=states.shape)


@pytest.mark.parametrize("smallest", [0.3, 1e-2, 1e-4, 1e-6])
def test_the_fast_way_is_taken_only_where_directions_are_strong(smallest, monkeypatch):
    used, exact = [], torch.linalg.svd
    monkeypatch.setattr(regression.torch.linalg, "svd", lambda *a, **k: used.append(1) or exact(*a, **k))
    assert distance(dynamic_modes(*pairs(six_directions(smallest)), 6).eigenvalues.numpy()) < 1e-9
    assert bool(used) == (smallest < 3e-3)


def test_what_the_fast_way_would_lose_elsewhere(monkeypatch):
    weak = pairs(six_directions(1e-7, floor=1e-11))
    faint = pairs(six_directions(3e-9))
    assert int(principal_directions(faint[0], None)[0].shape[1]) == 6
    right = dynamic_modes(*weak, 6).eigenvalues.numpy()
    monkeypatch.setattr(regression, "_resolved", lambda *a: False)
    np.testing.assert_array_equal(dynamic_modes(*weak, 6).eigenvalues.numpy(), right)
    monkeypatch.setattr(regression, "_resolved", lambda *a: True)
    assert distance(dynamic_modes(*weak, 6).eigenvalues.numpy(), right) > 1e-9
    assert int(principal_directions(faint[0], None)[0].shape[1]) != 6  # a Gram matrix cannot tell them from rounding


def test_directions_do_not_depend_on_the_way():
    noisy = torch.from_numpy(linear(0, noise=0.3))
    directions, sizes = principal_directions(noisy, None)
    _, exact, vectors = torch.linalg.svd(noisy, full_matrices=False)
    torch.testing.assert_close(sizes, exact, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        (directions.mT @ vectors.mT).abs(), torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-8
    )


def test_van_der_pol_has_its_frequency_and_odd_harmonics():
    step = nm.rk4(nm.van_der_pol, 0.1, n_substeps=8)
    states = nm.simulate(step, torch.tensor([[2.0, 0.0]], dtype=torch.float64), 1000, discard=300)[0]
    koopman = nm.KoopmanOperator("hankel", delays=40, dt=0.1).fit(states)
    angular = koopman.continuous_eigenvalues_.imag
    assert angular[0] == pytest.approx(VAN_DER_POL, abs=1e-7)
    assert round(float(angular[0]), 5) == 0.94296
    assert koopman.frequencies_[0] == pytest.approx(VAN_DER_POL / (2 * np.pi), abs=1e-7)
    strongest = angular[:8:2] / angular[0]
    np.testing.assert_allclose(strongest, [1, 3, 5, 7], atol=1e-9)  # symmetric: even harmonics are absent
    assert np.abs(koopman.decay_rates_[:8]).max() < 1e-9


def slow_manifold(mu=0.9, decay=0.5, n_trials=20):
    """x' = mu x, y' = decay y + (mu^2 - decay) x^2: linear in x, y and x^2."""
    random = np.random.default_rng(0)
    trials = []
    for length in random.integers(5, 13, n_trials):
        states = [random.uniform(-2, 2, 2)]
        for _ in range(length):
            x, y = states[-1]
            states.append(np.array([mu * x, decay * y + (mu**2 - decay) * x**2]))
        trials.append(np.array(states))
    return trials


def test_slow_manifold_is_exact_and_residuals_tell_which_eigenvalues_are_its_own():
    own = nm.KoopmanOperator("edmd", dictionary=lambda s: np.stack([s[:, 0], s[:, 1], s[:, 0] ** 2], 1))
    np.testing.assert_allclose(np.sort(own.fit(slow_manifold()).eigenvalues_), [0.5, 0.81, 0.9], atol=1e-10)
    # among all products to degree 2 are two, x y and y^2, that lead out of their span: two eigenvalues mean nothing
    koopman = nm.KoopmanOperator("edmd", dictionary="polynomial", degree=2).fit(slow_manifold())
    order = np.argsort(koopman.residuals_)
    np.testing.assert_allclose(np.sort(koopman.eigenvalues_[order[:4]].real), [0.5, 0.81, 0.9, 1], atol=1e-10)
    assert (koopman.residuals_[order[:4]] < 1e-10).all()
    # what they are: as close to an eigenvalue, a product of powers of the two, as their residuals say
    products = np.array([0.9**i * 0.5**j for i in range(20) for j in range(8)])
    for value, residual in zip(koopman.eigenvalues_[order[4:]], koopman.residuals_[order[4:]], strict=True):
        assert 1e-3 < np.abs(products - value).min() < residual
    # the eigenfunction of mu is x, that of decay is y - x^2
    values = koopman.transform(np.array([[1.0, 2.0], [2.0, 2.0]]))
    of = {true: values[:, np.abs(koopman.eigenvalues_ - true).argmin()].real for true in (0.9, 0.5)}
    assert of[0.9][1] / of[0.9][0] == pytest.approx(2, abs=1e-9)
    assert of[0.5][1] / of[0.5][0] == pytest.approx(-2, abs=1e-9)


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_duffing_eigenfunction_tells_the_two_wells(seed):
    step = nm.rk4(nm.duffing, 0.25, n_substeps=5)
    starts, unseen = torch.from_numpy(np.random.default_rng(seed).uniform(-2, 2, (2, 100, 2)))
    trials = nm.simulate(step, starts, 60)
    koopman = nm.KoopmanOperator("edmd", dictionary="rbf", n_centers=300).fit(trials)
    order = np.argsort(np.abs(koopman.eigenvalues_ - 1))
    assert np.abs(koopman.eigenvalues_[order[:2]] - 1).max() < 5e-3  # the constant, and the indicator of the wells
    assert np.abs(koopman.eigenvalues_[order[2]] - 1) > 0.03  # there are only two
    assert koopman.residuals_[order[:2]].max() < 0.1
    left, right = koopman.transform(np.array([[-1.0, 0.0], [1.0, 0.0]]))[:, order[1]].real
    phi = koopman.transform(unseen)[:, order[1]].real
    to_the_right = np.abs(phi - right) < np.abs(phi - left)
    ends = nm.simulate(step, unseen, 400)[:, -1, 0].numpy() > 0
    assert (to_the_right == ends).mean() > 0.9


def test_states_are_eigenfunctions_times_modes_and_follow_their_eigenvalues():
    trial = linear(1)
    koopman = nm.KoopmanOperator("hankel", delays=5).fit(trial)
    phi = koopman.transform(trial)
    np.testing.assert_allclose((phi @ koopman.modes_.T).real, trial[4:], atol=1e-10)
    np.testing.assert_allclose(phi[1:], phi[:-1] * koopman.eigenvalues_, atol=1e-9)
    np.testing.assert_allclose((np.abs(phi[:-1]) ** 2).mean(0), 1, rtol=1e-9)
    assert (np.diff(koopman.amplitudes_[::2]) <= 0).all()


def test_predictions_follow_each_trial():
    long = [linear(seed, n_times=60) for seed in range(3)]
    for method, delays in (("dmd", 1), ("hankel", 6)):
        koopman = nm.KoopmanOperator(method, delays=delays).fit(long)
        ahead = koopman.predict([trial[:40] for trial in long], 20)
        for predicted, trial in zip(ahead, long, strict=True):
            np.testing.assert_allclose(predicted, trial[40:], atol=1e-9)
        assert koopman.predict(torch.from_numpy(np.stack(long)), 4).shape == (3, 4, 64)
        assert koopman.predict(np.stack(long)[:1], 4).shape == (1, 4, 64)
        assert koopman.score(long, horizon=5) == pytest.approx(1, abs=1e-12)
    one_state = nm.KoopmanOperator().fit(long).predict(long[0][10], 3)
    np.testing.assert_allclose(one_state, long[0][11:14], atol=1e-9)


def test_time_comes_from_labelled_data_or_from_dt():
    time = np.arange(300) / 100
    wave = xr.DataArray(np.exp(-2 * time) * np.cos(2 * np.pi * 7 * time), dims="time", attrs={"sampling_rate": 100.0})
    for koopman, data in (
        (nm.KoopmanOperator("hankel", delays=10), wave),
        (nm.KoopmanOperator("hankel", delays=10, dt=0.01), wave.values),
    ):
        koopman.fit(data)
        assert np.abs(koopman.frequencies_) == pytest.approx([7, 7], abs=1e-8)
        assert koopman.decay_rates_ == pytest.approx([2, 2], abs=1e-8)
    with pytest.raises(OptionError, match="dt is not that of the data"):
        nm.KoopmanOperator("hankel", delays=10, dt=0.02).fit(wave)


def test_a_dictionary_of_degree_one_takes_up_an_offset():
    # x' = A x + b is not linear in x: no matrix of the units alone gives its eigenvalues
    step, shift = np.array([[0.9, 0.2], [-0.1, 0.8]]), np.array([1.0, -2.0])
    states = [np.zeros(2)]
    for _ in range(40):
        states.append(step @ states[-1] + shift)
    true = np.linalg.eigvals(step)
    affine = nm.KoopmanOperator("edmd", dictionary="polynomial", degree=1).fit(np.array(states))
    assert distance(affine.eigenvalues_, [*true, 1]) < 1e-10
    assert distance(nm.KoopmanOperator().fit(np.array(states)).eigenvalues_, true) > 0.02


def test_units_of_the_data_do_not_matter_to_a_dictionary():
    trials = slow_manifold()
    scaled = [trial * [1e6, 1e-3] + [5e6, 0.0] for trial in trials]
    for dictionary in ("polynomial", "rbf"):
        koopman = nm.KoopmanOperator("edmd", dictionary=dictionary, n_centers=10)
        first, second = koopman.fit(trials).eigenvalues_, koopman.fit(scaled).eigenvalues_
        assert distance(second, first) < 1e-6
    # nor do the units of the functions: a small one is no lack of rank
    small = nm.KoopmanOperator("edmd", dictionary=lambda s: np.stack([s[:, 0], 1e-12 * s[:, 1], s[:, 0] ** 2], 1))
    np.testing.assert_allclose(np.sort(small.fit(trials).eigenvalues_), [0.5, 0.81, 0.9], atol=1e-10)


def test_optimised_dmd_through_pydmd():
    for noise, most in ((0.0, 1e-6), (0.01, 2e-3)):
        koopman = nm.KoopmanOperator("bopdmd", rank=6, dt=0.1).fit(linear(0, noise=noise))
        assert distance(koopman.eigenvalues_) < most
        assert koopman.modes_.shape == (64, 6)
        assert koopman.score(linear(1)) > 0.99
    with pytest.raises(OptionError, match="bopdmd takes one trial"):
        nm.KoopmanOperator("bopdmd", rank=6).fit([linear(0), linear(1)])


def test_inputs_are_told_from_dynamics_through_pydmd():
    random = np.random.default_rng(0)
    step, drive = np.array([[0.9, 0.2], [-0.1, 0.8]]), np.array([[1.0, 0.5]])
    trials, inputs = [], []
    for length in (40, 25, 60):
        given = np.convolve(random.normal(size=length + 4), np.ones(5), "valid")[:, None]
        states = [random.normal(size=2)]
        for value in given[:-1]:
            states.append(states[-1] @ step.T + value @ drive)
        trials.append(np.array(states))
        inputs.append(given)
    koopman = nm.KoopmanOperator("dmdc").fit(trials, inputs)
    true = np.linalg.eigvals(step)
    assert distance(koopman.eigenvalues_, true) < 1e-10
    np.testing.assert_allclose(koopman.model_.drive @ koopman.model_.decode, drive, atol=1e-10)
    assert (koopman.residuals_ < 1e-10).all()
    assert distance(nm.KoopmanOperator().fit(trials).eigenvalues_, true) > 0.05  # inputs taken for dynamics
    ahead = koopman.predict(trials[0][:10], 15, inputs[0][9:24])
    np.testing.assert_allclose(ahead, trials[0][10:25], atol=1e-9)
    assert koopman.score(trials, 3, inputs) == pytest.approx(1, abs=1e-12)
    with pytest.raises(OptionError, match="dmdc needs inputs"):
        nm.KoopmanOperator("dmdc").fit(trials)
    with pytest.raises(OptionError, match="dmd takes no inputs"):
        nm.KoopmanOperator().fit(trials, inputs)
    with pytest.raises(InputError, match="other lengths"):
        nm.KoopmanOperator("dmdc").fit(trials, inputs[::-1])


def test_havok_of_lorenz_is_that_of_pydmd():
    from pydmd import HAVOK

    step = nm.rk4(nm.lorenz, 0.01)
    x = nm.simulate(step, torch.tensor([[1.0, 1.0, 20.0]], dtype=torch.float64), 4000, discard=500)[0, :, :1].numpy()
    koopman = nm.KoopmanOperator("havok", rank=8, delays=20, dt=0.01).fit(x)
    peer = HAVOK(svd_rank=8, delays=20).fit(x.T, 0.01)
    assert distance(koopman.eigenvalues_, np.exp(peer.eigs * 0.01)) < 1e-10
    assert koopman.rank_ == 7  # the eighth coordinate is the forcing
    assert koopman.modes_.shape == (1, 7)
    assert koopman.residuals_.min() < 0.05
    with pytest.raises(InputError, match="a coordinate for the dynamics and one for the forcing"):
        nm.KoopmanOperator("havok", rank=1, delays=20).fit(x)


@pytest.mark.parametrize("method", ["bopdmd", "dmdc", "havok"])
def test_methods_of_pydmd_say_what_to_install(method, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydmd"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydmd", None)
    states = linear(0, n_units=6)
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[koopman\]"):
        nm.KoopmanOperator(method, delays=2).fit(states, inputs=states[:, :1] if method == "dmdc" else None)


@pytest.mark.parametrize(
    ("settings", "states", "error", "says"),
    [
        ({}, np.full((50, 3), 2.0), InputError, "nothing varies"),
        ({}, np.where(np.arange(60).reshape(20, 3) == 7, np.nan, 1.0), InputError, "NaN"),
        ({}, np.zeros((1, 4)), InputError, "too short"),
        ({}, [linear(0)[:, :5], linear(1)[:, :4]], InputError, "differ in their units"),
        ({"method": "hankel", "delays": 30}, [linear(0), linear(1)[:30]], InputError, "at least 31 times"),
        ({"rank": 7}, linear(0), InputError, "rank is above that of the data"),
        ({"rank": 7, "method": "hankel", "delays": 5}, linear(0), InputError, "at most 6"),
        ({"rank": 0}, linear(0), OptionError, "rank"),
        ({"rank": "most"}, linear(0), OptionError, "unknown rank 'most'"),
        ({"method": "kernel"}, linear(0), OptionError, "unknown method"),
        ({"method": "hankel"}, linear(0), OptionError, "needs delays"),
        ({"delays": 4}, linear(0), OptionError, "take method='hankel'"),
        ({"dictionary": "rbf"}, linear(0), OptionError, "take method='edmd'"),
        ({"method": "edmd", "dictionary": "fourier"}, linear(0), OptionError, "unknown dictionary"),
        ({"method": "edmd", "degree": 9}, linear(0), InputError, "the dictionary is too large"),
        ({"method": "edmd", "dictionary": "rbf", "n_centers": 500}, linear(0), InputError, "more centres than states"),
        ({"method": "edmd", "dictionary": lambda s: s[0]}, linear(0), InputError, "no matrix of functions"),
        ({"method": "edmd", "dictionary": lambda s: np.exp(1j * s)}, linear(0), InputError, "real and imaginary"),
        ({"method": "edmd", "dictionary": lambda s: s - s.mean(0)}, linear(0), InputError, "comes with others"),
        ({"method": "edmd", "dictionary": lambda s: s / 0}, linear(0), InputError, "not finite"),
        ({"regression": "ridge"}, linear(0), OptionError, "unknown regression"),
        ({"method": "bopdmd", "regression": "forward_backward"}, linear(0), OptionError, "of its own"),
        ({"dt": 0}, linear(0), OptionError, "dt"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_bad_input(settings, states, error, says):
    with pytest.raises(error, match=says):
        nm.KoopmanOperator(**settings).fit(states)


def test_bad_input_after_the_fit():
    koopman = nm.KoopmanOperator("hankel", delays=5)
    with pytest.raises(InputError, match="not fitted"):
        koopman.predict(linear(0), 3)
    koopman.fit(linear(0))
    with pytest.raises(InputError, match="other units"):
        koopman.predict(linear(0)[:, :5], 3)
    with pytest.raises(InputError, match="for 5 delays"):
        koopman.predict(linear(0)[:4], 3)
    growing = nm.KoopmanOperator().fit(2.0 ** np.arange(20))
    with pytest.raises(InputError, match="grows beyond all numbers"):
        growing.predict([1.0], 5000)
    dying = np.array([[1.0, 1.0], [0.5, 0.0], [0.25, 0.0], [0.125, 0.0]])
    with pytest.raises(InputError, match="cannot be run backward"):
        nm.KoopmanOperator(regression="forward_backward").fit(dying)


def test_caller_keeps_data_and_random_state():
    states = linear(0, noise=0.1)
    kept, before = states.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    for settings in ({"method": "edmd", "dictionary": "rbf", "n_centers": 20}, {"method": "bopdmd", "rank": 6}):
        first, second = (nm.KoopmanOperator(**settings).fit(states).eigenvalues_ for _ in range(2))
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(states, kept)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
