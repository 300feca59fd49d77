"""Similarities of RDMs: equal to rsatoolbox, to sums by hand, and with memory that grows with the RDMs alone."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
import xarray as xr
from rsatoolbox.rdm import RDMs, compare
from rsatoolbox.rdm.compare import _get_v
from scipy.stats import kendalltau, spearmanr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

SAME = 1e-12
METHODS = ("corr", "cosine", "spearman", "tau-a", "rho-a", "corr_cov", "cosine_cov")
WHITENED = ("corr_cov", "cosine_cov")
SEEDS = range(3)


def rdms(n_rdms, n_conditions, seed, ties=False):
    values = np.random.default_rng(seed).random((n_rdms, n_conditions * (n_conditions - 1) // 2))
    return np.round(values, 1) + 0.1 * (np.arange(values.shape[1]) == 0) if ties else values


def in_inverse_covariance(first, second, sigma_k):
    """The whitened cosine as it is defined, from the whole matrix of pairs."""
    covariance = _get_v(len(sigma_k), sigma_k).toarray()
    products = first @ np.linalg.solve(covariance, second.T)
    lengths = [np.sqrt(np.einsum("ij,ji->i", each, np.linalg.solve(covariance, each.T))) for each in (first, second)]
    return products / np.outer(*lengths)


class TestEqualToRsatoolbox:
    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("n_conditions", [3, 7, 20, 101])  # from 100 on its whitening is another
    @pytest.mark.parametrize("method", METHODS)
    def test_all_by_all(self, method, n_conditions, seed):
        for ties in (False, True):
            first, second = rdms(4, n_conditions, seed, ties), rdms(3, n_conditions, seed + 100)
            found = nm.compare_rdms(first, second, method)
            assert found.shape == (4, 3)
            assert np.abs(found - compare(RDMs(first), RDMs(second), method)).max() < SAME

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("method", METHODS)
    def test_missing_pairs(self, method, seed):
        first, second = rdms(4, 12, seed), rdms(3, 12, seed + 100)
        gaps = np.random.default_rng(seed).choice(66, 9, replace=False)
        first[:, gaps] = second[:, gaps] = np.nan
        found = nm.compare_rdms(first, second, method, missing="drop")
        assert np.abs(found - compare(RDMs(first), RDMs(second), method)).max() < SAME

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("method", WHITENED)
    def test_covariance_of_patterns_is_exact_where_rsatoolbox_iterates(self, method, seed):
        first, second = rdms(4, 10, seed), rdms(3, 10, seed + 100)
        root = np.random.default_rng(seed).normal(size=(10, 30))
        sigma_k = root @ root.T / 30
        centred = [each - each.mean(1, keepdims=True) * (method == "corr_cov") for each in (first, second)]
        exact = in_inverse_covariance(*centred, sigma_k)
        found = nm.compare_rdms(first, second, method, sigma_k=sigma_k)
        assert np.abs(found - exact).max() < SAME
        assert np.abs(compare(RDMs(first), RDMs(second), method, sigma_k=sigma_k) - exact).max() < 1e-4

    def test_variances_of_patterns_are_exact_where_rsatoolbox_is_not(self):
        first, second = rdms(4, 10, 0), rdms(3, 10, 1)
        variances = 0.2 + np.random.default_rng(0).random(10)
        exact = in_inverse_covariance(first, second, np.diag(variances))
        assert np.abs(nm.compare_rdms(first, second, "cosine_cov", sigma_k=variances) - exact).max() < SAME
        theirs = compare(RDMs(first), RDMs(second), "cosine_cov", sigma_k=variances)
        assert np.abs(theirs - exact).max() > 1e-3  # it centres without the variances

    @pytest.mark.parametrize("method", WHITENED)
    def test_identity_covariance_is_none(self, method):
        first, second = rdms(2, 9, 0), rdms(2, 9, 1)
        one = nm.compare_rdms(first, second, method, sigma_k=torch.eye(9))
        assert np.abs(one - nm.compare_rdms(first, second, method)).max() < SAME


class TestByHand:
    FIRST, SECOND, TIED = (1.0, 2.0, 4.0), (2.0, 1.0, 3.0), (1.0, 1.0, 3.0)

    @pytest.mark.parametrize(
        ("method", "first", "second", "expected"),
        [
            # ranks 1 2 3 and 2 1 3: rho = 1 - 6 * 2 / (3 * 8); one of three pairs is discordant
            ("spearman", FIRST, SECOND, 0.5),
            ("tau-a", FIRST, SECOND, 1 / 3),
            ("rho-a", FIRST, SECOND, 0.5),
            # ranks 1.5 1.5 3: the tie is neither, so that tau-a and rho-a stay below 1
            ("tau-a", FIRST, TIED, 2 / 3),
            ("rho-a", FIRST, TIED, 0.75),
            ("spearman", FIRST, TIED, 1.5 / np.sqrt(2 * 1.5)),
            ("tau-a", FIRST, FIRST[::-1], -1.0),
            # deviations -4/3 -1/3 5/3 and -4 -1 5
            ("corr", FIRST, (1.0, 4.0, 10.0), 1.0),
            ("cosine", (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), 0.5),
        ],
    )
    def test_small_cases(self, method, first, second, expected):
        found = nm.compare_rdms(np.array(first), np.array(second), method)
        assert found.shape == (1, 1)
        assert found[0, 0] == pytest.approx(expected, abs=1e-12)

    def test_rho_a_is_spearman_with_ties_broken_in_all_ways(self):
        model, data = np.array([0, 0, 1, 0, 1, 1.0]), np.random.default_rng(0).random(6)
        low, high = np.flatnonzero(model == 0), np.flatnonzero(model == 1)
        broken = []
        for one, other in itertools.product(itertools.permutations(range(3)), repeat=2):
            ranks = np.empty(6)
            ranks[low], ranks[high] = np.array(one), 3 + np.array(other)
            broken.append(spearmanr(ranks, data).statistic)
        assert nm.compare_rdms(model, data, "rho-a")[0, 0] == pytest.approx(np.mean(broken), abs=1e-12)

    def test_tau_a_counts_pairs(self):
        first, second = rdms(1, 6, 0, ties=True)[0], rdms(1, 6, 1, ties=True)[0]
        pairs = list(itertools.combinations(range(15), 2))
        signs = [np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) for i, j in pairs]
        assert nm.compare_rdms(first, second, "tau-a")[0, 0] == sum(signs) / len(pairs)
        assert nm.compare_rdms(first, second, "tau-a")[0, 0] != pytest.approx(kendalltau(first, second).statistic)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_whitened_cosine_is_that_of_centred_second_moments(self, seed):
        """The same as centred kernel alignment: an independent formula."""
        random = np.random.default_rng(seed)
        patterns = [random.normal(size=(8, 20)) for _ in range(2)]
        kernels = [(each - each.mean(0)) @ (each - each.mean(0)).T for each in patterns]
        cka = np.sum(kernels[0] * kernels[1]) / np.sqrt(np.prod([np.sum(kernel**2) for kernel in kernels]))
        found = nm.compare_rdms(*(nm.compute_rdm(each, "euclidean") for each in patterns), "cosine_cov")
        assert found[0, 0] == pytest.approx(cka, abs=1e-12)


class TestInvariances:
    @pytest.mark.parametrize("method", METHODS)
    def test_scale(self, method):
        first, second = rdms(2, 8, 0), rdms(2, 8, 1)
        expected = nm.compare_rdms(first, second, method)
        for scale in (1e-200, 3.0, 1e200):
            assert np.abs(nm.compare_rdms(scale * first, second, method) - expected).max() < SAME

    @pytest.mark.parametrize("method", ["spearman", "tau-a", "rho-a"])
    def test_ranks_know_monotonic_changes_only_by_order(self, method):
        first, second = rdms(2, 8, 0), rdms(2, 8, 1)
        changed = np.exp(5 * first)
        assert np.array_equal(nm.compare_rdms(changed, second, method), nm.compare_rdms(first, second, method))

    @pytest.mark.parametrize("method", METHODS)
    def test_an_rdm_is_like_itself_and_symmetric(self, method):
        both = rdms(3, 8, 0)
        found = nm.compare_rdms(both, both, method)
        assert np.abs(np.diagonal(found) - 1).max() < SAME
        assert np.abs(found - found.T).max() < SAME

    @pytest.mark.parametrize("method", METHODS)
    def test_order_of_conditions_does_not_matter(self, method):
        squares = _squares(rdms(2, 8, 0))
        order = np.random.default_rng(0).permutation(8)
        moved = squares[:, order][:, :, order]
        one, other = nm.compare_rdms(squares[0], squares[1], method), nm.compare_rdms(moved[0], moved[1], method)
        assert np.abs(one - other).max() < SAME

    @pytest.mark.parametrize("method", ["corr", "spearman", "tau-a", "rho-a", "corr_cov"])
    def test_unrelated_rdms_are_unlike(self, method):
        """Negative control: the mean over 100 independent pairs of RDMs is zero within three standard errors."""
        found = np.diagonal(nm.compare_rdms(rdms(100, 12, 5), rdms(100, 12, 6), method))
        assert abs(found.mean()) < 3 * found.std(ddof=1) / 10
        assert np.abs(found).max() < 0.6


def _squares(pairs):
    return RDMs(pairs).get_matrices()


class TestKindsOfInput:
    @pytest.mark.parametrize("method", METHODS)
    def test_torch_is_numpy(self, method):
        first, second = rdms(3, 8, 0), rdms(2, 8, 1)
        kept = first.copy(), second.copy()
        found = nm.compare_rdms(torch.tensor(first), second, method)
        assert isinstance(found, torch.Tensor)
        assert np.array_equal(found.numpy(), nm.compare_rdms(first, second, method))
        assert np.array_equal(first, kept[0])
        assert np.array_equal(second, kept[1])

    def test_forms(self):
        first, second = rdms(3, 8, 0), rdms(2, 8, 1)
        expected = nm.compare_rdms(first, second)
        for form in (_squares(first), torch.tensor(_squares(first)), RDMs(first.copy())):
            assert np.abs(np.asarray(nm.compare_rdms(form, second)) - expected).max() < SAME

    def test_conditions_are_joined_by_label(self):
        patterns = np.random.default_rng(0).normal(size=(6, 10))
        one = nm.compute_rdm(patterns, conditions=list("abcdef"))
        other = nm.compute_rdm(patterns[::-1], conditions=list("fedcba"))
        assert nm.compare_rdms(one, other)[0, 0] == pytest.approx(1, abs=SAME)
        assert nm.compare_rdms(one.values, other.values)[0, 0] < 0.9


class TestBadInput:
    FIRST, SECOND = rdms(2, 6, 0), rdms(2, 6, 1)

    @pytest.mark.parametrize(
        ("first", "says"),
        [
            (np.triu(np.ones((6, 6)), 1), "not symmetric"),
            (np.ones((2, 14)), "no vectors of pairs"),
            (np.ones(15), "the same for all pairs"),
            (rdms(2, 5, 0), "different numbers"),
            (np.where(np.arange(15) == 3, np.nan, rdms(1, 6, 0)), "NaN"),
            (np.where(np.arange(15) == 3, np.inf, rdms(1, 6, 0)), "not finite"),
            (np.array([[0, 1], [1, 0]]), "too few conditions"),
        ],
    )
    def test_rdms(self, first, says):
        with pytest.raises(InputError, match=says):
            nm.compare_rdms(first, self.SECOND)

    @pytest.mark.parametrize("method", METHODS)
    def test_constant_rdms(self, method):
        constant = np.zeros(15) if method.startswith("cosine") else np.ones(15)
        with pytest.raises(InputError, match="RDMs \\[1\\] are constant"):
            nm.compare_rdms(self.SECOND, np.stack([self.FIRST[0], constant]), method)

    def test_labels_on_one_side_or_others(self):
        labelled = nm.compute_rdm(np.random.default_rng(0).normal(size=(6, 10)), conditions=list("abcdef"))
        with pytest.raises(InputError, match="labels"):
            nm.compare_rdms(labelled, self.SECOND)
        other = labelled.assign_coords(condition=list("abcdeX"), other_condition=list("abcdeX"))
        with pytest.raises(InputError, match="'X'"):
            nm.compare_rdms(labelled, other)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"method": "corr", "sigma_k": np.eye(6)}, "knows no covariance"),
            ({"method": "corr_cov", "sigma_k": np.eye(5)}, "positive definite"),
            ({"method": "corr_cov", "sigma_k": -np.eye(6)}, "positive definite"),
            ({"method": "corr_cov", "sigma_k": np.zeros(6)}, "positive definite"),
        ],
    )
    def test_covariance(self, settings, says):
        with pytest.raises(InputError, match=says):
            nm.compare_rdms(self.FIRST, self.SECOND, **settings)

    def test_missing_pairs(self):
        first = self.FIRST.copy()
        first[1, 2] = np.nan
        with pytest.raises(InputError, match="NaN"):
            nm.compare_rdms(first, self.SECOND)
        with pytest.raises(InputError, match="missing"):
            nm.compare_rdms(first, self.SECOND, "corr_cov", sigma_k=np.eye(6), missing="drop")
        first[1, 1:] = np.nan
        with pytest.raises(InputError, match="too few pairs"):
            nm.compare_rdms(first, self.SECOND, missing="drop")

    def test_a_pair_missing_in_one_is_dropped_in_all(self):
        first = self.FIRST.copy()
        first[1, 2] = np.nan
        kept = np.arange(15) != 2
        found = nm.compare_rdms(first, self.SECOND, missing="drop")
        for row, column in itertools.product(range(2), repeat=2):
            expected = np.corrcoef(self.FIRST[row, kept], self.SECOND[column, kept])[0, 1]
            assert found[row, column] == pytest.approx(expected, abs=1e-12)

    def test_unknown_method(self):
        with pytest.raises(OptionError, match="did you mean 'spearman'"):
            nm.compare_rdms(self.FIRST, self.SECOND, "spearmann")

    def test_labels_that_differ_on_rows_and_columns(self):
        wrong = xr.DataArray(
            _squares(self.FIRST)[0],
            dims=("condition", "other_condition"),
            coords={"condition": list("abcdef"), "other_condition": list("abcdfe")},
        )
        with pytest.raises(InputError, match="different labels"):
            nm.compare_rdms(wrong, wrong)


class TestMemory:
    @pytest.mark.parametrize("method", ["corr", "spearman", "corr_cov"])
    def test_grows_with_the_rdms_and_not_with_pairs_of_pairs(self, method):
        n_conditions = 600  # the covariance of its pairs has 258 GB
        models, data = rdms(5, n_conditions, 0), rdms(4, n_conditions, 1)
        nm.compare_rdms(models[:, :45], data[:, :45], method)
        tracemalloc.start()
        nm.compare_rdms(models, data, method)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5 * (models.nbytes + data.nbytes)

    @pytest.mark.parametrize("n_conditions", [150])
    def test_whitened_with_a_covariance(self, n_conditions):
        models = rdms(3, n_conditions, 0)
        tracemalloc.start()
        found = nm.compare_rdms(models, models, "cosine_cov", sigma_k=0.5 * np.eye(n_conditions) + 0.5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12e6  # the covariance of its pairs has 999 MB
        assert np.abs(found - nm.compare_rdms(models, models, "cosine_cov")).max() < 1e-9  # shared noise cancels
