"""Noise ceilings: equal to rsatoolbox, and to the closed form on simulated subjects."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rsatoolbox
import torch
import xarray as xr
from rsatoolbox.inference import boot_noise_ceiling

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

METHODS = ("spearman", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov")


def subjects_of(n_subjects, n_conditions, correlation, seed):
    """RDMs of subjects whose correlation with each other is known: a shared part and a part of their own."""
    random = np.random.default_rng(seed)
    n_pairs = n_conditions * (n_conditions - 1) // 2
    shared, own = random.normal(size=n_pairs), random.normal(size=(n_subjects, n_pairs))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


def closed_form(correlation, n_subjects):
    lower = correlation * np.sqrt(n_subjects - 1) / np.sqrt(1 + (n_subjects - 2) * correlation)
    return lower, np.sqrt((1 + (n_subjects - 1) * correlation) / n_subjects)


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("n_subjects", [2, 3, 8])
@pytest.mark.parametrize("compare", METHODS)
def test_equal_to_rsatoolbox(compare, n_subjects, ties):
    rdms = subjects_of(n_subjects, 10, 0.3, seed=n_subjects) + 3
    rdms = np.round(rdms, 1) if ties else rdms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mean ranks for Kendall's tau
        theirs = boot_noise_ceiling(rsatoolbox.rdm.RDMs(rdms), method=compare)
    ours = nm.noise_ceiling(rdms, compare=compare)
    np.testing.assert_allclose((ours.lower, ours.upper), theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n_subjects", [2, 4, 8, 20])
@pytest.mark.parametrize("correlation", [0.1, 0.3, 0.7])
def test_the_closed_form_for_pearson(correlation, n_subjects):
    found = np.array([
        (ceiling.lower, ceiling.upper)
        for seed in range(5)
        for ceiling in [nm.noise_ceiling(subjects_of(n_subjects, 120, correlation, seed), compare="corr")]
    ])  # fmt: skip
    expected = closed_form(correlation, n_subjects)
    np.testing.assert_allclose(found.mean(0), expected, atol=0.015)
    assert found.std(0).max() < 0.03


@pytest.mark.parametrize(
    ("compare", "of_pearson"),
    [
        ("spearman", lambda r: 6 / np.pi * np.arcsin(r / 2)),
        ("rho-a", lambda r: 6 / np.pi * np.arcsin(r / 2)),
        ("tau-a", lambda r: 2 / np.pi * np.arcsin(r)),
        ("cosine", lambda r: r),  # of RDMs with mean zero
    ],
)
def test_the_closed_form_for_other_measures(compare, of_pearson):
    """Of normal dissimilarities the rank correlations follow from Pearson's, and mean ranks are close to normal.

    The mean of ranks is no longer quite as like the subjects as the mean of values: at most .02 less.
    """
    n_subjects, correlation = 8, 0.5
    found = np.array([
        (ceiling.lower, ceiling.upper)
        for seed in range(3)
        for ceiling in [nm.noise_ceiling(subjects_of(n_subjects, 60, correlation, seed), compare=compare)]
    ]).mean(0)  # fmt: skip
    expected = of_pearson(np.array(closed_form(correlation, n_subjects)))
    np.testing.assert_allclose(found, expected, atol=0.03)


@pytest.mark.parametrize("compare", ["corr_cov", "cosine_cov"])
def test_whitened_ceilings_bracket_the_true_model(compare):
    """Distances of noisy patterns: the true RDM scores between the ceilings, in the mean of five seeds."""
    scores = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        truth = random.normal(size=(15, 20))
        rows, columns = np.triu_indices(15, 1)
        noisy = truth + random.normal(size=(10, 15, 20))
        other = truth + random.normal(size=(10, 15, 20))  # crossed, so that the distances are unbiased
        rdms = ((noisy[:, rows] - noisy[:, columns]) * (other[:, rows] - other[:, columns])).mean(-1)
        true_rdm = ((truth[rows] - truth[columns]) ** 2).mean(-1)
        ceiling = nm.noise_ceiling(rdms, compare=compare)
        score = nm.RSA(compare=compare).evaluate({"true": true_rdm}, rdms, over="subjects", n_resamples=2).main.item()
        scores.append((ceiling.lower, score, ceiling.upper))
    lower, score, upper = np.mean(scores, axis=0)
    assert lower < score < upper


def test_independent_subjects_have_a_lower_ceiling_of_zero():
    found = [nm.noise_ceiling(subjects_of(6, 40, 0.0, seed), compare="spearman") for seed in range(10)]
    assert abs(np.mean([one.lower for one in found])) < 0.015
    assert np.mean([one.upper for one in found]) == pytest.approx(np.sqrt(1 / 6), abs=0.03)  # a subject with itself


def test_two_subjects():
    rdms = subjects_of(2, 30, 0.4, seed=0)
    alike = np.corrcoef(rdms)[0, 1]
    ceiling = nm.noise_ceiling(rdms, compare="corr")
    assert ceiling.lower == pytest.approx(alike, abs=1e-12)
    assert ceiling.upper == pytest.approx(np.sqrt((1 + alike) / 2), abs=1e-12)


def test_identical_subjects():
    rdms = np.tile(np.arange(15.0), (3, 1))
    for compare in METHODS:
        ceiling = nm.noise_ceiling(rdms, compare=compare)
        assert ceiling.lower == pytest.approx(1, abs=1e-12)
        assert ceiling.upper == pytest.approx(1, abs=1e-12)


def test_every_form_of_rdms():
    rdms = subjects_of(3, 6, 0.5, seed=0)
    rows, columns = np.triu_indices(6, 1)
    squares = np.zeros((3, 6, 6))
    squares[:, rows, columns] = squares[:, columns, rows] = rdms
    labelled = xr.DataArray(
        squares, dims=("subject", "condition", "other_condition"), coords={"subject": ["BE", "KO", "SN"]}
    )
    forms = (rdms, squares, torch.tensor(squares), labelled, rsatoolbox.rdm.RDMs(rdms))
    found = {(one.lower, one.upper) for one in map(nm.noise_ceiling, forms)}
    assert len(found) == 1
    ceiling = nm.noise_ceiling(labelled)
    assert ceiling.data["subject"].values.tolist() == ["BE", "KO", "SN"]
    np.testing.assert_allclose(ceiling.data["subject_ceiling"].mean("subject"), ceiling.main)


def test_it_is_a_result(tmp_path):
    ceiling = nm.noise_ceiling(subjects_of(4, 10, 0.5, seed=0))
    assert nm.load_result(ceiling.save(tmp_path / "ceiling.nc")) == ceiling
    assert f"lower {ceiling.lower:.3f}, upper {ceiling.upper:.3f}" in ceiling.summary()
    axes = ceiling.plot()
    assert axes.get_xlabel() == "subject"
    assert len(axes.get_lines()) == 2


def test_what_has_no_ceiling():
    rdms = subjects_of(4, 6, 0.5, seed=0)
    with pytest.raises(InputError, match="one subject has no noise ceiling"):
        nm.noise_ceiling(rdms[:1])
    with pytest.raises(OptionError, match="pearson"):
        nm.noise_ceiling(rdms, compare="pearson")
    constant = rdms.copy()
    constant[2] = 1.0
    with pytest.raises(InputError, match="RDMs \\[2\\] are constant"):
        nm.noise_ceiling(constant)
    missing = rdms.copy()
    missing[1, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        nm.noise_ceiling(missing)
    with pytest.raises(InputError, match="too few conditions"):
        nm.noise_ceiling(np.ones((3, 1)))
