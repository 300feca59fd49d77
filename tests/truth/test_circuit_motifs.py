"""Motifs: counts equal networkx's, planted triads are found, random graphs have none."""

import networkx as nx
import numpy as np
import pytest

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.circuits.motifs.counts import MEANINGS, triad_classes, triad_counts
from neuros_mechint.neuro.circuits.motifs.motifs import network_motifs
from neuros_mechint.neuro.circuits.motifs.nulls import switched

SEEDS = range(20)


def random_graph(seed: int, n_nodes: int = 60, density: float = 0.08) -> np.ndarray:
    graph = np.random.default_rng(seed).random((n_nodes, n_nodes)) < density
    np.fill_diagonal(graph, False)
    return graph


def dale(n_nodes: int = 40) -> np.ndarray:
    """Connectivity of excitatory and, five times as strong, inhibitory nodes."""
    graph = random_graph(0, n_nodes, density=0.3).T * np.random.default_rng(1).uniform(0.5, 1, size=(n_nodes, n_nodes))
    return graph * np.where(np.arange(n_nodes) < 0.8 * n_nodes, 1.0, -5.0)


def with_loops(seed: int) -> np.ndarray:
    """A sparse random graph into which 80 feed-forward loops were planted, four through each node."""
    random, graph = np.random.default_rng(seed), random_graph(seed, density=0.03)
    for _ in range(4):
        for a, b, c in random.permutation(len(graph)).reshape(-1, 3):
            graph[a, b] = graph[a, c] = graph[b, c] = True
    return graph


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_the_census_of_networkx(seed):
    graph = random_graph(seed, 40, density=0.2)
    counts = triad_counts(graph.astype(int), 2)
    assert dict(zip(triad_classes(2).names, counts.tolist(), strict=True)) == nx.triadic_census(nx.DiGraph(graph))


def test_signed_counts_equal_a_count_one_by_one():
    random = np.random.default_rng(0)
    states = random.integers(0, 3, size=(9, 9))
    np.fill_diagonal(states, 0)
    expected = np.zeros(138, dtype=int)
    kinds = triad_classes(3)
    alone = {}
    for a in range(9):
        for b in range(a + 1, 9):
            for c in range(b + 1, 9):
                three = states[np.ix_([a, b, c], [a, b, c])]
                key = three.tobytes()
                if key not in alone:
                    alone[key] = triad_counts(three, 3)
                expected += alone[key]
    assert len(kinds.names) == 138
    assert triad_counts(states, 3).tolist() == expected.tolist()
    assert expected.sum() == 84


def test_a_signed_triad_is_named_by_its_edges():
    states = np.array([[0, 1, 2], [0, 0, 2], [0, 0, 0]])  # a excites b, a and b inhibit c
    (kind,) = np.flatnonzero(triad_counts(states, 3))
    assert triad_classes(3).edges[kind] in ("a→b a⊣c b⊣c", "a⊣b a→c c⊣b")
    assert triad_classes(3).names[kind] == "030T"


def test_codes_are_explained_in_words():
    kinds = triad_classes(2)
    connected = {name for name, joined in zip(kinds.names, kinds.connected, strict=True) if joined}
    assert connected == set(MEANINGS)
    for name, meaning in MEANINGS.items():  # the first digit of a code counts mutual pairs
        words = {"1": "mutual pair", "2": "two mutual pairs", "3": "three mutual pairs"}
        assert words.get(name[0], "") in meaning
        assert name[0] != "0" or "mutual" not in meaning
    for meaning, edges in {
        "chain": [(0, 1), (1, 2)],
        "cycle": [(0, 1), (1, 2), (2, 0)],
        "feed-forward loop": [(0, 1), (1, 2), (0, 2)],
        "one to two": [(0, 1), (0, 2)],
        "two to one": [(1, 0), (2, 0)],
        "mutual pair with an input": [(0, 1), (1, 0), (2, 0)],
        "mutual pair with an output": [(0, 1), (1, 0), (0, 2)],
        "mutual pair with a common input": [(0, 1), (1, 0), (2, 0), (2, 1)],
        "mutual pair with a common output": [(0, 1), (1, 0), (0, 2), (1, 2)],
        "cycle with a mutual pair": [(0, 1), (1, 0), (1, 2), (2, 0)],
    }.items():
        states = np.zeros((3, 3), dtype=int)
        states[tuple(np.transpose(edges))] = 1
        (kind,) = np.flatnonzero(triad_counts(states, 2))
        assert MEANINGS[kinds.names[kind]] == meaning


def test_large_graphs_are_counted_in_double_precision():
    graph = random_graph(0, 260, density=0.5)
    assert triad_counts(graph.astype(int), 2).sum() == 260 * 259 * 258 // 6


def test_random_graphs_keep_the_degrees_of_each_sign():
    states = random_graph(0) * np.random.default_rng(1).integers(1, 3, size=60)[:, None]
    for graph in switched(states, 5, np.random.default_rng(2)):
        for state in (1, 2):
            assert np.array_equal((graph == state).sum(0), (states == state).sum(0))
            assert np.array_equal((graph == state).sum(1), (states == state).sum(1))
        assert np.diag(graph).sum() == 0
        assert (graph != states).mean() > 0.05


def test_every_graph_of_the_same_degrees_is_equally_likely():
    # three nodes that receive from three others, each from one: six graphs
    states = np.zeros((6, 6), dtype=int)
    states[[0, 1, 2], [3, 4, 5]] = 1
    drawn = [tuple(np.nonzero(graph)[1]) for graph in switched(states, 3000, np.random.default_rng(0))]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-square of 5 degrees of freedom, p = 0.001


def test_planted_feed_forward_loops_are_found():
    z = [float(network_motifs(with_loops(seed).T, n_null=50).z.sel(triad="030T")) for seed in SEEDS]
    assert np.median(z) > 3
    assert min(z) > 0


@pytest.mark.slow
def test_few_planted_loops_are_missed_as_the_documentation_says():
    excess, n_found = [], 0
    for seed in SEEDS:
        random, graph = np.random.default_rng(seed), random_graph(seed, 40, density=0.03)
        for _ in range(40):
            a, b, c = random.choice(40, 3, replace=False)
            graph[a, b] = graph[a, c] = graph[b, c] = True
        found = network_motifs(graph.T, n_null=299, progress=False)
        row = found.data.sel(triad="030T")
        excess.append(float(row["count"] - row["expected"]))
        n_found += "030T" in found.found
    assert 10 < np.median(excess) < 20
    assert n_found < 10


def test_none_detected_is_no_proof_of_absence():
    summary = network_motifs(random_graph(1, 30, density=0.2), n_null=299).summary()
    assert "none detected: no corrected p is at most 0.05, which is no proof that there are none" in summary
    assert "nearest to it, feed-forward loop (030T, a→b a→c b→c): " in summary


def test_random_graphs_have_no_motifs():
    results = [network_motifs(random_graph(seed, 30, density=0.2).T, n_null=99) for seed in SEEDS]
    z = np.concatenate([result.z.values for result in results])
    assert (np.abs(z) < 2).mean() >= 0.85
    p = np.concatenate([result.data["p"].values for result in results])
    assert (p <= 0.05).mean() < 0.09
    assert not any(result.found for result in results)


def test_signs_matter():
    # only feed-forward loops in which both edges into the last node inhibit were planted
    graph, random = random_graph(3, density=0.03) * 1.0, np.random.default_rng(0)
    for _ in range(60):
        a, b, c = random.choice(60, 3, replace=False)
        graph[a, b], graph[a, c], graph[b, c] = 1, -1, -1
    found = network_motifs(graph.T, signed=True, n_null=199, correction="none")
    strongest = found.data.isel(triad=int(np.nanargmax(np.where(found.data["expected"] > 5, found.z, 0))))
    assert strongest["triad"].item() in ("a→b a⊣c b⊣c", "a⊣b a→c c⊣b")


def test_the_summary_counts_the_connections_of_each_sign():
    found = network_motifs(dale(), signed=True, n_null=19)
    n_excitatory, n_inhibitory = (dale() > 0).sum(), (dale() < 0).sum()
    assert f"connections between them ({n_excitatory} →, {n_inhibitory} ⊣)" in found.summary()
    assert not any("in effect" in warning for warning in found.warnings)
    assert "→," not in network_motifs(dale(), n_null=19).summary().splitlines()[1]


@pytest.mark.parametrize(("sign", "fewer"), [(1, "excitatory"), (-1, "inhibitory")])
def test_a_sign_that_a_threshold_takes_away_is_warned_of(sign, fewer):
    weights = sign * dale()
    found = network_motifs(weights, signed=True, threshold=1.5, n_null=19)
    (warning,) = [text for text in found.warnings if "in effect" in text]
    n_fewer, n_more = (sign * weights > 0).sum(), (sign * weights < 0).sum()
    assert warning.startswith(f"0 {fewer} and {n_more} ")
    assert f"of {n_fewer} and {n_more}: set the weak ones of each sign to zero" in warning
    # the way out that it names
    kept = np.where(np.abs(weights) > np.where(sign * weights > 0, 0.6, 3.0), weights, 0.0)
    assert not any("in effect" in text for text in network_motifs(kept, signed=True, n_null=19).warnings)
    (alone,) = [
        text
        for text in network_motifs(np.abs(weights), signed=True, n_null=19).warnings
        if "in effect the triads of excitatory connections alone" in text
    ]
    assert "threshold" not in alone


def test_nodes_without_connections_change_nothing():
    graph = random_graph(0, 30, density=0.2)
    without, beside = (network_motifs(each, n_null=19) for each in (graph, np.pad(graph, (2, 3))))
    assert without.data.identical(beside.data)
    assert "; 5 nodes without any take no part" in beside.summary()
    weak = np.pad(graph * 1.0, (0, 1))
    weak[-1, 0] = weak[-1, -1] = 0.1
    assert network_motifs(weak, threshold=0.5, n_null=19).attributes["n_alone"] == 1


def test_parts_are_refused_since_random_graphs_join_them():
    parts = np.zeros((60, 60), dtype=int)
    parts[:30, :30], parts[30:, 30:] = random_graph(0, 30, density=0.2), random_graph(1, 30, density=0.2)
    place = triad_classes(2).names.index("030T")
    nulls = [triad_counts(graph, 2)[place] for graph in switched(parts, 50, np.random.default_rng(0), progress=False)]
    assert (triad_counts(parts, 2)[place] - np.mean(nulls)) / np.std(nulls) > 4  # of two graphs without motifs
    weak = parts + 0.01 * (np.random.default_rng(0).random((60, 60)) < 0.1)
    with pytest.raises(InputError, match="random graphs of the same degrees join them") as caught:
        network_motifs(weak, threshold=0.1)
    nodes = eval(
        str(caught.value).split("with nodes = ")[1].split(", where")[0], {"connectivity": weak, "np": np, "nx": nx}
    )
    assert network_motifs(weak[np.ix_(nodes, nodes)], threshold=0.1, n_null=19).attributes["n_nodes"] == 30


def test_rows_are_targets():
    chain = np.zeros((12, 12))
    chain[np.arange(1, 12), 0] = 1.0  # the first node feeds all others
    counts = network_motifs(chain, n_null=19).data["count"]
    assert counts.to_series().to_dict() == {"021D": 55}


def test_the_same_seed_gives_the_same_numbers_and_leaves_all_else_alone():
    graph = with_loops(0)
    before = graph.copy()
    first, second = (network_motifs(graph, n_null=19, seed=5).data for _ in range(2))
    assert first.identical(second)
    assert np.array_equal(graph, before)


def test_the_result_says_shows_and_keeps(tmp_path):
    found = network_motifs(with_loops(1).T, n_null=299)
    assert "030T" in found.found
    assert "expected" in found.summary()
    assert "030T" in " ".join(label.get_text() for label in found.plot().get_yticklabels())
    assert load_result(found.save(tmp_path / "motifs")).data.identical(found.data)


@pytest.mark.parametrize(
    ("connectivity", "words"),
    [
        (np.kron(np.eye(2), np.ones((5, 5))), "2 parts"),
        (np.zeros((5, 5)), "too small"),
        (np.ones((2, 2)), "too small"),
        (np.ones((6, 6)), "every node is joined"),
        (np.ones((3, 4)), "no connectivity"),
        (np.full((4, 4), np.nan), "not finite"),
        (nx.Graph([(0, 1), (1, 2)]), "no directions"),
        ("wires", "no connectivity"),
    ],
)
def test_what_has_no_motifs_is_refused(connectivity, words):
    with pytest.raises(InputError, match=words):
        network_motifs(connectivity)


def test_unknown_options_are_refused():
    graph = random_graph(0)
    for wrong in ({"correction": "bonferoni"}, {"signed": "yes"}, {"n_null": 3}, {"threshold": -1}):
        with pytest.raises(OptionError):
            network_motifs(graph, **wrong)


@pytest.mark.parametrize("correction", ["holm", "none"])
def test_the_number_of_random_graphs_that_is_said_to_do_does(correction):
    weights = with_loops(0)[:30, :30]
    few = network_motifs(weights, n_null=19, correction=correction, progress=False)
    (warning,) = [text for text in few.warnings if "would do" in text]
    needed = int(warning.split("n_null=")[1].split()[0])
    n_tests = few.data.sizes["triad"] if correction == "holm" else 1
    assert n_tests / (needed + 1) < 0.05 <= n_tests / needed
    if correction == "none":  # the number of triads, which random graphs may add to, does not matter
        enough = network_motifs(weights, n_null=needed, correction=correction, progress=False)
        assert not any("would do" in text for text in enough.warnings)
