"""Comparison and diagrams of circuits: renamed circuits are the same, unrelated ones are no more alike than chance."""

import matplotlib.figure
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyArrowPatch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.circuits.comparison.compare import compare_circuits
from neuros_mechint.neuro.circuits.comparison.matching import best_matching
from neuros_mechint.neuro.circuits.diagrams.diagram import circuit_diagram
from neuros_mechint.neuro.circuits.wiring import as_wiring
from tests.slow import slow_case


def circuit(seed: int, n_nodes: int = 10) -> np.ndarray:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(n_nodes, n_nodes)) * (random.random((n_nodes, n_nodes)) < 0.5)
    ring = random.permutation(n_nodes)
    weights[ring, np.roll(ring, 1)] = 1.0  # joins them all
    return weights


@pytest.mark.parametrize("seed", range(5))
def test_a_renamed_circuit_is_the_same(seed):
    weights, order = circuit(seed), np.random.default_rng(seed + 100).permutation(10)
    found = compare_circuits(weights, weights[np.ix_(order, order)], match="best", n_permutations=19)
    assert found.edit_distance == 0
    assert np.allclose(found.data["similarity"], 1)
    assert [order[int(found.partners[str(node)])] for node in range(10)] == list(range(10))


def test_names_match_whatever_their_order():
    weights, order = circuit(0), [4, 2, 0, 1, 3, 9, 8, 7, 6, 5]
    names = [f"node {index}" for index in range(10)]
    one = xr.DataArray(weights, {"target": names, "source": names})
    two = one.isel(target=order, source=order)
    assert compare_circuits(one, two, n_permutations=19).edit_distance == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_edit_distance_is_that_of_networkx_for_small_graphs(seed):
    random = np.random.default_rng(seed)
    one, two = (np.roll(np.eye(5), 1, 0) + (random.random((5, 5)) < 0.3) * (1 - np.eye(5)) > 0 for _ in range(2))
    graphs = [nx.DiGraph(each.T) for each in (one, two)]
    exact = nx.graph_edit_distance(*graphs)
    assert compare_circuits(one, two, match="best", n_permutations=19).edit_distance == exact


def test_unrelated_circuits_are_no_more_alike_than_chance():
    p = [
        compare_circuits(circuit(seed, 8), circuit(seed + 50, 8), match="best", n_permutations=19).data["p"].values
        for seed in range(12)
    ]
    assert (np.array(p) <= 0.05).mean() < 0.2
    named = [
        compare_circuits(circuit(seed), circuit(seed + 50), n_permutations=39).data["p"].values[:3]
        for seed in range(20)
    ]
    assert (np.array(named) <= 0.05).mean() < 0.15


def test_a_changed_edge_is_counted_once():
    weights = circuit(0)
    changed = weights.copy()
    there, missing = np.argwhere(weights), np.argwhere(weights == 0)
    changed[tuple(there[0])] *= -1
    changed[tuple(there[1])] *= 2  # of the same sign
    changed[tuple(missing[0])] = 1.0
    assert compare_circuits(weights, changed, n_permutations=19).edit_distance == 2


def test_a_node_too_few_is_filled_up():
    weights = circuit(1)
    found = compare_circuits(weights, weights[:9, :9], match="best", n_permutations=19)
    assert found.data.sizes["node"] == 10
    assert "none 1" in found.partners.values()


def test_matching_reaches_the_best_of_all_orders():
    from itertools import permutations

    random = np.random.default_rng(0)
    one, two = random.normal(size=(2, 6, 6))
    best = max((one * two[np.ix_(order, order)]).sum() for order in map(list, permutations(range(6))))
    order = best_matching(one, two, np.random.default_rng(1))
    assert (one * two[np.ix_(order, order)]).sum() == pytest.approx(best)


def test_the_comparison_says_shows_and_keeps(tmp_path):
    found = compare_circuits(circuit(0), circuit(0) + 0.01, n_permutations=19)
    assert "weight correlation" in found.summary()
    assert found.plot().get_xlabel()
    assert load_result(found.save(tmp_path / "comparison")).data.identical(found.data)


def test_what_has_no_null_says_so():
    found = compare_circuits(circuit(0), circuit(1), n_permutations=19, progress=False)
    spectral = found.data.sel(measure="spectral similarity")
    assert np.isfinite(spectral["similarity"])
    assert np.isnan([spectral["null_mean"], spectral["null_sd"], spectral["p"]]).all()
    ax = found.plot()
    labels = {label.get_text(): label.get_position()[1] for label in ax.get_yticklabels()}
    drawn = ax.containers[1].lines[0].get_xydata()
    assert np.isnan(drawn[drawn[:, 1] == labels["spectral similarity\n(no null)"], 0]).all()
    assert np.isfinite(drawn[drawn[:, 1] == labels["weight correlation"], 0]).all()
    (line,) = [line for line in found.summary().splitlines() if line.startswith("spectral")]
    assert line.endswith("(no null)")
    matched = compare_circuits(circuit(0), circuit(1), match="best", n_permutations=19, progress=False)
    assert "no null" not in matched.summary()


def test_edges_that_mean_signs_are_warned_of():
    random = np.random.default_rng(0)
    one, two = random.normal(size=(2, 8, 8))
    (warning,) = compare_circuits(one, two, n_permutations=19, progress=False).warnings
    assert warning.startswith(
        "100% and 100% of all pairs are connected: shared edges and edit distance compare the signs"
    )
    found = compare_circuits(one, np.sign(one) * np.abs(two), n_permutations=19, progress=False)
    assert found.edit_distance == 0  # whatever the strengths
    assert not compare_circuits(one, two, threshold=0.5, n_permutations=19, progress=False).warnings


def test_single_nodes_may_stand_beside_a_circuit():
    weights = np.pad(circuit(0), (0, 2))
    assert compare_circuits(weights, weights, n_permutations=19, progress=False).edit_distance == 0
    with pytest.raises(InputError, match="no connection joins two nodes of the second circuit"):
        compare_circuits(weights, np.eye(12))


def test_a_measure_that_is_not_defined_has_no_p():
    found = compare_circuits(np.ones((6, 6)), np.ones((6, 6)), n_permutations=19).data
    undefined = np.isnan(found["similarity"].values)
    assert undefined.any()
    assert np.isnan(found["p"].values[undefined]).all()


def test_what_cannot_be_compared_is_refused():
    weights = circuit(0)
    with pytest.raises(InputError, match="different names"):
        compare_circuits(weights, weights[:9, :9])
    with pytest.raises(InputError, match="2 parts"):
        compare_circuits(weights, np.kron(np.eye(2), np.ones((5, 5))))
    with pytest.raises(InputError, match="too small"):
        compare_circuits(weights[:3, :3], weights)
    with pytest.raises(OptionError, match="did you mean 'names'"):
        compare_circuits(weights, weights, match="name")


def test_diagrams_are_drawn_of_all_kinds_of_circuits():
    weights = np.array([[0.6, -1.1, 0.0], [0.9, -0.5, 0.0], [0.4, 0.0, 0.0]])
    found = circuit_diagram(weights, names=["E", "I", "out"])
    assert found.data["kind"].values.tolist() == ["excitatory", "inhibitory", "mixed"]
    assert len(found.plot().patches) == 5 + 3
    dale = nm.load_model("decision_dale_rnn").rnn.weight_hh_l0
    averaged = circuit_diagram(dale)
    assert averaged.data["n_units"].values.tolist() == [80, 20]
    matrix = dale.detach().numpy().astype(float)
    assert averaged.weights.values[0, 1] == pytest.approx(matrix[:80, 80:].mean())
    assert "excitatory (80)" in [text.get_text() for text in averaged.plot().texts]


def painted(figure: matplotlib.figure.Figure, shown: list, all_artists: list) -> np.ndarray:
    """Return which pixels some artists colour."""
    for artist in all_artists:
        artist.set_visible(artist in shown)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return (np.asarray(canvas.buffer_rgba())[..., :3] < 200).any(-1)


@pytest.mark.parametrize(("size", "dpi"), [((2.2, 2.4), 140), slow_case((6.6, 5.4), 70)])
@pytest.mark.parametrize(
    ("n_nodes", "word", "in_layers"),
    [(3, "", False), (8, "node ", False), (8, "", True), (20, "", True), (20, "unit ", False), (24, "", False)],
)
def test_names_titles_and_nodes_do_not_overlap(n_nodes, word, in_layers, size, dpi):
    weights = np.roll(np.eye(n_nodes), 1, 0) + np.diag(np.arange(n_nodes) % 3 == 0)
    if in_layers:
        weights = np.zeros((n_nodes, n_nodes))
        half = n_nodes // 2
        weights[half:-1, :half], weights[-1, half:-1] = 1, -1
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained", dpi=dpi)
    ax = circuit_diagram(weights, names=[f"{word}{node}" for node in range(n_nodes)]).plot(figure.subplots())
    for _ in range(2):  # with a fixed aspect the layout is right at the second time
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    nodes = [patch for patch in ax.patches if isinstance(patch, Circle)]
    titles = [ax.title, ax._left_title, ax._right_title]
    every = [*ax.texts, *ax.patches, *titles, ax.get_legend()]
    assert len(ax.texts) == len(nodes) == n_nodes
    masks = [painted(figure, [text], every) for text in ax.texts]
    assert all(mask.any() for mask in masks)
    masks += [painted(figure, shown, every) for shown in (titles, [ax.get_legend()], nodes)]
    centres = np.array([node.center for node in nodes])
    apart = np.linalg.norm(centres[:, None] - centres, axis=2) + 10 * np.eye(n_nodes)
    assert apart.min() > 2.5 * nodes[0].radius
    assert np.max(np.sum(masks, 0)) == 1
    edge = np.concatenate([np.sum(masks, 0)[rows] for rows in (0, -1)])
    assert not edge.any()


def test_a_key_says_how_strong_a_width_is():
    weights = np.array([[0.0, -2.0, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.0]])
    for size in ((2.2, 2.4), (6.6, 5.4)):
        ax = circuit_diagram(weights).plot(matplotlib.figure.Figure(figsize=size).subplots())
        legend = ax.get_legend()
        key = {
            text.get_text(): line.get_linewidth()
            for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
        }
        drawn = sorted(patch.get_linewidth() for patch in ax.patches if isinstance(patch, FancyArrowPatch))
        assert key["weight 2"] == pytest.approx(drawn[2])
        assert key["weight 0.5"] == pytest.approx(drawn[0])
    assert "weight 2" not in [text.get_text() for text in circuit_diagram(np.eye(3, k=1)).plot().get_legend().texts]
    averaged = circuit_diagram(nm.load_model("decision_dale_rnn").rnn.weight_hh_l0).plot()
    assert any(text.get_text().startswith("mean weight 0.25") for text in averaged.get_legend().get_texts())


def test_parts_of_a_node_are_joined_to_it():
    graph = nx.DiGraph()
    graph.add_edge("a0.h1", "a1.h3<q>", effect=-0.5, kind="effect")
    graph.add_edge("a0.h1", "a1.h3<v>", effect=0.2, kind="effect")
    for part in "qv":
        graph.add_edge(f"a1.h3<{part}>", "a1.h3", kind="within")
    graph.add_edge("a1.h3", "logits", effect=1.0, kind="effect")
    wiring = as_wiring(graph)
    assert wiring.names == ("a0.h1", "a1.h3", "logits")
    assert wiring.weights.tolist() == [[0, 0, 0], [pytest.approx(-0.3), 0, 0], [0, 1.0, 0]]
    found = circuit_diagram(nm.CausalGraph(graph))
    assert found.weights.sizes == {"target": 3, "source": 3}
    assert "a1.h3 → logits helps: 1" in found.summary()
    assert "excit" not in found.summary()


def test_diagrams_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="populations do not fit"):
        circuit_diagram(np.ones((3, 3)), populations=["E"])
    with pytest.raises(InputError, match="names do not fit"):
        circuit_diagram(np.ones((3, 3)), names=["E"])
    with pytest.raises(InputError, match="same name"):
        circuit_diagram(np.ones((2, 2)), names=["E", "E"])
    with pytest.raises(InputError, match="no connection to draw"):
        circuit_diagram(np.ones((3, 3)), threshold=2.0)
    with pytest.raises(InputError, match="no connectivity"):
        circuit_diagram(torch.zeros(3))


def test_labels_say_which_axis_and_which_order_is_meant():
    weights = circuit(0, 4)
    rows, columns = list("abcd"), list("cadb")
    order = [rows.index(name) for name in columns]
    labelled = xr.DataArray(weights, dims=("target", "source"), coords={"target": rows, "source": rows})
    shuffled = labelled[:, order]
    for given in (labelled, labelled.T, shuffled, shuffled.T, shuffled.to_pandas()):
        found = as_wiring(given)
        order_back = [found.names.index(name) for name in rows]
        np.testing.assert_array_equal(found.weights[np.ix_(order_back, order_back)], weights)
    assert as_wiring(labelled.T).weights.tolist() == weights.tolist()
    with pytest.raises(InputError, match="other labels than rows"):
        as_wiring(labelled.assign_coords(source=list("abcx")))
    assert as_wiring(labelled.drop_vars("target")).names == tuple(rows)
    assert as_wiring(pd.DataFrame(weights)).names == ("0", "1", "2", "3")


def test_sparse_connectivity_is_the_same_as_dense():
    weights = circuit(0)
    for given in (scipy.sparse.csr_array(weights), torch.tensor(weights).to_sparse()):
        np.testing.assert_array_equal(as_wiring(given).weights, weights)


@pytest.mark.parametrize(
    "odd",
    [
        [[0.0, 1.0], [1.0]],
        "wiring",
        [["a", "b"], ["c", "d"]],
        3,
        None,
        object(),
        np.full((2, 2), 1j),
        np.ma.masked_array(np.ones((2, 2)), mask=np.eye(2)),
        nx.DiGraph([("a", "b", {"weight": 1j})]),
        nx.DiGraph([("a", "b", {"weight": "strong"})]),
    ],
    ids=["ragged", "text", "names", "number", "none", "object", "complex", "masked", "complex edge", "text edge"],
)
@pytest.mark.parametrize("function", [as_wiring, circuit_diagram, nm.network_motifs, lambda x: compare_circuits(x, x)])
def test_what_is_no_connectivity_is_refused_by_all(function, odd):
    with pytest.raises(InputError):
        function(odd)


@pytest.mark.parametrize("odd", [{"populations": 3}, {"names": 3}, {"populations": []}, {"names": ["a"]}])
def test_names_and_populations_are_one_of_each_node(odd):
    with pytest.raises(InputError, match="do not fit the nodes"):
        circuit_diagram(circuit(0, 4), **odd)
