"""Autoencoders compared at matched sparsity, and probes of single features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.features.evaluation.matched import search_coefficient
from neuros_mechint.features.evaluation.measures import count
from tests.slow import slow_case
from tests.truth.planted_dictionaries import (
    N_TRUE,
    SEEDS,
    WIDTH,
    HandMade,
    gaussian,
    orthonormal,
    planted,
    sparse_codes,
    synthetic_training,
)

# --- comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
@pytest.mark.parametrize("knows_truth", [True, False])
def test_explained_variance_does_not_make_a_dense_dictionary_win(seed, knows_truth):
    truth, saes, held_out = planted(seed)
    with pytest.warns(UserWarning, match="not ranked: L0 differs by a factor of 1"):
        found = nm.compare_saes(
            {name: saes[name] for name in ("dense", "topk")}, held_out, truth=truth if knows_truth else None
        )
    table = found.to_dataframe().set_index("sae")
    assert table.loc["dense", "explained_variance"] > table.loc["topk", "explained_variance"] + 0.1
    assert table.loc["dense", "l0"] > 10
    if knows_truth:
        assert table.loc["dense", "mcc"] < table.loc["topk", "mcc"] - 0.15
    assert table["rank"].isna().all()
    assert not found.matched
    assert found.warnings


@pytest.mark.parametrize("seed", [0, 1, slow_case(2)])
def test_at_matched_l0_the_one_nearer_to_the_truth_is_first(seed):
    truth, saes, held_out = planted(seed)
    half = truth + 1.2 * truth.norm() / gaussian(N_TRUE, WIDTH).norm() * gaussian(N_TRUE, WIDTH, seed=700 + seed)
    found = nm.compare_saes({"half": HandMadeTopK(half), "topk": saes["topk"]}, held_out, truth=truth)
    assert found.data["rank"].values.tolist() == [2, 1]
    assert not found.warnings
    assert found.title == "Sparse autoencoders half and topk on 4000 observations"
    first, second = found.summary().splitlines()[2:]
    assert first.startswith("  1. topk: MCC 0.")
    assert second.startswith("  2. half: MCC 0.")


def test_what_is_no_nearer_to_the_truth_than_chance_has_no_rank():
    truth, saes, held_out = planted(0)
    ranked = 0
    for seed in range(20):
        strangers = {str(i): HandMadeTopK(gaussian(N_TRUE, WIDTH, seed=700 + 3 * seed + i)) for i in range(3)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = nm.compare_saes({**strangers, "topk": saes["topk"]}, held_out, truth=truth, seed=seed)
        assert found.matched
        assert found.data["rank"].values[3] == 1
        ranked += int(np.isfinite(found.data["rank"].values[:3]).sum())
        assert len(found.warnings) == 3 - int(np.isfinite(found.data["rank"].values[:3]).sum())
    assert ranked <= 8  # of 60, each with one chance in 21 to be above 20 others: more than 8 once in 500
    with pytest.warns(UserWarning, match=r"0 is not ranked: its MCC of 0\.\d+ is not above 0\.\d+"):
        nm.compare_saes({"0": HandMadeTopK(gaussian(N_TRUE, WIDTH, seed=3)), "1": saes["topk"]}, held_out, truth=truth)


class HandMadeTopK(HandMade):
    def encode(self, x):
        kept = (1e-3 + (x @ self.W_dec.T).abs()).topk(2, dim=-1)
        return torch.zeros(*x.shape[:-1], len(self.W_dec)).scatter(-1, kept.indices, kept.values)


def test_equal_dictionaries_share_a_rank():
    found = nm.compare_saes({"one": HandMade(torch.eye(3)), "same": HandMade(torch.eye(3))}, gaussian(50, 3))
    assert found.data["rank"].values.tolist() == [1, 1]


def test_the_search_for_a_coefficient_finds_it_from_either_side_or_says_what_was_tried():
    for start in (1e-3, 1.0, 1e3):
        found = search_coefficient(lambda c: (c, 16 / (1 + c)), 4, 0.02, start, 20)
        assert 16 / (1 + found) == pytest.approx(4, rel=0.02)
    with pytest.raises(InputError, match="no coefficient found"):
        search_coefficient(lambda c: (c, 16 / (1 + c)), 4, 0.02, 1e3, 3)


@pytest.mark.parametrize(
    ("l0", "n_trainings", "problem"),
    [
        (lambda c: 24.7 * c**0.025, 3, "grows with the penalty.*\n.*\n.*\n.*epochs="),  # too short to train JumpReLU
        (lambda c: 9.0, 5, "does not fall as the penalty grows.*\n.*\n.*\n.*epochs=; or begin elsewhere: start="),
    ],
)
def test_a_penalty_that_does_not_do_its_work_stops_the_search(l0, n_trainings, problem):
    tried = []

    def train(coefficient):
        tried.append(coefficient)
        return coefficient, l0(coefficient)

    with pytest.raises(InputError, match=problem):
        search_coefficient(train, 4, 0.02, 1.0, 12)
    assert len(tried) == n_trainings


@pytest.mark.slow  # `matched_l0`, below, trains and searches in the same way
@pytest.mark.parametrize(
    ("architecture", "penalty"),
    [("Gated", "l1_coefficient"), ("Standard", "l1_coefficient"), ("JumpReLU", "l0_coefficient")],
)
def test_the_search_brings_real_penalised_architectures_to_the_l0_of_topk(architecture, penalty, quiet):
    import sae_lens

    truth, saes, held_out = planted(0)

    def train(coefficient):
        config = getattr(sae_lens, f"{architecture}TrainingSAEConfig")(
            **{penalty: coefficient}, d_in=WIDTH, d_sae=N_TRUE
        )
        dictionary, activity = planted_data(truth)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sae = getattr(sae_lens, f"{architecture}TrainingSAE")(config)
            synthetic_training(sae, dictionary, activity)
        return sae, count(sae, held_out).l0

    found = search_coefficient(train, 2, 0.04, 1.0, 12)
    assert count(found, held_out).l0 == pytest.approx(2, rel=0.04)
    compared = nm.compare_saes({"topk": saes["topk"], "penalised": found}, held_out, truth=truth)
    assert compared.matched
    assert float(compared.data["mcc"][1]) > 0.75  # and not near that of the dense one, below 0.65


def planted_data(truth):
    from sae_lens import synthetic

    with torch.random.fork_rng():
        dictionary = synthetic.FeatureDictionary(num_features=N_TRUE, hidden_dim=WIDTH)
        dictionary.feature_vectors.data[:] = truth
        return dictionary, synthetic.ActivationGenerator(num_features=N_TRUE, firing_probabilities=0.06)


@pytest.mark.slow
def test_matched_l0_trains_an_autoencoder_of_the_l0_asked_for():
    truth = planted(0)[0]
    rows = sparse_codes(20_000, N_TRUE, 0.06, seed=5) @ truth
    rows_held_out = sparse_codes(4000, N_TRUE, 0.06, seed=6) @ truth
    found = nm.matched_l0("gated", 2, rows, rows_held_out, n_features=N_TRUE, progress=False)
    assert count(found, rows_held_out).l0 == pytest.approx(2, rel=0.04)


def test_matched_l0_knows_the_only_site():
    rows = sparse_codes(3000, 8, 0.2, seed=5) @ orthonormal(8, WIDTH)
    acts = nm.Activations({"h": rows}, {"h": ("sample", "unit")})
    found = nm.matched_l0("gated", 2, acts, acts, n_features=8, tolerance=0.5, progress=False, epochs=4)
    assert found.site == "h"
    assert count(found, acts).l0 == pytest.approx(2, rel=0.5)


# --- probing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_a_probe_finds_the_feature_that_carries_the_label(seed):
    codes = sparse_codes(300, 24, 0.3, seed)
    labels = np.where(codes[:, 5] > 0, "yes", "no")
    found = nm.sparse_probe(codes, labels, k=[1, 3], n_permutations=79, seed=seed)
    assert found.main[0] > 0.99
    assert int(found.data["chosen"][0].values.argmax()) == 5
    assert found.data["p"].values == pytest.approx([1 / 80] * 2)
    assert found.data["p_adjusted"].values == pytest.approx([2 / 80] * 2)
    assert found.title == "Sparse probes of 2 classes (no, yes) from 24 features"
    assert found.summary().splitlines()[2].endswith("p = 0.025; feature 5")
    as_numbers = nm.sparse_probe(codes, (labels == "yes").astype(float), k=1, n_permutations=19, seed=seed)
    assert as_numbers.main[0] == found.main[0]


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_accuracy_is_that_of_scikit_learns_own_pipeline(seed):
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes = sparse_codes(400, 12, 0.5, seed).double()
    labels = (codes[:, 1] + codes[:, 2] + gaussian(400, seed=seed) > 1.5).int() + (codes[:, 3] > 1).int()
    expected = []
    for k in (1, 4):
        probe = make_pipeline(
            SelectKBest(f_classif, k=k), StandardScaler(), LogisticRegression(class_weight="balanced")
        )
        folds = StratifiedKFold(5, shuffle=True, random_state=int(np.random.default_rng(seed).integers(2**31)))
        predicted = cross_val_predict(probe, codes.numpy(), labels.numpy(), cv=folds)
        expected.append(balanced_accuracy_score(labels, predicted))
    found = nm.sparse_probe(codes, labels, k=[1, 4], n_permutations=39, seed=seed)
    assert found.main.values == pytest.approx(expected, abs=1e-12)
    assert expected[1] > expected[0] + 0.02


@pytest.mark.parametrize("seeds", [range(3), slow_case(range(3, 9))])
def test_a_sample_is_held_out_and_shuffled_as_a_whole(seeds):
    alone, whole, p = [], [], []
    for seed in seeds:
        own = np.random.default_rng(seed).normal(size=(24, 1, 6))  # what marks a sample in all its positions
        codes = np.maximum(own + 0.1 * np.random.default_rng(50 + seed).normal(size=(24, 15, 6)), 0)
        labels = np.repeat(np.random.default_rng(100 + seed).permutation(24) % 2, 15).reshape(24, 15)
        found = nm.sparse_probe(codes, labels, k=4, n_permutations=39, seed=seed)
        whole.append(float(found.main[0]))
        p.append(float(found.data["p"][0]))
        rows = nm.sparse_probe(codes.reshape(360, 6), labels.ravel(), k=4, n_permutations=39, seed=seed)
        alone.append(float(rows.main[0]))
        assert rows.data["p"][0] == 1 / 40  # rows on their own: the sample is recognised, and with it the label
    assert min(alone) > 0.6
    assert abs(np.mean(whole) - 0.5) < 0.12
    assert sum(one <= 0.05 for one in p) <= 1


def test_a_label_of_positions_is_found_with_samples_held_out():
    codes = sparse_codes(40 * 10, 8, 0.4).reshape(40, 10, 8)
    found = nm.sparse_probe(codes, codes[..., 3] > 0, k=1, n_permutations=39)
    assert found.main[0] > 0.99
    assert found.attributes["n_samples"] == 40


def test_too_few_shuffles_for_a_small_p_are_pointed_out():
    with pytest.warns(UserWarning, match=r"no p below 0\.1 is possible.*n_permutations=39 or more can reach 0\.05"):
        found = nm.sparse_probe(gaussian(60, 5), np.arange(60) % 2, k=[1, 2], n_permutations=19)
    assert len(found.warnings) == 1
    assert "warning: no p below" in found.summary()


def test_a_label_of_two_features_needs_two():
    codes = (sparse_codes(800, 24, 0.5) > 0).float()
    labels = (codes[:, 5] > 0) & (codes[:, 9] > 0)
    one, two = nm.sparse_probe(codes, labels, k=[1, 2], n_permutations=39).main.values
    assert one < 0.9
    assert two > 0.95


@pytest.mark.slow
def test_labels_that_no_feature_knows_are_at_chance_also_where_one_label_is_rare():
    p = []
    for seed in range(6):
        codes = sparse_codes(200, 24, 0.3, seed)
        labels = np.random.default_rng(seed).permutation(np.arange(200) < 20)  # always "no" would be right in 90%
        found = nm.sparse_probe(codes, labels, k=[1, 4], n_permutations=39, seed=seed)
        assert abs(float(found.main[1]) - 0.5) < 0.17
        assert abs(float(found.data["shuffled"].mean()) - 0.5) < 0.08
        p.append(float(found.data["p_adjusted"].min()))
    assert sum(one <= 0.05 for one in p) <= 1
