"""Entropies of spike words: known distributions, few samples, independent formulas, information about stimuli."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import gammaln, polygamma, psi
from scipy.stats import poisson

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.information.spikes.entropy import spike_entropy
from neuros_mechint.neuro.information.spikes.estimators import nemenman_shafee_bialek, relevant_words
from neuros_mechint.neuro.information.spikes.information import spike_information
from neuros_mechint.neuro.information.spikes.words import spike_words
from tests.slow import slow_case

N_WORDS = 1024
UNIFORM = np.full(N_WORDS, 1 / N_WORDS)
DIRICHLET = np.random.default_rng(5).dirichlet(np.full(N_WORDS, 0.1))
ZIPF = (1 / np.arange(1, N_WORDS + 1)) / (1 / np.arange(1, N_WORDS + 1)).sum()
RATES = np.array([1.0, 2.0, 4.0, 8.0, 6.0, 3.0, 1.5, 1.0])


def entropy(shares):
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args, **options)


def estimates(shares, n_samples, method, n_sets=40):
    sets = [np.random.default_rng(seed).choice(N_WORDS, n_samples, p=shares) for seed in range(n_sets)]
    found = [quiet(spike_entropy, words, method, n_possible=N_WORDS) for words in sets]
    return np.array([one.value for one in found]), np.array([one.error for one in found])


# -- entropy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [UNIFORM, DIRICHLET], ids=["uniform", "dirichlet"])
@pytest.mark.parametrize("n_samples", [128, 1024])
def test_nsb_is_right_within_its_posterior_where_the_plug_in_is_far_too_low(shares, n_samples):
    values, errors = estimates(shares, n_samples, "nsb")
    truth = entropy(shares)
    assert abs(values.mean() - truth) < 1.6 * errors.mean()
    assert np.mean(np.abs(values - truth) < 1.96 * errors) >= 0.85
    assert values.std() < 1.3 * errors.mean()
    plain = estimates(shares, n_samples, "plug_in", 5)[0].mean()
    assert plain - truth < 4 * min(values.mean() - truth, -0.01)


def test_long_tails_are_where_nsb_is_too_low():
    values, errors = estimates(ZIPF, 128, "nsb")
    assert -0.6 < values.mean() - entropy(ZIPF) < -errors.mean()
    plain = estimates(ZIPF, 128, "plug_in", 10)[0].mean()
    assert plain < values.mean() - 0.5  # and still far better than nothing


@pytest.mark.parametrize("n_samples", [8 * N_WORDS, 16 * N_WORDS])
def test_the_plug_in_has_its_known_bias_and_panzeri_treves_takes_it_off(n_samples):
    bias = (N_WORDS - 1) / (2 * n_samples)
    plain = estimates(UNIFORM, n_samples, "plug_in", 10)[0].mean() - np.log(N_WORDS)
    corrected = estimates(UNIFORM, n_samples, "panzeri_treves", 10)[0].mean() - np.log(N_WORDS)
    assert plain == pytest.approx(-bias, rel=0.05)
    assert abs(corrected) < 0.06 * bias


def by_integration(counts, n_possible):
    """The same posterior by adaptive quadrature over the expected entropy, one term for each possible word."""
    counts = np.concatenate([counts, np.zeros(n_possible - len(counts))])
    n_samples = counts.sum()

    def log_evidence(b):
        total = n_possible * b
        return gammaln(total) - gammaln(n_samples + total) + (gammaln(counts + b) - gammaln(b)).sum()

    def concentration(expected):
        def excess(u):
            return psi(n_possible * np.exp(u) + 1) - psi(np.exp(u) + 1) - expected

        return np.exp(np.asarray(brentq(excess, -30, 30, xtol=1e-12), dtype=float))

    def moment(b, power):
        each = counts + b
        total = each.sum()
        if power < 2:
            return (-(each / total * (psi(each + 1) - psi(total + 1))).sum()) ** power
        single = psi(each + 1) - psi(total + 2)
        pairs = np.outer(single, single) - polygamma(1, total + 2)
        np.fill_diagonal(pairs, 0)
        double = (psi(each + 2) - psi(total + 2)) ** 2 + polygamma(1, each + 2) - polygamma(1, total + 2)
        return (each @ pairs @ each + (each * (each + 1) * double).sum()) / (total * (total + 1))

    most = max(log_evidence(b) for b in np.logspace(-6, 4, 200))

    def integral(power):
        def integrand(expected):
            b = concentration(expected)
            return np.exp(log_evidence(b) - most) * moment(b, power)

        return quad(integrand, 1e-8, np.log(n_possible) - 1e-8, limit=200, epsabs=0, epsrel=1e-7)[0]

    norm, mean, square = (integral(power) for power in (0, 1, 2))
    return mean / norm, np.sqrt(square / norm - (mean / norm) ** 2)


@pytest.mark.parametrize(
    ("counts", "n_possible"), [([3, 2, 1, 1, 1], 50), ([30, 28, 31, 33], 4), slow_case([9, 7, 2, 2, 1, 1, 1, 1], 200)]
)
def test_nsb_is_its_integral(counts, n_possible):
    found = nemenman_shafee_bialek(np.array(counts), n_possible)
    wanted = by_integration(np.array(counts), n_possible)
    assert (found.value, found.error) == pytest.approx(wanted, abs=1e-6)


def test_nsb_agrees_with_ndd():
    """The example in the readme of ndd 1.6."""
    counts = np.array([4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2])
    found = nemenman_shafee_bialek(counts, 100)
    assert found.value == pytest.approx(2.8060922529931225, abs=2e-5)
    assert found.error == pytest.approx(0.11945501149743358, abs=5e-5)


def test_huge_numbers_of_possible_words_stay_exact():
    counts = np.array([5, 4, 3, 3, 2, 1, 1, 1])
    values = [nemenman_shafee_bialek(counts, 2.0**bits).value for bits in (40, 60, 100, 400)]
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
    assert values[0] < 40 * np.log(2)
    words = np.repeat(np.arange(8), counts)
    assert spike_entropy(words, n_possible=2**5000).value > values[-1]


def test_words_in_use_are_counted_as_by_trying_every_number():
    def expected(counts, unseen):
        n_samples, n_seen = counts.sum(), len(counts)
        share = unseen * (1 - (n_samples / (n_samples + n_seen)) ** (1 / n_samples))
        known = (1 - share) * (counts + 1) / (n_samples + n_seen) if unseen else counts / n_samples
        missed = (1 - known) ** n_samples
        return (1 - missed).sum() + (unseen * (1 - (1 - share / unseen) ** n_samples) if unseen else 0)

    random = np.random.default_rng(0)
    for n_samples in (12, 40, 200):
        counts = np.bincount(random.choice(60, n_samples))
        counts = counts[counts > 0]
        share_of_one = 1 - (n_samples / (n_samples + len(counts))) ** (1 / n_samples)
        most = int(0.999 / share_of_one)
        distances = [abs(len(counts) - expected(counts, unseen)) for unseen in range(most + 1)]
        assert relevant_words(counts) == len(counts) + int(np.argmin(distances))
        assert relevant_words(counts, len(counts) + 1) <= len(counts) + 1


# -- words -------------------------------------------------------------------------------------------------------------


def test_words_are_cut_from_trains_in_order_of_trials():
    spikes = np.arange(24).reshape(2, 6, 2) % 3
    assert spike_words(spikes, 4).tolist() == [spikes[0, :4].ravel().tolist(), spikes[1, :4].ravel().tolist()]
    assert spike_words(spikes).shape == (2, 12)
    labelled = xr.DataArray(spikes.transpose(2, 0, 1), dims=("unit", "trial", "time"))
    assert np.array_equal(spike_words(labelled, 4), spike_words(spikes, 4))
    recording = Recording.from_spike_times([[0.05, 0.35]], events=[0.0], window=(0.0, 0.4), bin_width=0.1)
    assert spike_words(recording, 2).tolist() == [[1, 0], [0, 1]]
    for bad, message in [(np.ones(5), "no spike trains"), (-spikes, "at least 0"), (spikes + 0.5, "not whole")]:
        with pytest.raises(InputError, match=message):
            spike_words(bad, 2)
    with pytest.raises(OptionError, match="longer than"):
        spike_words(spikes, 7)


def test_patterns_and_their_numbers_are_the_same_words():
    spikes = np.random.default_rng(0).random((200, 6)) < 0.3
    numbers = spikes @ 2 ** np.arange(6)
    one, other = spike_entropy(spikes), spike_entropy(numbers, n_possible=64)
    assert one.value == other.value
    assert one.attributes["n_possible"] == 64
    texts = ["".join("ox"[int(spike)] for spike in word) for word in spikes]
    assert spike_entropy(texts, n_possible=64).value == one.value
    assert spike_entropy(xr.DataArray(spikes.T.astype(int), dims=("unit", "trial"))).value == one.value
    assert np.isfinite(quiet(spike_entropy, np.repeat(9 * np.eye(20, 2000), 3, axis=0)).value)  # 10^2000 words


GOOD = np.random.default_rng(1).integers(4, size=60)


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (np.zeros(60), {"n_possible": 4}, "all words are the same"),
        (GOOD + 0.5, {"n_possible": 4}, "not whole"),
        (np.where(GOOD == 1, np.nan, GOOD), {"n_possible": 4}, "not whole, or missing"),
        (np.ma.masked_equal(GOOD, 1), {"n_possible": 4}, "mask"),
        ([], {}, "there are none"),
        (GOOD[:8], {"n_possible": 4}, "too few samples"),
        (np.arange(60), {"n_possible": 100}, "no word occurs twice"),
        (GOOD, {}, "number of possible words is not known"),
        (GOOD, {"n_possible": 3}, "out of range"),
        (GOOD, {"method": "nbs"}, "did you mean 'nsb'"),
        (-GOOD[:, None], {}, "no counts"),
        (GOOD, {"n_possible": 4, "level": 2}, "level is out of range"),
    ],
)
def test_bad_words_are_refused(words, options, message):
    with pytest.raises((InputError, OptionError), match=message):
        spike_entropy(words, **options)


def test_few_samples_are_warned_of():
    words = np.random.default_rng(0).choice(N_WORDS, 60)
    with pytest.warns(UserWarning, match="rests on the prior"):
        spike_entropy(words, n_possible=N_WORDS)
    with pytest.warns(UserWarning, match="fewer than the"):
        spike_entropy(words, "panzeri_treves")
    assert not spike_entropy(GOOD, "panzeri_treves").warnings


# -- information -------------------------------------------------------------------------------------------------------


def tuned(n_trials, seed, rates=RATES):
    stimuli = np.repeat(np.arange(len(rates)), n_trials)
    return np.random.default_rng(seed).poisson(rates[stimuli]), stimuli


def tuning_information():
    answers = poisson.pmf(np.arange(60), RATES[:, None])
    return entropy(answers.mean(0)) - np.mean([entropy(answer) for answer in answers])


@pytest.mark.parametrize(
    ("method", "n_trials"),
    [("panzeri_treves", 16), ("panzeri_treves", 64), slow_case("nsb", 64)],
)
def test_tuned_neurons_tell_what_enumeration_says(method, n_trials):
    options = {"n_permutations": 19, "n_possible": 30.0}
    found = [quiet(spike_information, *tuned(n_trials, seed), method, seed=seed, **options) for seed in range(20)]
    values = np.array([one.value for one in found])
    truth = tuning_information()
    assert np.mean([one.interval[0] < truth < one.interval[1] for one in found]) >= 0.85
    assert all(one.p == 0.05 for one in found)
    plain = np.mean([one.plug_in for one in found])
    left = abs(values.mean() - truth) - 2 * values.std() / 20**0.5
    assert plain - truth > 0.04
    assert left < 0.1 * (plain - truth)


def test_stimuli_that_change_nothing_are_found_to():
    flat = np.full(8, 3.0)
    found = [quiet(spike_information, *tuned(32, s, flat), n_permutations=19, seed=s) for s in range(40)]
    plain = np.mean([one.plug_in for one in found])
    assert plain > 0.1
    assert abs(np.mean([one.value for one in found])) < 0.15 * plain
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.15
    assert abs(np.mean([one.data["shuffled"].mean() for one in found])) < 0.15 * plain


def test_patterns_tell_what_counts_do_not():
    """Two neurons that fire together for one stimulus and apart for the other: a bit, and none in either alone."""
    random = np.random.default_rng(0)
    first, stimuli = random.integers(2, size=(2, 200))
    patterns = np.stack([first, first ^ stimuli], axis=1)
    told = spike_information(patterns, np.array(["same", "other"])[stimuli])
    assert told.interval[0] < np.log(2) < told.interval[1] + 0.01
    assert spike_information(first, stimuli).p > 0.05


SIX_CELLS = 0.3 + 3 * np.exp(2 * (np.cos(np.arange(8)[:, None] * np.pi / 4 - np.arange(6) * np.pi / 3) - 1))


def six_cells(n_trials, seed):
    stimuli = np.repeat(np.arange(8), n_trials)
    return np.random.default_rng(seed).poisson(SIX_CELLS[stimuli]), stimuli


def six_cells_information():
    """By the likelihoods themselves, of 80,000 responses: 1.17, with a standard error of .0025."""
    counts, stimuli = six_cells(10_000, 99)
    likelihood = poisson.logpmf(counts[:, None], SIX_CELLS).sum(-1)
    return (likelihood[np.arange(len(stimuli)), stimuli] - np.log(np.exp(likelihood).mean(1))).mean()


def test_a_decoder_is_below_the_information_of_six_cells_and_near_it_where_the_correction_is_far_above():
    truth = six_cells_information()
    assert truth == pytest.approx(1.17, abs=0.01)
    for n_trials, least in ((40, 0.9), (100, 0.95)):
        found = [spike_information(*six_cells(n_trials, seed), "decoder", n_permutations=0) for seed in range(10)]
        values = np.array([one.value for one in found])
        assert least * truth < values.mean() < truth
        assert all(one.value < truth + 2 * one.error for one in found)
        assert values.std(ddof=1) == pytest.approx(np.mean([one.error for one in found]), rel=0.6)
        assert not any(one.warnings for one in found)
    with pytest.warns(UserWarning, match='method="decoder"'):
        corrected = spike_information(*six_cells(40, 0), n_permutations=0)
    assert corrected.interval[0] > truth  # never covers
    assert "which does not hold the bias that is warned of" in corrected.summary()
    assert "information: at least" in found[0].summary()


@pytest.mark.parametrize("n_sets", [6, slow_case(200)])
def test_a_decoder_reads_nothing_where_nothing_is_told(n_sets):
    stimuli, found = np.arange(60) % 2, []
    for seed in range(n_sets):
        counts = np.random.default_rng(seed).poisson(3.0, size=(60, 3))
        found.append(spike_information(counts, stimuli, "decoder", n_permutations=19, seed=seed, progress=False))
    assert -0.15 < np.mean([one.value for one in found]) < 0.01
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_sets)
    assert abs(np.mean([one.p for one in found]) - 0.525) < 3 * 0.29 / n_sets**0.5  # uniform on .05, .1, ... 1
    told = spike_information(counts + 3 * stimuli[:, None], stimuli, "decoder", n_permutations=19, progress=False)
    assert told.p == 0.05


def test_one_tuned_neuron_is_decoded_in_full_and_patterns_are_not():
    """Of a Poisson neuron the logarithms of the probabilities are linear in its count: nothing is lost."""
    found = [spike_information(*tuned(64, seed), "decoder", n_permutations=0).value for seed in range(5)]
    assert 0.85 * tuning_information() < np.mean(found) < tuning_information()
    first, stimuli = np.random.default_rng(0).integers(2, size=(2, 200))
    patterns = np.stack([first, first ^ stimuli], axis=1)
    assert abs(spike_information(patterns, stimuli, "decoder", n_permutations=0).value) < 0.05  # of log 2


def test_labelled_responses_are_paired_with_their_stimuli():
    counts, stimuli = tuned(10, 0)
    trials = {"trial": np.arange(len(counts))}
    one = xr.DataArray(counts, dims="trial", coords=trials)
    other = xr.DataArray(stimuli, dims="trial", coords=trials)[::-1]
    paired = quiet(spike_information, one, other, n_permutations=19)
    assert paired.value == quiet(spike_information, counts, stimuli, n_permutations=19).value
    by_label = spike_information(one, other[::-1], "decoder", n_permutations=0)
    assert by_label.value == spike_information(counts, stimuli, "decoder", n_permutations=0).value


@pytest.mark.parametrize(
    ("responses", "stimuli", "options", "message"),
    [
        (GOOD, GOOD[:50] % 2, {}, "different numbers"),
        (GOOD, np.zeros(60), {}, "constant"),
        (np.zeros(60), GOOD, {}, "all words are the same"),
        (GOOD, np.arange(60) // 2, {}, "too few samples"),
        (GOOD, np.arange(60), {}, "too many values"),
        (GOOD * 1.5, GOOD % 2, {}, "not whole"),
        (GOOD, GOOD % 2, {"method": "nsb"}, "not known"),
        (GOOD, GOOD % 2, {"n_permutations": 3}, "out of range"),
        (GOOD, GOOD % 2, {"method": "decoder", "n_possible": 9}, "has no n_possible"),
        (np.array(list("abcd"))[GOOD], GOOD % 2, {"method": "decoder"}, "text cannot be decoded"),
    ],
)
def test_bad_responses_are_refused(responses, stimuli, options, message):
    with pytest.raises((InputError, OptionError), match=message):
        spike_information(responses, stimuli, **options)


def test_few_trials_are_warned_of():
    with pytest.warns(UserWarning, match="fewer samples than words in use"):
        spike_information(np.random.default_rng(0).integers(30, size=40), np.arange(40) % 4, n_permutations=19)


def test_results_are_told_drawn_and_kept(tmp_path):
    found = spike_entropy(np.random.default_rng(0).random((300, 5)) < 0.4)
    assert "of 32 possible ones" in found.summary()
    assert found.plot().get_xlabel() == "entropy (nats)"
    assert nm.load_result(found.save(tmp_path / "entropy.nc")) == found
    told = spike_information(*tuned(30, 0), n_permutations=50)
    assert "8 stimuli" in told.summary()
    assert told.bits == pytest.approx(told.value / np.log(2))
    assert told.plot().get_xlabel() == "information (nats)"
    assert nm.load_result(told.save(tmp_path / "information.nc")) == told


def test_no_test_where_none_is_asked_for(tmp_path):
    stimuli = np.arange(100) % 2
    found = spike_information(np.random.default_rng(0).poisson(2 + 4 * stimuli), stimuli, n_permutations=0)
    tested = spike_information(np.random.default_rng(0).poisson(2 + 4 * stimuli), stimuli, n_permutations=19)
    assert found.p is None
    assert found.value == tested.value
    assert "not tested: n_permutations=0" in found.summary()
    assert found.plot() is not None
    assert nm.load_result(found.save(tmp_path / "information.nc")) == found


def test_numbers_that_no_integer_holds_are_refused():
    """Cast to integers they would all be one word."""
    huge = 1e300 * np.random.default_rng(0).integers(5, size=100)
    with pytest.raises(InputError, match="too large to be told apart"):
        spike_entropy(huge, n_possible=10)
    with pytest.raises(InputError, match="too large to be told apart"):
        spike_information(huge, np.arange(100) % 2)
