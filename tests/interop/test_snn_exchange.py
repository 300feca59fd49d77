"""snnTorch and NIR: the same spikes there and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neuros_mechint.adapters.snn_exchange import from_nir, from_snntorch, to_nir, to_snntorch
from neuros_mechint.core.errors import InputError, MissingDependencyError
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.synapses import CurrentSynapse

TIMES = 60


@pytest.fixture
def snntorch() -> Any:
    pytest.importorskip("snntorch.utils")
    return pytest.importorskip("snntorch")


@pytest.fixture
def nir() -> Any:
    return pytest.importorskip("nir")


def _inputs(seed: int = 0) -> torch.Tensor:
    return (torch.rand(4, TIMES, 6, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def _network(**options: Any) -> SpikingNeuralNetwork:
    network = SpikingNeuralNetwork([6, 20, 8], **options)
    with torch.no_grad():
        for layer in network.spiking_layers:
            if layer.bias is not None:
                layer.bias.copy_(torch.linspace(0, 0.3, layer.n_units))
    return network


def _run_in_snntorch(snntorch: Any, model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    snntorch.utils.reset(model)
    return torch.stack([model(now) for now in inputs.unbind(1)], 1).detach()


def test_snntorch_fires_the_same_spikes_and_comes_back(snntorch: Any) -> None:
    network, inputs = _network(neuron=LIF(tau=7.0, resistance=2.0), delay=0.0, bias=True), _inputs()
    there = to_snntorch(network)
    spikes = _run_in_snntorch(snntorch, there, inputs)
    assert int(spikes.sum()) > 50
    torch.testing.assert_close(spikes, network(inputs).detach(), rtol=0, atol=0)
    back = from_snntorch(there, dt=1.0)
    torch.testing.assert_close(back(inputs).detach(), spikes, rtol=0, atol=0)
    np.testing.assert_allclose(back.spiking_layers[0].current_neuron().tau.numpy(), 7.0, rtol=1e-5)  # type: ignore[attr-defined]


def test_what_snntorch_cannot_do_is_refused(snntorch: Any) -> None:
    for options in ({}, {"delay": 0.0, "recurrent": True}, {"delay": 0.0, "neuron": LIF(refractory=2.0)}):
        with pytest.raises(InputError, match="layer 0 has no equal there"):
            to_snntorch(_network(**options))
    subtracts = nn.Sequential(nn.Linear(2, 3), snntorch.Leaky(0.9))
    with pytest.raises(InputError, match="reset_mechanism"):
        from_snntorch(subtracts)
    with pytest.raises(InputError, match="no chain of layers"):
        from_snntorch(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))


@pytest.mark.parametrize(
    "options",
    [
        {"bias": True},
        {"synapse": CurrentSynapse(3.0), "recurrent": True, "delay": [1.0, 0.0]},
        {"delay": [2.0, 0.5], "dt": 0.5, "neuron": LIF(20.0, -65.0, -50.0, -60.0, 0.1)},
    ],
)
def test_nir_comes_back_with_its_time_step(nir: Any, options: dict[str, Any], tmp_path: Path) -> None:
    network, inputs = _network(**options), _inputs()
    graph = to_nir(network)
    nir.write(tmp_path / "network.nir", graph)
    for back in (from_nir(graph), from_nir(tmp_path / "network.nir")):
        assert back.dt == network.dt
        assert [layer.delay for layer in back.spiking_layers] == [layer.delay for layer in network.spiking_layers]
        assert int(network(inputs).sum()) > 50
        torch.testing.assert_close(back(inputs), network(inputs), rtol=0, atol=0)


def test_what_nir_lacks_is_refused(nir: Any) -> None:
    with pytest.raises(InputError, match="layer 0 has no equal there"):
        to_nir(SpikingNeuralNetwork([2, 3], Izhikevich()))
    graph = to_nir(_network())
    graph.metadata = {}
    with pytest.raises(InputError, match="records no time step"):
        from_nir(graph)
    assert from_nir(graph, dt=0.1).dt == 0.1
    with pytest.raises(InputError, match="no graph of NIR"):
        from_nir(3)


@pytest.mark.parametrize("library", ["snntorch", "nir"])
def test_missing_libraries_are_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[snn\]"):
        (to_snntorch if library == "snntorch" else to_nir)(_network(delay=0.0))
