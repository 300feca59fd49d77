"""Transfer entropy: coupled autoregressions in closed form, common drivers, spikes, and the level of its surrogates."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from scipy.signal import lfilter

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.information.dependence.conditional import conditional_mutual_information
from neuros_mechint.neuro.information.transfer.histories import circular_shifts, past, series
from neuros_mechint.neuro.information.transfer.stationarity import changes_over_time
from neuros_mechint.neuro.information.transfer.transfer_entropy import transfer_entropy
from tests.slow import slow_case

COUPLED = np.array([[0.6, 0.0], [0.4, 0.5]])
"""The first series drives the second."""


def autoregression(seed, n_times=2000, steps=COUPLED):
    random = np.random.default_rng(seed)
    states = random.normal(size=(n_times + 100, len(steps)))
    for time in range(1, len(states)):
        states[time] += steps @ states[time - 1]
    return states[100:].T


def truth(steps=COUPLED):
    """Half the logarithm of the variance of the next value given the target's own past, over that given both."""
    covariance = solve_discrete_lyapunov(steps, np.eye(2))
    after = steps @ covariance
    return 0.5 * np.log(covariance[1, 1] - after[1, 1] ** 2 / covariance[1, 1])


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return transfer_entropy(*args, **({"progress": False} | options))


# -- closed forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "n_sets"), [("gaussian", 40), ("ksg", 8), slow_case("ksg", 40)])
def test_coupled_autoregressions_have_their_closed_form_and_are_covered(method, n_sets):
    found = [
        transfer_entropy(*autoregression(seed), method=method, n_permutations=0, seed=seed) for seed in range(n_sets)
    ]
    values = np.array([one.value for one in found])
    assert truth() == pytest.approx(0.10207, abs=1e-5)
    assert values.mean() == pytest.approx(truth(), abs=0.01)
    assert np.mean([one.interval[0] <= truth() <= one.interval[1] for one in found]) >= 0.85
    assert np.mean([one.error for one in found]) < 1.6 * values.std()


@pytest.mark.parametrize(("method", "n_sets"), [("gaussian", 60), slow_case("gaussian", 200), slow_case("ksg", 100)])
def test_nothing_goes_in_reverse_and_p_is_uniform(method, n_sets):
    found = [
        quiet(*autoregression(seed, 400)[::-1], method=method, n_permutations=99, seed=seed) for seed in range(n_sets)
    ]
    p = np.array([one.p for one in found])
    assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_sets)
    assert 0.4 < p.mean() < 0.65
    assert abs(np.mean([one.value for one in found])) < 0.012
    forward = [quiet(*autoregression(seed, 1000), method=method, n_permutations=99, seed=seed) for seed in range(5)]
    assert all(one.p <= 0.05 for one in forward)


def test_a_source_with_a_long_memory_does_not_spoil_the_level():
    """Surrogates keep the memory of the source: shuffled ones would call many of these significant."""
    steps = np.diag([0.95, 0.95])
    p = [quiet(*autoregression(seed, 400, steps), method="gaussian", n_permutations=99).p for seed in range(60)]
    assert np.mean(np.array(p) <= 0.05) <= 0.13


def test_normal_transfer_is_half_of_granger_causality():
    source, target = autoregression(0)
    full = np.c_[target[:-1], source[:-1], np.ones(1999)]
    left = [np.linalg.lstsq(terms, target[1:], rcond=None)[1].item() for terms in (full[:, ::2], full)]
    granger = np.log(left[0] / left[1])
    assert transfer_entropy(source, target, method="gaussian", n_permutations=0).value == pytest.approx(
        granger / 2, abs=5e-4
    )


@pytest.mark.parametrize("method", ["gaussian", slow_case("ksg")])
def test_a_common_driver_looks_like_transfer_until_its_past_is_given(method):
    """Two series follow a third by one and by two samples, correlated by .64 / 1.64 at a lag of one."""
    wanted, found = -0.5 * np.log(1 - (0.64 / 1.64) ** 2), []
    for seed in range(5):
        driver, first, second = np.random.default_rng(seed).normal(size=(3, 1000))
        early, late = first + 0.8 * np.roll(driver, 1), second + 0.8 * np.roll(driver, 2)
        options = {"method": method, "n_permutations": 99}
        alone = quiet(early, late, **options)
        given = quiet(early, late, condition=driver, condition_history=2, **options)
        found.append((alone.value, alone.p <= 0.05, given.value, given.p <= 0.05))
    values, detected, remaining, wrongly = np.mean(found, axis=0)
    assert values == pytest.approx(wanted, abs=0.015)
    assert detected == 1
    assert abs(remaining) < 0.02
    assert wrongly <= 0.4


def test_spikes_that_are_copied_with_flips_have_their_closed_form():
    """A fair coin copied one sample later, flipped in a tenth: log 2 less the flips' entropy, and 0 in reverse."""
    wanted = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        source = random.integers(2, size=1000)
        target = np.r_[0, source[:-1] ^ (random.random(999) < 0.1)]
        forward = transfer_entropy(source, target, method="binned", n_permutations=99)
        back = quiet(target, source, method="binned", n_permutations=99)
        assert forward.p == 0.01
        found.append((forward.value, forward.effective, back.value, back.p, forward.error))
    value, effective, reverse, _, error = np.mean(found, axis=0)
    assert value == pytest.approx(wanted, abs=0.01)
    assert effective == pytest.approx(wanted, abs=0.01)
    assert abs(reverse) < 0.002
    assert error < 0.05
    mixed = quiet(source, target, method="mixed", n_permutations=19)
    assert mixed.value == pytest.approx(forward.value, abs=0.002)
    assert mixed.p == 0.05


def test_transfer_is_found_at_its_delay_and_in_its_history():
    random = np.random.default_rng(0)
    source, noise = random.normal(size=(2, 1500))
    target = noise + np.roll(source, 3)
    by_delay = [
        transfer_entropy(source, target, delay=delay, method="gaussian", n_permutations=0) for delay in (1, 2, 3)
    ]
    assert [round(one.value, 1) for one in by_delay] == [0.0, 0.0, 0.3]
    whole = transfer_entropy(source, target, source_history=3, method="gaussian", n_permutations=0)
    assert whole.value == pytest.approx(by_delay[-1].value, abs=0.01)
    bins = quiet(np.sign(source), np.sign(target), delay=3, method="binned", n_permutations=19)
    assert bins.p == 0.05


def test_binned_numbers_come_near_from_few_bins():
    found = [quiet(*autoregression(seed, 4000), method="binned", n_permutations=19) for seed in range(5)]
    assert np.mean([one.value for one in found]) == pytest.approx(truth(), abs=0.02)
    assert "sorted into" in found[0].warnings[0]


# -- trials, time and surrogates ---------------------------------------------------------------------------------------


def test_pasts_never_cross_trials():
    trials = [np.arange(5)[:, None], 10 + np.arange(4)[:, None]]
    assert past(trials, 2, 2, 3).tolist() == [[1, 0], [2, 1], [11, 10]]
    source, target = autoregression(0, 1200).reshape(2, 6, 200)
    whole = transfer_entropy(source, target, method="gaussian", n_permutations=0)
    assert whole.attributes["n_samples"] == 6 * 199
    turned = transfer_entropy([*source[::-1]], [*target[::-1]], method="gaussian", n_permutations=0)
    assert turned.value == pytest.approx(whole.value, abs=1e-12)
    rows = conditional_mutual_information(
        source[:, :-1].ravel(), target[:, 1:].ravel(), target[:, :-1].ravel(), "gaussian", n_permutations=0
    )
    assert whole.value == pytest.approx(rows.value, abs=1e-12)
    uneven = transfer_entropy([*source[:5], source[5, :50]], [*target[:5], target[5, :50]], n_permutations=0)
    assert uneven.attributes["n_samples"] == 5 * 199 + 49


def test_shifts_stay_in_their_trial_and_away_from_where_they_were():
    draws = circular_shifts([30, 50], 4, 500, np.random.default_rng(0))
    assert (np.sort(draws, axis=1) == np.arange(80)).all()
    assert (draws[:, :30] < 30).all()
    shift = (draws[:, 0] - 0) % 30
    assert shift.min() == 4
    assert shift.max() == 26
    assert (np.diff(draws[:, 30:]) % 50 == 1).all()
    assert len({tuple(row) for row in draws[:, [0, 30]].tolist()}) > 300  # trials are shifted by times of their own


def test_recordings_bring_their_trials_and_their_sampling_rate():
    source, target = autoregression(1, 400).reshape(2, 4, 100)
    recording = nm.Recording(np.stack([source, target], axis=-1), dims=("trial", "time", "unit"), sampling_rate=500.0)
    first, second = recording.data.isel(unit=[0]), recording.data.isel(unit=[1])
    found = transfer_entropy(first, second, n_permutations=0)
    assert found.value == transfer_entropy(source, target, n_permutations=0).value
    assert "at delay 1 (2 ms)" in found.summary()
    assert series(first, "source").sampling_rate == 500
    one, other = (part.assign_coords(trial=np.arange(4)) for part in (first, second))
    assert transfer_entropy(one, other, n_permutations=0).value == found.value
    with pytest.raises(InputError, match="label their trial differently"):
        transfer_entropy(one, other[::-1], n_permutations=0)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: x, None),
        (lambda x: x + np.linspace(0, 3, len(x))[:, None], "mean"),
        (lambda x: x * np.linspace(1, 4, len(x))[:, None], "variance"),
    ],
)
def test_what_is_not_stationary_is_flagged(change, found):
    flagged = [changes_over_time([change(autoregression(seed, 1000)[:1].T)]) for seed in range(10)]
    assert sum((not one) if found is None else (found in one) for one in flagged) >= 9


def test_walks_are_flagged_and_warned_of():
    walks = np.random.default_rng(0).normal(size=(2, 1000)).cumsum(1)
    with pytest.warns(UserWarning, match="not alike all along"):
        quietly = transfer_entropy(*walks, method="gaussian", n_permutations=0)
    assert any("slow wandering" in text for text in quietly.warnings)
    trials = np.random.default_rng(1).normal(size=(40, 30, 1))
    assert changes_over_time([*trials]) == []
    trials[20:] += 1
    assert changes_over_time([*trials]) == ["mean"]


# -- inputs and results ------------------------------------------------------------------------------------------------

GOOD = autoregression(3, 120)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (np.ones(120), {}, "the source's past has constant columns"),
        (np.ones(120), {"method": "binned"}, "constant"),
        (np.where(np.arange(120) == 7, np.nan, GOOD[0]), {}, "NaN"),
        (GOOD[0][:100], {}, "not recorded at the same times"),
        (np.array(["a"] * 120), {}, "no real numbers"),
        (np.repeat(GOOD[0][:30], 4), {"method": "ksg", "target_history": 80}, "too few times"),
        (GOOD[0], {"source_history": 119}, "too short for these histories"),
        (GOOD[0].reshape(-1, 2), {}, "not recorded at the same times"),
        (None, {}, "not clear which axis"),
        (GOOD[1], {"method": "gaussian"}, "source's past follows from what is given"),
        (GOOD[1], {}, "source's past follows from what is given"),
        (2 - 3 * GOOD[1], {"method": "mixed"}, "passed twice"),
        (GOOD[0], {"condition": GOOD[0]}, "must not hold the source"),
        (GOOD[0], {"delay": 0}, "out of range"),
        (GOOD[0], {"target_history": 0}, "out of range"),
        (GOOD[0], {"n_permutations": -1}, "out of range"),
        (GOOD[0], {"method": "kgs"}, "did you mean 'ksg'"),
        (GOOD[0], {"n_bins": 5}, "has no n_bins"),
        (GOOD[0], {"method": "binned", "n_bins": 60}, "too many combinations"),
        (GOOD[0], {"condition": GOOD[0][:60]}, "not recorded at the same times"),
        (GOOD[0], {"level": 0}, "coverage|out of range"),
        (GOOD[0], {"seed": -1}, "negative"),
    ],
)
def test_bad_input_is_refused(source, options, message):
    with pytest.raises((InputError, OptionError), match=message):
        quiet(source, GOOD[1], **options)


def test_ties_are_refused_or_warned_of():
    counts = np.random.default_rng(0).poisson(1.0, size=(2, 300))
    with pytest.raises(InputError, match="samples repeat"):
        transfer_entropy(*counts)
    with pytest.warns(UserWarning, match="repeat another one"):
        transfer_entropy(np.round(GOOD[0], 1), GOOD[1], n_permutations=0)
    assert abs(quiet(*counts, method="mixed", n_permutations=0).value) < 0.05


def two_views(seed, n_times=1000):
    """One process, seen with little and with much noise: nothing goes from one view to the other."""
    random = np.random.default_rng(seed)
    process = lfilter([1], [1, -0.9], random.normal(size=n_times + 200))[200:]
    return process + 0.2 * random.normal(size=n_times), process + 2 * random.normal(size=n_times)


@pytest.mark.parametrize(("method", "n_sets"), [("gaussian", 20), slow_case("ksg", 20)])
def test_transfer_turns_round_with_time_and_unequal_noise_does_not(method, n_sets):
    options = {"method": method, "n_permutations": 19}

    def warned(found):
        return [any("run backwards" in text for text in one.warnings) for one in found]

    views = [quiet(*two_views(seed), **options) for seed in range(n_sets)]
    assert all(one.p <= 0.05 for one in views)  # as if the cleaner view drove the other
    turned = [one.value - one.reversed for one in views]
    assert abs(np.mean(turned)) < 3 * np.std(turned) / n_sets**0.5 < 0.03  # of 0.14 either way
    assert np.mean(warned(views)) >= 0.9
    assert np.std(turned) == pytest.approx(np.mean([float(one.data["reversed_error"]) for one in views]), rel=0.5)
    coupled = [quiet(*autoregression(seed, 1000), **options) for seed in range(n_sets)]
    assert np.mean(warned(coupled)) <= 0.1  # where the error is a quarter of the difference (ksg), some are
    assert abs(np.mean([one.reversed for one in coupled])) < 0.02
    assert "series reversed in time: " in coupled[0].summary()
    assert transfer_entropy(*autoregression(0, 1000), method=method, n_permutations=0).reversed is None


def test_trials_are_each_run_backwards():
    source, target = autoregression(0, 1200).reshape(2, 6, 200)
    found = transfer_entropy(source, target, method="gaussian", n_permutations=19)
    backwards = transfer_entropy(source[:, ::-1], target[:, ::-1], method="gaussian", n_permutations=0)
    assert found.reversed == pytest.approx(backwards.value, abs=1e-12)


def test_near_copies_are_warned_of_and_other_pasts_of_one_series_are_not():
    """Of white noise nothing is told: neighbours come out below 0 where the source is nearly the target."""
    source, noise = np.random.default_rng(0).normal(size=(2, 500))
    with pytest.warns(UserWarning, match=r"hardly differs from what is given \(99\.99\d*% of its variance"):
        near = transfer_entropy(source, source + 0.01 * noise, n_permutations=0)
    assert near.value < -0.04
    assert abs(transfer_entropy(source, source + 0.01 * noise, method="gaussian", n_permutations=0).value) < 0.01
    assert not transfer_entropy(source, source + 0.3 * noise, n_permutations=0).warnings
    assert not transfer_entropy(source, source, delay=2, n_permutations=0).warnings
    steps = np.sign(source)
    with pytest.raises(InputError, match="passed twice"):
        transfer_entropy(steps, steps, method="binned")


def test_the_null_can_be_seen_however_narrow_it_is():
    source, noise = np.random.default_rng(0).normal(size=(2, 2001))
    found = transfer_entropy(source[1:], noise[1:] + 3 * source[:-1], method="gaussian")
    assert found.null is not None
    assert found.value > 500 * found.null.std()
    axes = found.plot()
    (bars,) = axes.containers
    left, right = axes.get_xlim()
    assert sum(bar.get_height() for bar in bars) == found.null.size
    assert bars[0].get_width() > (right - left) / 60


def test_a_result_is_told_drawn_and_kept(tmp_path):
    source, target = autoregression(0, 500)
    before = source.copy()
    found = transfer_entropy(source, target, n_permutations=99, progress=False)
    assert found.p == 0.01
    assert found.effective == pytest.approx(found.value - found.null.mean())
    assert "the source's past tells of the target's next value (p = 0.01" in found.summary()
    assert found.plot().get_xlabel() == "transfer entropy (nats)"
    assert nm.load_result(found.save(tmp_path / "transfer.nc")) == found
    assert found.data.identical(transfer_entropy(source, target, n_permutations=99, progress=False).data)
    assert (source == before).all()
    bare = transfer_entropy(source, target, n_permutations=0)
    assert (bare.p, bare.null, bare.effective) == (None, None, None)
    assert "not tested" in bare.summary()


def test_one_column_is_one_series():
    source, target = np.random.default_rng(0).normal(size=(2, 300))
    columns = transfer_entropy(source[:, None], target[:, None], method="gaussian", n_permutations=19)
    assert columns.value == transfer_entropy(source, target, method="gaussian", n_permutations=19).value
