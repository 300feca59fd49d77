"""Edges and paths against a circuit written into the weights, path patching by hand, and closed forms."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import neuros_mechint as nm
from neuros_mechint.causal.paths.graph import CausalGraph
from tests.slow import slow_case
from tests.truth.edge_effects import Parallel, value
from tests.truth.edges_by_hand import HookedEdges
from tests.truth.hand_weighted import (
    ALL_EDGES,
    COMPOSITION,
    DECOYS,
    TOKEN_EDGES,
    accuracy,
    hand_weighted,
    partners,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]
MODELS = [(10.0, 0.0, 0), (30.0, 0.0, 0), (10.0, 0.02, 1), slow_case(10.0, 0.02, 0), slow_case(10.0, 0.02, 2)]
each_model = pytest.mark.parametrize(("gain", "noise", "seed"), MODELS)


@pytest.fixture(scope="module")
def circuit():
    """Edge effects of a hand-weighted model, each computed once."""
    known: dict[tuple, nm.Result] = {}

    def effects(gain, noise, seed, method="exact", ablation="resample", **options):
        key = (gain, noise, seed, method, ablation, *options.items())
        if key not in known:
            clean, corrupted, correct, wrong = partners(seed=seed + 1)
            model = nm.adapt(hand_weighted(gain, noise, seed))
            analyzer = nm.PathAnalyzer(model, nm.logit_difference(correct, wrong))
            known[key] = analyzer.edges(clean, corrupted, method, ablation, **options)
        return known[key]

    return effects


def separation(effects, edges):
    """Area under the ROC curve of the size of the effects as a sign of belonging to ``edges``."""
    names = effects.data["edge"].values
    return roc_auc_score([name in edges for name in names], np.abs(effects.data["effect"].values))


# -- a circuit that is known -----------------------------------------------------------------------------------------


@each_model
def test_the_hand_weighted_model_predicts_every_repeated_token(gain, noise, seed):
    assert accuracy(hand_weighted(gain, noise, seed)) == 1.0


@each_model
def test_resampling_finds_the_token_edges_and_zeroing_all_edges(circuit, gain, noise, seed):
    resampled = circuit(gain, noise, seed)
    assert resampled.data.sizes["edge"] == 81
    assert separation(resampled, TOKEN_EDGES) == pytest.approx(1, abs=1e-12)
    assert separation(resampled, ALL_EDGES) < 0.9  # positions are the same in both inputs: two edges cannot be seen
    assert separation(circuit(gain, noise, seed, ablation="zero"), ALL_EDGES) == pytest.approx(1, abs=1e-12)


def test_without_noise_only_the_circuit_has_an_effect(circuit):
    effects = circuit(10.0, 0.0, 0, ablation="zero")
    found = {
        str(name) for name, size in zip(effects.data["edge"].values, effects.values.values, strict=True) if size > 1
    }
    assert found == ALL_EDGES
    others = effects.values.sel(edge=[name for name in effects.data["edge"].values if name not in ALL_EDGES])
    assert np.abs(others).max() < 1e-4


def test_decoys_have_no_effect_and_what_does_not_communicate_exactly_none(circuit):
    effects = circuit(10.0, 0.0, 0)
    touching = [name for name in effects.data["edge"].values if any(decoy in str(name) for decoy in DECOYS)]
    assert len(touching) == 29  # 3 + 15 into the two decoys, 13 + 1 out of them, 3 of these between the two
    assert np.abs(effects.values.sel(edge=touching)).max() < 1e-5
    # the decoys see tokens and move their heads, but what they write is read nowhere
    assert value(effects, "input->a0.h1<k>", "change") > 0.1
    for silent in ("a0.h1->a1.h0<k>", "a0.h0->a1.h0<q>", "input->a0.h0<q>"):
        assert value(effects, silent) == 0
        assert value(effects, silent, "change") == 0
        assert not effects.data["per_sample"].sel(edge=silent).values.any()
    assert effects.effect("a1.h0", "a0.h0<k>") == 0  # later nodes send nothing to earlier ones


@pytest.mark.parametrize("ablation", ["resample", "mean", slow_case("zero")])
def test_exact_effects_equal_path_patching_by_hand(circuit, ablation):
    clean, corrupted, correct, wrong = partners(seed=2)
    metric = nm.logit_difference(correct, wrong)
    by_hand = HookedEdges(
        hand_weighted(10.0, 0.02, 1), clean, corrupted if ablation == "resample" else ablation, metric
    )
    effects = nm.PathAnalyzer(nm.adapt(hand_weighted(10.0, 0.02, 1)), metric).edges(
        clean, corrupted if ablation == "resample" else None, "exact", ablation
    )
    for edge in effects.data["edge"].values:
        got = effects.data["per_sample"].sel(edge=edge).values
        np.testing.assert_allclose(got, by_hand.exact(str(edge)), atol=2e-4, rtol=1e-4, err_msg=edge)


@pytest.mark.parametrize("steps", [0, 5])
def test_estimates_equal_edge_attribution_patching_by_hand(circuit, steps):
    clean, corrupted, correct, wrong = partners(seed=3)
    effects = circuit(10.0, 0.02, 2, "eap-ig" if steps else "eap")
    by_hand = HookedEdges(hand_weighted(10.0, 0.02, 2), clean, corrupted, nm.logit_difference(correct, wrong))
    for edge, expected in by_hand.estimates([str(edge) for edge in effects.data["edge"].values], steps).items():
        got = effects.data["per_sample"].sel(edge=edge).values
        np.testing.assert_allclose(got, expected, atol=5e-4, rtol=1e-3, err_msg=edge)


# -- saturation ------------------------------------------------------------------------------------------------------


def test_sharp_attention_hides_the_composition_edge_from_gradients(circuit):
    exact, estimated = circuit(10.0, 0.0, 0), circuit(10.0, 0.0, 0, "eap")
    assert value(exact, COMPOSITION) > 50 * abs(value(estimated, COMPOSITION))
    assert separation(estimated, TOKEN_EDGES) == pytest.approx(1, abs=1e-12)  # ranks alone would not tell


@each_model
def test_saturation_is_flagged_and_verified_edges_carry_their_exact_effect(circuit, gain, noise, seed):
    exact, estimated = circuit(gain, noise, seed), circuit(gain, noise, seed, "eap")
    assert COMPOSITION in estimated.saturated
    assert any("saturation" in text for text in estimated.warnings)
    assert value(estimated, COMPOSITION, "exact") == pytest.approx(value(exact, COMPOSITION), rel=1e-4)
    assert estimated.effect("a0.h0", "a1.h0<k>") == pytest.approx(value(exact, COMPOSITION), rel=1e-4)
    verified = estimated.data["exact"].dropna("edge")
    np.testing.assert_allclose(verified, exact.data["effect"].sel(edge=verified["edge"]), rtol=1e-4, atol=1e-4)


def test_a_saturated_edge_is_found_although_its_estimate_is_small(circuit):
    estimated = circuit(30.0, 0.02, 2, "eap", verify=2)
    inner = estimated.data["effect"].where(estimated.data["change"] > 0, drop=True)
    larger = int((np.abs(inner) > np.abs(inner.sel(edge=COMPOSITION))).sum())
    assert larger > 16  # the default number to verify: the largest estimates alone would not include it
    assert estimated.saturated == [COMPOSITION]


def test_soft_attention_is_not_flagged(circuit):
    exact, estimated = circuit(4.0, 0.0, 0), circuit(4.0, 0.0, 0, "eap")
    assert value(estimated, COMPOSITION) == pytest.approx(value(exact, COMPOSITION), rel=0.1)
    assert estimated.data["exact"].notnull().sum() >= 5
    assert estimated.saturated == []
    assert not any("saturation" in text for text in estimated.warnings)


def test_verifying_nothing_is_possible_and_says_so(circuit):
    effects = circuit(10.0, 0.0, 0, "eap", verify=0)
    assert "exact" not in effects.data
    assert effects.saturated == []


def test_the_circuit_is_one_path_and_the_wrong_channel_none(circuit):
    clean, corrupted, correct, wrong = partners(seed=1)
    analyzer = nm.PathAnalyzer(nm.adapt(hand_weighted()), nm.logit_difference(correct, wrong))
    through_keys = analyzer.path(clean, corrupted, ["a0.h0", "a1.h0<k>"])
    assert float(through_keys.main) == pytest.approx(value(circuit(10.0, 0.0, 0), COMPOSITION), rel=1e-5)
    from_input = analyzer.path(clean, corrupted, ["input", "a0.h0<v>", "a1.h0<k>", "logits"])
    assert float(from_input.main) == pytest.approx(float(through_keys.main), rel=1e-4)
    for chain in (["a0.h0", "a1.h0<q>"], ["a0.h0", "a1.h1"], ["a1.h0", "a0.h0"], ["a0.h0"]):
        silent = analyzer.path(clean, corrupted, chain)
        assert float(silent.main) == 0
        assert any("nothing passes" in text for text in silent.warnings)


# -- the result and its graph ----------------------------------------------------------------------------------------


def test_the_graph_contains_the_circuit_as_paths_and_exports(circuit, tmp_path):
    effects = circuit(10.0, 0.0, 0)
    graph = effects.graph(top=5)
    assert isinstance(graph.graph, nx.DiGraph)
    assert {f"{sender}->{receiver}" for sender, receiver in graph.effects} == TOKEN_EDGES
    assert ["input", "a0.h0<v>", "a0.h0", "a1.h0<k>", "a1.h0", "logits"] in graph.paths()
    assert len(graph.paths()) == 3
    read = nx.read_graphml(graph.to_graphml(tmp_path / "graph.graphml"))
    assert set(read.edges) == set(graph.graph.edges)
    assert read.edges["a0.h0", "a1.h0<k>"]["effect"] == pytest.approx(value(effects, COMPOSITION))
    again = CausalGraph.from_json(graph.to_json(tmp_path / "graph.json"))
    assert nx.utils.graphs_equal(again.graph, graph.graph)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(nm.errors.StorageError, match="holds no causal graph"):
        CausalGraph.from_json(tmp_path / "other.json")
    assert len(effects.graph(minimum=1.0).effects) == 5


def test_graph_and_matrix_are_drawn(circuit):
    from matplotlib.figure import Figure

    effects = circuit(10.0, 0.0, 0, "eap")
    axes = effects.graph(top=8).plot(Figure().subplots())
    drawn = {text.get_text() for text in axes.texts}
    assert {"input", "a0.h0", "a1.h0", "logits"} <= drawn
    assert len(axes.patches) == 8
    assert effects.plot(Figure().subplots()).get_xlabel() == "receiver"
    assert COMPOSITION in effects.summary()


def test_results_are_saved_and_loaded_whole(circuit, tmp_path):
    effects = circuit(10.0, 0.02, 0, "eap")
    loaded = nm.load_result(effects.save(tmp_path / "edges.nc"))
    assert loaded == effects
    assert loaded.graph().effects == effects.graph().effects
    assert loaded.saturated == effects.saturated


def test_intervals_hold_the_mean_and_normalized_effects_are_fractions(circuit):
    effects = circuit(10.0, 0.0, 0)
    bounds = effects.interval()
    for edge in TOKEN_EDGES:
        low, high = (float(bounds[bound].sel(edge=edge)) for bound in ("low", "high"))
        assert 0 < low < value(effects, edge) < high
    assert float(effects.normalized().sel(edge="a1.h0->logits")) == pytest.approx(1, abs=0.01)
    with pytest.raises(nm.errors.InputError, match="no corrupted run"):
        _analyzer().edges(partners()[0], ablation="zero", receivers="logits").normalized()


def test_intervals_of_verified_edges_are_those_of_what_was_measured(circuit):
    effects = circuit(30.0, 0.0, 0, "eap")
    bounds = effects.interval()
    assert effects.data["exact"].notnull().sum() >= 8
    tolerance = 1e-6 * abs(effects.values).max()
    assert ((bounds["low"] - tolerance <= effects.values) & (effects.values <= bounds["high"] + tolerance)).all()
    outside = (effects.data["effect"] < bounds["low"]) | (effects.data["effect"] > bounds["high"])
    assert outside.any(), "estimates of saturated edges lie elsewhere"


def test_chosen_senders_and_receivers_have_the_effects_they_have_among_all(circuit):
    clean, corrupted, correct, wrong = partners(seed=1)
    analyzer = nm.PathAnalyzer(nm.adapt(hand_weighted()), nm.logit_difference(correct, wrong))
    few = analyzer.edges(clean, corrupted, "exact", senders="a0.*", receivers=["a1.h0<?>", "logits"])
    assert few.data.sizes["edge"] == 4 * 4
    whole = circuit(10.0, 0.0, 0).data["effect"].sel(edge=few.data["edge"])
    np.testing.assert_allclose(few.data["effect"], whole, atol=1e-5)
    in_parts = analyzer.edges(clean, corrupted, "exact", senders="a0.h0", batch_size=5)
    whole = circuit(10.0, 0.0, 0).data["effect"].sel(edge=in_parts.data["edge"])
    np.testing.assert_allclose(in_parts.data["effect"], whole, atol=1e-5)


def test_edges_are_measured_in_chunks_where_memory_is_short(circuit, monkeypatch):
    monkeypatch.setattr("neuros_mechint.causal.paths.measuring._MOST_BYTES_WAITING", 100_000)
    clean, corrupted, correct, wrong = partners(seed=1)
    analyzer = nm.PathAnalyzer(nm.adapt(hand_weighted()), nm.logit_difference(correct, wrong))
    in_chunks = analyzer.edges(clean, corrupted, "exact")
    np.testing.assert_allclose(in_chunks.data["per_sample"], circuit(10.0, 0.0, 0).data["per_sample"], atol=1e-5)


def test_only_small_graphs_are_measured_exactly_by_default(monkeypatch):
    clean, corrupted, _, _ = partners()
    assert _analyzer().edges(clean, corrupted).attributes["method"] == "exact"
    monkeypatch.setattr("neuros_mechint.causal.paths.analyzer._MOST_EXACT_EDGES", 80)
    assert _analyzer().edges(clean, corrupted).attributes["method"] == "eap-ig"
    assert _analyzer().edges(clean, corrupted, receivers="logits").attributes["method"] == "exact"


# -- bad input -------------------------------------------------------------------------------------------------------


def _analyzer():
    _, _, correct, wrong = partners()
    return nm.PathAnalyzer(nm.adapt(hand_weighted()), nm.logit_difference(correct, wrong))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "exat"}, nm.errors.OptionError, "did you mean 'exact'"),
        ({"ablation": "noise"}, nm.errors.OptionError, "unknown ablation"),
        ({"steps": 0, "method": "eap-ig"}, nm.errors.OptionError, "steps is out of range"),
        ({"verify": -1}, nm.errors.OptionError, "verify is out of range"),
        ({"senders": "a9.*"}, nm.errors.InputError, "no sender matches"),
        ({"receivers": ["a1.h0"]}, nm.errors.InputError, "no receiver matches 'a1.h0'"),
        ({"senders": []}, nm.errors.InputError, "no senders are chosen"),
        ({"senders": "a1.h0", "receivers": "a0.h0<k>"}, nm.errors.InputError, "no edge leads"),
        ({"nodes": []}, nm.errors.InputError, "nodes are needed"),
        ({"nodes": ["blocks.0", "blocks.0"]}, nm.errors.InputError, "each once"),
        ({"nodes": ["blocks.0.z", "blocks.0.z[head=1]"]}, nm.errors.InputError, "part of another"),
        ({"nodes": {"output": "blocks.0.z"}}, nm.errors.InputError, "cannot be called 'output'"),
        ({"nodes": ["blocks.0.zz"]}, nm.errors.SiteError, "no site"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    clean, corrupted, _, _ = partners()
    with pytest.raises(error, match=message):
        _analyzer().edges(clean, corrupted, **options)


def test_bad_inputs_are_refused():
    clean, corrupted, _, _ = partners()
    with pytest.raises(nm.errors.InputError, match="needs a second input"):
        _analyzer().edges(clean)
    with pytest.raises(nm.errors.InputError, match="not partners"):
        nm.PathAnalyzer(nm.adapt(hand_weighted()), lambda output: output[:, -1, 3]).edges(clean, corrupted[:, :-1])
    with pytest.raises(nm.errors.InputError, match="not finite"):
        nm.PathAnalyzer(nm.adapt(hand_weighted()), lambda output: output[:, -1, 3] / 0).edges(clean, corrupted)
    for method in ("exact", "eap"):
        with pytest.raises(nm.errors.InputError, match="does not depend on"):
            nm.PathAnalyzer(nm.adapt(hand_weighted()), lambda output: torch.ones(len(output))).edges(
                clean, corrupted, method
            )
    with pytest.raises(nm.errors.CapabilityError, match="cannot be edited"):
        nm.PathAnalyzer(nm.adapt(nm.Recording(np.zeros((2, 3)), dims=("stimulus", "unit"))), lambda output: output)
    with pytest.raises(nm.errors.InputError, match="which parts of"):
        nm.PathAnalyzer(nm.adapt(Parallel()), lambda output: output[:, 0]).edges(torch.ones(2, 2), torch.zeros(2, 2))
    with pytest.raises(nm.errors.InputError, match="does not depend"):
        nm.PathAnalyzer(nm.adapt(hand_weighted()), lambda output: output[:, -1, 3].detach()).edges(
            clean, corrupted, "eap"
        )
    for chain in ([], "a0.h0", ["logits"]):
        with pytest.raises(nm.errors.InputError, match="chain of nodes"):
            _analyzer().path(clean, corrupted, chain)
    with pytest.raises(nm.errors.SiteError, match=r"no node 'a7\.h0'"):
        _analyzer().path(clean, corrupted, ["a7.h0"])
    with pytest.raises(nm.errors.InputError, match="nothing is received at"):
        _analyzer().path(clean, corrupted, ["a0.h0", "input"])
    with pytest.raises(nm.errors.InputError, match="starts with what a node sends"):
        _analyzer().path(clean, corrupted, ["a0.h0<k>"])


def test_a_corruption_that_hardly_matters_is_pointed_out():
    clean, _, correct, wrong = partners()
    effects = nm.PathAnalyzer(nm.adapt(hand_weighted()), nm.logit_difference(correct, wrong)).edges(clean, clean)
    assert any("hardly changes the metric" in text for text in effects.warnings)
    with pytest.raises(nm.errors.InputError, match="hardly differ"):
        effects.normalized()


def test_nothing_of_the_model_is_left_changed_even_after_an_error():
    model = hand_weighted()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    clean, corrupted, correct, wrong = partners()
    metric = nm.logit_difference(correct, wrong)
    state = torch.get_rng_state()
    calls = iter(range(10**6))

    def fails(output):
        if next(calls) == 5:
            raise ZeroDivisionError
        return metric(output)

    with pytest.raises(ZeroDivisionError):
        nm.PathAnalyzer(nm.adapt(model), fails).edges(clean, corrupted, "exact")
    nm.PathAnalyzer(nm.adapt(model), metric).edges(clean, corrupted, "eap", senders="a0.h0")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
