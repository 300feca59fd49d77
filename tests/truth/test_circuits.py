"""Circuits against one written into the weights, circuits run by hand, and networks whose parts are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.causal.circuits.judging import MIB_FRACTIONS
from neuros_mechint.causal.circuits.problem import circuit_problem
from neuros_mechint.datasets.tasks import repeated_tokens
from tests.conformance.architectures import ARCHITECTURES
from tests.slow import slow_case
from tests.truth.circuit_tasks import NODES, TwoPaths, each_model, hand_model, plane, task, token_circuit
from tests.truth.circuits_by_hand import HookedCircuits, on_a_path
from tests.truth.edges_by_hand import answer, language_model
from tests.truth.hand_weighted import ALL_EDGES, TOKEN_EDGES, hand_weighted, partners

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]


def unrelated(seed):
    """The same inputs; the answers have nothing to do with them."""
    _, clean, corrupted = task(seed)
    random = torch.Generator().manual_seed(70_000 + seed)  # of its own: the inputs come from the seed itself
    correct = torch.randint(1, 16, (len(clean),), generator=random)
    wrong = (correct + torch.randint(0, 14, (len(clean),), generator=random)) % 15 + 1
    return nm.logit_difference(correct, wrong), clean, corrupted


# -- finding the known circuit ---------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("options", [{"method": "top", "n_edges": 5}, {"method": "greedy", "n_edges": 5}, {}])
def test_the_token_edges_are_found(noise, seed, options):
    circuit = nm.discover_circuit(hand_model(noise, seed), *task(seed + 1), **options)
    assert set(circuit.edges) == TOKEN_EDGES
    assert circuit.nodes == ["input", "a0.h0", "a1.h0"]


@each_model
def test_pruning_leaves_the_token_edges(noise, seed):
    circuit = nm.discover_circuit(hand_model(noise, seed), *task(seed + 1), method="pruning", threshold=0.05)
    assert set(circuit.edges) == TOKEN_EDGES
    if not noise:  # also where the least that matters is far smaller
        assert set(nm.discover_circuit(hand_model(), *task(1), method="pruning", threshold=1e-4).edges) == TOKEN_EDGES


def test_pruning_takes_the_same_decisions_one_by_one_many_at_once_and_by_hand(monkeypatch):
    metric, clean, corrupted = task(4)
    found = []
    for guess in (1, 128):
        monkeypatch.setattr("neuros_mechint.causal.circuits.pruning._FIRST_GUESS", guess)
        monkeypatch.setattr("neuros_mechint.causal.circuits.pruning._MOST_GUESSED", guess)
        found.append(
            nm.discover_circuit(hand_model(0.02, 1), metric, clean, corrupted, method="pruning", threshold=0.003)
        )
    circuit = found[0]
    by_hand = HookedCircuits(hand_weighted(10.0, 0.02, 1), clean, corrupted, metric)
    names = circuit.data["edge"].values.tolist()
    receivers = list(dict.fromkeys(circuit.data["receiver"].values.tolist()))
    discovery = circuit.attributes["discovery"]
    kept, limit = set(names), 0.003 * abs(discovery["full"] - discovery["empty"])
    now = float(by_hand.metric_of(kept).mean())
    for receiver in reversed(receivers):
        for edge in [name for name in reversed(names) if name.endswith(f"->{receiver}")]:
            kept = on_a_path(kept)
            if edge in kept:
                without = float(by_hand.metric_of(kept - {edge}).mean())
                if abs(now - without) < limit:
                    kept, now = kept - {edge}, without
    assert [set(one.edges) for one in found] == [on_a_path(kept)] * 2
    assert circuit.size > 5  # at this threshold noise matters too, so that there is something to agree on


def test_zero_ablation_finds_all_seven_edges():
    metric, clean, _ = task(1)
    circuit = nm.discover_circuit(hand_model(), metric, clean, method="pruning", ablation="zero", threshold=0.05)
    assert set(circuit.edges) == ALL_EDGES
    chosen = nm.discover_circuit(hand_model(), metric, clean, ablation="zero", n_edges=7)
    assert set(chosen.edges) == ALL_EDGES


@each_model
def test_the_circuit_is_accepted_on_other_inputs(noise, seed):
    circuit = nm.discover_circuit(hand_model(noise, seed), *task(seed + 1), n_edges=5)
    verdict = nm.faithfulness(circuit, hand_model(noise, seed), *task(seed + 50))
    assert verdict.accepted
    assert verdict.warnings == ()
    assert verdict.sufficiency == pytest.approx(1, abs=1e-4 if not noise else 0.05)
    assert verdict.necessity == pytest.approx(1, abs=1e-4 if not noise else 0.05)
    assert verdict.attributes["n_kept"] == 5
    assert verdict.p == 0.01  # none of 99 random circuits is both as sufficient and as necessary
    assert verdict.data["random_sufficiency"].max() < 0.9
    low, high = verdict.data["low"].values, verdict.data["high"].values
    assert (low - 1e-6 <= [verdict.sufficiency, verdict.necessity]).all()
    assert (high + 1e-6 >= [verdict.sufficiency, verdict.necessity]).all()


@each_model
def test_the_minimal_circuit_is_the_true_one(noise, seed):
    larger = nm.discover_circuit(hand_model(noise, seed), *task(seed + 1), n_edges=12)
    minimal = nm.minimal_circuit(larger, hand_model(noise, seed), *task(seed + 1))
    assert larger.size > 5
    assert set(minimal.edges) == TOKEN_EDGES
    assert minimal.attributes["started_from"] == larger.size
    assert nm.faithfulness(minimal, hand_model(noise, seed), *task(seed + 50), n_null=19).accepted


# -- negative controls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 8))])
def test_no_circuit_is_accepted_for_answers_that_are_unrelated(seed):
    circuit = nm.discover_circuit(hand_model(0.02), *unrelated(seed), n_edges=5)
    verdict = nm.faithfulness(circuit, hand_model(0.02), *unrelated(seed + 500), n_null=19)
    assert not verdict.accepted
    assert any("there is no behaviour to explain" in text for text in (*circuit.warnings, *verdict.warnings))
    for result in (circuit, verdict):
        assert not [text for text in result.warnings if text in "".join(result.findings)]  # a report shows both


def test_one_value_for_all_samples_is_never_accepted():
    def mean_of(metric, *inputs):
        return lambda output: metric(output).mean(), *inputs

    circuit = nm.discover_circuit(hand_model(), *mean_of(*task(1)), n_edges=5)
    assert set(circuit.edges) == TOKEN_EDGES
    verdict = nm.faithfulness(circuit, hand_model(), *mean_of(*task(50)), n_null=19)
    assert verdict.sufficiency == pytest.approx(1, abs=1e-4)
    assert not verdict.accepted
    for result in (circuit, verdict):
        assert any("one value for all samples" in text for text in result.warnings)


@pytest.mark.parametrize("seed", [0, 1, slow_case(2), slow_case(3)])
def test_circuits_at_random_are_rejected(seed):
    """A circuit drawn as its controls are has nothing over them."""
    circuit = token_circuit(0.02)
    problem = circuit_problem(hand_model(0.02), *task(1), "resample", None)
    kept = problem.random(5, np.random.default_rng(seed))
    drawn = replace(circuit, data=circuit.data.assign(kept=("edge", kept)))
    verdict = nm.faithfulness(drawn, hand_model(0.02), *task(50), n_null=19)
    assert not verdict.accepted
    assert any(text.startswith("rejected: ") for text in verdict.warnings)


def test_a_circuit_that_lacks_an_edge_restores_half_and_a_circuit_of_decoys_nothing():
    circuit = token_circuit()

    def judged(edges):
        names = circuit.data["edge"].values
        chosen = replace(circuit, data=circuit.data.assign(kept=("edge", np.isin(names, list(edges)))))
        return nm.faithfulness(chosen, hand_model(), *task(50), n_null=19)

    for edge in TOKEN_EDGES:
        without = judged(TOKEN_EDGES - {edge})
        assert without.sufficiency < 0.6, edge
        assert without.accepted <= (without.sufficiency >= 0.5)
    assert not judged(TOKEN_EDGES - {"a1.h0->logits"}).accepted
    assert not judged(TOKEN_EDGES - {"input->a1.h0<v>"}).accepted
    decoys = judged({"input->a0.h1<v>", "a0.h1->logits", "input->a1.h1<v>", "a1.h1->logits", "input->logits"})
    assert not decoys.accepted
    assert decoys.sufficiency == pytest.approx(0, abs=1e-5)
    assert decoys.necessity == pytest.approx(0, abs=1e-5)


def test_inputs_it_was_found_on_are_recognized():
    metric, clean, corrupted = task(1)
    circuit = token_circuit()
    same = nm.faithfulness(circuit, hand_model(), metric, clean, corrupted, n_null=19)
    assert not same.accepted
    assert any("nothing but samples it was found on" in text for text in same.warnings)
    other = partners(16, 50)
    known = [0, 1, 1]  # copies are known samples too
    mixed = [torch.cat([one[known], two]) for one, two in zip(partners(16, 1), other, strict=True)]
    verdict = nm.faithfulness(circuit, hand_model(), nm.logit_difference(*mixed[2:]), *mixed[:2], n_null=19)
    assert f"3 of {3 + len(other[0])} samples are among those the circuit was found on" in verdict.warnings
    minimal = nm.minimal_circuit(circuit, hand_model(), *task(50))
    again = nm.faithfulness(minimal, hand_model(), *task(1), n_null=19)  # neither split is new to it
    assert not again.accepted
    assert not nm.faithfulness(minimal, hand_model(), *task(50), n_null=19).accepted


# -- the benchmark's curve -------------------------------------------------------------------------------------------


def test_curve_and_areas_are_those_of_the_benchmark():
    metric, clean, corrupted = task(60)
    circuit = nm.discover_circuit(hand_model(0.02, 1), *task(2), n_edges=5)
    verdict = nm.faithfulness(circuit, hand_model(0.02, 1), metric, clean, corrupted, n_null=19)
    by_hand = HookedCircuits(hand_weighted(10.0, 0.02, 1), clean, corrupted, metric)
    order = circuit.scores["edge"].values[np.argsort(-np.abs(circuit.scores.values))].tolist()
    full, empty = (float(by_hand.metric_of(kept).mean()) for kept in (set(order), set()))
    restored = [
        (float(by_hand.metric_of(set(order[: int(fraction * 81)])).mean()) - empty) / (full - empty)
        for fraction in MIB_FRACTIONS
    ]
    assert verdict.data["n_edges"].values.tolist() == [0, 0, 0, 0, 1, 4, 8, 16, 40, 81]
    np.testing.assert_allclose(verdict.data["faithfulness"], restored, atol=1e-5)
    cpr = cmd = 0.0
    for at in range(len(restored) - 1):  # as the benchmark adds it up
        width = MIB_FRACTIONS[at + 1] - MIB_FRACTIONS[at]
        cpr += width * (restored[at] + restored[at + 1]) / 2
        cmd += width * (abs(1 - restored[at]) + abs(1 - restored[at + 1])) / 2
    assert verdict.cpr == pytest.approx(cpr, abs=1e-5)
    assert verdict.cmd == pytest.approx(cmd, abs=1e-5)
    unique = np.trapezoid(restored[3:], np.array([0, 1, 4, 8, 16, 40, 81]) / 81)
    assert verdict.attributes["cpr_unique"] == pytest.approx(unique, abs=1e-5)


# -- a trained model -------------------------------------------------------------------------------------------------


def continuing(seed):
    trials, other = (repeated_tokens(24, n_tokens=40, max_lag=16, seed=one) for one in (seed, seed + 1000))
    return nm.log_probability(trials.targets[:, -1]), trials.inputs, other.inputs


@pytest.mark.parametrize(
    ("seed", "options"),
    [(0, {"n_edges": 20}), slow_case(1, {}), slow_case(2, {"method": "greedy", "n_edges": 20})],
)
def test_the_circuit_of_the_trained_induction_transformer_stands_on_held_out_prompts(seed, options):
    model = nm.adapt(nm.load_model("induction"))
    circuit = nm.discover_circuit(model, *continuing(seed), **options)
    assert "a0.h0" in circuit.nodes  # its previous-token head
    assert sum(node.startswith("a1.") for node in circuit.nodes) >= 2  # induction heads stand in for each other
    assert any(edge.startswith("a0.h0->a1.") and edge.endswith("<k>") for edge in circuit.edges)
    verdict = nm.faithfulness(circuit, model, *continuing(seed + 10), n_null=39)
    assert verdict.accepted
    assert verdict.sufficiency > 0.8
    assert verdict.necessity > 0.8


# -- the results -----------------------------------------------------------------------------------------------------


def test_circuit_and_verdict_are_kept_whole_and_say_where_they_come_from(tmp_path):
    model = hand_model(0.02)
    circuit = nm.discover_circuit(model, *task(1), n_edges=5, seed=3)
    assert nm.load_result(circuit.save(tmp_path / "circuit.nc")) == circuit
    assert circuit.provenance.seed == 3
    assert circuit.provenance.model == model.fingerprint()
    assert circuit.attributes["discovery"]["n_samples"] == len(task(1)[1])
    assert len(circuit.attributes["discovery"]["samples"]) == len(task(1)[1])
    assert {f"{one}->{two}" for one, two in circuit.graph().effects} == TOKEN_EDGES
    assert "a0.h0->a1.h0<k>" in circuit.summary()
    verdict = nm.faithfulness(circuit, model, *task(50), n_null=19, seed=7)
    loaded = nm.load_result(verdict.save(tmp_path / "verdict.nc"))
    assert loaded == verdict
    assert loaded.accepted is True
    assert verdict.provenance.seed == 7
    assert (verdict.attributes["n_samples"], verdict.attributes["n_samples_found_on"]) == (15, 16)
    assert "verdict: accepted on 15 samples" in verdict.summary()
    again = nm.faithfulness(circuit, model, *task(50), n_null=19, seed=7)
    np.testing.assert_array_equal(again.data["random_sufficiency"], verdict.data["random_sufficiency"])
    other = nm.faithfulness(circuit, model, *task(50), n_null=19, seed=8)
    assert not np.array_equal(other.data["random_sufficiency"], verdict.data["random_sufficiency"])


def test_figures():
    from matplotlib.figure import Figure

    circuit = token_circuit()
    axes = circuit.plot(Figure().subplots())
    assert {text.get_text() for text in axes.texts} == {"input", "a0.h0", "a1.h0", "logits"}
    axes = nm.faithfulness(circuit, hand_model(), *task(50), n_null=19).plot(Figure().subplots())
    assert axes.get_title(loc="left").endswith("accepted")
    assert axes.get_xlabel() == "fraction of all edges"
    nodes = nm.discover_circuit(nm.adapt(TwoPaths()), *plane(0), nodes=NODES, n_edges=4)
    assert len(nodes.plot(Figure().subplots()).patches) == 12
    with pytest.raises(nm.errors.CapabilityError, match="has no edges"):
        nodes.graph()


def test_known_scores_are_used_and_dangling_edges_dropped():
    model, inputs = hand_model(), task(1)
    effects = nm.PathAnalyzer(model, inputs[0]).edges(*inputs[1:], "eap")
    circuit = nm.discover_circuit(model, *inputs, n_edges=5, scores=effects)
    assert circuit.attributes["scores"] == "eap"
    known = {str(edge): float(value) for edge, value in zip(effects.values["edge"].values, effects.values, strict=True)}
    np.testing.assert_allclose(circuit.scores, [known[edge] for edge in circuit.data["edge"].values])
    loose = {"a0.h1->a1.h0<q>": 9.0, "input->a0.h2<q>": 8.0, "input->logits": 7.0}
    chosen = nm.discover_circuit(model, *inputs, n_edges=3, scores=loose)
    assert chosen.edges == ["input->logits"]
    assert any("2 of the chosen edges lead nowhere" in text for text in chosen.warnings)
    grown = nm.discover_circuit(model, *inputs, "greedy", threshold=0.01, scores={**loose, "a0.h2->logits": 6.0})
    assert grown.edges == ["input->a0.h2<q>", "input->logits", "a0.h2->logits"]


def test_the_model_is_left_as_it_was_after_errors_too():
    model = hand_weighted()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    metric, clean, corrupted = task(1)
    state = torch.get_rng_state()
    calls = iter(range(10**6))

    def fails(output):
        if next(calls) >= 4:
            raise ZeroDivisionError
        return metric(output)

    with pytest.raises(ZeroDivisionError):
        nm.discover_circuit(nm.adapt(model), fails, clean, corrupted, n_edges=5)
    nm.discover_circuit(nm.adapt(model), metric, clean, corrupted, n_edges=5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), state)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "acdc"}, nm.errors.OptionError, "unknown method 'acdc'"),
        ({"edge_method": "exat"}, nm.errors.OptionError, "did you mean 'exact'"),
        ({"ablation": "noise"}, nm.errors.OptionError, "unknown ablation"),
        ({"n_edges": 0}, nm.errors.OptionError, "no circuit of 0 parts"),
        ({"n_edges": 82}, nm.errors.OptionError, "no circuit of 82 parts"),
        ({"n_edges": 5.0}, nm.errors.OptionError, "n_edges is out of range"),
        ({"fraction": 0.0}, nm.errors.OptionError, "fraction is out of range"),
        ({"fraction": 1e-3}, nm.errors.OptionError, "no circuit of 0 parts"),
        ({"fraction": 0.1, "n_edges": 5}, nm.errors.OptionError, "one size is enough"),
        ({"threshold": -1.0}, nm.errors.OptionError, "threshold is out of range"),
        ({"method": "pruning", "n_edges": 5}, nm.errors.OptionError, "pruning has no fixed size"),
        ({"scores": {"a0.h0->a1.h9<k>": 1.0}}, nm.errors.SiteError, "did you mean"),
        ({"scores": {"input->logits": float("nan")}}, nm.errors.InputError, "scores are not finite"),
        ({"scores": [1.0]}, nm.errors.InputError, "these are no scores"),
        ({"seed": -1}, nm.errors.InputError, "seed"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        nm.discover_circuit(hand_model(), *task(1), **options)


def test_bad_inputs_are_refused():
    metric, clean, corrupted = task(1)
    with pytest.raises(nm.errors.InputError, match="not partners"):
        nm.discover_circuit(hand_model(), lambda output: output[:, -1, 3], clean, corrupted[:, :-1])
    with pytest.raises(nm.errors.InputError, match="needs a second input"):
        nm.discover_circuit(hand_model(), metric, clean)
    with pytest.raises(nm.errors.InputError, match="does not depend on"):
        nm.discover_circuit(hand_model(), lambda output: torch.ones(len(output)), clean, corrupted)
    with pytest.raises(nm.errors.InputError, match="hardly differ"):
        nm.discover_circuit(hand_model(), metric, clean, clean)
    with pytest.raises(nm.errors.InputError, match="not finite"):
        nm.discover_circuit(hand_model(), lambda output: output[:, -1, 3] / 0, clean, corrupted)
    with pytest.raises(nm.errors.InputError, match="no adapter"):
        nm.discover_circuit(hand_weighted(), metric, clean, corrupted)
    with pytest.raises(nm.errors.OptionError, match="greedy grows along edges"):
        nm.discover_circuit(nm.adapt(TwoPaths()), *plane(0), "greedy", nodes=NODES)
    model, inputs = ARCHITECTURES["BERT"].build()
    other = {"input_ids": inputs["input_ids"].flip(1)}
    with pytest.raises(nm.errors.CapabilityError, match=r"not the sum of the input|not linear"):
        nm.discover_circuit(nm.adapt(model, example=inputs), answer, inputs, other)


def test_bad_circuits_and_settings_are_refused():
    circuit = token_circuit()
    trained = nm.adapt(nm.load_model("induction"))
    other = nm.discover_circuit(nm.adapt(TwoPaths()), *plane(0), nodes=NODES, n_edges=4)
    with pytest.raises(nm.errors.SiteError, match="no site"):
        nm.faithfulness(other, hand_model(), *task(50))
    model, clean, corrupted = language_model("GPT2", 1.0)
    with pytest.raises(nm.errors.InputError, match="belongs to another model"):
        nm.faithfulness(circuit, nm.adapt(model, example=clean), answer, clean, corrupted)
    larger = nm.discover_circuit(nm.adapt(model, example=clean), answer, clean, corrupted, n_edges=5)
    with pytest.raises(nm.errors.SiteError, match="this model has no edge"):
        nm.faithfulness(larger, hand_model(), *task(50))
    with pytest.raises(nm.errors.InputError, match="this is no circuit"):
        nm.faithfulness(["input->logits"], hand_model(), *task(50))
    for options, message in (
        ({"n_null": 5}, "too few random circuits"),
        ({"alpha": 0}, "alpha is out of range"),
        ({"alpha": "0.05"}, "alpha is out of range"),
        ({"fractions": [0.5, 0.1]}, "fractions are no grid"),
        ({"fractions": [0.5, 1.5]}, "fractions are no grid"),
    ):
        with pytest.raises(nm.errors.OptionError, match=message):
            nm.faithfulness(circuit, hand_model(), *task(50), **options)
    for bar in (1.5, "0.9", True):
        with pytest.raises(nm.errors.OptionError, match="bar is out of range"):
            nm.minimal_circuit(circuit, hand_model(), *task(1), bar=bar)
    small = nm.discover_circuit(hand_model(), *task(1), n_edges=3, scores={"input->logits": 1.0})
    with pytest.raises(nm.errors.InputError, match="not faithful enough"):
        nm.minimal_circuit(small, hand_model(), *task(1))
    verdict = nm.faithfulness(circuit, nm.adapt(hand_weighted(10.0, 0.02, 2)), *task(50), n_null=19)
    assert "this is another model than the circuit was found in" in verdict.warnings
    assert trained.fingerprint() != circuit.provenance.model
