"""Alignment over time: planted onsets and offsets, shuffled controls, and how often a cluster is false."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.ndimage
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.alignment.clusters import cluster_test
from neuros_mechint.neuro.alignment.rsa.ceilings import noise_ceiling
from neuros_mechint.neuro.alignment.rsa.rdm import compute_rdm
from neuros_mechint.neuro.alignment.rsa.rsa import RSA
from neuros_mechint.neuro.alignment.time_resolved import time_resolved_alignment
from tests.slow import slow_case

TIMES = np.round(np.arange(-0.1, 0.4, 0.01), 6)
ONSET, OFFSET = 0.1, 0.25
INFORMED = (TIMES >= ONSET - 1e-9) & (TIMES <= OFFSET + 1e-9)
STIMULI = [f"image {number}" for number in range(24)]


def planted(seed, n_repetitions=4, noise=1.5, n_units=20, shown=STIMULI):
    """Features (stimulus, feature) and a recording in which only INFORMED times hold them."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(len(shown), 10))
    responses = noise * random.normal(size=(n_repetitions, len(shown), TIMES.size, n_units))
    patterns = features @ random.normal(size=(10, n_units)) / np.sqrt(10)
    responses[:, :, INFORMED] += patterns[None, :, None]
    model = xr.DataArray(features, dims=("stimulus", "unit"), coords={"stimulus": shown})
    labels = {"stimulus": shown, "time": TIMES}
    return model, Recording(responses, ("repetition", "stimulus", "time", "unit"), labels), patterns


def largest(result):
    return result.clusters.loc[result.clusters["mass"].idxmax()]


@pytest.mark.parametrize("seed", range(6))
def test_planted_onset_and_offset_are_found_within_one_bin(seed):
    model, recording, _ = planted(seed)
    result = time_resolved_alignment(model, recording, n_permutations=300, seed=seed)
    found = largest(result)
    assert found["p"] == pytest.approx(1 / 301)
    assert abs(found["onset"] - ONSET) <= 0.01 + 1e-9
    assert abs(found["offset"] - OFFSET) <= 0.01 + 1e-9
    assert result.significant[INFORMED].mean() > 0.9
    assert result.values[INFORMED].min() > 0.3
    assert np.abs(result.values[~INFORMED]).mean() < 0.1


def test_shuffled_stimuli_have_no_cluster():
    false = 0
    for seed in range(40):
        model, recording, _ = planted(seed, n_repetitions=1)
        order = np.random.default_rng(seed).permutation(24)
        shuffled = model.values[order]
        result = time_resolved_alignment(
            model.copy(data=shuffled), recording.query("time > -0.02"), n_permutations=99, seed=seed
        )
        false += bool((result.clusters["p"] <= 0.05).any())
    assert false <= 6  # 2 expected; more than 6 of 40 has a probability of 0.003


def test_other_estimators_find_the_same_times():
    model, recording, _ = planted(1, noise=1.0)
    part = recording.query("time >= 0.04 and time <= 0.32")
    ridge = nm.RidgeEncoding(alphas=(10.0,), metric="correlation")
    result = time_resolved_alignment(model, part, ridge, window=0.02, step=0.02, n_permutations=39)
    found = largest(result)
    assert found["p"] == pytest.approx(1 / 40)
    assert abs(found["onset"] - ONSET) <= 0.02
    assert abs(found["offset"] - OFFSET) <= 0.02
    ceiling = result.data["ceiling"].sel(bound="mean over units").values
    reliability = nm.split_half(recording.select(time=slice(0.12, 0.13)).average("time")).values
    at = int(np.argmin(np.abs(result.data.time.values - 0.125)))
    assert ceiling[at] == pytest.approx(np.sqrt(reliability.mean()))

    class Overlap:
        def score(self, X, Y):
            return float(np.corrcoef(np.ravel(X @ X.T), np.ravel(Y @ Y.T))[0, 1])

    again = time_resolved_alignment(model, part, Overlap(), n_permutations=59)
    assert abs(largest(again)["onset"] - ONSET) <= 0.01 + 1e-9
    assert "ceiling" not in again.data


def test_scores_are_those_of_rsa_at_each_time_and_rdms_serve_as_models():
    model, recording, _ = planted(2)
    method = RSA(rdm="euclidean", compare="corr")
    result = time_resolved_alignment(model, recording, method, n_permutations=9)
    mean = recording.average("repetition")
    by_hand = [method.score(model, mean.select(time=time)) for time in TIMES]
    np.testing.assert_allclose(result.values, by_hand, atol=1e-10)
    rdm = compute_rdm(model, method="euclidean")
    assert rdm.dims == ("condition", "other_condition")
    np.testing.assert_allclose(time_resolved_alignment(rdm, recording, method, n_permutations=9).values, by_hand)
    turned = rdm[::-1, ::-1]
    np.testing.assert_allclose(time_resolved_alignment(turned, recording, method, n_permutations=9).values, by_hand)


def test_stimuli_are_joined_by_label_never_by_position():
    model, recording, _ = planted(3)
    expected = time_resolved_alignment(model, recording, n_permutations=9).values
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_allclose(time_resolved_alignment(model[order], recording, n_permutations=9).values, expected)
    data = recording.data.isel(stimulus=order)
    mixed = {"a": recording, "b": Recording(data)}
    subjects = time_resolved_alignment(model, mixed, n_permutations=9).data["subject_score"].values
    np.testing.assert_allclose(subjects, np.tile(expected, (2, 1)), atol=1e-10)
    for wrong, message in (
        (model.values, "recording has labels and model has none"),
        (model[:-1], "only in recording: 'image 23'"),
        (model.assign_coords(stimulus=["x", *STIMULI[1:]]), "only in model: 'x'"),
    ):
        with pytest.raises(nm.errors.InputError, match=message):
            time_resolved_alignment(wrong, recording, n_permutations=9)


def test_trials_are_averaged_by_stimulus():
    model, recording, _ = planted(4, n_repetitions=3)
    values = recording.data.values
    trials = Recording(
        values.reshape(-1, *values.shape[2:]),
        ("trial", "time", "unit"),
        {"stimulus": ("trial", STIMULI * 3), "time": TIMES},
    )
    whole = time_resolved_alignment(model, recording, n_permutations=9)
    np.testing.assert_allclose(time_resolved_alignment(model, trials, n_permutations=9).values, whole.values)
    uneven = time_resolved_alignment(model, trials.query("trial < 70"), n_permutations=9)
    assert "ceiling" in whole.data
    assert "ceiling" not in uneven.data
    assert np.corrcoef(uneven.values, whole.values)[0, 1] > 0.95


@pytest.mark.parametrize("over", ["stimuli", "subjects"])
def test_several_subjects_with_ceilings(over):
    model, _, _ = planted(0)
    random = np.random.default_rng(5)
    subjects = {}
    for number in range(8):
        responses = 1.5 * random.normal(size=(24, TIMES.size, 20))
        responses[:, INFORMED] += (model.values @ random.normal(size=(10, 20)) / np.sqrt(10))[:, None]
        subjects[f"s{number}"] = Recording(responses, coords={"stimulus": STIMULI, "time": TIMES})
    result = time_resolved_alignment(model, subjects, over=over, n_permutations=300)
    found = largest(result)
    assert found["p"] == pytest.approx(1 / 301 if over == "stimuli" else 1 / 256)
    assert abs(found["onset"] - ONSET) <= 0.01 + 1e-9
    assert abs(found["offset"] - OFFSET) <= 0.01 + 1e-9
    lower, upper = result.data["ceiling"].sel(bound="lower").values, result.data["ceiling"].sel(bound="upper").values
    assert (lower < upper).all()
    assert np.abs(lower[~INFORMED]).mean() < 0.1
    assert lower[INFORMED].min() > 0.2
    np.testing.assert_allclose(result.data["subject_score"].mean("subject").values, result.values)
    ceiling = noise_ceiling(np.stack([compute_rdm(one.select(time=0.2).data.values) for one in subjects.values()]))
    at = int(np.argmin(np.abs(TIMES - 0.2)))
    assert (lower[at], upper[at]) == pytest.approx((ceiling.lower, ceiling.upper))


@pytest.mark.parametrize(
    ("noise", "n_repetitions"), [(1.0, 2), (2.0, 5), *(slow_case(*one) for one in ((1.0, 4), (2.0, 4), (2.0, 8)))]
)
def test_ceiling_from_repetitions_brackets_the_score_of_the_truth(noise, n_repetitions):
    oracle, ceilings = [], []
    for seed in range(5):
        _, recording, patterns = planted([seed, n_repetitions], n_repetitions, noise, n_units=40)
        truth = xr.DataArray(patterns, dims=("stimulus", "unit"), coords={"stimulus": STIMULI})
        result = time_resolved_alignment(truth, recording.query("time >= 0.1 and time < 0.16"), n_permutations=1)
        oracle.append(result.values.mean())
        ceilings.append(result.data["ceiling"].values.mean(1))
    lower, upper = np.mean(ceilings, axis=0)
    assert lower - 0.02 <= np.mean(oracle) <= upper + 0.02
    assert upper - lower < 0.15


def test_windows_average_and_are_labelled_by_their_middle():
    model, recording, _ = planted(6)
    result = time_resolved_alignment(model, recording, window=0.05, step=0.02, n_permutations=9)
    assert result.data.time.values[:2] == pytest.approx([-0.08, -0.06])
    smooth = Recording(recording.data.values[:, :, 20:25].mean((0, 2)), ("stimulus", "unit"), {"stimulus": STIMULI})
    assert result.values[10] == pytest.approx(RSA().score(model, smooth))
    bare = time_resolved_alignment(model.values, recording.data.values.mean(0), window=2, n_permutations=9)
    assert bare.data.time.attrs["units"] == "bins"
    assert bare.data.time.values[0] == 0.5
    for arguments, message in (
        ({"window": 0.015}, "no whole number of bins"),
        ({"step": 0}, "no whole number of bins"),
        ({"window": 9.0}, "longer than the recording"),
    ):
        with pytest.raises(nm.errors.InputError, match=message):
            time_resolved_alignment(model, recording, **arguments)
    with pytest.raises(nm.errors.InputError, match="regular times"):
        time_resolved_alignment(model, recording.query("time < 0.1 or time > 0.2"), window=0.02)


def test_the_seed_decides_and_results_are_kept(tmp_path):
    model, recording, _ = planted(7)
    part = recording.query("time > 0.05 and time < 0.2")
    one, same, other = (time_resolved_alignment(model, part, n_permutations=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.data["threshold"].values, same.data["threshold"].values)
    assert not np.array_equal(one.data["threshold"].values, other.data["threshold"].values)
    assert load_result(one.save(tmp_path / "course.nc")) == one
    assert "cluster 100 to" in one.summary()
    assert one.plot().get_xlabel() == "time from the stimulus (ms)"
    nothing = time_resolved_alignment(model, recording.query("time < -0.08"), n_permutations=9)
    assert list(nothing.clusters.columns) == ["onset", "offset", "mass", "p"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.average("time"), "other axes than expected"),
        (lambda r: r.average("repetition").select(stimulus="image 0"), "other axes than expected"),
        (lambda r: [], "no recordings"),
        (lambda r: {"a": r, "b": r.query("time > 0")}, "other times"),
        (lambda r: r.select(stimulus=STIMULI[:2]), "do not hold the same labels"),
    ],
)
def test_recordings_that_cannot_be_scored_are_refused(change, message):
    model, recording, _ = planted(8)
    with pytest.raises(nm.errors.InputError, match=message):
        time_resolved_alignment(model, change(recording))


def test_other_bad_input_is_refused():
    model, recording, _ = planted(8)
    rdm = compute_rdm(model)
    values = recording.data.values.copy()
    values[:, 3, 7] = np.nan
    missing = Recording(recording.data.copy(data=values), allow_missing=True)
    constant = values.copy()
    constant[:, 3, 7] = 1.0
    for arguments, message in (
        ((model, recording, object()), "no method of alignment"),
        ((rdm, recording, nm.CKA()), "an RDM has no features"),
        ((np.stack([rdm.values] * 2), recording), "several models at once"),
        ((model, missing), "has missing values"),
        ((model.where(model > -9, np.nan) * np.nan, recording), "not finite"),
        ((model.isel(unit=[0, 0]) * 0 + 1, recording), "constant"),
    ):
        with pytest.raises(nm.errors.InputError, match=message):
            time_resolved_alignment(*arguments)
    with pytest.raises(nm.errors.InputError) as caught:
        time_resolved_alignment(model, Recording(recording.data.copy(data=constant)))
    assert "at time -0.03" in caught.value.__notes__
    with pytest.raises(nm.errors.InputError, match="one subject"):
        time_resolved_alignment(model, recording, over="subjects")
    with pytest.raises(nm.errors.OptionError, match="did you mean 'subjects'"):
        time_resolved_alignment(model, recording, over="subject")


def test_missing_repetitions_are_left_out_of_means():
    model, recording, _ = planted(9)
    values = recording.data.values.copy()
    values[3, :5] = np.nan
    partial = Recording(recording.data.copy(data=values), allow_missing=True)
    result = time_resolved_alignment(model, partial, n_permutations=9)
    assert "ceiling" not in result.data
    by_hand = RSA().score(model, Recording(np.nanmean(values, 0)[:, 25], ("stimulus", "unit"), {"stimulus": STIMULI}))
    assert result.values[25] == pytest.approx(by_hand)


def test_few_subjects_are_warned_of():
    model, recording, _ = planted(10, n_repetitions=3)
    subjects = [recording.select(repetition=number) for number in range(3)]
    result = time_resolved_alignment(model, subjects, over="subjects")
    assert "no p can be below 0.12" in result.warnings[0]
    assert result.clusters.empty  # nothing is above 95% of 8 arrangements


# --- the cluster test itself


def by_loops(scores, forming_level=0.05):
    """The same test, one row and one cluster at a time, with scipy's labels."""
    z = (scores - scores.mean(0)) / scores.std(0)
    n = len(z)
    limit = np.sort(z, axis=0)[int(np.ceil(n * (1 - forming_level))) - 1]
    found, null = [], []
    for row in range(n):
        labels, count = scipy.ndimage.label(z[row] > np.maximum(limit, 0))
        masses = [z[row][labels == number].sum() for number in range(1, count + 1)]
        null.append(max(masses, default=0.0))
        if row == 0:
            found = [
                (np.flatnonzero(labels == number + 1)[[0, -1]].tolist(), masses[number]) for number in range(count)
            ]
    return [(ends, mass, np.mean([other >= mass - 1e-9 for other in null])) for ends, mass in found]


def autocorrelated(random, shape, correlation=0.7):
    steps = random.normal(size=shape)
    for time in range(1, shape[-1]):
        steps[..., time] = correlation * steps[..., time - 1] + np.sqrt(1 - correlation**2) * steps[..., time]
    return steps


@pytest.mark.parametrize("seed", range(10))
def test_clusters_agree_with_an_implementation_in_loops(seed):
    scores = autocorrelated(np.random.default_rng(seed), (120, 40))
    scores[0, 10:14] += 3
    found = cluster_test(scores)
    expected = by_loops(scores)
    assert expected  # something to compare
    assert [[a, b - 1] for a, b in zip(found.starts, found.stops, strict=True)] == [ends for ends, _, _ in expected]
    np.testing.assert_allclose(found.masses, [mass for _, mass, _ in expected], rtol=1e-10)
    np.testing.assert_allclose(found.p, [p for _, _, p in expected], rtol=1e-12)


@pytest.mark.parametrize(
    ("correlation", "forming_level"), [(0.0, 0.01), (0.8, 0.05), slow_case(0.0, 0.05), slow_case(0.8, 0.01)]
)
def test_any_false_cluster_is_as_rare_as_the_level_says(correlation, forming_level):
    random = np.random.default_rng(11)
    false = 0
    for _ in range(1500):
        found = cluster_test(autocorrelated(random, (100, 30), correlation), forming_level)
        false += bool((found.p <= 0.05).any())
    assert 0.03 <= false / 1500 <= 0.066  # 0.05 and three standard errors


def test_scores_without_variance_are_no_clusters():
    scores = np.zeros((20, 5))
    scores[:, 3] = 0.1
    assert not cluster_test(scores).starts.size
    for wrong in (np.zeros((1, 5)), np.zeros(5), np.full((4, 5), np.nan)):
        with pytest.raises(nm.errors.InputError):
            cluster_test(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("over", ["stimuli", "subjects"])
def test_family_wise_error_over_time(over):
    """Numbers recorded in neuro/cards/time-resolved-alignment.md."""
    false = np.zeros(2)
    n_simulations = 2000
    for seed in range(n_simulations):
        random = np.random.default_rng([12, seed])
        features = random.normal(size=(12, 4))
        noise = autocorrelated(random, (6, 12, 8, 20), correlation=0.7).transpose(0, 1, 3, 2)
        recordings = list(noise) if over == "subjects" else noise[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = time_resolved_alignment(features, recordings, over=over, n_permutations=199, seed=random)
        false += [(result.clusters["p"] <= 0.05).any(), (result.values > result.data["threshold"].values).any()]
    rate, uncorrected = false / n_simulations
    assert rate <= 0.06
    assert rate >= (0.03 if over == "stimuli" else 0.02)  # similarities of RDMs are skewed: flipping is conservative
    assert uncorrected > 0.3  # what testing each time alone would give
