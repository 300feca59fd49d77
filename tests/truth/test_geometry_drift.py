"""Drift that is planted between sessions: turns, shifts, sizes and new geometry, their rate, and none at all."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.geometry.drift.drift import representation_drift
from neuros_mechint.neuro.geometry.drift.sessions import p_of_independent_repeats, signal_power
from tests.slow import slow_case

N_CONDITIONS, N_UNITS = 24, 30


def responses(seed):
    """Mean responses of six latent dimensions, and a generator."""
    random = np.random.default_rng(seed)
    return random.normal(size=(N_CONDITIONS, 6)) @ random.normal(size=(6, N_UNITS)) / 6**0.5, random


def trials(means, random, n_repeats=10):
    return means + random.normal(size=(n_repeats, *means.shape))


def changed(kind, seed):
    means, random = responses(seed)
    turn = np.linalg.qr(random.normal(size=(N_UNITS, N_UNITS)))[0]
    other = {
        "nothing": lambda: means,
        "translation": lambda: means + 1.0,
        "rotation": lambda: means @ turn,
        "scaling": lambda: 1.5 * means,
        "alignment": lambda: 1.5 * means @ turn + 1,
        "geometry": lambda: 0.5**0.5 * means + 0.5**0.5 * responses(1000 + seed)[0],
    }[kind]()
    return [trials(means, random), trials(other, random)], means, other


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return representation_drift(*arguments, **({"n_permutations": 19} | options))


def runs(kind, n_seeds):
    return [quiet(changed(kind, seed)[0], seed=seed) for seed in range(n_seeds)]


def spread(means):
    return means.var(0).sum()


@pytest.mark.parametrize("kind", [slow_case("translation"), slow_case("rotation"), "scaling", "alignment"])
def test_planted_alignment_explains_all(kind):
    found = runs(kind, 4)
    total = np.mean([one.total[0] for one in found])
    expected = []
    for seed in range(4):
        _, means, other = changed(kind, seed)
        expected.append(((means - other) ** 2).sum(1).mean() / (spread(means) * spread(other)) ** 0.5)
    # 4 standard errors: one run errs by .012 where 1.5 times the size is .17
    assert total == pytest.approx(np.mean(expected), rel=0.15 if kind == "scaling" else 0.06)
    assert abs(np.mean([one.residual[0] for one in found])) < 0.03
    assert all(one.p[0] == 0.05 for one in found)
    assert np.mean([one.p_residual[0] <= 0.05 for one in found]) <= 1 / 4
    if kind != "alignment":
        assert np.mean([one.shares[kind][0] for one in found]) == pytest.approx(
            1, abs=0.15 if kind == "scaling" else 0.1
        )


def test_parts_sum_to_the_total():
    found = quiet(changed("alignment", 0)[0])
    assert sum(found.shares.values())[0] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n_seeds", "most"), [(10, 3), slow_case(80, 11)])
def test_sessions_without_change_do_not_drift(n_seeds, most):
    found = runs("nothing", n_seeds)
    assert sum(one.p[0] <= 0.05 for one in found) <= most  # .999 of a binomial distribution
    for name in ("total", "translation", "rotation", "scaling", "residual"):
        assert abs(np.mean([float(one.data[name][0]) for one in found])) < 0.03
    assert np.mean([one.data["total_low"][0] < 0 < one.data["total_high"][0] for one in found]) > 0.8


@pytest.mark.slow
def test_turned_sessions_have_one_geometry():
    assert sum(one.p_residual[0] <= 0.05 for one in runs("rotation", 60)) <= 9


def test_new_geometry_is_left_by_alignment():
    found = runs("geometry", 6)
    assert np.mean([one.p_residual[0] <= 0.05 for one in found]) > 0.8
    assert 0.1 < np.mean([one.residual[0] for one in found]) < np.mean([one.total[0] for one in found])


@pytest.mark.parametrize(("n_seeds", "fewest"), [(1, 1), slow_case(12, 9)])
def test_planted_rate_of_a_random_walk(n_seeds, fewest):
    estimates, truths, covered = [], [], []
    for seed in range(n_seeds):
        means, random = responses(seed)
        clean = [means]
        for _ in range(4):
            clean.append(clean[-1] + 0.3 * random.normal(size=means.shape))
        given = [trials(each, random) for each in clean]
        found = quiet(given, times=[0, 1, 2, 4, 5], seed=seed)
        lags, apart = [], []
        for first in range(5):
            for second in range(first + 1, 5):
                lags.append([0, 1, 2, 4, 5][second] - [0, 1, 2, 4, 5][first])
                difference = ((clean[first] - clean[second]) ** 2).sum(1).mean()
                apart.append(difference / (spread(clean[first]) * spread(clean[second])) ** 0.5)
        truths.append(np.dot(lags, apart) / np.dot(lags, lags))
        estimates.append(found.rate["total"])
        low, high = found.rate_interval["total"]
        covered.append(low < truths[-1] < high)
    # the error of one rate is 5%
    assert np.array(estimates) == pytest.approx(np.array(truths), rel=0.2)
    assert np.mean(estimates) == pytest.approx(np.mean(truths), rel=0.2 / n_seeds**0.5)
    assert sum(covered) >= fewest


def test_other_units_have_a_residual_only():
    means, random = responses(0)
    same_latents = means @ np.linalg.qr(random.normal(size=(N_UNITS, 40)).T)[0].T
    found = quiet([trials(means, random), trials(same_latents, random)], same_units=False)
    assert np.isnan(found.total[0])
    assert np.isnan(found.p[0])
    assert abs(found.residual[0]) < 0.1
    assert found.p_residual[0] > 0.05
    assert np.isnan(found.rate["rotation"])
    with pytest.raises(InputError, match="same_units=False"):
        quiet([trials(means, random), trials(same_latents, random)])


def test_lists_and_arrays_and_units_give_the_same():
    given, _, _ = changed("alignment", 0)
    found = quiet(np.array(given))
    assert found.data.identical(quiet(given).data)
    assert quiet([1e6 * each for each in given]).total == pytest.approx(found.total)
    assert quiet([given[0], given[1][:7]]).attributes["fewest_repeats"] == 7


@pytest.mark.parametrize("change", ["gain of a repeat", "shift of a repeat"])
def test_repeats_that_change_as_a_whole_are_told_from_those_that_do_not(change):
    """Of 20 sessions each: all with a gain or a shift of the whole repeat, and hardly one with a gain of each trial."""
    together, alone = 0, 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        signal = random.normal(size=(16, 5)) @ random.normal(size=(5, 20))
        noise = 0.8 * random.normal(size=(8, 16, 20))
        gain, shift = random.normal(1, 0.3, size=(8, 1, 1)), 0.4 * random.normal(size=(8, 1, 20))
        whole = signal * gain + noise if change == "gain of a repeat" else signal + shift + noise
        together += p_of_independent_repeats(whole, random) <= 0.01
        alone += p_of_independent_repeats(signal * random.normal(1, 0.3, size=(8, 16, 1)) + noise, random) <= 0.01
    assert together == 20
    assert alone <= 2
    with pytest.warns(UserWarning, match="change as a whole"):
        representation_drift([whole, whole[::-1] + 3], n_permutations=19, progress=False)


def test_what_says_nothing_is_warned_of():
    random = np.random.default_rng(0)
    weak = 0.25 * random.normal(size=(10, 8)) + random.normal(size=(2, 6, 10, 8))
    with pytest.warns(UserWarning, match=r"signal|noise") as record:
        found = representation_drift(weak, n_permutations=19)
    assert [str(one.message) for one in record] == list(found.warnings)
    assert "turn of noise" in found.warnings[0]
    assert "no farther apart than noise" in found.warnings[-1]


def test_a_signal_of_one_condition_has_no_interval():
    lone = np.zeros((10, 8))
    lone[0] = 4
    found = quiet(lone + np.random.default_rng(0).normal(size=(2, 6, 10, 8)))
    assert any("no signal is left" in text for text in found.warnings)
    assert np.isfinite(found.total).all()
    assert "interval unknown" in found.summary()
    assert "nan" not in found.summary()


def test_sessions_without_signal_are_named():
    untuned, tuned = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        noise = random.normal(size=(6, 10, 8))
        (untuned if signal_power(noise) < 0 else tuned).append(noise + 0.0)
    assert 4 <= len(untuned) <= 16  # without bias, in about half of those that have none
    signal = 2 * random.normal(size=(10, 8))
    given = [each + signal for each in tuned[:2]]
    with pytest.raises(InputError, match=r"in session 1 there is no signal"):
        quiet([given[0], untuned[0], given[1]])
    with pytest.raises(InputError, match=r"in sessions 0, 2 there is no signal[\s\S]*axes are \(repeat"):
        quiet([untuned[0], given[0], untuned[1]])
    assert np.isfinite(quiet(given).total).all()  # negative control


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([np.ones((5, 4, 3))], "no sessions"),
        ([np.ones((5, 4)), np.ones((5, 4))], "no sessions"),
        ([np.zeros((5, 4, 3)), np.zeros((5, 5, 3))], "do not fit each other"),
        (np.zeros((2, 3, 5, 4)), "too few repeats"),
        (np.zeros((2, 5, 2, 4)), "too few repeats or conditions"),
        (np.ones((2, 5, 5, 4)), "does not differ between conditions"),
        (np.full((2, 5, 5, 4), np.nan), "not finite"),
    ],
)
def test_sessions_that_are_refused(given, problem):
    with pytest.raises(InputError, match=problem):
        representation_drift(given)


def test_options_that_do_not_exist():
    given, _, _ = changed("nothing", 0)
    for option in ({"n_permutations": 5}, {"level": 1}, {"same_units": "yes"}):
        with pytest.raises(OptionError):
            representation_drift(given, **option)
    for times in ([0], [1, 0], [0, np.nan]):
        with pytest.raises(InputError):
            representation_drift(given, times=times)


def test_results_are_drawn_told_and_kept(tmp_path):
    given, means, _ = changed("alignment", 0)
    two, three = quiet(given), quiet([*given, trials(means, np.random.default_rng(1))])
    assert two.plot(Figure().subplots()).get_ylabel().startswith("squared distance")
    assert three.plot(Figure().subplots()).get_xlabel() == "time between sessions"
    for found in (two, three):
        assert "signal variances apart" in found.summary()
        assert load_result(found.save(tmp_path / "drift.nc")) == found
