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
from neuros_mechint.core.errors import InputError, MissingDependencyError, OptionError, StorageError
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.spiking.surrogate import FastSigmoid
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
    linear, leaky = nn.Linear(3, 3), snntorch.Leaky(0.9, reset_mechanism="zero")
    with pytest.raises(InputError, match="each used once"):
        from_snntorch(nn.Sequential(linear, leaky, linear, leaky))
    with pytest.raises(InputError, match=r"layer 1 does not fit(.|\n)*\(n_units, 3\)"):
        from_snntorch(nn.Sequential(linear, leaky, nn.Linear(4, 3), snntorch.Leaky(0.9, reset_mechanism="zero")))
    for dt in (None, "a", [1.0], 0.0, np.nan):
        with pytest.raises(OptionError, match="dt"):
            from_snntorch(nn.Sequential(linear, leaky), dt)
    broken = nn.Linear(3, 3)
    nn.init.constant_(broken.weight, np.nan)
    with pytest.raises(InputError, match="weights of layer 0"):
        from_snntorch(nn.Sequential(broken, leaky))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"graded_spikes_factor": 2.0}, "graded_spikes_factor=1"),
        ({"state_quant": torch.round}, "no state_quant"),
        ({"inhibition": True}, "no inhibition"),
        ({"beta": torch.full((3, 1), 0.9)}, r"\(n_neurons,\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_what_changes_the_spikes_of_snntorch_is_not_dropped(snntorch: Any, options: dict[str, Any], words: str) -> None:
    leaky = snntorch.Leaky(**{"beta": 0.9, "reset_mechanism": "zero", **options})
    with pytest.raises(InputError, match=words):
        from_snntorch(nn.Sequential(nn.Linear(2, 3), leaky))


def test_one_row_of_decays_is_one_for_each_neuron(snntorch: Any) -> None:
    linear, inputs = to_snntorch(_network(delay=0.0))[0], _inputs()
    leaky = snntorch.Leaky(torch.linspace(0.5, 0.9, 20)[None], init_hidden=True, reset_mechanism="zero")
    there = nn.Sequential(linear, leaky)
    spikes = _run_in_snntorch(snntorch, there, inputs)
    assert int(spikes.sum()) > 50
    torch.testing.assert_close(from_snntorch(there)(inputs).detach(), spikes, rtol=0, atol=0)


def test_only_networks_that_spike_go_out(snntorch: Any, nir: Any) -> None:
    for export in (to_snntorch, to_nir):
        for wrong in (None, "network", nn.Linear(2, 3)):
            with pytest.raises(InputError, match="SpikingNeuralNetwork"):
                export(wrong)
        with pytest.raises(InputError, match="graded"):
            export(_network(delay=0.0, surrogate=FastSigmoid(graded=True)))
    with pytest.raises(InputError, match="no model of torch"):
        from_snntorch("model")  # pyright: ignore[reportArgumentType]
    assert from_nir(to_nir(_network().bfloat16())).spiking_layers[0].weight.dtype == torch.float32


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


def _replaced(name: str, attribute: str, values: Any) -> Any:
    return lambda graph: setattr(graph.nodes[name], attribute, values)


_DAMAGE = {
    "weights that are NaN": (_replaced("weights_0", "weight", np.full((20, 6), np.nan)), "weights of 'weights_0'"),
    "complex weights": (_replaced("weights_0", "weight", np.full((20, 6), 1j)), "weights of 'weights_0'"),
    "masked weights": (_replaced("weights_1", "weight", np.ma.masked_array(np.ones((8, 20)), np.eye(8, 20))), "mask"),
    "a vector of weights": (_replaced("weights_0", "weight", np.ones(20)), "layer 0 does not fit"),
    "weights of another size": (_replaced("weights_1", "weight", np.ones((8, 19))), r"layer 1(.|\n)*\(n_units, 20\)"),
    "biases of another size": (_replaced("weights_0", "bias", np.ones(19)), "layer 0 does not fit"),
    "a time constant of 0": (_replaced("neurons_0", "tau", np.zeros(20)), "tau of LIF is not physical"),
    "a step in words": (lambda graph: graph.metadata.update(dt="a"), "dt in the graph"),
    "two steps": (lambda graph: graph.metadata.update(dt=[0.1, 0.2]), "dt is out of range"),
    "delays in words": (lambda graph: graph.metadata.update(delays="a"), "delays in the graph"),
    "no metadata": (lambda graph: setattr(graph, "metadata", 3), "records no time step"),
    "a node beside the chain": (lambda graph: graph.nodes.update(more=graph.nodes["weights_0"]), r"more \(Affine\)"),
}


@pytest.mark.parametrize("what", _DAMAGE)
def test_damaged_graphs_are_refused(nir: Any, what: str) -> None:
    damage, words = _DAMAGE[what]
    graph = to_nir(_network(bias=True))
    damage(graph)
    with pytest.raises(InputError, match=words):
        from_nir(graph)


def test_files_that_are_no_graph_are_refused(nir: Any, tmp_path: Path) -> None:
    (tmp_path / "text.nir").write_text("text")
    for path in (tmp_path / "text.nir", tmp_path / "missing.nir", tmp_path):
        with pytest.raises(StorageError, match="cannot be read as a graph of NIR"):
            from_nir(path)


@pytest.mark.parametrize("library", ["snntorch", "nir"])
def test_missing_libraries_are_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[snn\]"):
        (to_snntorch if library == "snntorch" else to_nir)(_network(delay=0.0))
