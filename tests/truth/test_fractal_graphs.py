"""Box dimension of graphs: flowers, lattices and lines, whose dimension is known, and graphs that have none."""

from __future__ import annotations

import warnings
from functools import cache

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.graphs.covering import numbers_of_boxes
from tests.slow import slow_case

SEEDS = range(3)


@cache
def flower(u, v, n_generations):
    """Each edge becomes two ways of u and v edges, again and again (Rozenfeld, Havlin and ben-Avraham 2007)."""
    edges, n_nodes = [(0, 1)], 2
    for _generation in range(n_generations):
        longer = []
        for first, last in edges:
            for length in (u, v):
                inner = range(n_nodes, n_nodes + length - 1)
                n_nodes += length - 1
                longer += list(zip((first, *inner), (*inner, last), strict=True))
        edges = longer
    return nx.Graph(edges)


def measured(graph, **parameters):
    return [float(nm.GraphFractalDimension(seed=seed, **parameters)(graph)) for seed in SEEDS]


def flower_dimension(u, v):
    return np.log(u + v) / np.log(u)


def test_flowers_are_what_they_should_be():
    for u, v, n in ((2, 2, 4), (2, 3, 3), (1, 3, 4)):
        w = u + v
        assert flower(u, v, n).number_of_edges() == w**n
        assert len(flower(u, v, n)) == (w - 2) / (w - 1) * w**n + w / (w - 1)


@pytest.mark.parametrize(
    ("u", "v", "n", "tolerance"), [(3, 3, 4, 0.12), slow_case(2, 2, 5, 0.1), slow_case(4, 4, 3, 0.1)]
)
def test_flowers_have_their_dimension(u, v, n, tolerance):
    found = measured(flower(u, v, n))
    assert np.mean(found) == pytest.approx(flower_dimension(u, v), abs=tolerance)
    assert np.std(found) < 0.03


@pytest.mark.parametrize(
    ("u", "v", "n", "tolerance"), [(2, 2, 5, 0.1), (3, 4, 4, 0.05), slow_case(3, 3, 4, 0.05), slow_case(4, 4, 3, 0.1)]
)
def test_boxes_as_large_as_the_parts_of_a_flower_are_as_many_as_these(u, v, n, tolerance):
    # a flower is made of (u + v) ** (n - m) flowers of generation m, each of which fits one box
    sizes = [nx.diameter(flower(u, v, generation)) + 1 for generation in range(1, n + 1)]
    parts = np.array([(u + v) ** (n - generation) for generation in range(1, n + 1)])
    result = nm.GraphFractalDimension(box_sizes=sizes).estimate(flower(u, v, n))
    boxes = result.data["boxes"].values
    assert (boxes <= 1.2 * parts).all()
    assert (boxes >= 0.6 * parts).all()
    assert float(result.values) == pytest.approx(flower_dimension(u, v), abs=tolerance)


def test_small_flowers_of_unequal_ways_are_measured_too_low_but_come_nearer():
    # d_B = 2.32; what is known of finite size: the fit of 5 ** (n - m) parts over their diameters
    found = [float(nm.GraphFractalDimension()(flower(2, 3, n))) for n in (2, 3, 4)]
    assert found == sorted(found)
    assert 1.6 < found[0] < found[-1] < flower_dimension(2, 3)
    assert found[-1] == pytest.approx(1.94, abs=0.05)


def test_lines_and_lattices_have_theirs():
    for graph in (nx.path_graph(400), nx.cycle_graph(400)):
        assert np.mean(measured(graph)) == pytest.approx(1, abs=0.05)
    torus = measured(nx.grid_2d_graph(24, 24, periodic=True))
    assert np.mean(torus) == pytest.approx(2, abs=0.08)
    assert np.std(torus) < 0.05
    # with an edge: large boxes are half empty there, and the slope is low by log 2 / log(size)
    with_edge = [np.mean(measured(nx.grid_2d_graph(side, side))) for side in (12, 30)]
    assert 1.6 < with_edge[0] < with_edge[1] < 1.85


def test_a_line_is_covered_by_as_few_boxes_as_possible():
    for graph, n in ((nx.path_graph(100), 100), (nx.cycle_graph(100), 100)):
        sizes = [2, 3, 5, 8, 12, 20]
        result = nm.GraphFractalDimension(box_sizes=sizes, n_orders=20).estimate(graph)
        np.testing.assert_array_equal(result.data["boxes"].values, [-(-n // size) for size in sizes])


@pytest.mark.parametrize("graph", [nx.gnm_random_graph(60, 110, seed=3), nx.grid_2d_graph(6, 7), flower(2, 2, 3)])
def test_boxes_are_those_of_greedy_colouring(graph):
    """The same orders of the nodes given to the greedy colouring of networkx, on the graph of nodes too far apart."""
    graph = graph.subgraph(max(nx.connected_components(graph), key=len))
    distances = np.array(nx.floyd_warshall_numpy(graph)).astype(int)
    n, sizes, n_orders = len(distances), np.arange(1, distances.max() + 2), 6
    found = numbers_of_boxes(distances, sizes, n_orders, seed=4)
    random = np.random.default_rng(4)
    for row in range(n_orders):
        order = random.permutation(n)
        if row % 2 == 0:
            order = order[np.argsort(distances[order[0], order], kind="stable")]
        for place, size in enumerate(sizes):
            far = nx.from_numpy_array((distances >= size) & ~np.eye(n, dtype=bool))
            colours = nx.greedy_color(far, strategy=lambda graph, colors, order=order: order.tolist())
            assert found[row, place] == max(colours.values()) + 1


NOT_FRACTAL = {
    "random": lambda seed: nx.gnm_random_graph(600, 1800, seed=seed),
    "small world": lambda seed: nx.connected_watts_strogatz_graph(600, 6, 0.1, seed=seed),
    "scale free": lambda seed: nx.barabasi_albert_graph(600, 3, seed=seed),
    "tree": lambda seed: nx.balanced_tree(2, 8 + seed % 2),
    "(1, 3)-flower": lambda seed: flower(1, 3, 4 + seed % 2),
}


@pytest.mark.parametrize("kind", NOT_FRACTAL)
def test_graphs_without_a_dimension_are_said_to_have_none(kind):
    for seed in SEEDS:
        result = nm.GraphFractalDimension(seed=seed).estimate(NOT_FRACTAL[kind](seed))
        assert not result.is_fractal
        assert result.data["r2_exponential"] > result.data["r2"] + 0.01
        assert any("not fractal" in text for text in result.warnings)


@pytest.mark.parametrize(
    "graph",
    [flower(2, 2, 4), flower(2, 3, 4), flower(2, 4, 3), flower(3, 3, 3), nx.grid_2d_graph(20, 20), nx.cycle_graph(99)],
)
def test_fractal_graphs_are_not_called_anything_else(graph):
    for seed in SEEDS:
        result = nm.GraphFractalDimension(seed=seed).estimate(graph)
        assert result.is_fractal
        assert result.data["r2"] > result.data["r2_exponential"] + 0.02
        assert not any("not fractal" in text for text in result.warnings)


def test_complete_graphs_have_no_scales_at_all():
    result = nm.GraphFractalDimension().estimate(nx.complete_graph(30))
    assert np.isnan(result.values)
    assert "fewer than 3 box sizes" in result.warnings[0]
    with pytest.warns(UserWarning, match="their dimension is NaN"):
        assert torch.isnan(nm.GraphFractalDimension()(nx.star_graph(20)))
    assert "nan" in result.summary()


def test_all_kinds_of_graphs_are_the_same_graph():
    graph = nx.grid_2d_graph(9, 9)
    dimension = nm.GraphFractalDimension()
    dense = nx.to_numpy_array(graph)
    expected = dimension(graph)
    assert expected.shape == ()
    assert expected.dtype == torch.float64
    sparse = scipy.sparse.coo_matrix(dense)
    loops = dense + np.eye(len(dense))
    for same in (dense, dense.astype(bool), dense.tolist(), torch.tensor(dense, requires_grad=True), sparse, loops):
        assert torch.equal(dimension(same), expected)
    batch = np.stack([dense, nx.to_numpy_array(nx.cycle_graph(81))]).reshape(2, 1, 81, 81)
    found = dimension(batch)
    assert found.shape == (2, 1)
    assert found[0, 0] == expected
    assert float(found[1, 0]) == pytest.approx(1, abs=0.1)
    result = dimension.estimate(batch)
    np.testing.assert_array_equal(result.values, found.numpy())
    assert dict(result.main.sizes) == {"axis_0": 2, "axis_1": 1}
    assert np.isfinite(result.data["boxes"].values).sum() == sum(np.isfinite(result.data["box_size"].values).ravel())


def test_names_of_nodes_do_not_matter_much():
    graph, random = flower(3, 3, 3), np.random.default_rng(0)
    names = random.permutation(len(graph))
    renamed = nx.relabel_nodes(graph, dict(zip(graph, map(int, names), strict=True)))
    assert float(nm.GraphFractalDimension()(renamed)) == pytest.approx(
        float(nm.GraphFractalDimension()(graph)), abs=0.06
    )


def test_weights_mean_what_is_said():
    random = np.random.default_rng(0)
    noise = random.uniform(0, 0.2, (100, 100))
    weights = np.triu(noise, 1) + np.triu(noise, 1).T
    cycle = nx.to_numpy_array(nx.cycle_graph(100))
    strong = np.where(cycle > 0, 0.9, weights)
    np.fill_diagonal(strong, 0)
    plain = nm.GraphFractalDimension()(cycle)
    assert torch.equal(nm.GraphFractalDimension(threshold=0.5)(strong), plain)
    with pytest.raises(InputError, match="nothing says what its weights mean"):
        nm.GraphFractalDimension()(strong)
    # a line whose steps have length 1 / weight: the scale of the weights does not matter, and it stays a line
    steps = random.uniform(0.5, 2.0, 299)
    line = nx.to_numpy_array(nx.path_graph(300))
    line[np.arange(299), np.arange(1, 300)] = line[np.arange(1, 300), np.arange(299)] = 1 / steps
    by_length = nm.GraphFractalDimension(lengths="inverse")
    assert float(by_length(line)) == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(by_length(1000 * line), by_length(line), rtol=1e-6, atol=0)
    result = by_length.estimate(line)
    assert float(result.data["box_size"][-1]) == pytest.approx(steps.sum(), rel=1e-6)
    weighted = nx.from_numpy_array(line)
    assert torch.equal(by_length(weighted), by_length(line))


def test_the_largest_part_of_a_graph_is_measured_and_said():
    apart = nx.disjoint_union(nx.cycle_graph(60), nx.path_graph(10))
    with pytest.warns(UserWarning, match="10 of 70 nodes are left out"):
        found = nm.GraphFractalDimension()(apart)
    assert float(found) == pytest.approx(float(nm.GraphFractalDimension()(nx.cycle_graph(60))), abs=0.03)
    result = nm.GraphFractalDimension().estimate(apart)
    assert any("10 of 70 nodes" in text for text in result.warnings)
    assert result.attributes["n_left_out"] == [10]


def test_results_say_where_they_come_from():
    graph = flower(2, 2, 4)
    result = nm.GraphFractalDimension(seed=2).estimate(graph)
    assert result.data["low"] < result.values < result.data["high"]
    assert float(result.data["order_deviation"]) > 0
    assert "power law r2 0.9" in result.summary()
    assert torch.equal(nm.GraphFractalDimension(seed=2)(graph), torch.from_numpy(np.asarray(result.values)))
    # from the residuals by hand
    x, y = np.log(result.data["box_size"].values), np.log(result.data["boxes"].values)
    slope, covariance = np.polyfit(x, y, 1, cov=True)
    assert float(result.values) == pytest.approx(-slope[0], rel=1e-12)
    assert float(result.data["standard_error"]) == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.plot()


def test_the_graph_is_not_changed():
    matrix = nx.to_numpy_array(nx.path_graph(30)) + np.eye(30)
    before, sparse = matrix.copy(), scipy.sparse.csr_array(matrix)
    nm.GraphFractalDimension(threshold=0.5)(matrix)
    nm.GraphFractalDimension(threshold=0.5, lengths="inverse")(sparse)
    np.testing.assert_array_equal(matrix, before)
    np.testing.assert_array_equal(sparse.toarray(), before)


@pytest.mark.parametrize(
    ("graph", "match"),
    [
        (nx.Graph(), "no nodes"),
        (nx.empty_graph(5), "no edges"),
        (np.zeros((4, 4)), "no edges"),
        (np.eye(4), "no edges"),
        (scipy.sparse.csr_array((4, 4)), "no edges"),
        (np.ones((3, 4)), "not square"),
        (np.ones(4), "not square"),
        (scipy.sparse.csr_array(np.ones((3, 4))), "not square"),
        (np.zeros((0, 0)), "not square"),
        (np.array([[0, np.nan], [np.nan, 0]]), "not finite"),
        (np.array([[0, np.inf], [np.inf, 0]]), "not finite"),
        (np.array([[0, -1.0], [-1.0, 0]]), "negative"),
        (np.array([[0, 1.0], [0, 0]]), "not symmetric"),
        (nx.DiGraph([(0, 1)]), "directed"),
        (np.array([["a", "b"], ["b", "a"]]), "no real numbers"),
        (np.array([[0, 1j], [1j, 0]]), "no real numbers"),
        ([[0, 1], [1]], "no matrix"),
        (None, "not square"),
    ],
)
def test_what_is_no_graph_is_refused(graph, match):
    with pytest.raises(InputError, match=match):
        nm.GraphFractalDimension()(graph)
    with pytest.raises(InputError, match=match):
        nm.GraphFractalDimension().estimate(graph)


def test_an_empty_graph_in_a_batch_is_named():
    batch = np.stack([nx.to_numpy_array(nx.path_graph(5)), np.zeros((5, 5))])
    with pytest.raises(InputError, match=r"graph \(1,\) of the batch"):
        nm.GraphFractalDimension()(batch)
    with pytest.raises(InputError, match=r"none with a weight above 2"):
        nm.GraphFractalDimension(threshold=2)(batch[0])


@pytest.mark.parametrize(
    "parameters",
    [
        {"threshold": -1},
        {"threshold": "high"},
        {"threshold": float("nan")},
        {"lengths": "weights"},
        {"box_sizes": [2, 3]},
        {"box_sizes": [0, 2, 3]},
        {"box_sizes": ["a", "b", "c"]},
        {"n_orders": 0},
    ],
)
def test_parameters_that_do_not_exist_are_refused(parameters):
    with pytest.raises(OptionError):
        nm.GraphFractalDimension(**parameters)
