"""What to believe of a Koopman spectrum: residuals where they are known, and prediction where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from tests.slow import slow_case

WAVES = [[k, m] for k in range(4) for m in range(-3, 4) if (k, m) > (0, 0)]


def on_the_torus(states):
    """1, and cosines and sines of low frequencies."""
    angles = 2 * np.pi * states @ np.array(WAVES).T
    return np.hstack([np.ones((len(states), 1)), np.cos(angles), np.sin(angles)])


def torus(matrix, shift=(0.0, 0.0), n=40):
    """Pairs of states of a map of the torus, from a grid, on which all waves are orthogonal."""
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) / n
    return np.stack([grid, (grid @ np.array(matrix).T + shift) % 1], axis=1)


def oscillations(seed, n_trials=6, n_times=300, noise=0.05):
    """3 Hz that falls to 1/e in 2 s, and a lasting 8 Hz, in 20 units at 100 Hz."""
    random, time = np.random.default_rng(seed), np.arange(n_times) / 100
    axes = np.linalg.qr(random.normal(size=(20, 4)))[0]
    trials = []
    for slow, fast in random.uniform(0, 2 * np.pi, (n_trials, 2)):
        first, second = 2 * np.pi * 3 * time + slow, 2 * np.pi * 8 * time + fast
        fading = np.exp(-time / 2)
        trials.append(np.stack([fading * np.cos(first), fading * np.sin(first), np.cos(second), np.sin(second)], 1))
    clean = np.array(trials) @ axes.T
    values = clean + noise * clean.std() * random.normal(size=clean.shape)
    about = {"sampling_rate": 100.0}
    return xr.DataArray(
        values, dims=("trial", "time", "unit"), coords={"unit": [f"n{i}" for i in range(20)]}, attrs=about
    )


@pytest.mark.filterwarnings("error")
def test_cat_map_has_one_eigenvalue_and_residuals_know_that_the_others_are_artefacts():
    # the map takes waves to waves of higher frequency: but for the constant there are no eigenfunctions at all, yet
    # any finite dictionary has as many eigenvalues as functions; the operator is unitary, so their residuals are 1
    koopman = nm.KoopmanOperator("edmd", dictionary=on_the_torus).fit(torus([[2, 1], [1, 1]]))
    true = np.abs(koopman.eigenvalues_ - 1) < 1e-9
    assert true.sum() == 1
    assert koopman.eigenvalues_.size > 40
    assert koopman.residuals_[true][0] < 1e-10
    # 1,600 pairs and 49 coefficients: sqrt(1600 / 1551) of the bare residual
    np.testing.assert_allclose(koopman.residuals_[~true], np.sqrt(1600 / 1551), atol=1e-3)
    # of all functions, at 1 the constant is the best; at i the distance to the only eigenvalue's is still large
    nearby = koopman.pseudospectrum([1, 1j, -1])
    assert nearby[0] < 1e-10
    assert (nearby[1:] > 0.3).all()


def test_rotation_of_the_torus_has_only_true_eigenvalues():
    shift = (np.sqrt(2) / 10, np.sqrt(3) / 10)
    koopman = nm.KoopmanOperator("edmd", dictionary=on_the_torus).fit(torus(np.eye(2), shift))
    angles = 2 * np.pi * np.array([[0, 0], *WAVES, *(-np.array(WAVES))]) @ shift
    for true in np.exp(1j * angles):
        assert np.abs(koopman.eigenvalues_ - true).min() < 1e-10
    assert koopman.residuals_.max() < 1e-10
    assert koopman.pseudospectrum(koopman.eigenvalues_).max() < 1e-10


def test_residual_of_a_noisy_process_is_what_noise_leaves():
    for memory in (0.5, 0.9, 0.99):
        random = np.random.default_rng(0)
        states = [0.0]
        for _ in range(20_000):
            states.append(memory * states[-1] + random.normal())
        koopman = nm.KoopmanOperator().fit(np.array(states))
        assert koopman.eigenvalues_[0].real == pytest.approx(memory, abs=0.02)
        assert koopman.residuals_[0] == pytest.approx(np.sqrt(1 - memory**2), rel=0.05)


def test_residuals_do_not_depend_on_how_many_coefficients_are_fitted():
    # noise in 40 units, 60 pairs: fitted ones leave a third of it, which must not look like eigenfunctions
    found = [
        np.sqrt(np.mean(nm.KoopmanOperator().fit(np.random.default_rng(seed).normal(size=(61, 40))).residuals_ ** 2))
        for seed in range(10)
    ]
    assert min(found) > 0.9


def test_pseudospectrum_is_a_lower_bound_of_residuals():
    koopman = nm.KoopmanOperator().fit(oscillations(0).values)
    assert (koopman.pseudospectrum(koopman.eigenvalues_) <= koopman.residuals_ + 1e-12).all()
    far = koopman.pseudospectrum(np.array([[2.0, 3.0], [2j, -3j]]))
    assert far.shape == (2, 2)
    assert (far > 0.9).all()


def test_estimate_finds_the_oscillations_and_says_so():
    for seed in range(3):
        found = nm.KoopmanOperator().estimate(oscillations(seed), progress=False)
        assert found.confirmed.sum() == 4
        rows = found.data.isel(mode=found.confirmed)
        assert sorted(np.abs(rows["frequency"].values)) == pytest.approx([3, 3, 8, 8], abs=0.02)
        assert rows["frequency"].attrs["units"] == "Hz"
        assert found.r2[0] > 0.99
        assert "4 of 20 eigenvalues within tolerance" in found.summary()
        assert f"residuals: {found.data['residual'].values.min():.2g}, " in found.summary()
        assert "8 Hz" in found.summary().replace("7.99", "8").replace("8.00", "8")
        assert "16 of 20 eigenvalues have a residual above the tolerance" in found.warnings[0]
        clean = nm.KoopmanOperator("hankel", rank="optimal", delays=10).estimate(oscillations(seed), progress=False)
        assert clean.confirmed.all()
        assert clean.confirmed.size == 4
        assert not clean.warnings
        slow = clean.data["frequency"].values.argsort()[2]
        assert 1 / clean.data["decay_rate"].values[slow] == pytest.approx(2, abs=0.05)
        assert clean.data["unit"].values[0] == "n0"


def no_dynamics(kind, seed):
    if kind == "shuffled":
        values = oscillations(seed).values[:, :, :6]
        random = np.random.default_rng(seed)
        return np.stack([trial[random.permutation(len(trial))] for trial in values])
    return np.random.default_rng(seed).normal(3, 1, size=(6, 300, 5))


@pytest.mark.parametrize("kind", ["noise", "shuffled"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"method": "hankel", "delays": 10}, {"method": "edmd"}, {"regression": "total_least_squares", "rank": 3}],
)
@pytest.mark.parametrize("seed", [0, slow_case(1)])
def test_where_nothing_can_be_predicted_it_says_so(kind, settings, seed):
    states = no_dynamics(kind, seed)
    found = nm.KoopmanOperator(**settings).estimate(states - states.mean((0, 1)), progress=False)
    assert found.r2[0] < 0.02
    constant = np.abs(found.eigenvalues - 1) < 1e-6  # that 1 stays 1 is true of anything
    assert not found.confirmed[~constant].any()
    assert "no predictable dynamics were found" in found.warnings[0]


def test_drift_alone_is_told_from_dynamics():
    walks = np.random.default_rng(0).normal(size=(8, 400, 3)).cumsum(1)
    found = nm.KoopmanOperator().estimate(walks, progress=False)
    assert found.r2[0] > 0.9
    assert any("no better than by no change" in text for text in found.warnings)


def test_held_out_trials_are_not_fitted():
    # trials of two systems that never agree: what is learnt from four says nothing of the fifth
    random = np.random.default_rng(0)
    trials = []
    for _ in range(5):
        step = np.linalg.qr(random.normal(size=(6, 6)))[0]
        states = [random.normal(size=6)]
        for _ in range(8):
            states.append(step @ states[-1])
        trials.append(np.array(states))
    assert nm.KoopmanOperator().fit(trials[0]).score(trials[0]) > 0.99
    assert nm.KoopmanOperator().estimate(trials, progress=False).r2[0] < 0.2
    found = nm.KoopmanOperator().estimate(trials, horizon=50, cv=3, progress=False)
    assert found.data.sizes["fold"] == 3
    assert found.data.sizes["step"] == 8


def test_one_trial_is_cut_into_stretches():
    trial = oscillations(0, n_trials=1, n_times=600).values[0]
    found = nm.KoopmanOperator("hankel", rank=4, delays=10).estimate(trial, progress=False)
    assert found.data.sizes["fold"] == 5
    assert found.attributes["held_out"] == "5 stretches of one trial"
    assert found.r2[0] > 0.98
    with pytest.raises(InputError, match="too little to hold any of it out"):
        nm.KoopmanOperator("hankel", delays=10).estimate(trial[:50], progress=False)
    last = nm.KoopmanOperator("bopdmd", rank=4).estimate(trial, progress=False)
    assert last.data.sizes["fold"] == 1
    assert last.attributes["held_out"] == "the last stretch"
    assert last.r2[0] > 0.98


def test_what_is_fitted_to_too_few_states_is_not_believed():
    states = np.random.default_rng(0).normal(size=(8, 20))
    koopman = nm.KoopmanOperator()
    with pytest.warns(UserWarning, match="residuals are not known"):
        koopman.fit(states)
    assert np.isnan(koopman.residuals_).all()
    assert np.isnan(koopman.pseudospectrum([1.0])).all()
    with pytest.warns(UserWarning, match="no direction of the data stands out of noise"):
        nm.KoopmanOperator(rank="optimal").fit(np.random.default_rng(0).normal(size=(400, 20)))


def test_states_that_are_mostly_their_mean_are_told_and_centred_ones_are_not():
    counts = np.random.default_rng(0).poisson(20.0, (400, 3)).astype(float)
    with pytest.warns(UserWarning, match="mostly the mean"):
        raw = nm.KoopmanOperator().fit(counts)
    centred = nm.KoopmanOperator().fit(counts - counts.mean(0))
    assert any("mostly the mean" in doubt for doubt in raw.doubts())
    assert abs(raw.eigenvalues_[0]) > 0.95 > 5 * abs(centred.eigenvalues_[0])  # counts without memory
    assert not centred.doubts()


def test_parallel_eigenvectors_are_warned_of():
    # a Jordan block: x' = .9 x + y, y' = .9 y
    states = [np.array([1.0, 1.0])]
    for _ in range(30):
        states.append(np.array([[0.9, 1.0], [0.0, 0.9]]) @ states[-1])
    trials = [np.array(states), 2 * np.array(states)]
    found = nm.KoopmanOperator().estimate(trials, progress=False)
    assert np.abs(found.eigenvalues - 0.9).max() < 1e-6
    assert any("almost parallel" in text for text in found.warnings)
    assert found.r2.min() > 1 - 1e-9


def test_result_is_saved_drawn_and_repeated(tmp_path):
    data = oscillations(0)
    found = nm.KoopmanOperator("hankel", rank=4, delays=5).estimate(data, progress=False)
    assert nm.load_result(found.save(tmp_path / "spectrum.nc")) == found
    koopman = nm.KoopmanOperator("hankel", rank=4, delays=5).fit(data)
    np.testing.assert_array_equal(found.eigenvalues, koopman.eigenvalues_)
    np.testing.assert_array_equal(found.modes, koopman.modes_)
    assert found.modes.shape == (20, 4)
    assert found.to_dataframe()["frequency"].size == 4
    axes = found.plot(Figure().subplots())
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any("residual at most 0.1" in text for text in texts)
    assert "colbrook2024" in found.citations
    inputs = np.random.default_rng(0).normal(size=(6, 300, 1))
    driven = nm.KoopmanOperator("dmdc", rank=4).estimate(data, inputs, progress=False)
    assert driven.r2[0] > 0.9
    with pytest.raises(OptionError, match="tolerance"):
        nm.KoopmanOperator().estimate(data, tolerance=0)
    with pytest.raises(OptionError, match="cv"):
        nm.KoopmanOperator().estimate(data, cv=1)


def test_tensors_and_recordings_are_taken_too():
    data = oscillations(0)
    first = nm.KoopmanOperator(rank=4).fit(data).eigenvalues_
    for same in (data.values, torch.from_numpy(data.values), nm.Recording(data), list(data.values)):
        np.testing.assert_array_equal(nm.KoopmanOperator(rank=4).fit(same).eigenvalues_, first)


def test_a_rich_dictionary_has_spurious_eigenvalues_within_the_tolerance_and_the_summary_lists_residuals():
    """Of polynomials to degree 4 on the slow manifold nine eigenvalues are true."""
    a, b = 0.95, 0.6
    states = [np.random.default_rng(0).uniform(-2, 2, size=(20, 2))]
    for _ in range(30):
        x, y = states[-1].T
        states.append(np.stack([a * x, b * y + (a**2 - b) * x**2], axis=1))
    found = nm.KoopmanOperator("edmd", degree=4).estimate(np.stack(states, axis=1))
    residuals = found.data["residual"].values
    exact = residuals < 1e-9
    true = [1, a, a**2, a**3, a**4, b, a * b, a**2 * b, b**2]
    assert np.sort(found.eigenvalues[exact].real) == pytest.approx(np.sort(true), abs=1e-7)
    assert (found.confirmed & ~exact).any()  # within the tolerance, and no eigenvalue of the system
    assert "residuals: " in found.summary()
    assert "confirmed" not in found.summary()


def test_points_of_a_pseudospectrum_are_complex_numbers() -> None:
    operator = nm.KoopmanOperator().fit(np.random.default_rng(0).normal(size=(5, 40, 2)))
    with pytest.raises(InputError, match="no complex numbers"):
        operator.pseudospectrum(["one"])


def test_units_of_unlike_size_are_told() -> None:
    random = np.random.default_rng(0)
    trials = random.normal(size=(4, 30, 3)).cumsum(1)
    assert not any("like sizes" in doubt for doubt in nm.KoopmanOperator().fit(trials).doubts())
    with pytest.warns(UserWarning, match="like sizes"):
        nm.KoopmanOperator().fit(trials * [1e6, 1, 1e-6])


def test_seeds_are_checked_where_nothing_is_drawn() -> None:
    with pytest.raises(InputError, match="seed"):
        nm.KoopmanOperator(seed=-1).fit(np.random.default_rng(0).normal(size=(40, 2)))


def fading(seed, n_trials, noise):
    """Trials of one rotation, .05 cycles per step, that fades by .02 per step, in 8 units with white noise."""
    random = np.random.default_rng(seed)
    axes = 2 * np.linalg.qr(np.random.default_rng(0).normal(size=(8, 2)))[0].T
    found = []
    for _ in range(n_trials):
        size, phase = random.uniform(0.5, 1.5), random.uniform(0, 2 * np.pi)
        turn = size * np.exp((-0.02 + 0.1j * np.pi) * np.arange(80) + 1j * phase)
        found.append(np.stack([turn.real, turn.imag], axis=1) @ axes + noise * random.normal(size=(80, 8)))
    return found


@pytest.mark.parametrize("n_trials", [8, slow_case(12)])
def test_intervals_over_trials_cover_the_decay_and_the_frequency(n_trials):
    covered, errors, rates = [], [], []
    for seed in range(40):
        found = nm.KoopmanOperator(rank=2, regression="total_least_squares").estimate(
            fading(seed, n_trials, 0.15), horizon=1, cv=2, progress=False
        )
        row, reach = found.data.isel(mode=0), stats.t.ppf(0.975, found.attributes["n_groups"] - 1)
        off = [abs(row["decay_rate"].item() - 0.02), abs(abs(row["frequency"].item()) - 0.05)]
        covered.append([off[0] < reach * row["decay_rate_se"].item(), off[1] < reach * row["frequency_se"].item()])
        errors.append(row["decay_rate_se"].item())
        rates.append(row["decay_rate"].item())
    assert (np.mean(covered, axis=0) >= 0.88).all()  # of 100 seeds 94 to 98
    assert np.mean(errors) == pytest.approx(np.std(rates), rel=0.3)  # and not too wide


def test_the_pull_of_noise_is_not_in_the_intervals_and_that_is_said():
    found = nm.KoopmanOperator(rank=2).estimate(fading(0, 12, 0.15), progress=False)
    row = found.data.isel(mode=0)
    assert row["decay_rate"].item() - 0.02 > 4 * row["decay_rate_se"].item()
    assert any("makes decays look faster, which no interval shows" in text for text in found.warnings)


def test_few_trials_have_no_errors_and_the_summary_says_what_it_takes():
    for trials in (fading(0, 7, 0.0), fading(0, 1, 0.0)):
        found = nm.KoopmanOperator(rank=2).estimate(trials, progress=False)
        assert np.isnan(found.data["decay_rate_se"].values).all()
        assert "no errors of frequencies and decays: they need 8 trials at least" in found.summary()
    assert "95% over trials: decay rate 0.02 to 0.02" in (
        nm.KoopmanOperator(rank=2).estimate(fading(0, 8, 0.0), progress=False).summary()
    )


def test_a_right_frequency_above_the_tolerance_is_told_with_what_helps():
    trials = fading(1, 12, 0.15)
    plain = nm.KoopmanOperator(rank=2).estimate(trials, progress=False)
    assert plain.data["residual"].values.min() > 0.1
    told = plain.summary()
    assert "- 0.05" in told
    assert ", above the tolerance" in told
    assert "method='hankel' with delays" in plain.warnings[0]
    assert "rank" not in plain.warnings[0]  # it was given
    delayed = nm.KoopmanOperator("hankel", rank=2, delays=20).estimate(trials, progress=False)
    assert delayed.confirmed.all()
    assert not delayed.warnings
    noise = nm.KoopmanOperator(rank=2).estimate(np.random.default_rng(0).normal(size=(12, 80, 8)), progress=False)
    assert "cycles per step" not in noise.summary()  # nothing is predicted
