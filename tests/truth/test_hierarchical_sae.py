"""Planted hierarchies come back as trees, chance gives no edge, and absorption is what a count by hand says."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.features.hierarchy.edges import count_coactivity, feature_tree, overlap_p
from tests.slow import slow_case

SEEDS = range(4)
few_or_all = pytest.mark.parametrize("seeds", [SEEDS[:2], slow_case(SEEDS)], ids=["few", "all"])
N_PARENTS, N_CHILDREN, N_INPUTS = 4, 3, 32
N_PLANTED = N_PARENTS * (1 + N_CHILDREN)
PARENT_OF = {4 + 3 * parent + child: parent for parent in range(N_PARENTS) for child in range(N_CHILDREN)}
WIDTHS = (4, 16)  # a prefix with room for the parents alone
FOUND = 0.9


@cache
def planted(seed, n=20_000):
    """Feature activations and data of 4 parents with 3 exclusive children each, orthogonal in 32 dimensions."""
    from sae_lens.synthetic import ActivationGenerator, HierarchyNode, hierarchy_modifier

    roots = [
        HierarchyNode(
            feature_index=parent,
            children=[HierarchyNode(feature_index=child) for child, above in PARENT_OF.items() if above == parent],
            mutually_exclusive_children=True,
        )
        for parent in range(N_PARENTS)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = ActivationGenerator(N_PLANTED, 0.25, modify_activations=hierarchy_modifier(roots)).sample(n)
        vectors = torch.linalg.qr(torch.randn(N_INPUTS, N_INPUTS))[0][:N_PLANTED]
    return features, vectors, features @ vectors


def shuffled(codes, seed):
    """Every column permuted on its own: rates stay, relations go."""
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(len(codes)), (codes.shape[1], 1)), axis=1)
    return torch.take_along_dim(codes, torch.from_numpy(order.T), 0)


def tree_of(codes, widths, **options):
    return feature_tree(count_coactivity([codes], widths), widths, **options)


def pairs(tree):
    return {(int(parent), int(child)) for parent, child in tree.edges()[["parent", "child"]].values}


def independent(rates, n, seed):
    return (np.random.default_rng(seed).random((n, len(rates))) < rates).astype(float)


# --- edges from activations that are known


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_activations_give_exactly_the_planted_edges(seed):
    features, _, _ = planted(seed)
    tree = tree_of(features, (N_PARENTS, N_PLANTED))
    assert pairs(tree) == {(parent, child) for child, parent in PARENT_OF.items()}
    assert (tree.edges()["probability"] == 1).all()
    rate = (features > 0).double().mean(0).numpy()
    assert np.allclose(tree.data["null"], rate[:N_PARENTS])


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled_columns_and_independent_features_give_no_edge(seed):
    features, _, _ = planted(seed)
    assert not pairs(tree_of(shuffled(features, seed), (N_PARENTS, N_PLANTED)))
    assert not pairs(tree_of(independent([0.25] * N_PLANTED, 20_000, seed), (N_PARENTS, N_PLANTED)))


def test_a_parent_that_is_nearly_always_active_is_no_parent_by_chance():
    """P(parent | child) of independent features is the parent's rate, here above ``minimum``: only the null refuses."""
    widths, rates = (4, 24), [0.9] * 4 + [0.05] * 20
    falsely = sum(bool(pairs(tree_of(independent(rates, 3000, seed), widths))) for seed in range(100))
    assert falsely <= 10  # 5 expected at most; 10 or fewer has probability 0.99
    unguarded = tree_of(independent(rates, 3000, 0), widths, correction="none", alpha=1.0)
    assert len(pairs(unguarded)) >= 10  # what the rule would say without its test


def test_the_p_value_is_that_of_shuffles():
    rng = np.random.default_rng(0)
    n_permutations = 4999
    for rate_parent, rate_child, tied in [(0.5, 0.2, 0.0), (0.3, 0.3, 0.15), (0.8, 0.1, 0.3), (0.1, 0.5, 0.05)]:
        parent = rng.random(200) < rate_parent
        child = np.where(rng.random(200) < tied, parent, rng.random(200) < rate_child)
        overlap = (parent & child).sum()
        drawn = np.array([(parent & rng.permutation(child)).sum() for _ in range(n_permutations)])
        estimate = ((drawn >= overlap).sum() + 1) / (n_permutations + 1)
        exact = float(overlap_p(200, parent.sum(), child.sum(), overlap))
        assert abs(exact - estimate) < 4 * np.sqrt(max(exact * (1 - exact), 1e-4) / n_permutations)
        assert drawn.mean() / child.sum() == pytest.approx(parent.mean(), abs=0.01)


def test_of_a_parent_and_a_grandparent_the_nearer_is_chosen_and_the_result_is_a_forest():
    rng = np.random.default_rng(0)
    grandparent = rng.random(5000) < 0.5
    parent = grandparent & (rng.random(5000) < 0.5)
    child = parent & (rng.random(5000) < 0.5)
    other = rng.random(5000) < 0.2
    tree = tree_of(np.stack([grandparent, other, parent, child], 1).astype(float), (2, 3, 4))
    assert pairs(tree) == {(0, 2), (2, 3)}
    graph = tree.to_networkx()
    assert nx.is_forest(graph)
    assert max(dict(graph.in_degree()).values()) == 1
    assert set(graph) == {0, 1, 2, 3}
    assert graph.edges[2, 3]["probability"] == 1
    assert graph.edges[2, 3]["reverse"] == pytest.approx((child & parent).sum() / parent.sum())


def test_features_of_one_prefix_are_no_parents_of_each_other():
    features, _, _ = planted(0)
    assert not pairs(tree_of(features[:, [4, 0, 1, 2, 3]], (4, 5)))  # the child stands first, its parent beside others
    assert pairs(tree_of(features[:, [0, 4, 1, 5]], (2, 4))) == {(0, 3)}


def test_batches_add_up_and_rare_features_are_left_out_with_a_warning():
    features, _, _ = planted(0)
    whole = count_coactivity([features], (4, 16))
    parts = count_coactivity(features.split(777), (4, 16))
    assert whole.n_observations == parts.n_observations == len(features)
    assert np.array_equal(whole.active, parts.active)
    assert np.array_equal(whole.together, parts.together)
    few = features.clone()
    few[few[:, 4].nonzero()[5:, 0], 4] = 0
    tree = tree_of(few, (4, 16))
    assert (0, 4) not in pairs(tree)
    assert "1 features active in fewer than 10" in tree.warnings[0]


def test_a_tree_is_saved_loaded_and_drawn(tmp_path):
    tree = tree_of(planted(0)[0], (4, 16))
    assert nm.load_result(tree.save(tmp_path / "tree.nc")) == tree
    drawn = {text.get_text() for text in tree.plot().texts}
    assert {str(feature) for feature in range(16)} | {"1.00"} <= drawn
    assert "no edge" in {text.get_text() for text in tree_of(shuffled(planted(0)[0], 0), (4, 16)).plot().texts}
    assert "12 edges" in tree.summary()


# --- the autoencoder


@cache
def trained(seed, architecture):
    features, vectors, x = planted(seed)
    # k is the number of planted features in an observation, 1.58 on average
    training = {"k": 1.6, "epochs": 25, "batch_size": 512, "learning_rate": 3e-3, "seed": seed, "progress": False}
    if architecture == "matryoshka":
        sae = nm.HierarchicalSAE(widths=WIDTHS, **training).fit(x)
    else:
        sae = nm.SparseAutoencoder(WIDTHS[-1], architecture=architecture, **training).fit(x)
    with torch.no_grad():
        codes = sae.encode(x)
    decoder = torch.as_tensor(sae.decoder).detach()
    cosine = torch.nn.functional.normalize(decoder, dim=1) @ vectors.T
    absorbed = nm.absorption(codes, decoder, vectors[:N_PARENTS], features[:, :N_PARENTS])
    return SimpleNamespace(sae=sae, codes=codes, cosine=cosine.numpy(), absorbed=absorbed)


@pytest.mark.parametrize("seed", [0, 1, *map(slow_case, SEEDS[2:])])
def test_all_parents_are_in_the_prefix_of_the_matryoshka(seed):
    best = trained(seed, "matryoshka").cosine[: WIDTHS[0], :N_PARENTS].max(0)
    assert (best > FOUND).all(), best


@few_or_all
def test_the_edges_between_recovered_features_are_the_planted_ones(seeds):
    recalled = []
    for seed in seeds:
        one = trained(seed, "matryoshka")
        tree = one.sae.tree(planted(seed)[2])
        means, sure = one.cosine.argmax(1), one.cosine.max(1) > FOUND
        found = {(int(means[a]), int(means[b])) for a, b in pairs(tree) if sure[a] and sure[b]}
        assert found <= {(parent, child) for child, parent in PARENT_OF.items()}
        active = tree.data["rate"].values > 0
        later = {int(means[f]) for f in range(WIDTHS[0], WIDTHS[1]) if sure[f] and active[f]} - set(range(N_PARENTS))
        recalled.append(len({child for _, child in found} & later) / len(later))
    assert min(recalled) > 0.8, recalled


@pytest.mark.parametrize("seed", [0, 1, *map(slow_case, SEEDS[2:])])
def test_shuffled_codes_of_the_autoencoder_give_no_edge(seed):
    one = trained(seed, "matryoshka")
    assert not pairs(tree_of(shuffled(one.codes, seed), WIDTHS))


@few_or_all
def test_the_matryoshka_absorbs_less_than_a_batchtopk_of_the_same_size(seeds):
    nested = [trained(seed, "matryoshka").absorbed.mean for seed in seeds]
    plain = [trained(seed, "batchtopk").absorbed.mean for seed in seeds]
    assert max(nested) < min(plain) / 2, (nested, plain)


# --- absorption by hand


def by_hand(codes, decoder, direction, strength, main, minimum_cosine, minimum_share):
    """The definition, observation by observation and feature by feature."""
    unit = direction / np.linalg.norm(direction)
    absorbed = present = 0
    for z, reach in zip(codes, strength, strict=True):
        if reach <= 0:
            continue
        present += 1
        taken = False
        for j, d in enumerate(decoder):
            carries = z[j] * (d @ unit) >= minimum_share * reach
            taken |= bool(j != main and d @ unit >= minimum_cosine * np.linalg.norm(d) and carries)
        absorbed += taken and z[main] <= 0
    return absorbed / present


def test_the_absorption_of_a_dictionary_made_to_absorb():
    """Child 1 carries the parent with it, child 2 does not; one observation is missed by every feature."""
    decoder = np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    codes = np.array([[0.0, 1, 0]] * 3 + [[1, 0, 1]] * 2 + [[1, 0, 0]] * 4 + [[0, 0, 1]] + [[0, 0, 1]] * 5)
    strength = np.array([1.0] * 10 + [0.0] * 5)[:, None]
    found = nm.absorption(codes, decoder, [[2.0, 0, 0]], strength)
    values = {name: found.data[name].item() for name in found.data.data_vars}
    expected = {"absorbed": 0.3, "silent": 0.4, "main": 0, "cosine": 1.0, "absorber": 1, "n_present": 10}
    follows = {
        "correlation": np.corrcoef(codes[:, 0], strength[:, 0])[0, 1],
        "follower": 0,
        "follower_correlation": np.corrcoef(codes[:, 0], strength[:, 0])[0, 1],
    }
    assert values == pytest.approx(expected | follows)
    assert not found.warnings
    assert found.mean == pytest.approx(0.3)
    assert len(found.plot().patches) == 2
    scale = np.array([2.0, 0.5, 3.0])
    rescaled = nm.absorption(codes / scale, decoder * scale[:, None], [[0.1, 0, 0]], strength)
    xr.testing.assert_allclose(rescaled.data, found.data, rtol=1e-12)
    assert "concept 0: main feature 0 (cosine 1.00), absorbed 30.0% (most often by feature 1)" in found.summary()
    true = nm.absorption(np.array([[1.0, 1, 0], [1, 0, 1], [1, 0, 0]]), np.eye(3), [[1.0, 0, 0]], np.ones((3, 1)))
    assert true.mean == 0
    assert true.data["silent"].item() == 0


def test_a_main_feature_that_is_not_the_concepts_is_pointed_out():
    """Concept 1 has no feature of its own direction: feature 2 follows it, and the largest cosine is that of 0."""
    rng = np.random.default_rng(0)
    present = (rng.random((400, 2)) < 0.3) * 1.0
    codes = np.stack([present[:, 0], (rng.random(400) < 0.3) * 1.0, present[:, 1]], axis=1)
    decoder = np.array([[1.0, 0, 0], [0, 0, 1], [-0.2, 0.1, 1]])
    directions = np.array([[1.0, 0, 0], [0.45, 0.2, 0]]) / np.array([[1.0], [0.49]])
    found = nm.absorption(codes, decoder, directions, present)
    assert found.data["main"].values.tolist() == [0, 0]
    assert found.data["follower"].values.tolist() == [0, 2]
    shared, follower = found.warnings
    assert "concepts 0 and 1 have one main feature, 0" in shared
    assert "concept 1: feature 2 follows it better (r = 1.00) than its main feature 0" in follower
    assert "main=" in follower
    named = nm.absorption(codes, decoder, directions, present, main=[0, 2])
    assert named.mean == 0
    assert "cosine below 0.5): 1 (" in named.warnings[0]
    assert len(named.warnings) == 1


def test_absorption_takes_a_fitted_autoencoder_for_its_decoder():
    one, (features, vectors, _) = trained(0, "batchtopk"), planted(0)
    given = one.codes, vectors[:N_PARENTS], features[:, :N_PARENTS]
    assert nm.absorption(given[0], one.sae, *given[1:]).data.identical(one.absorbed.data)
    assert not one.absorbed.warnings  # these parents are absorbed indeed


@pytest.mark.parametrize(("carried", "expected"), [(0.39, 0.0), (0.41, 1.0)])
def test_a_feature_absorbs_from_two_fifths_of_the_concept_on(carried, expected):
    found = nm.absorption([[0.0, 1.0]], [[1.0, 0], [carried, 1]], [[1.0, 0]], [[1.0]])
    assert found.mean == expected
    assert found.data["silent"].item() == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_absorption_is_the_count_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    codes = np.maximum(rng.normal(-0.5, 1, (300, 12)), 0)
    decoder, directions = rng.normal(size=(12, 6)), rng.normal(size=(3, 6))
    strength = rng.normal(0.5, 1, (300, 3))
    thresholds = {"minimum_cosine": 0.2, "minimum_share": 0.6}
    found = nm.absorption(codes, decoder, directions, strength, main=[0, 3, 5], **thresholds)
    expected = [by_hand(codes, decoder, directions[i], strength[:, i], m, 0.2, 0.6) for i, m in enumerate([0, 3, 5])]
    assert np.allclose(found.data["absorbed"], expected)
    assert min(expected) > 0.05


# --- what is refused


@pytest.mark.parametrize("widths", [[64, 16], [16, 16], [16], [], [0, 4], [4.5, 8]])
def test_prefixes_that_do_not_nest_are_refused(widths):
    with pytest.raises(InputError, match="no nested prefixes"):
        nm.HierarchicalSAE(widths=widths)


def test_data_of_another_width_and_use_before_fitting_are_refused():
    with pytest.raises(InputError):
        nm.HierarchicalSAE(widths=[4, 16], k=2).tree(torch.zeros(20, N_INPUTS))
    sae = trained(0, "matryoshka").sae
    with pytest.raises(InputError):
        sae.tree(torch.zeros(20, N_INPUTS + 1))
    with pytest.raises(InputError, match="not the activations of these features"):
        count_coactivity([torch.zeros(5, 15)], (4, 16))
    with pytest.raises(InputError, match="not finite"):
        count_coactivity([torch.full((5, 16), torch.nan)], (4, 16))
    with pytest.raises(InputError, match="no observations"):
        count_coactivity([], (4, 16))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"minimum": 0.0}, "minimum"),
        ({"alpha": 2.0}, "alpha"),
        ({"alpha": "a"}, "alpha"),
        ({"correction": "bonferoni"}, "correction"),
        ({"minimum_active": 0}, "minimum_active is out of range"),
    ],
)
def test_options_of_the_tree_that_make_no_sense_are_refused(options, problem):
    with pytest.raises(OptionError, match=problem):
        tree_of(planted(0)[0], (4, 16), **options)


GOOD = {"codes": np.ones((5, 2)), "decoder": np.eye(2), "directions": np.eye(2)[:1], "strength": np.ones((5, 1))}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"codes": np.ones((5, 3))}, "do not fit together"),
        ({"strength": np.ones((4, 1))}, "do not fit together"),
        ({"codes": np.ones(5)}, "codes is no matrix"),
        ({"decoder": 3}, "sae.decoder"),
        ({"decoder": object()}, "no decoder"),
        ({"decoder": np.array([[np.nan, 0], [0, 1]])}, "decoder is no matrix"),
        ({"directions": np.zeros((1, 2))}, "points nowhere"),
        ({"strength": np.zeros((5, 1))}, "never present"),
        ({"main": [2]}, "main does not name"),
        ({"minimum_share": 0.0}, "minimum_share is out of range"),
        ({"minimum_share": "a"}, "minimum_share is out of range"),
        ({"minimum_cosine": True}, "minimum_cosine is out of range"),
    ],
)
def test_bad_input_of_absorption_is_refused(change, problem):
    with pytest.raises(InputError, match=problem):
        nm.absorption(**{**GOOD, **change})
