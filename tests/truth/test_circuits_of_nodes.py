"""Circuits of nodes: paths through torch models that are known, and states of recurrent networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from tests.truth.circuit_tasks import NODES, TwoPaths, plane


@pytest.mark.parametrize("options", [{"n_edges": 4}, {"method": "pruning"}, {}, {"threshold": 0.1}])
def test_both_paths_of_a_torch_model_are_its_circuit(options):
    model = nm.adapt(TwoPaths())
    circuit = nm.discover_circuit(model, *plane(0), nodes=NODES, **options)
    assert circuit.level == "node"
    assert circuit.nodes == ["a1", "b1", "a2", "b2"]
    verdict = nm.faithfulness(circuit, model, *plane(1))
    assert verdict.accepted
    assert verdict.sufficiency == pytest.approx(1, abs=1e-6)
    assert verdict.necessity == pytest.approx(1, abs=1e-6)


def test_part_of_the_paths_restores_its_closed_form_and_the_minimal_circuit_both():
    model, (metric, clean, corrupted) = nm.adapt(TwoPaths()), plane(1)
    whole = nm.discover_circuit(model, *plane(0), nodes=NODES, fraction=1.0)
    assert nm.minimal_circuit(whole, model, *plane(0)).nodes == ["a1", "b1", "a2", "b2"]
    one = replace(whole, data=whole.data.assign(kept=("node", np.isin(NODES, ["a1", "a2"]))))
    verdict = nm.faithfulness(one, model, metric, clean, corrupted, n_null=19)
    branches = [torch.tanh(gain * clean[:, at]) - torch.tanh(gain * corrupted[:, at]) for at, gain in ((0, 3), (1, 2))]
    share = float(branches[0].mean() / (branches[0] + branches[1]).mean())
    assert verdict.sufficiency == pytest.approx(share, abs=1e-6)
    assert verdict.necessity == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_states_after_the_answer_are_not_in_the_circuit_of_a_recurrent_network(kind):
    random = torch.Generator().manual_seed(3)
    network = kind(2, 4, batch_first=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    clean, corrupted = torch.randn(16, 6, 2, generator=random), torch.randn(16, 6, 2, generator=random)
    target = network(clean)[0][:, 2].detach()

    def closeness(output):
        return -(output[0][:, 2] - target).square().sum(1)

    circuit = nm.discover_circuit(nm.adapt(network), closeness, clean, corrupted, method="pruning", threshold=1e-6)
    assert circuit.nodes[-1] == "hidden[time=2]"
    assert len(circuit.nodes) >= 1
    assert not circuit.scores.values[3:].any()


def test_what_passes_around_the_nodes_is_pointed_out():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.one(x[:, 0]) + self.two(x[:, 1]) + x.sum(1)

    circuit = nm.discover_circuit(nm.adapt(Around()), *plane(0), nodes=["one", "two"], n_edges=2)
    assert any("something passes around these nodes" in text for text in circuit.warnings)
