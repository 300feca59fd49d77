"""Brian2 networks as spiking networks in torch: the same spikes there and back, and what is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brian2
import numpy as np
import pytest
import torch
from brian2 import Gohm, ms, mV, nS, pA, second

from neuros_mechint.adapters.brian2.export import Brian2Copy, to_brian2
from neuros_mechint.adapters.brian2.factories import neuron_group
from neuros_mechint.adapters.brian2.imported import brian2_to_torch
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.biophysics.neurons.adex import AdEx
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.synapses import AMPA, NMDA, CurrentSynapse

b2: Any = brian2
"""Brian2 states types that are narrower than what it takes."""

MILLIVOLTS = LIF(20.0, -65.0, -50.0, -60.0, 0.1, refractory=2.0)
CASES: dict[str, dict[str, Any]] = {
    "pulses, recurrent": {"recurrent": True},
    "currents, delayed": {"synapse": CurrentSynapse(4.0), "recurrent": True, "delay": [2.0, 3.0]},
    "at once and later": {"delay": [0.0, 1.0], "recurrent": True, "synapse": CurrentSynapse(4.0)},
    "refractory, conductances": {"neuron": MILLIVOLTS, "synapse": [AMPA(), NMDA()], "dt": 0.5, "bias": True},
    "adex, izhikevich": {"neuron": [AdEx(), Izhikevich()], "synapse": CurrentSynapse(5.0), "dt": 0.5},
    "hodgkin and huxley": {
        "neuron": [HodgkinHuxley.traub_miles(), HodgkinHuxley()],
        "synapse": AMPA(),
        "dt": 0.05,
        "bias": True,
    },
}


def _spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_gives_the_same_network_and_the_same_spikes(case: str) -> None:
    network = SpikingNeuralNetwork([6, 12, 8], **CASES[case]).double()
    with torch.no_grad():
        for layer in network.spiking_layers:
            layer.weight.mul_(1.5)
            if layer.bias is not None:
                layer.bias.copy_(torch.linspace(0, 100, layer.n_units))
    copy = to_brian2(network)
    back = brian2_to_torch(copy.network)
    for ours, theirs in zip(back.spiking_layers, network.spiking_layers, strict=True):
        assert (ours.neuron, ours.dt, ours.delay) == (theirs.neuron, theirs.dt, theirs.delay)
        assert {**vars(ours.synapse)} == {**vars(theirs.synapse)}
        torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=1e-12, atol=0)
    inputs = _spikes(1, 120 if network.dt > 0.1 else 300, 6, rate=0.2)
    for ours, theirs in zip(back.run(inputs), copy.run(inputs[0]), strict=True):
        assert int(theirs.count_nonzero()) > 10
        assert torch.equal(ours[0].detach().bool(), theirs.bool())


# -- networks that somebody else wrote ---------------------------------------------------------------------------------

LEAKY = "dv/dt=(rest-v+resistance*(I+I_synapses))/tau : volt (unless refractory)\nI : amp\nI_synapses = 0*amp+g : amp"


def by_hand(more: str = "", refractory: Any = 3 * ms, method: str = "exponential_euler", **namespace: Any) -> Any:
    """Four cells as a user of Brian2 may write them, blanks, brackets and order of lines included."""
    constants = {"rest": 0 * mV, "threshold": 10 * mV, "reset": 0 * mV, "resistance": 0.1 * Gohm, "tau_g": 5 * ms}
    constants |= {} if "tau :" in more else {"tau": 20 * ms}
    return b2.NeuronGroup(
        4,
        f"dg/dt = (-g) / tau_g : amp\n{LEAKY}\n{more}",
        threshold="(v > threshold)",
        reset="v = reset",
        refractory=refractory,
        method=method,
        namespace=constants | namespace,
        name="cells",
    )


def wired(cells: Any, on_pre: str = "g_post += w", model: str = "w : amp", delay: Any = 1.5 * ms) -> Any:
    """Three inputs that fire at random onto all cells, and the cells onto each other, half a step late or so."""
    times = np.flatnonzero(_spikes(600, rate=0.05).numpy())
    source = b2.SpikeGeneratorGroup(3, times % 3, times * 0.1 * ms, name="source")
    forward = b2.Synapses(source, cells, model, on_pre=on_pre, delay=delay, name="forward")
    forward.connect(j="(i + k) % 4 for k in range(2)")
    within = b2.Synapses(cells, cells, "weight : amp", on_pre="g += weight", delay=1.5 * ms, name="within")
    within.connect(condition="i != j")
    forward.w, within.weight = "(80 + 40 * i) * pA", "(10 * j - 15) * pA"
    return source, forward, within


def spikes_of(network: Any, n_steps: int, **namespace: Any) -> tuple[torch.Tensor, ...]:
    monitors = [b2.SpikeMonitor(network[name]) for name in ("source", "cells")]
    network.add(*monitors)
    network.run(n_steps * 0.1 * ms, namespace=namespace)
    rasters = [torch.zeros(n_steps, len(one.source), dtype=torch.float64) for one in monitors]
    for raster, monitor in zip(rasters, monitors, strict=True):
        raster[np.round(monitor.t_[:] / 1e-4).astype(int), monitor.i[:]] = 1
    return tuple(rasters)


@pytest.mark.parametrize("differ", [False, True])
def test_cells_written_by_hand_fire_the_same_spikes(differ: bool) -> None:
    cells = by_hand("tau : second (constant)" if differ else "")
    if differ:
        cells.tau = [10, 15, 20, 30] * ms
    cells.I = [0, 50, 90, 120] * pA
    network = b2.Network(cells, *wired(cells))
    copy = brian2_to_torch(network)
    (layer,) = copy.spiking_layers
    tau: Any = layer.neuron
    assert (tau.tau.tolist() if differ else tau.tau) == ([10, 15, 20, 30] if differ else 20)
    assert (layer.delay, layer.neuron.refractory) == (16, 3.0)  # type: ignore[attr-defined]
    sent, fired = spikes_of(network, 600)
    assert int(fired.sum()) > 10
    assert torch.equal(copy(sent[None])[0].detach(), fired)
    with torch.no_grad():
        layer.weight.mul_(1.05)  # the control: another network fires otherwise
    assert not torch.equal(copy(sent[None])[0].detach(), fired)


def test_constants_are_found_where_the_caller_has_them() -> None:
    cells = neuron_group(LIF(), 2, name="cells")
    del cells.namespace["tau"]
    tau = 12 * ms
    network = b2.Network(cells)
    assert brian2_to_torch(network).spiking_layers[0].neuron.tau == 12  # type: ignore[attr-defined]
    assert brian2_to_torch(network, {"tau": tau * 2}).spiking_layers[0].neuron.tau == 24  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"'tau' of 'cells' is not defined(.|\n)*namespace="):
        brian2_to_torch(network, {})
    with pytest.raises(InputError, match="has other units"):
        brian2_to_torch(network, {"tau": 3 * mV})
    with pytest.raises(OptionError, match="tau of LIF is not physical"):
        brian2_to_torch(network, {"tau": -3 * ms})


@pytest.mark.parametrize("neuron", [LIF(threshold=1.0), Izhikevich.of_type("FS"), HodgkinHuxley()])
def test_a_group_without_inputs_is_driven_by_its_currents(neuron: PointNeuron) -> None:
    group = neuron_group(neuron, 3, name="cells", dt=0.1)
    group.I = [0, 15, 30] * pA
    copy = brian2_to_torch(b2.Network(group))
    found = Brian2Copy(b2.Network(group, b2.SpikeGeneratorGroup(1, [], [] * second, name="inputs")), 0.1, (1, 3))
    monitor = b2.SpikeMonitor(group, name="spikes_0")
    found.network.add(monitor)
    found.network.store()
    (theirs,) = found.run(torch.zeros(200, 1))
    assert theirs[:, 0].sum() == 0
    assert theirs[:, 2].sum() >= 2
    assert torch.equal(copy(torch.zeros(1, 200, 1))[0].detach().float(), theirs)


def test_poisson_cells_stand_for_inputs_and_the_network_is_only_read() -> None:
    source, cells = b2.PoissonGroup(3, 300 * b2.Hz, name="source"), by_hand()
    synapses = b2.Synapses(source, cells, "w : amp", on_pre="g_post += w", name="forward")
    synapses.connect(n=2)
    synapses.w = "(150 + 30 * j) * pA"
    network = b2.Network(source, cells, synapses)
    copy = brian2_to_torch(network)
    assert copy.spiking_layers[0].weight[:, 0].tolist() == pytest.approx([300, 360, 420, 480])  # two synapses each
    b2.seed(0)
    sent, fired = spikes_of(network, 400)
    assert int(fired.sum()) > 10
    assert torch.equal(copy(sent[None])[0].detach(), fired)


# -- what is refused ---------------------------------------------------------------------------------------------------


def _two_sources(cells: Any) -> list[Any]:
    return [*wired(cells), b2.PoissonGroup(2, 10 * b2.Hz, name="noise")]


def _operation(_: Any) -> list[Any]:
    return [b2.NetworkOperation(lambda: None, name="look")]


def _regular(cells: Any) -> list[Any]:
    cells.run_regularly("I += 1*pA", dt=0.1 * ms)
    return []


def _background(cells: Any) -> list[Any]:
    return [b2.PoissonInput(cells, "g", 5, 20 * b2.Hz, 1 * pA)]


def _plastic(cells: Any) -> list[Any]:
    return list(wired(cells, on_pre="g_post += w; w *= 0.9"))


def _other_delays(cells: Any) -> list[Any]:
    parts = wired(cells, delay=None)
    parts[1].delay = "(1 + i) * ms"
    return list(parts)


def _shorter_within(cells: Any) -> list[Any]:
    return list(wired(cells, delay=0.5 * ms))


def _onto_a_part(cells: Any) -> list[Any]:
    synapses = b2.Synapses(cells, cells[1:], "w : amp", on_pre="g_post += w", name="part")
    synapses.connect()
    return [synapses]


def _jumps(cells: Any) -> list[Any]:
    synapses = b2.Synapses(cells, cells, "w : volt", on_pre="v_post += w", name="jumps")
    synapses.connect()
    return [synapses]


def _two_groups(cells: Any) -> list[Any]:
    return [neuron_group(LIF(), 2, name="others")]


def _another_dt(cells: Any) -> list[Any]:
    return [neuron_group(LIF(), 2, name="others", dt=0.5)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (_two_sources, "several sources: noise, source"),
        (_operation, "'look' is a NetworkOperation"),
        (_regular, r"'cells' runs 'I \+= 1\*pA' regularly"),
        (_background, "is a PoissonInput"),
        (_plastic, r"'forward' do more than add a weight: on_pre: g_post \+= w; w \*= 0.9"),
        (_other_delays, "'forward' has delays from 10 to 30 time steps"),
        (_shorter_within, "16 time steps within 'cells' and 6 from the layer below"),
        (_onto_a_part, "a part of a group"),
        (_jumps, r"'jumps' acts by 'v_post \+= w'(.|\n)*g_post"),
        (_two_groups, "no chain: no synapses between groups"),
        (_another_dt, "several time steps"),
    ],
)
def test_networks_that_torch_has_not_are_refused_by_what_they_have(
    more: Callable[[Any], list[Any]], words: str
) -> None:
    cells = by_hand()
    with pytest.raises(InputError, match=words):
        brian2_to_torch(b2.Network(cells, *more(cells)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: by_hand(method="euler"),
            r"integrator of 'cells' is not that of LIF(.|\n)*exponential_euler(.|\n)*euler",
        ),
        (lambda: by_hand(refractory="v > 5*mV"), "refractoriness of 'cells' is not that of LIF"),
        (lambda: by_hand("depth : 1"), r"no neuron that this package has(.|\n)*LIF but for depth"),
        (
            lambda: b2.NeuronGroup(2, "dv/dt = -v**3/ms : 1", threshold="v > 1", reset="v = 0"),
            r"no neuron(.|\n)*v\*\*3",
        ),
    ],
)
def test_cells_that_no_neuron_here_is_like_are_refused_by_what_they_have(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        brian2_to_torch(b2.Network(build()))


def test_cells_with_another_threshold_reset_or_pulses_that_never_end_are_refused() -> None:
    text = LIF().brian2_text()
    for changed, words in (
        ({"threshold": "v > 2*threshold"}, "threshold of"),
        ({"reset": "v -= threshold"}, "reset of"),
    ):
        options = {"threshold": text.threshold, "reset": text.reset} | changed
        template = neuron_group(LIF(), 2)
        group = b2.NeuronGroup(2, template.user_equations, refractory=0 * ms, namespace=template.namespace,
                               method="exponential_euler", **options)  # fmt: skip
        with pytest.raises(InputError, match=words):
            brian2_to_torch(b2.Network(group))
    copy = to_brian2(SpikingNeuralNetwork([2, 3]).double()).network
    copy.remove(copy["pulses_0"])
    copy["layer_0"].contained_objects.remove(copy["layer_0"].contained_objects[-1])
    with pytest.raises(InputError, match="'synaptic' of 'layer_0' never ends"):
        brian2_to_torch(copy)


def test_cells_that_differ_in_what_a_layer_has_once_are_refused() -> None:
    cells = by_hand("tau_g : second (constant)")
    cells.tau_g = [1, 2, 3, 3] * ms
    with pytest.raises(InputError, match=r"'cells' differ in tau, (.|\n)*3 values(.|\n)*one group for each value"):
        brian2_to_torch(b2.Network(cells))
    cells.tau_g = 2 * ms
    assert brian2_to_torch(b2.Network(cells)).spiking_layers[0].synapse == CurrentSynapse(2.0)
    waiting = by_hand("wait : second (constant)", refractory="wait")
    with pytest.raises(InputError, match="LIF but for wait"):
        brian2_to_torch(b2.Network(waiting))


def test_a_network_that_has_run_is_not_at_rest_and_too_long_a_step_is_refused() -> None:
    network = to_brian2(SpikingNeuralNetwork([2, 3], MILLIVOLTS, synapse=AMPA(), bias=True).double()).network
    network["layer_0"].I = 10 * pA
    network.run(3 * ms)
    with pytest.raises(InputError, match=r"'layer_0' is not at rest(.|\n)*v = -65 mV(.|\n)*network.restore"):
        brian2_to_torch(network)
    network.restore()
    network["layer_0"].synaptic = 2 * nS
    with pytest.raises(InputError, match="synaptic = 0 nS"):
        brian2_to_torch(network)
    group = neuron_group(HodgkinHuxley(), 1, dt=0.1)
    group.clock.dt = 0.5 * ms
    with pytest.raises(OptionError, match="dt is too long for HodgkinHuxley"):
        brian2_to_torch(b2.Network(group))
    with pytest.raises(OptionError, match="dt is too long for HodgkinHuxley"):
        neuron_group(HodgkinHuxley(), 1, dt=0.5)
