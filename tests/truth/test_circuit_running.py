"""Running circuits: equal to models run by hand with the inputs of each part exchanged."""

from __future__ import annotations

import numpy as np
import pytest

import neuros_mechint as nm
from neuros_mechint.causal.circuits.problem import circuit_problem
from tests.conformance.architectures import ARCHITECTURES
from tests.slow import slow_case
from tests.truth.circuit_tasks import each_model, hand_model, task
from tests.truth.circuits_by_hand import CircuitsByHand, HookedCircuits, on_a_path
from tests.truth.edges_by_hand import answer, language_model
from tests.truth.hand_weighted import hand_weighted

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]
each_architecture = pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX"])


def subsets(n_edges, seed):
    random = np.random.default_rng(seed)
    return [random.random(n_edges) < share for share in (0.3, 0.5, 0.8, 0.95)]


@pytest.mark.parametrize("ablation", ["resample", "mean", slow_case("zero")])
def test_random_circuits_equal_hooks_that_put_every_input_together(ablation):
    metric, clean, corrupted = task(2)
    other = corrupted if ablation == "resample" else None
    problem = circuit_problem(hand_model(0.02, 1), metric, clean, other, ablation, None)
    by_hand = HookedCircuits(hand_weighted(10.0, 0.02, 1), clean, corrupted if other is not None else ablation, metric)
    names = np.array(problem.runner.names)
    spread = set()
    for seed in range(4):
        circuits = subsets(len(names), seed)
        for kept, got in zip(circuits, problem.runner.values(circuits), strict=True):
            expected = by_hand.metric_of(set(names[kept]))
            np.testing.assert_allclose(got, expected, atol=5e-5)
            spread.add(round(float(expected.mean()), 2))
    assert len(spread) > 5  # these circuits differ


@each_architecture
def test_random_circuits_of_language_models_equal_one_pass_with_edges_exchanged(name):
    model, clean, corrupted = language_model(name, 1.0)
    problem = circuit_problem(nm.adapt(model, example=clean), answer, clean, corrupted, "resample", None)
    by_hand = CircuitsByHand(name, model, clean, corrupted, answer)
    names = problem.runner.names
    for seed in range(4):
        circuits = subsets(len(names), seed)
        for kept, got in zip(circuits, problem.runner.values(circuits), strict=True):
            expected = by_hand.metric_of(set(np.array(names)[kept]), names)
            np.testing.assert_allclose(got, expected, atol=1e-9)
            assert (expected - problem.full).abs().max() > 1e-3


@each_architecture
def test_everything_is_the_clean_run_nothing_the_corrupted_run_and_one_edge_less_its_exact_effect(name):
    model, clean, corrupted = language_model(name, 1.0)
    adapter = nm.adapt(model, example=clean)
    problem = circuit_problem(adapter, answer, clean, corrupted, "resample", None)
    np.testing.assert_allclose(problem.full, answer(adapter.run(clean).output), atol=1e-9)
    np.testing.assert_allclose(problem.empty, answer(adapter.run(corrupted).output), atol=1e-9)
    effects = nm.PathAnalyzer(adapter, answer).edges(clean, corrupted, "exact").data["per_sample"]
    names = problem.runner.names
    assert set(effects["edge"].values) == set(names)
    values = problem.runner.values(list(~np.eye(len(names), dtype=bool)))
    np.testing.assert_allclose(problem.full - values, effects.sel(edge=names), atol=1e-9)


@pytest.mark.parametrize("name", ["OPT", "Gemma", "Mamba"])
def test_the_same_holds_for_other_blocks(name):
    model, clean = ARCHITECTURES[name].build()
    corrupted, adapter = {key: value.flip(1) for key, value in clean.items()}, nm.adapt(model, example=clean)
    problem = circuit_problem(adapter, answer, clean, corrupted, "resample", None)
    assert problem.level == "edge"
    np.testing.assert_allclose(problem.empty, answer(adapter.run(corrupted).output), atol=2e-5)
    effects = nm.PathAnalyzer(adapter, answer).edges(clean, corrupted, "exact").data["per_sample"]
    names = problem.runner.names
    values = problem.runner.values(list(~np.eye(len(names), dtype=bool)))
    np.testing.assert_allclose(problem.full - values, effects.sel(edge=names), atol=2e-5)


@each_model
def test_the_same_holds_for_the_hand_weighted_model(noise, seed):
    metric, clean, corrupted = task(seed + 1)
    problem = circuit_problem(hand_model(noise, seed), metric, clean, corrupted, "resample", None)
    np.testing.assert_allclose(problem.full, metric(hand_model(noise, seed).run(clean).output), atol=1e-5)
    np.testing.assert_allclose(problem.empty, metric(hand_model(noise, seed).run(corrupted).output), atol=2e-5)
    effects = nm.PathAnalyzer(hand_model(noise, seed), metric).edges(clean, corrupted, "exact").data["per_sample"]
    names = problem.runner.names
    values = problem.runner.values(list(~np.eye(len(names), dtype=bool)))
    np.testing.assert_allclose(problem.full - values, effects.sel(edge=names), atol=5e-5)


def test_heads_that_receive_as_a_whole_are_run_as_a_whole(monkeypatch):
    model, clean, corrupted = language_model("GPT2", 1.0)
    adapter = nm.adapt(model, example=clean)
    proven = [site for name, site in adapter.sites().items() if name != "blocks.1.q"]
    monkeypatch.setattr(adapter, "sites", lambda pattern=None: nm.SiteTable(proven, {"blocks.1.q": "for this test"}))
    problem = circuit_problem(adapter, answer, clean, corrupted, "resample", None)
    by_hand = CircuitsByHand("GPT2", model, clean, corrupted, answer)
    names = problem.runner.names
    assert "a0.h1->a1.h2" in names
    for kept in subsets(len(names), 0):
        channels = {edge: [f"{edge}<{one}>" if "->a1.h" in edge else edge for one in "qkv"] for edge in names}
        chosen = {part for edge in np.array(names)[kept] for part in channels[str(edge)]}
        expected = by_hand.metric_of(chosen, {part for parts in channels.values() for part in parts})
        np.testing.assert_allclose(problem.runner.values([kept])[0], expected, atol=1e-9)


def test_results_do_not_depend_on_how_circuits_are_stacked_and_blocks_run(monkeypatch):
    metric, clean, corrupted = task(3)
    circuits = subsets(81, 5)

    def values():
        return circuit_problem(hand_model(0.02), metric, clean, corrupted, "resample", None).runner.values(circuits)

    together = values()
    monkeypatch.setattr("neuros_mechint.causal.circuits.running._MOST_CIRCUITS", 1)
    monkeypatch.setattr("neuros_mechint.causal.engines.cost._FLOATS_PER_CALL", 1)
    np.testing.assert_allclose(values(), together, atol=2e-5)
    monkeypatch.setattr("neuros_mechint.causal.circuits.calls._replay", lambda model, batch: None)
    np.testing.assert_allclose(values(), together, atol=2e-5)  # whole models instead of single blocks


def test_random_circuits_have_the_size_asked_for_and_no_loose_ends():
    problem = circuit_problem(hand_model(), *task(1), "resample", None)
    random = np.random.default_rng(0)
    names = np.array(problem.runner.names)
    drawn = [problem.random(size, random) for size in (1, 2, 5, 20, 60, 81) for _ in range(20)]
    assert [int(kept.sum()) for kept in drawn] == [size for size in (1, 2, 5, 20, 60, 81) for _ in range(20)]
    for kept in drawn:
        assert on_a_path(names[kept]) == set(names[kept])
    assert len({tuple(kept) for kept in drawn[40:60]}) > 15
    for kept in subsets(81, 1):
        assert set(names[problem.connected(kept)]) == on_a_path(names[kept])
