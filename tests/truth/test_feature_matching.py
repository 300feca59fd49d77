"""Features matched between dictionaries: copies are recovered, strangers are not above chance."""

from __future__ import annotations

import itertools

import matplotlib.figure
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError, SiteError
from neuros_mechint.core.result import load_result
from tests.slow import slow_case

SEEDS = range(3)


class HandMade(torch.nn.Module):
    """``features = relu(x D.T - threshold)``, ``x' = features D``."""

    def __init__(self, decoder, threshold=0.0, site=None):
        super().__init__()
        self.W_dec, self.threshold, self.site = decoder, threshold, site

    def encode(self, x):
        return torch.relu(x @ self.W_dec.T - self.threshold)

    def decode(self, feature_acts):
        return feature_acts @ self.W_dec


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def permutation(n, seed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def above(matching):
    return int(matching.data["above_chance"].sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_permuted_and_noised_copy_is_recovered_by_direction(seed):
    rows = gaussian(40, 30, seed=seed)
    order = permutation(40, seed)
    lengths = 0.1 + torch.rand(40, 1, generator=torch.Generator().manual_seed(seed))
    noised = lengths * (rows + 0.2 * gaussian(40, 30, seed=100 + seed))[order]
    found = nm.match_features(HandMade(rows), HandMade(noised), seed=seed)
    assert found.data["partner"].values.tolist() == torch.argsort(order).tolist()
    assert above(found) == 40
    assert float(found.main.min()) > 0.9  # 1 / sqrt(1 + 0.04) = 0.98 on average
    assert float(found.data["null_mean"].mean()) < 0.6


def test_directions_that_share_nothing_are_at_the_null():
    false, mean, null = 0, [], []
    for seed in range(20):
        found = nm.match_features(
            HandMade(gaussian(30, 20, seed=seed)), HandMade(gaussian(24, 20, seed=500 + seed)), seed=seed
        )
        false += above(found) > 0
        mean.append(float(found.main.mean()))
        null.append(float(found.data["null_mean"].mean()))
        assert int((found.data["partner"] >= 0).sum()) == 24
    assert false <= 4  # each has one in 20 of a false match: more than 4 of 20 have a chance of 0.3%
    assert np.mean(mean) == pytest.approx(np.mean(null), abs=0.01)


def test_a_direction_that_all_features_share_makes_no_match():
    false = 0
    for seed in range(10):
        shared = 3 * gaussian(1, 40, seed=seed)
        found = nm.match_features(
            HandMade(gaussian(20, 40, seed=100 + seed) + shared), HandMade(gaussian(20, 40, seed=200 + seed) + shared)
        )
        assert float(found.main.mean()) > 0.8  # which would be far above a null of isotropic directions
        false += above(found) > 0
    assert false <= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_shared_part_of_two_dictionaries_is_matched(seed):
    one, other = gaussian(20, 60, seed=seed), gaussian(30, 60, seed=100 + seed)
    other[:8] = one[:8] + 0.2 * gaussian(8, 60, seed=200 + seed)
    found = nm.match_features(HandMade(one), HandMade(other), seed=seed)
    assert sorted(found.matched["feature"]) == list(range(8))
    assert (found.matched["feature"] == found.matched["partner"]).all()


def test_the_matching_is_the_best_of_all():
    one, other = gaussian(5, 4, seed=1), gaussian(5, 4, seed=2)
    found = nm.match_features(HandMade(one), HandMade(other))
    cosine = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=2)
    best = max(sum(cosine[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(5)))
    assert float(found.main.sum()) == pytest.approx(float(best), abs=1e-6)


def test_the_opposite_direction_is_another_feature():
    rows = gaussian(10, 30)
    assert above(nm.match_features(HandMade(rows), HandMade(-rows))) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_features_of_two_layers_are_matched_by_what_they_do(seed):
    codes = (torch.rand(600, 12, generator=torch.Generator().manual_seed(seed)) < 0.2) * 1.0
    order = permutation(12, seed)
    one = torch.linalg.qr(gaussian(16, 16, seed=seed)).Q[:12]
    other = torch.linalg.qr(gaussian(25, 25, seed=seed)).Q[:12]
    first = codes @ one + 0.1 * gaussian(600, 16, seed=seed)
    second = codes[:, order] @ other + 0.1 * gaussian(600, 25, seed=50 + seed)
    pair = HandMade(one, 0.2, "early"), HandMade(other, 0.2, "late")
    found = nm.match_features(*pair, by="activation", activations=(first, second), seed=seed)
    assert found.data["partner"].values.tolist() == torch.argsort(order).tolist()
    assert above(found) == 12
    dims = {"early": ("sample", "unit"), "late": ("sample", "unit")}
    acts = nm.Activations({"early": first, "late": second}, dims)
    assert nm.match_features(*pair, by="activation", activations=acts, seed=seed).data.identical(found.data)
    # the correlation of one pair, by another library
    alone = np.corrcoef(pair[0].encode(first)[:, 0], pair[1].encode(second)[:, int(torch.argsort(order)[0])])[0, 1]
    assert float(found.main[0]) == pytest.approx(alone, abs=1e-6)


def test_features_that_see_different_observations_are_at_the_null():
    false, mean, null = 0, [], []
    for seed in range(20):
        found = nm.match_features(
            HandMade(gaussian(12, 16, seed=seed)),
            HandMade(gaussian(12, 9, seed=seed)),
            by="activation",
            activations=(gaussian(200, 16, seed=100 + seed), gaussian(200, 9, seed=300 + seed)),
            seed=seed,
        )
        false += above(found) > 0
        mean.append(float(found.main.mean()))
        null.append(float(found.data["null_mean"].mean()))
    assert false <= 4
    assert np.mean(mean) == pytest.approx(np.mean(null), abs=0.01)


def test_unrelated_dictionaries_of_the_same_inputs_are_at_the_null():
    false, mean, null = 0, [], []
    for seed in range(20):
        one, other = gaussian(40, 16, seed=seed) / 4, gaussian(40, 16, seed=300 + seed) / 4
        inputs = gaussian(400, 16, seed=600 + seed)
        found = nm.match_features(HandMade(one, 1.0), HandMade(other, 1.0), by="activation", activations=inputs)
        false += above(found) > 0
        mean.append(float(found.main.mean()))
        null.append(float(found.data["null_mean"].mean()))
    assert np.mean(mean) > 0.25  # far above what different inputs give, about 0.1
    assert np.mean(mean) == pytest.approx(np.mean(null), abs=0.01)
    assert false <= 4


def random_walks(n_samples, n_positions, width, seed):
    return gaussian(n_samples, n_positions, width, seed=seed).cumsum(1)


def test_observations_that_depend_on_their_neighbours_make_no_match():
    false, mean, null, shuffled = 0, [], [], []
    for seed in range(20):
        pair = HandMade(gaussian(12, 8, seed=seed)), HandMade(gaussian(12, 8, seed=50 + seed))
        one, other = random_walks(6, 60, 8, 100 + seed), random_walks(6, 60, 8, 200 + seed)
        found = nm.match_features(*pair, by="activation", activations=(one, other), seed=seed)
        false += above(found) > 0
        mean.append(float(found.main.mean()))
        null.append(float(found.data["null_mean"].mean()))
        rows = other.flatten(0, 1)[permutation(360, seed)]
        shuffled.append(float(nm.match_features(*pair, by="activation", activations=(one, rows)).main.mean()))
    assert np.mean(mean) > 3 * np.mean(shuffled)  # a null of shuffled observations would find nearly all of them
    assert np.mean(mean) == pytest.approx(np.mean(null), abs=0.03)
    assert false <= 4


def test_positions_may_have_an_axis_of_their_own():
    pair = HandMade(gaussian(6, 5)), HandMade(gaussian(6, 5, seed=1))
    rows = gaussian(20, 7, 5, seed=2)
    found = nm.match_features(*pair, by="activation", activations=rows)
    assert found.data.identical(nm.match_features(*pair, by="activation", activations=rows.flatten(0, 1)).data)
    labelled = nm.Activations({"h": rows}, {"h": ("sample", "position", "unit")})
    assert found.data.identical(nm.match_features(*pair, by="activation", activations=labelled).data)


def test_dead_features_have_no_partner():
    rows = gaussian(6, 10)
    dead = rows.clone()
    dead[2] = 0
    found = nm.match_features(HandMade(rows), HandMade(dead))
    assert 2 not in found.data["partner"]
    assert found.data["partner"].values[2] == -1
    assert np.isnan(found.main.values[2])
    assert found.warnings == ("1 features of the second dictionary have no direction, and no partner",)
    by_activation = nm.match_features(
        HandMade(dead), HandMade(rows), by="activation", activations=gaussian(300, 10, seed=3)
    )
    assert by_activation.data["partner"].values[2] == -1
    assert above(by_activation) == 5
    assert "activation that varies" in by_activation.warnings[0]


ROWS = gaussian(40, 3)
EYE = HandMade(torch.eye(3))


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    [
        (lambda: nm.match_features(EYE, HandMade(torch.eye(4))), InputError, "different spaces"),
        (lambda: nm.match_features(EYE, EYE, by="weights"), OptionError, "unknown by"),
        (lambda: nm.match_features(EYE, EYE, n_null=5), OptionError, "too few draws"),
        (lambda: nm.match_features(EYE, object()), InputError, "no dictionary"),
        (lambda: nm.match_features(EYE, HandMade(torch.full((2, 3), torch.nan))), InputError, "no matrix"),
        (lambda: nm.match_features(EYE, HandMade(torch.zeros(2, 3))), InputError, "has a direction"),
        (lambda: nm.match_features(EYE, EYE, by="activation"), InputError, "needs activations"),
        (
            lambda: nm.match_features(EYE, EYE, by="activation", activations=(ROWS, ROWS[:20])),
            InputError,
            "different observations",
        ),
        (lambda: nm.match_features(EYE, EYE, by="activation", activations=[ROWS] * 3), InputError, "a pair"),
        (
            lambda: nm.match_features(EYE, HandMade(torch.eye(4)), by="activation", activations=ROWS),
            InputError,
            "does not take activations of 3 units",
        ),
        (lambda: nm.match_features(EYE, EYE, by="activation", activations=ROWS * torch.nan), InputError, "not finite"),
        (
            lambda: nm.match_features(EYE, EYE, by="activation", activations=torch.ones(9, 3)),
            InputError,
            "no feature of a dictionary varies",
        ),
    ],
)
def test_bad_calls_are_refused(call, kind, problem):
    with pytest.raises(kind, match=problem):
        call()


def test_a_matching_repeats_leaves_random_states_alone_and_is_kept(tmp_path):
    one, other = HandMade(gaussian(12, 20)), HandMade(gaussian(12, 20, seed=1))
    state = torch.get_rng_state()
    found = nm.match_features(one, other, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.data.identical(nm.match_features(one, other, seed=4).data)
    assert load_result(found.save(tmp_path / "matching.nc")) == found
    axes = found.plot(matplotlib.figure.Figure().subplots())
    assert axes.get_xlabel() == "cosine of decoder directions"
    assert found.title == "12 features of HandMade matched with 12 of HandMade"
    assert "0 of 12 features matched above chance" in found.summary()
    itself = nm.match_features(one, one).summary().splitlines()
    assert itself[1].startswith("12 of 12 features matched above chance")
    assert all(line.split(" - ")[0].strip() + ": 1.000" == line.split(" - ")[1] for line in itself[3:11])


# --- many layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_permuted_copy_among_layers_is_found_and_a_stranger_is_not(seed):
    rows = gaussian(30, 40, seed=seed)
    copy = rows[permutation(30, seed)] + 0.1 * gaussian(30, 40, seed=50 + seed)
    saes = {"early": HandMade(rows), "middle": HandMade(gaussian(24, 40, seed=100 + seed)), "late": HandMade(copy)}
    found = nm.compare_layers(saes, seed=seed)
    share = found.main
    assert share.sel(site="early", other="late") == share.sel(site="late", other="early") == 1
    assert float(share.sel(site=["early", "late"], other="middle").max()) <= 1 / 30  # one of 30 pairs, once in 20
    assert np.isnan(np.diag(share)).all()
    assert float(found.data["similarity"].sel(site="early", other="late")) > 0.98
    strangers = found.data.sel(site="early", other="middle")
    assert float(strangers["mean_similarity"]) == pytest.approx(float(strangers["null_mean"]), abs=0.05)


def test_shares_are_of_the_features_of_each_layer_and_those_of_match_features():
    one, other = gaussian(20, 60), gaussian(30, 60, seed=1)
    other[:8] = one[:8]
    found = nm.compare_layers({"one": HandMade(one), "other": HandMade(other)})
    assert found.main.sel(site="one", other="other") == pytest.approx(8 / 20)
    assert found.main.sel(site="other", other="one") == pytest.approx(8 / 30)
    alone = nm.match_features(HandMade(one), HandMade(other))
    assert found.data["mean_similarity"][0, 1] == pytest.approx(float(alone.main.mean()))
    assert found.data["null_mean"][0, 1] == pytest.approx(float(alone.data["null_mean"].mean()))


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_layers_of_different_width_are_compared_by_what_their_features_do(seed, tmp_path):
    codes = (torch.rand(900, 12, generator=torch.Generator().manual_seed(seed)) < 0.2) * 1.0
    early, late = (torch.linalg.qr(gaussian(width, width, seed=seed)).Q[:12] for width in (16, 25))
    tensors = {"early": codes @ early, "late": codes[:, permutation(12, seed)] @ late, "other": gaussian(900, 16)}
    saes = {"early": HandMade(early, 0.2), "late": HandMade(late, 0.2), "other": HandMade(early, 0.2)}
    found = nm.compare_layers(saes, by="activation", activations=tensors, seed=seed)
    assert found.main.sel(site="early", other="late") == 1
    assert float(found.main.sel(site="other", other=["early", "late"]).max()) <= 1 / 12
    acts = nm.Activations(tensors, dict.fromkeys(tensors, ("sample", "unit")))
    assert nm.compare_layers(saes, by="activation", activations=acts, seed=seed).data.identical(found.data)
    assert load_result(found.save(tmp_path / "layers.nc")) == found
    axes = found.plot(matplotlib.figure.Figure().subplots())
    assert {text.get_text() for text in axes.texts} >= {"100%", "1.00"}
    assert "early - late: 100% and 100%" in found.summary().splitlines()[2]  # the most alike first


PAIR = {"a": EYE, "b": HandMade(torch.eye(4))}


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    [
        (lambda: nm.compare_layers({"a": EYE}), InputError, "nothing to compare"),
        (lambda: nm.compare_layers([EYE, EYE]), InputError, "nothing to compare"),
        (lambda: nm.compare_layers({"a": EYE, "b": 3}), InputError, "no dictionary"),
        (lambda: nm.compare_layers(PAIR), InputError, '3 at a, 4 at b\n.*by="activation"'),
        (lambda: nm.compare_layers(PAIR, by="cosine"), OptionError, "unknown by"),
        (lambda: nm.compare_layers(PAIR, by="activation"), InputError, "needs the activations of every site"),
        (
            lambda: nm.compare_layers(PAIR, by="activation", activations={"a": ROWS}),
            InputError,
            "no activations of 'b'",
        ),
        (
            lambda: nm.compare_layers(PAIR, by="activation", activations={"a": ROWS, "b": gaussian(30, 4)}),
            InputError,
            "different observations",
        ),
        (
            lambda: nm.compare_layers(
                PAIR, by="activation", activations=nm.Activations({"a": ROWS}, {"a": ("sample", "unit")})
            ),
            SiteError,
            "no site 'b'",
        ),
    ],
)
def test_bad_comparisons_are_refused(call, kind, problem):
    with pytest.raises(kind, match=problem):
        call()
