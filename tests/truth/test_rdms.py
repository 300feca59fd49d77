"""RDMs: equal to rsatoolbox, unbiased where they are cross-validated, and unchanged by what must not change them."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from rsatoolbox.rdm import calc_rdm

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

SAME = 1e-12
METHODS = ("correlation", "euclidean", "mahalanobis", "crossnobis", "poisson")
SHAPES = ((5, 3, 4), (12, 4, 30), (20, 2, 150))  # conditions, folds, channels
SEEDS = range(4)


def observed(n_conditions, n_folds, n_channels, seed):
    """Counts of all conditions in all folds, each fold in an order of its own, and residuals that are correlated."""
    random = np.random.default_rng(seed)
    rates = random.gamma(2, 2, (n_conditions, n_channels))
    conditions = np.concatenate([random.permutation(n_conditions) for _ in range(n_folds)])
    folds = np.repeat(np.arange(n_folds), n_conditions)
    counts = random.poisson(rates[conditions]).astype(float)
    residuals = random.normal(size=(40, n_channels)) * (0.5 + random.random(n_channels)) + random.normal(size=(40, 1))
    return counts, conditions, folds, residuals


def by_rsatoolbox(counts, conditions, folds, method, noise=None):
    data = Dataset(counts, obs_descriptors={"condition": conditions, "fold": folds})
    cross_validated = {"cv_descriptor": "fold"} if method == "crossnobis" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NaN in arrays of integers, which it fills later
        return calc_rdm(data, method, "condition", noise=noise, **cross_validated).get_matrices()[0]


def in_order(rdm):
    labels = np.sort(rdm.condition.values)
    return rdm.sel(condition=labels, other_condition=labels).values


def relative(one, other):
    return np.abs(one - other).max() / np.abs(other).max()


class TestEqualToRsatoolbox:
    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("method", METHODS)
    def test_every_method(self, method, shape, seed):
        counts, conditions, folds, residuals = observed(*shape, seed)
        noise = prec_from_residuals(residuals) if method in ("mahalanobis", "crossnobis") else None
        settings = {"folds": folds} if method == "crossnobis" else {}
        found = nm.compute_rdm(counts, method, conditions=conditions, noise=noise, **settings)
        assert relative(in_order(found), by_rsatoolbox(counts, conditions, folds, method, noise)) < SAME

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_crossnobis_without_noise(self, shape, seed):
        counts, conditions, folds, _ = observed(*shape, seed)
        found = nm.compute_rdm(counts, "crossnobis", conditions=conditions, folds=folds)
        assert relative(in_order(found), by_rsatoolbox(counts, conditions, folds, "crossnobis")) < SAME

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("shape", SHAPES)  # fewer and more channels than residuals
    @pytest.mark.parametrize("method", ["mahalanobis", "crossnobis"])
    def test_precision_from_residuals(self, method, shape, seed):
        counts, conditions, folds, residuals = observed(*shape, seed)
        settings = {"folds": folds} if method == "crossnobis" else {}
        found = nm.compute_rdm(counts, method, conditions=conditions, residuals=residuals, **settings)
        noise = prec_from_residuals(residuals)
        assert relative(in_order(found), by_rsatoolbox(counts, conditions, folds, method, noise)) < SAME

    def test_a_large_offset_costs_no_digits(self):
        patterns = np.random.default_rng(0).normal(size=(6, 40))
        exact = nm.compute_rdm(patterns, "euclidean")
        assert relative(nm.compute_rdm(patterns + 2.0**20, "euclidean"), exact) < 1e-8
        theirs = calc_rdm(Dataset(patterns + 2.0**20), "euclidean").get_matrices()[0]
        assert relative(theirs, exact) > 1e-5


class TestUnbiased:
    N_SIMULATIONS = 200

    def estimates(self, method, signal=0.0, n_folds=4, n_conditions=6, n_channels=20):
        """Mean distance in each of many simulations, in units of the variance of noise."""
        found = np.empty(self.N_SIMULATIONS)
        conditions, folds = np.tile(np.arange(n_conditions), n_folds), np.repeat(np.arange(n_folds), n_conditions)
        for seed in range(self.N_SIMULATIONS):
            random = np.random.default_rng(seed)
            truth = signal * random.normal(size=(n_conditions, n_channels))
            x = truth[conditions] + random.normal(size=(len(folds), n_channels))
            settings = {"folds": folds} if method == "crossnobis" else {}
            rdm = nm.compute_rdm(x, method, conditions=conditions, **settings).values
            true = nm.compute_rdm(truth, "euclidean")
            upper = np.triu_indices(n_conditions, 1)
            found[seed] = (rdm - true)[upper].mean()
        return found

    @pytest.mark.parametrize("signal", [0.0, 0.5])
    @pytest.mark.parametrize("n_folds", [2, 4])
    def test_crossnobis_is_zero_on_noise_and_right_on_signal(self, signal, n_folds):
        errors = self.estimates("crossnobis", signal, n_folds)
        standard_error = errors.std(ddof=1) / np.sqrt(len(errors))
        assert abs(errors.mean()) < 3 * standard_error
        assert standard_error < 0.02  # so that the bias of what is not cross-validated would be seen

    @pytest.mark.parametrize("n_folds", [2, 4])
    def test_without_cross_validation_noise_adds_two_over_the_folds(self, n_folds):
        errors = self.estimates("euclidean", 0.5, n_folds)
        standard_error = errors.std(ddof=1) / np.sqrt(len(errors))
        assert abs(errors.mean() - 2 / n_folds) < 3 * standard_error

    def test_half_of_the_estimates_on_noise_are_negative(self):
        share = np.mean(self.estimates("crossnobis") < 0)
        assert 0.4 < share < 0.65

    def test_noise_that_is_shared_by_channels_is_taken_out(self):
        random = np.random.default_rng(0)
        truth = random.normal(size=(8, 10))
        mixing = np.eye(10) + 0.25 * random.normal(size=(10, 10))
        precision = np.linalg.inv(mixing @ mixing.T)
        # patterns mixed like the noise: in units of the noise they are the truth
        found = nm.compute_rdm(truth @ mixing.T, "mahalanobis", noise=precision)
        assert relative(found, nm.compute_rdm(truth, "euclidean")) < 1e-9
        many = random.normal(size=(50_000, 10)) @ mixing.T
        estimated = nm.compute_rdm(truth @ mixing.T, "mahalanobis", residuals=many)
        assert relative(estimated, nm.compute_rdm(truth, "euclidean")) < 0.05


class TestInvariances:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_correlation_knows_no_scale_and_no_offset_of_a_pattern(self, seed):
        random = np.random.default_rng(seed)
        patterns = random.normal(size=(7, 30))
        changed = patterns * (0.1 + random.random((7, 1))) + random.normal(size=(7, 1))
        assert np.abs(nm.compute_rdm(changed) - nm.compute_rdm(patterns)).max() < 1e-12
        assert np.abs(nm.compute_rdm(changed, "euclidean") - nm.compute_rdm(patterns, "euclidean")).max() > 0.1

    @pytest.mark.parametrize("seed", SEEDS)
    def test_euclidean_knows_no_rotation_and_no_common_offset(self, seed):
        random = np.random.default_rng(seed)
        patterns = random.normal(size=(7, 30))
        rotation = np.linalg.qr(random.normal(size=(30, 30)))[0]
        changed = patterns @ rotation + random.normal(size=30)
        assert np.abs(nm.compute_rdm(changed, "euclidean") - nm.compute_rdm(patterns, "euclidean")).max() < 1e-12
        assert np.abs(nm.compute_rdm(changed) - nm.compute_rdm(patterns)).max() > 0.1

    def test_crossnobis_knows_no_offset_of_a_fold(self):
        counts, conditions, folds, _ = observed(6, 3, 20, 0)
        shifted = counts + 10 * folds[:, None]
        one, other = (
            nm.compute_rdm(x, "crossnobis", conditions=conditions, folds=folds).values for x in (counts, shifted)
        )
        assert np.abs(one - other).max() < 1e-11

    def test_mahalanobis_by_hand(self):
        precision = np.array([[2.0, 1.0], [1.0, 3.0]])
        found = nm.compute_rdm([[0.0, 0.0], [1.0, 2.0]], "mahalanobis", noise=precision)
        assert found[0, 1] == pytest.approx((2 + 2 * 2 + 12) / 2, abs=1e-12)

    def test_poisson_by_hand(self):
        one, other = (3 + 0.1) / 1.1, (0 + 0.1) / 1.1
        found = nm.compute_rdm([[3], [0]], "poisson")
        assert found[0, 1] == pytest.approx((one - other) * np.log(one / other), abs=1e-12)


class TestKindsOfInput:
    @pytest.mark.parametrize("method", ["correlation", "euclidean", "poisson"])
    def test_torch_is_numpy(self, method):
        counts = np.random.default_rng(0).poisson(4, (6, 20)).astype(float)
        before = counts.copy()
        found = nm.compute_rdm(torch.tensor(counts), method)
        assert isinstance(found, torch.Tensor)
        assert found.dtype == torch.float64
        assert np.array_equal(found.numpy(), nm.compute_rdm(counts, method))
        assert np.array_equal(counts, before)
        assert nm.compute_rdm(torch.tensor(counts, dtype=torch.float32), method).dtype == torch.float32
        assert nm.compute_rdm(counts.astype(np.float32), method).dtype == np.float32

    def test_torch_noise(self):
        patterns, noise = np.random.default_rng(0).normal(size=(5, 3)), np.diag([1.0, 2.0, 3.0])
        found = nm.compute_rdm(torch.tensor(patterns), "mahalanobis", noise=torch.tensor(noise))
        assert np.array_equal(found.numpy(), nm.compute_rdm(patterns, "mahalanobis", noise=noise))

    def test_labels_come_back(self):
        x = xr.DataArray(np.eye(3), dims=("stimulus", "unit"), coords={"stimulus": ["face", "car", "house"]})
        rdm = nm.compute_rdm(x.transpose("unit", "stimulus"), "euclidean")
        assert rdm.dims == ("condition", "other_condition")
        assert rdm.condition.values.tolist() == rdm.other_condition.values.tolist() == ["face", "car", "house"]
        assert rdm.attrs["dissimilarity_measure"] == "squared euclidean"

    def test_conditions_are_averaged(self):
        x = np.random.default_rng(0).normal(size=(6, 10))
        found = nm.compute_rdm(x, "euclidean", conditions=["b", "a", "b", "c", "a", "a"])
        assert found.condition.values.tolist() == ["b", "a", "c"]
        means = np.stack([x[[0, 2]].mean(0), x[[1, 4, 5]].mean(0), x[3]])
        assert np.abs(found.values - nm.compute_rdm(means, "euclidean")).max() < SAME

    def test_repetitions_of_a_recording_are_folds(self):
        counts, conditions, folds, _ = observed(5, 3, 8, 0)
        labels = {"stimulus": ("trial", [f"image {number}" for number in conditions]), "run": ("trial", folds)}
        trials = nm.Recording(counts, ("trial", "unit"), labels)
        by_trial = nm.compute_rdm(trials, "crossnobis", conditions="stimulus", folds="run")
        by_repetition = nm.compute_rdm(trials.repetitions(), "crossnobis", folds="repetition")
        assert by_trial.condition.values.tolist() == by_repetition.condition.values.tolist()
        assert np.abs(by_trial.values - by_repetition.values).max() < SAME
        plain = nm.compute_rdm(counts, "crossnobis", conditions=conditions, folds=folds)
        assert np.abs(by_trial.values - plain.values).max() < SAME

    def test_unequal_numbers_within_folds_are_averaged_first(self):
        counts, conditions, folds, _ = observed(5, 3, 8, 0)
        more = np.concatenate([counts, counts[:2] + 2])
        seen = {"conditions": np.append(conditions, conditions[:2]), "folds": np.append(folds, folds[:2])}
        averaged = counts.copy()
        averaged[:2] += 1
        one = nm.compute_rdm(more, "crossnobis", **seen)
        other = nm.compute_rdm(averaged, "crossnobis", conditions=conditions, folds=folds)
        assert np.abs(one.values - other.values).max() < SAME

    def test_two_conditions_and_constant_channels(self):
        patterns = np.array([[1.0, 5.0, 2.0], [4.0, 5.0, 9.0]])
        assert nm.compute_rdm(patterns, "euclidean")[0, 1] == pytest.approx((9 + 49) / 3)
        assert nm.compute_rdm(patterns).shape == (2, 2)

    def test_equal_patterns_are_not_dissimilar(self):
        patterns = np.repeat(np.random.default_rng(0).random((1, 50)), 4, 0)
        for method in ("correlation", "euclidean", "poisson"):
            rdm = nm.compute_rdm(patterns, method)
            assert (rdm >= 0).all()
            assert rdm.max() < 1e-14

    def test_memory_of_many_channels_is_that_of_the_residuals(self):
        random = np.random.default_rng(0)
        patterns, residuals = random.normal(size=(10, 4000)), random.normal(size=(50, 4000))
        nm.compute_rdm(patterns, "mahalanobis", residuals=residuals)
        tracemalloc.start()
        nm.compute_rdm(patterns, "mahalanobis", residuals=residuals)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6  # a matrix of channels has 128 MB


class TestBadInput:
    PATTERNS = np.random.default_rng(0).normal(size=(6, 4))
    SIX = tuple("abcabc")

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"method": "crossnobis"}, "needs folds"),
            ({"method": "euclidean", "folds": [1, 1, 1, 2, 2, 2]}, "know no folds"),
            ({"method": "mahalanobis"}, "need the noise"),
            ({"method": "euclidean", "noise": np.eye(4)}, "do not know noise"),
            ({"method": "mahalanobis", "noise": np.eye(4), "residuals": np.eye(4)}, "both given"),
            ({"method": "mahalanobis", "noise": np.eye(3)}, r"shape \(3, 3\)"),
            ({"method": "mahalanobis", "noise": np.triu(np.ones((4, 4)))}, "differences from the transpose"),
            ({"method": "mahalanobis", "noise": np.full((4, 4), np.nan)}, "not finite"),
            ({"method": "mahalanobis", "noise": -np.eye(4)}, "not positive"),
            ({"method": "mahalanobis", "residuals": np.ones((9, 4))}, "channels have no noise"),
            ({"method": "mahalanobis", "residuals": np.ones((9, 3))}, "do not fit"),
            ({"method": "crossnobis", "folds": [1] * 3 + [2] * 3}, "which condition"),
            ({"method": "crossnobis", "conditions": SIX, "folds": [1] * 6}, r"1 fold\(s\)"),
            ({"method": "crossnobis", "conditions": ["a"] * 6, "folds": [1] * 3 + [2] * 3}, r"1 condition\(s\)"),
            ({"method": "crossnobis", "conditions": SIX, "folds": [1, 1, 1, 2, 2]}, "5"),
            ({"method": "crossnobis", "conditions": list("abcaba"), "folds": [1] * 3 + [2] * 3}, "'c' in fold 2"),
            ({"method": "crossnobis", "conditions": SIX, "folds": [1, 1, 1, 2, 2, None]}, "missing"),
            ({"conditions": ["a"] * 6}, "one condition"),
            ({"conditions": "stimulus"}, "no coordinate 'stimulus'"),
            ({"method": "poisson"}, "negative"),
        ],
    )
    def test_settings(self, settings, says):
        with pytest.raises(InputError, match=says):
            nm.compute_rdm(self.PATTERNS, **settings)

    def test_constant_patterns_are_named(self):
        patterns = self.PATTERNS.copy()
        patterns[[1, 4]] = 0.1
        with pytest.raises(InputError, match="1, 4"):
            nm.compute_rdm(patterns)
        with pytest.raises(InputError, match="'b', 'e'"):
            nm.compute_rdm(patterns, conditions=list("abcdef"))
        assert np.isfinite(nm.compute_rdm(patterns, "euclidean")).all()

    def test_not_a_number(self):
        patterns = self.PATTERNS.copy()
        patterns[3, 1] = np.nan
        with pytest.raises(InputError, match="first in row 3"):
            nm.compute_rdm(patterns)
        with pytest.raises(InputError, match="first in row 3"):
            nm.compute_rdm(patterns, "crossnobis", conditions=self.SIX, folds=[1] * 3 + [2] * 3)

    def test_repeated_labels_need_to_be_averaged(self):
        x = xr.DataArray(self.PATTERNS, dims=("trial", "unit"), coords={"trial": list(self.SIX)})
        with pytest.raises(InputError, match="repeated"):
            nm.compute_rdm(x)
        assert nm.compute_rdm(x, conditions="trial").shape == (3, 3)

    def test_coordinates_are_suggested(self):
        x = xr.DataArray(self.PATTERNS, dims=("trial", "unit"), coords={"run": ("trial", [1] * 6)})
        with pytest.raises(InputError, match="did you mean 'run'"):
            nm.compute_rdm(x, "crossnobis", conditions=self.SIX, folds="runs")

    def test_unknown_method(self):
        with pytest.raises(OptionError, match="did you mean 'crossnobis'"):
            nm.compute_rdm(self.PATTERNS, "crosnobis")

    def test_one_pattern(self):
        with pytest.raises(InputError, match="one condition"):
            nm.compute_rdm(self.PATTERNS[:1])
