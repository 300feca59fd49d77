"""Edges and paths of language models against patching by hand, and of torch modules in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from tests.conformance.architectures import ARCHITECTURES
from tests.slow import slow_case
from tests.truth.edge_effects import Parallel, value
from tests.truth.edges_by_hand import EdgesByHand, answer, language_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]


# -- language models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n_edges"), [("GPT2", 110), ("Llama", 82), ("GPTNeoX", 102)])
def test_every_edge_of_a_language_model_equals_path_patching_by_hand(name, n_edges):
    model, clean, corrupted = language_model(name, 1.0)
    effects = nm.PathAnalyzer(nm.adapt(model, example=clean), answer).edges(clean, corrupted, "exact")
    by_hand = EdgesByHand(name, model, clean, corrupted, answer)
    assert effects.data.sizes["edge"] == n_edges
    for edge in effects.data["edge"].values:
        got = effects.data["per_sample"].sel(edge=edge).values
        np.testing.assert_allclose(got, by_hand.effect(str(edge)), atol=1e-9, err_msg=edge)
    assert np.abs(effects.values).max() > 0.1
    parallel = name == "GPTNeoX"
    assert ("a0.h0->m0" in effects.data["edge"].values) is not parallel


@pytest.mark.parametrize("name", ["GPT2", slow_case("Llama"), slow_case("GPTNeoX")])
def test_edges_of_one_sender_add_up_to_changing_it_as_a_whole(name):
    """To first order: halving the change quarters what is left over. No path is missing, none counted twice."""

    def left_over(size, without=()):
        model, clean, corrupted = language_model(name, size)
        effects = nm.PathAnalyzer(nm.adapt(model, example=clean), answer).edges(clean, corrupted, "exact")
        names = effects.data["receiver"].values
        counted = effects.data["per_sample"].isel(edge=[str(one) not in without for one in names])
        sums = counted.groupby("sender").sum("edge")
        adapter = nm.adapt(model, example=clean)
        baseline = answer(adapter.run(clean).output)
        found = {}
        for sender, site in (
            ("input", "blocks.0.resid_pre"),
            ("a0.h1", "blocks.0.z[head=1]"),
            ("m0", "blocks.0.mlp_out"),
        ):
            other = adapter.capture(corrupted, site)[site]
            total = baseline - answer(adapter.run(clean, edits=nm.Replace(site, other)).output)
            assert total.abs().max() > 1e-3 * size
            found[sender] = np.abs(sums.sel(sender=sender).values - total.detach().numpy()).max()
        return found

    coarse, fine = left_over(2e-3), left_over(1e-3)
    for sender in coarse:
        assert fine[sender] < 0.3 * coarse[sender], sender
    assert left_over(1e-3, without=("m1",))["m0"] > 20 * fine["m0"]  # the check sees a missing edge


@pytest.mark.parametrize("name", ["GPT2", "GPTNeoX"])  # Llama's norm computes in single precision
def test_gradients_of_small_changes_equal_exact_effects(name):
    model, clean, corrupted = language_model(name, 1e-5)
    analyzer = nm.PathAnalyzer(nm.adapt(model, example=clean), answer)
    exact, estimated = analyzer.edges(clean, corrupted, "exact"), analyzer.edges(clean, corrupted, "eap")
    scale = float(np.abs(exact.data["effect"]).max())
    difference = exact.data["effect"] - estimated.data["effect"].sel(edge=exact.data["edge"])
    assert float(np.abs(difference).max()) < 1e-3 * scale
    assert estimated.saturated == []


def test_heads_whose_queries_are_not_proven_receive_as_a_whole(monkeypatch):
    model, clean, corrupted = language_model("GPT2", 1.0)
    adapter = nm.adapt(model, example=clean)
    proven = [site for name, site in adapter.sites().items() if name != "blocks.1.q"]
    monkeypatch.setattr(adapter, "sites", lambda pattern=None: nm.SiteTable(proven, {"blocks.1.q": "for this test"}))
    effects = nm.PathAnalyzer(adapter, answer).edges(clean, corrupted, "exact")
    by_hand = EdgesByHand("GPT2", model, clean, corrupted, answer)
    for sender in ("input", "a0.h1", "m0"):
        expected = by_hand.effect(f"{sender}->a1.h2<q>", f"{sender}->a1.h2<k>", f"{sender}->a1.h2<v>")
        np.testing.assert_allclose(effects.data["per_sample"].sel(edge=f"{sender}->a1.h2"), expected, atol=1e-9)
        assert expected.abs().max() > 1e-4


def test_norms_on_the_stream_are_pointed_out():
    model, inputs = ARCHITECTURES["BERT"].build()
    other = {"input_ids": inputs["input_ids"].flip(1)}
    effects = nm.PathAnalyzer(nm.adapt(model, example=inputs), answer).edges(inputs, other, receivers="logits")
    assert any("residual stream is not the sum" in text for text in effects.warnings)
    model, inputs = ARCHITECTURES["GPT2"].build()
    effects = nm.PathAnalyzer(nm.adapt(model, example=inputs), answer).edges(inputs, other, receivers="logits")
    assert not any("residual stream" in text for text in effects.warnings)


@pytest.fixture(scope="module")
def pair():
    random = torch.Generator().manual_seed(0)
    return torch.randn(6, 2, generator=random), torch.randn(6, 2, generator=random)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_parallel_branches_have_edges_to_their_product_and_none_between_them(pair, batch_size):
    clean, corrupted = pair
    analyzer = nm.PathAnalyzer(nm.adapt(Parallel()), lambda output: output[:, 0])
    effects = analyzer.edges(clean, corrupted, nodes=["a", "b", "o", "idle"], batch_size=batch_size)
    product = 6 * clean.prod(1)
    by_hand = {
        "input->a": product - 6 * corrupted[:, 0] * clean[:, 1],
        "input->b": product - 6 * clean[:, 0] * corrupted[:, 1],
        "a->o": product - 6 * corrupted[:, 0] * clean[:, 1],
        "b->o": product - 6 * clean[:, 0] * corrupted[:, 1],
        "input->idle": torch.zeros(6),
        "o->output": product - 6 * corrupted.prod(1),
    }
    assert set(effects.data["edge"].values) == set(by_hand)
    for edge, expected in by_hand.items():
        np.testing.assert_allclose(effects.data["per_sample"].sel(edge=edge), expected, atol=1e-5, err_msg=edge)
    assert effects.graph().paths("input", "output") == [["input", "a", "o", "output"], ["input", "b", "o", "output"]]


def test_a_sequence_of_modules_has_edges_between_neighbours_only(pair):
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 1))
    analyzer = nm.PathAnalyzer(nm.adapt(model), lambda output: output[:, 0])
    effects = analyzer.edges(*pair, nodes={"first": "0", "second": "2", "last": "3"})
    assert effects.data["edge"].values.tolist() == ["input->first", "first->second", "second->last", "last->output"]
    whole = effects.data["per_sample"].sel(edge="last->output")
    for edge in effects.data["edge"].values:  # one chain: each link carries all there is
        np.testing.assert_allclose(effects.data["per_sample"].sel(edge=edge), whole, atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "eap", "eap-ig"])
def test_states_of_a_linear_recurrent_network_follow_the_powers_of_its_matrix(method):
    random = torch.Generator().manual_seed(1)
    network = nn.RNN(2, 3, batch_first=True, nonlinearity="relu", bias=False)
    with torch.no_grad():  # nothing negative anywhere: the rectifier is the identity
        for parameter in network.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) / 2)
    clean, corrupted = torch.rand(5, 4, 2, generator=random), torch.rand(5, 4, 2, generator=random)
    weights = torch.tensor([1.0, -2.0, 0.5])
    analyzer = nm.PathAnalyzer(nm.adapt(network), lambda output: output[0][:, -1] @ weights)
    effects = analyzer.edges(clean, corrupted, method)
    states = {True: network(clean)[0].detach(), False: network(corrupted)[0].detach()}
    recurrent, entering = network.weight_hh_l0.detach(), network.weight_ih_l0.detach()
    expected = {}
    for time in range(4):
        passed_on = weights @ torch.linalg.matrix_power(recurrent, 3 - time)
        expected[f"input->hidden[time={time}]"] = (clean - corrupted)[:, time] @ entering.T @ passed_on
        target = f"hidden[time={time + 1}]" if time < 3 else "output"
        expected[f"hidden[time={time}]->{target}"] = (states[True] - states[False])[:, time] @ passed_on
    assert set(effects.data["edge"].values) == set(expected)
    for edge, values in expected.items():
        np.testing.assert_allclose(effects.data["per_sample"].sel(edge=edge), values, atol=1e-5, err_msg=edge)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTM])
def test_gated_recurrent_networks_have_edges_from_each_step_to_the_next_only(kind):
    random = torch.Generator().manual_seed(2)
    network = kind(2, 3) if kind is nn.GRUCell else kind(2, 3, batch_first=True)
    clean, corrupted = torch.randn(4, 3, 2, generator=random), torch.randn(4, 3, 2, generator=random)
    states = ("hidden",) if kind is nn.GRUCell else ("hidden", "cell")
    output = (lambda given: given[:, -1, 0]) if kind is nn.GRUCell else (lambda given: given[0][:, -1, 0])
    effects = nm.PathAnalyzer(nm.adapt(network), output).edges(clean, corrupted, batch_size=3)
    steps = {f"{one}[time={time}]->{two}[time={time + 1}]" for time in range(2) for one in states for two in states}
    entering = {f"input->{state}[time={time}]" for time in range(3) for state in states}
    assert set(effects.data["edge"].values) == steps | entering | {"hidden[time=2]->output"}


# -- gradients along the way -----------------------------------------------------------------------------------------


def test_integrated_gradients_are_exact_for_a_square_and_plain_gradients_are_not(pair):
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.node = nn.Identity()

        def forward(self, x):
            return self.node(x).square()

    clean, corrupted = pair
    analyzer = nm.PathAnalyzer(nm.adapt(Square()), lambda output: output.sum(1))
    exact = (clean.square() - corrupted.square()).sum(1)
    plain = (2 * clean * (clean - corrupted)).sum(1)
    for method, steps, expected in (("exact", 5, exact), ("eap-ig", 1, exact), ("eap-ig", 7, exact), ("eap", 5, plain)):
        effects = analyzer.edges(clean, corrupted, method, nodes=["node"], steps=steps)
        np.testing.assert_allclose(effects.data["per_sample"].sel(edge="input->node"), expected, rtol=1e-4)
    scalar = nm.PathAnalyzer(nm.adapt(Square()), lambda output: output.sum())
    effects = scalar.edges(clean, corrupted, "eap", nodes=["node"])
    assert value(effects, "input->node") == pytest.approx(plain.sum().item(), rel=1e-4)


# -- paths -----------------------------------------------------------------------------------------------------------


class Skips(nn.Module):
    """``a = f(x)``, ``b = g(a + x)``, output ``a + b + x``."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b = nn.Identity(), nn.Identity()
        self.function = function

    def forward(self, x):
        a = self.a(self.function(x))
        b = self.b(self.function(a + x))
        return a + b + x


CHAINS = (["input"], ["input", "a"], ["input", "b"], ["input", "a", "b"])


def test_effects_of_all_paths_of_a_linear_network_add_up_to_the_whole_effect(pair):
    clean, corrupted = pair
    analyzer = nm.PathAnalyzer(nm.adapt(Skips(lambda x: 3 * x)), lambda output: output.sum(1))
    paths = [analyzer.path(clean, corrupted, chain, nodes=["a", "b"]).data["per_sample"] for chain in CHAINS]
    difference = (clean - corrupted).sum(1)
    for got, gain in zip(paths, (1, 3, 3, 9), strict=True):
        np.testing.assert_allclose(got, gain * difference, atol=1e-4)
    np.testing.assert_allclose(sum(paths), 16 * difference, atol=1e-4)


def test_a_path_through_nonlinear_nodes_equals_its_closed_form(pair):
    clean, corrupted = pair
    analyzer = nm.PathAnalyzer(nm.adapt(Skips(torch.tanh)), lambda output: output.sum(1))
    a, other = torch.tanh(clean), torch.tanh(corrupted)
    by_hand = {
        ("input", "a", "b"): torch.tanh(a + clean) - torch.tanh(other + clean),
        ("input", "b"): torch.tanh(a + clean) - torch.tanh(a + corrupted),
        ("a",): a - other,
        ("a", "b", "output"): torch.tanh(a + clean) - torch.tanh(other + clean),
    }
    for chain, expected in by_hand.items():
        got = analyzer.path(clean, corrupted, list(chain), nodes=["a", "b"])
        np.testing.assert_allclose(got.data["per_sample"], expected.sum(1), atol=1e-5)
        assert not any("nothing passes" in text for text in got.warnings)


def test_a_path_can_enter_shared_keys_for_one_query_head_alone():
    model, clean, corrupted = language_model("Llama", 1.0)
    analyzer = nm.PathAnalyzer(nm.adapt(model, example=clean), answer)
    one, two = (analyzer.path(clean, corrupted, ["input", f"a1.h{head}<k>"]) for head in (0, 1))
    assert abs(float(one.main)) > 1e-6
    assert float(one.main) != pytest.approx(float(two.main), rel=1e-3)  # both read a1.kv0<k>
