"""Box dimension of attention patterns that are known graphs: chains, lattices, stars and random ones."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.neuro.fractals.probes.attention import _at_random_keys

DIMS = ("sample", "head", "query", "key")


def pattern_of(graph, n_samples=2, noise=1e-4, seed=0):
    """Attention of each node to its neighbours among earlier nodes, with a little noise on all others."""
    weights = torch.from_numpy(np.tril(nx.to_numpy_array(graph), -1)).float()
    weights[0, 0] = 1
    generator = torch.Generator().manual_seed(seed)
    noisy = weights + noise * torch.rand(n_samples, 1, *weights.shape, generator=generator).tril()
    return noisy / noisy.sum(-1, keepdim=True)


def random_pattern(n_samples=6, n_heads=3, n_positions=64, seed=0):
    logits = 3 * torch.randn(
        n_samples, n_heads, n_positions, n_positions, generator=torch.Generator().manual_seed(seed)
    )
    return logits.masked_fill(torch.ones(n_positions, n_positions).triu(1).bool(), -torch.inf).softmax(-1)


def held(mask=None, **patterns):
    acts = nm.Activations(patterns, dict.fromkeys(patterns, DIMS))
    return acts if mask is None else acts.with_attention_mask(mask)


@pytest.mark.parametrize(
    ("graph", "about", "within"), [(nx.path_graph(120), 1.0, 0.06), (nx.grid_2d_graph(12, 12), 1.65, 0.1)]
)
def test_known_graphs_have_their_dimension(graph, about, within):
    found = nm.attention_fractality(held(pattern=pattern_of(graph)), n_controls=0)
    plain = nx.convert_node_labels_to_integers(graph, ordering="sorted")
    by_itself = float(nm.GraphFractalDimension()(plain))
    assert abs(float(found.values[0, 0]) - by_itself) < 0.05
    assert abs(by_itself - about) < within  # a lattice of 12 x 12 is far from endless: 1.65 rather than 2
    assert float(found.data["diameter"][0, 0]) == nx.diameter(plain)
    assert float(found.data["power_law"][0, 0]) == 1


def test_a_chain_is_no_random_pattern_and_random_patterns_are():
    chain, random = pattern_of(nx.path_graph(64), n_samples=8), random_pattern(8, 1)
    found = nm.attention_fractality(held(pattern=torch.cat([chain, random], 1)))
    assert found.values[0, 0] < found.data["control"][0, 0] - 0.3
    assert abs(float(found.values[0, 1] - found.data["control"][0, 1])) < 0.2
    assert float(found.data["p_adjusted"][0, 0]) < 0.05
    assert float(found.data["p_adjusted"][0, 1]) > 0.05


@pytest.mark.slow
def test_random_heads_differ_from_controls_no_more_often_than_they_should():
    """Negative control: 72 heads of random patterns in 6 samples each."""
    p = [
        nm.attention_fractality(held(pattern=random_pattern(6, 12, 40, seed=seed)), n_controls=1).data["p"].values
        for seed in range(6)
    ]
    assert np.mean(np.concatenate(p) <= 0.05) <= 0.12  # of 64 patterns of signs, p <= 0.05 has a chance of 0.03


@pytest.mark.parametrize("causal", [True, False])
def test_controls_keep_the_weights_and_the_mask(causal):
    own = random_pattern(1, 2, 20)[0].double().numpy()
    own = own if causal else np.maximum(own, own.swapaxes(1, 2))
    control = _at_random_keys(own, causal, np.random.default_rng(0))
    off_diagonal = own * ~np.eye(20, dtype=bool)
    np.testing.assert_allclose(np.sort(control, -1), np.sort(off_diagonal, -1))
    assert (control[:, np.arange(20), np.arange(20)] == 0).all()
    assert ((np.triu(control, 1) == 0).all()) == causal
    assert not np.allclose(control, off_diagonal)


def test_attention_to_one_token_has_no_dimension_and_says_so():
    found = nm.attention_fractality(held(pattern=pattern_of(nx.star_graph(40))), n_controls=0)
    assert np.isnan(found.values).all()
    assert any("at most two steps wide" in text for text in found.warnings)
    found.summary()
    found.plot()


def test_short_sequences_are_told():
    found = nm.attention_fractality(held(pattern=random_pattern(2, 1, 24)), n_controls=0)
    assert any("less than a decade" in text for text in found.warnings)
    long_chain = nm.attention_fractality(held(pattern=pattern_of(nx.path_graph(60))), n_controls=0)
    assert not any("less than a decade" in text for text in long_chain.warnings)


def test_padding_is_no_part_of_the_graph():
    chain = pattern_of(nx.path_graph(60), n_samples=3)
    mask = torch.arange(60) < torch.tensor([60, 60, 30])[:, None]
    chain[2, :, 30:, :] = 1 / 60
    found = nm.attention_fractality(held(mask, pattern=chain), n_controls=0)
    assert float(found.data["diameter"][0, 0]) == (59 + 59 + 29) / 3


def test_weighted_graphs_use_the_weights():
    x = random_pattern(2, 2, 30)
    metric = nm.GraphFractalDimension(lengths="inverse")
    found = nm.attention_fractality(held(pattern=x), threshold=None, metric=metric, n_controls=0)
    weights = (x * ~torch.eye(30).bool()).double()
    by_hand = metric.estimate(torch.maximum(weights, weights.mT))
    np.testing.assert_allclose(found.data["per_sample"][0], by_hand.values.T, atol=0.1)


def test_a_model_is_run_and_its_first_token_can_be_left_out():
    model = nm.adapt(nm.load_model("induction"))
    drawn = torch.from_numpy(np.random.default_rng(0).integers(1, 20, size=(2, 16)))
    tokens = torch.cat([drawn, drawn], 1)
    found = nm.attention_fractality(model, inputs=tokens, n_controls=1)
    captured = nm.attention_fractality(model.capture(tokens, "*pattern"), n_controls=1)
    assert found.data.identical(captured.data)
    without = nm.attention_fractality(model, "*pattern[query=1:, key=1:]", inputs=tokens, n_controls=0)
    assert without.data.sizes["head"] == found.data.sizes["head"]
    assert found.plot().get_ylabel() == "site"


@pytest.fixture(scope="module")
def result():
    chain, random = pattern_of(nx.path_graph(40), n_samples=3), random_pattern(3, 1, 40)
    return nm.attention_fractality(
        held(**{"blocks.0.pattern": torch.cat([chain, random], 1), "blocks.1.pattern": random})
    )


def test_the_result_is_told_drawn_saved_and_reported(result, tmp_path):
    assert np.isnan(result.values.sel(site="blocks.1.pattern", head=1))
    assert "heads differ from random patterns" in result.summary()
    assert nm.load_result(result.save(tmp_path / "attention.nc")) == result
    report = nm.Report("attention")
    report.add(result)
    assert "Box dimension of attention graphs" in report.to_html()
    assert any("no adjusted p can be below" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"metric": torch.var}, "of no graph"),
        ({"n_controls": -1}, "n_controls"),
        ({"source": held(pattern=torch.ones(2, 2, 5, 5))}, "makes no graph"),
        ({"source": held(pattern=torch.ones(2, 2, 9, 12))}, "makes no graph"),
        ({"source": held(pattern=-torch.ones(2, 2, 9, 9))}, "no pattern"),
        ({"source": held(pattern=torch.full((2, 2, 9, 9), torch.nan))}, "no pattern"),
        ({"sites": "nowhere"}, "no site"),
        ({"source": nm.Activations({"pattern": torch.ones(2, 9)}, {"pattern": ("sample", "unit")})}, "no attention"),
    ],
)
def test_bad_calls_are_refused(change, message):
    call = {"source": held(pattern=random_pattern(1, 1, 12)), **change}
    with pytest.raises((nm.errors.InputError, nm.errors.SiteError), match=message):
        nm.attention_fractality(call.pop("source"), **call)


def test_a_short_sample_is_refused():
    mask = torch.arange(12) < torch.tensor([[5]])
    with pytest.raises(nm.errors.InputError, match="too short for a graph"):
        nm.attention_fractality(held(mask, pattern=random_pattern(1, 1, 12)))
