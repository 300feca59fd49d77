"""Edges between features of two layers against a network whose wiring is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from tests.conformance.architectures import ARCHITECTURES
from tests.truth.spliced_dictionaries import HandMade

N = 6
WIRING = {(0, 4): 2.0, (1, 4): 1.0, (1, 2): 3.0, (5, 3): 1.5}
READ = {4: 1.0, 2: -2.0}  # the third later feature is moved, and not read


class Orthonormal:
    """Features are the positive components along orthonormal directions."""

    def __init__(self, seed):
        self.directions = torch.linalg.qr(torch.randn(N, N, generator=torch.Generator().manual_seed(seed)))[0].T

    def encode(self, x):
        return torch.relu(x @ self.directions.T)

    def decode(self, feature_acts):
        return feature_acts @ self.directions


def wired(seed):
    earlier, later = Orthonormal(seed), Orthonormal(seed + 100)
    wiring, read = torch.zeros(N, N), torch.zeros(N)
    for (i, j), weight in WIRING.items():
        wiring[i, j] = weight
    for j, weight in READ.items():
        read[j] = weight
    network = nn.Sequential(nn.Identity(), nn.Linear(N, N, bias=False), nn.Identity(), nn.Linear(N, 1, bias=False))
    network[1].weight.data = later.directions.T @ wiring.T @ earlier.directions
    network[3].weight.data = (read @ later.directions)[None]
    codes = torch.rand(30, N, generator=torch.Generator().manual_seed(seed))
    return nm.adapt(network), earlier, later, codes @ earlier.directions, codes


def output(values):
    return values[:, 0]


@pytest.mark.parametrize("seed", range(3))
def test_edges_are_the_wiring_times_what_reads_it(seed):
    model, earlier, later, x, codes = wired(seed)
    found = nm.feature_circuit(model, (earlier, "0"), (later, "2"), x, output)
    for i in range(N):
        for j in set(found.data["later"].values):
            expected = -float(codes[:, i].mean()) * WIRING.get((i, j), 0) * READ.get(j, 0)
            assert float(found.values.sel(earlier=i, later=j)) == pytest.approx(expected, abs=1e-5)
    edges = {(a[1], b[1]) for a, b in found.to_networkx().edges}
    assert edges == {(0, 4), (1, 4), (1, 2)}
    np.testing.assert_allclose(found.data["total"], found.data["through_features"], atol=1e-5)
    np.testing.assert_allclose(found.data["total"], found.values.sum("later"), atol=1e-5)
    response = found.data["response"].sel(earlier=5, later=3)  # moved all the same
    assert float(response) == pytest.approx(-1.5 * float(codes[:, 5].mean()), abs=1e-5)


def test_a_network_that_is_not_wired_has_no_edge():
    model, earlier, later, x, _ = wired(0)
    model.module[3].weight.data.zero_()
    found = nm.feature_circuit(model, (earlier, "0"), (later, "2"), x, output)
    assert (found.values == 0).all()
    assert not found.to_networkx().edges


def test_in_a_transformer_an_edge_is_a_run_by_hand():
    module, inputs = ARCHITECTURES["GPT2"].build()
    model, metric = nm.adapt(module), nm.logit_difference(1, 2)
    width = module.config.n_embd
    earlier, later = (HandMade(width, 2 * width, seed).eval() for seed in (0, 1))
    sites = "blocks.0.resid_post", "blocks.1.resid_post"
    found = nm.feature_circuit(model, (earlier, sites[0]), (later, sites[1]), inputs, metric, n_features=3)
    i, j = int(found.data["earlier"][0]), int(found.data["later"][0])
    x = model.capture(inputs, list(sites))
    one = earlier.encode(x[sites[0]])[..., i, None] * earlier.D[i]
    removed = model.run(inputs, edits=[nm.Add(sites[0], -one.detach())], capture=sites[1]).activations[sites[1]]
    before, after = later.encode(x[sites[1]])[..., j], later.encode(removed)[..., j]
    step = ((after - before)[..., None] * later.D[j]).detach()
    change = metric(model.run(inputs, edits=[nm.Add(sites[1], step)]).output) - metric(model.run(inputs).output)
    np.testing.assert_allclose(found.values.sel(earlier=i, later=j), float(change.mean()), atol=1e-6, rtol=1e-3)


def test_the_wrong_order_and_no_features_are_refused():
    model, earlier, later, x, _ = wired(0)
    with pytest.raises(InputError, match="the earlier site first"):
        nm.feature_circuit(model, (later, "2"), (earlier, "0"), x, output)
    with pytest.raises(OptionError, match="n_features"):
        nm.feature_circuit(model, (earlier, "0"), (later, "2"), x, output, n_features=0)
