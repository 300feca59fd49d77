"""Optima of sequences and tokens: impulse responses reversed, rows of weight matrices, directions of a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.visualisation.visualizer import FeatureVisualizer
from tests.slow import slow_case
from tests.truth.small_networks import normal
from tests.truth.visualised_networks import LinearRNN, cosine, each_seed, linear, maximize


def reversed_impulse_response(recurrent, inward, unit, n_steps):
    return torch.stack([(torch.linalg.matrix_power(recurrent, lag) @ inward)[unit] for lag in reversed(range(n_steps))])


@each_seed
def test_the_optimum_of_a_linear_network_is_its_impulse_response_reversed(seed):
    network = LinearRNN(seed)
    found = maximize(network, ":out[unit=3, position=-1]", torch.zeros(1, 20, 2), norm=2.0, seed=seed)
    response = reversed_impulse_response(network.recurrent, network.inward, 3, 20)
    for stimulus in found.data["stimulus"].values:
        assert cosine(stimulus, response) > 1 - 1e-5
    assert found.activation == pytest.approx(2 * float(response.norm()), rel=1e-5)
    assert found.data["random_activation"].max() < 0.8 * found.activation


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_torch_rnn_at_a_time_step_and_in_a_window(batch_first):
    network = nn.RNN(2, 8, nonlinearity="relu", bias=False, batch_first=batch_first)
    with torch.no_grad():  # without negative weights or inputs it is linear
        network.weight_hh_l0.copy_(0.15 * normal(8, 8).abs())
        network.weight_ih_l0.copy_(normal(8, 2, seed=1).abs())
    like = torch.zeros(1, 20, 2) if batch_first else torch.zeros(20, 1, 2)
    weights = [weight.detach() for weight in (network.weight_hh_l0, network.weight_ih_l0)]
    found = maximize(network, "hidden[unit=3, time=12]", like, norm=2.0)
    assert found.best.dims == ("time", "unit")
    assert cosine(found.best[:13], reversed_impulse_response(*weights, 3, 13)) > 1 - 1e-6
    assert np.abs(found.best[13:]).max() < 1e-3  # nothing after the time step can matter
    window = maximize(network, "hidden[unit=3, time=12]", like, {"at": ":in[time=5:11]"}, norm=2.0)
    assert window.best["time"].values.tolist() == [5, 6, 7, 8, 9, 10]
    assert cosine(window.best, reversed_impulse_response(*weights, 3, 13)[5:11]) > 1 - 1e-6
    mean = maximize(network, "hidden[unit=3]", like, {"reduce": "mean"}, norm=2.0)
    summed = sum(
        np.pad(reversed_impulse_response(*weights, 3, length), ((0, 20 - length), (0, 0))) for length in range(1, 21)
    )
    assert cosine(mean.best, summed) > 1 - 1e-6


@pytest.mark.parametrize("options", [{"norm": 4.0}, {"bounds": (-1.0, 1.0)}])
def test_a_trained_network_has_one_optimum_above_all_examples(options):
    examples = 0.3 * normal(200, 30, 4)
    model = nm.load_model("decision_rnn")
    found = maximize(
        model, "hidden[unit=3, time=-1]", examples[:1], {"examples": examples}, n_starts=3, n_steps=150, **options
    )
    assert found.n_optima == 1
    assert found.spread < 1e-3
    assert found.activation > found.data["random_activation"].max()
    assert found.activation > found.data["example_activation"].max()
    rerun = nm.adapt(model).capture(torch.tensor(found.best.values[None]), "hidden")["hidden"][0, -1, 3]
    assert float(rerun) == pytest.approx(found.activation, abs=1e-5)
    if "norm" in options:
        assert np.linalg.norm(found.best) == pytest.approx(4, rel=1e-5)
    else:
        assert np.abs(found.best).max() <= 1


# -- tokens ------------------------------------------------------------------------------------------------------


def reader(direction, table):
    """Embed tokens by a table, and read one direction at every position."""
    module = nn.Sequential(nn.Embedding(*table.shape), nn.Linear(table.shape[1], 1, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(table)
        module[1].weight.copy_(direction[None])
    return module


@each_seed
def test_the_nearest_token_and_what_is_lost_by_it(seed):
    table = 3 * torch.linalg.qr(normal(16, 16, seed=seed))[0]
    tokens = torch.arange(16)[None, :5]
    at = {"at": "0"}
    exact = maximize(reader(table[7], table), "1[unit=0, position=2]", tokens, {"at": "0[position=2]"}, seed=seed)
    assert (exact.data["nearest_token"] == 7).all()
    assert exact.data["token_similarity"].values == pytest.approx(1, abs=1e-5)
    assert exact.data["token_activation"].values == pytest.approx(exact.data["activation"].values, rel=1e-4)
    # a direction that no token has: the best token is known, and so is the share of the activation that it reaches
    between = 0.8 * table[4] + 0.6 * table[9]
    module = reader(between, table)
    found = maximize(module, "1[unit=0]", tokens, at | {"reduce": "mean"}, seed=seed)
    assert (found.data["nearest_token"] == 4).all()
    assert found.data["token_similarity"].values == pytest.approx(0.8, abs=5e-4)  # sqrt of single precision
    assert found.activation == pytest.approx(9, rel=1e-4)
    assert found.data["token_activation"][0] == pytest.approx(0.8 * 9, rel=1e-4)
    assert "7.2 instead of 9" in found.summary()
    assert not found.warnings
    assert found.data["random_activation"].max() < found.activation


@pytest.mark.parametrize("backend", ["torch", slow_case("transformer_lens")])
def test_tokens_of_a_transformer(backend):
    network = nm.load_model("induction")
    model = nm.adapt(nm.load_model("induction", backend=backend))
    tokens = torch.randint(1, 60, (40, 10), generator=torch.Generator().manual_seed(0))
    visualizer = FeatureVisualizer(model, n_starts=3, n_steps=80, progress=False)
    # a query is a linear function of the embedding
    query = visualizer.maximize("blocks.0.q[head=1, unit=5, position=-1]", tokens[:1], at="embed[position=-1]")
    table = network.token_embedding.weight.detach()
    row = network.blocks[0].attention.query.weight[16 + 5].detach()
    assert cosine(query.best, row) > 1 - 1e-6
    cosines = torch.nn.functional.normalize(table, dim=1) @ row / row.norm()
    assert int(query.data["nearest_token"][0]) == int(cosines.argmax())
    assert float(query.data["token_similarity"][0]) == pytest.approx(float(cosines.max()), abs=1e-5)
    # what is said of the real tokens is what the model does with them
    logit = visualizer.maximize("logits[unit=5, position=-1]", tokens[:1], examples=tokens)
    for start in range(3):
        real = torch.tensor(logit.data["nearest_token"].values[start][None])
        expected = float(network(real)[0, -1, 5].detach())
        assert float(logit.data["token_activation"][start]) == pytest.approx(expected, abs=1e-3)
    norms = np.linalg.norm(logit.data["stimulus"], axis=-1)
    assert norms == pytest.approx(float(table.norm(dim=1).median()), rel=1e-4)
    assert logit.activation > 2 * logit.data["example_activation"].max()
    assert logit.activation > logit.data["token_activation"].max()
    no_more_than_random = float(logit.data["token_activation"][0]) <= float(logit.data["random_activation"].max())
    assert ("nearest tokens reach no more than random" in " ".join(logit.warnings)) == no_more_than_random


def test_features_of_a_dictionary_are_units_too():
    class Halves:
        def encode(self, x):
            return torch.relu(torch.cat([x, -x], -1))

        def decode(self, features):
            return features[..., :5] - features[..., 5:]

    layer = linear()
    model = nm.adapt(nn.Sequential(layer, nn.Linear(5, 1))).with_sae(Halves(), "0")
    found = FeatureVisualizer(model, norm=4.0).maximize("0.sae.features[feature=7]", torch.zeros(1, 30))
    assert cosine(found.best, -layer.weight[2].detach()) > 1 - 1e-6
