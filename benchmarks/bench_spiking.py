"""Spiking networks against snnTorch, and point neurons against Brian2: the same work on one thread, runs in turns."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import brian2
import numpy as np
import snntorch
import snntorch.utils
import torch

from neuros_mechint.adapters.brian2.factories import neuron_group
from neuros_mechint.adapters.snn_exchange import to_snntorch
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.neurons.simulate import simulate_neurons
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork

torch.set_num_threads(1)
logging.getLogger("brian2").setLevel(logging.ERROR)
ROUNDS = 5


def seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()  # all of it on one thread: what else the machine does hardly counts
    function()
    return time.process_time() - begin


def contest(work: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> str:
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, other = (median(times) for times in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    return (
        f"| {work} | {other / mine:.1f} ({min(ratios):.1f} to {max(ratios):.1f}) "
        f"| {1000 * mine:.1f} ms | {1000 * other:.1f} ms |"
    )


def training(sizes: list[int], batch: int, n_times: int) -> str:
    """One step of training: forward, cross-entropy of the spike counts, backward."""
    network = SpikingNeuralNetwork(sizes, LIF(tau=10.0), delay=0.0, surrogate="arctan")
    there = to_snntorch(network)
    random = torch.Generator().manual_seed(0)
    inputs = (torch.rand(batch, n_times, sizes[0], generator=random) < 0.3).float()
    labels = torch.randint(sizes[-1], (batch,), generator=random)

    def run_there() -> torch.Tensor:
        snntorch.utils.reset(there)
        return torch.stack([there(now) for now in inputs.unbind(1)], 1)

    def step(run: Callable[[], torch.Tensor], model: torch.nn.Module) -> None:
        model.zero_grad()
        torch.nn.functional.cross_entropy(run().mean(1), labels).backward()

    assert torch.equal(run_there(), network(inputs))
    work = f"training step, {'-'.join(map(str, sizes))}, batch {batch}, {n_times} steps, snnTorch"
    return contest(work, lambda: step(lambda: network(inputs), network), lambda: step(run_there, there))


def simulated(neuron: PointNeuron, currents: Any, duration: float, dt: float, target: str) -> str:
    """A batch of neurons under held currents against Brian2, whose code is generated beforehand."""
    brian2.prefs.codegen.target = target
    brian2.start_scope()
    held = torch.from_numpy(currents).expand(1, round(duration / dt), len(currents))
    group = neuron_group(neuron, len(currents), dt=dt)
    group.I = currents * brian2.pA
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(group, monitor)
    network.store()

    def theirs(length: float = duration) -> None:
        network.restore()
        network.run(length * brian2.ms)

    counts = simulate_neurons(neuron, held, dt, record=())["spikes"].sum((0, 1))
    theirs()
    assert np.abs(counts.numpy() - np.asarray(monitor.count)).max() <= 1  # rounding may move a last spike
    start = 1000 * median(seconds(lambda: theirs(dt)) for _ in range(3))
    size = f"N = {len(currents):,}, {duration:g} ms"
    work = f"{type(neuron).__name__}, {size}, Brian2 {target} ({start:.0f} ms before its first step)"
    return contest(work, lambda: simulate_neurons(neuron, held, dt, record=()), theirs, rounds=3)


def leaky(n_neurons: int, n_times: int) -> str:
    """Forward passes of one layer of leaky neurons under given currents."""
    neuron, beta = LIF(tau=10.0), float(np.exp(-0.1))
    currents = torch.linspace(0.5, 4, n_neurons).expand(1, n_times, n_neurons)
    cell = snntorch.Leaky(beta, reset_mechanism="zero")

    def theirs() -> None:
        with torch.no_grad():
            mem, gain = cell.init_leaky(), 1 - beta
            for now in currents.unbind(1):
                _, mem = cell(gain * now, mem)

    work = f"LIF, N = {n_neurons:,}, {n_times:,} steps, snnTorch forward"
    return contest(work, lambda: simulate_neurons(neuron, currents, 1.0, record=()), theirs, rounds=3)


def main() -> None:
    print("| work | times as fast (range) | ours | theirs |\n|---|---|---|---|")
    print(training([64, 200, 10], 64, 20), flush=True)
    print(training([100, 100, 10], 32, 100), flush=True)
    print(training([700, 256, 20], 128, 100), flush=True)
    for n_neurons in (100, 1000, 10_000):
        print(leaky(n_neurons, 1000), flush=True)
    targets = ("numpy", "cython")
    for target in targets:
        for n_neurons in (100, 1000, 10_000):
            print(simulated(LIF(refractory=2.0), np.linspace(0.5, 4, n_neurons), 200.0, 0.1, target), flush=True)
            print(simulated(Izhikevich(), np.linspace(0, 20, n_neurons), 200.0, 0.1, target), flush=True)
        for n_neurons in (60, 200):
            neuron = HodgkinHuxley.traub_miles()
            print(simulated(neuron, np.linspace(50, 700, n_neurons), 20.0, 0.02, target), flush=True)


if __name__ == "__main__":
    main()
