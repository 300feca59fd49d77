"""Brian2 networks for the tests of their adapter."""

from __future__ import annotations

import brian2 as b2
import numpy as np
import pytest
import torch
from brian2 import Hz, ms, mV, nA

DT = 0.1  # ms, Brian2's default
LIF = "dv/dt = (I - v) / (10*ms) : 1 (unless refractory)\nI : 1"


@pytest.fixture(autouse=True, scope="module")
def plain_runs_in_numpy():
    """Brian2's own runs in these tests do not compile; ours choose numpy by themselves."""
    before = b2.prefs.codegen.target
    b2.prefs.codegen.target = "numpy"
    yield
    b2.prefs.codegen.target = before


def lif(n, name="E", refractory=2 * ms, **options):
    return b2.NeuronGroup(
        n, LIF, threshold="v > 1", reset="v = 0", refractory=refractory, method="exact", name=name, **options
    )


def everything(n=20):
    """A network of all that Brian2 has: delays, plasticity, noise, summed currents, Poisson input, two clocks."""
    np.random.seed(5)  # noqa: NPY002 - Brian2 connects and initialises by numpy's global state
    cells = b2.NeuronGroup(
        n,
        """dv/dt = (I + g + drift - v) / (10*ms) + 0.3*xi*(5*ms)**-0.5 : 1 (unless refractory)
        dg/dt = -g / (4*ms) : 1
        K = 0.2*v : 1 (constant over dt)
        I : 1
        drift : 1
        noise : 1
        count : integer
        tau_k : second (constant)
        J = 2*I : 1""",
        threshold="v > 1",
        reset="v = 0",
        refractory=1 * ms,
        method="euler",
        name="E",
    )
    cells.I, cells.tau_k, cells.v = "0.8 + 0.3*rand()", 5 * ms, "rand()"
    plastic = b2.Synapses(
        cells,
        cells,
        """w : 1
        s : 1
        dtr/dt = -tr / (20*ms) : 1 (clock-driven)
        dlate/dt = -late / (20*ms) : 1 (event-driven)
        drift_post = 0.05*tr : 1 (summed)""",
        on_pre="g_post += w; tr += 0.1; late += 0.1",
        on_post="w = clip(w + 0.01*tr, 0, 1)",
        method="exact",
        name="EE",
    )
    plastic.connect(p=0.3)
    plastic.w, plastic.s, plastic.delay = "0.1*rand()", 0.5, "3*ms*rand()"
    poisson = b2.PoissonGroup(10, np.full(10, 60.0) * Hz, name="P")
    afferents = b2.Synapses(poisson, cells[5:], "w : 1", on_pre="g_post += w", delay=1 * ms, name="PE")
    afferents.connect(p=0.5)
    afferents.w = 0.2
    timed = b2.SpikeGeneratorGroup(3, [0, 1, 2, 0], [1, 2, 3, 7] * ms, name="G")
    listed = b2.Synapses(timed, cells, on_pre="v_post += 0.3", name="GE")
    listed.connect(i=[0, 1, 2], j=[0, 1, 2])
    background = b2.PoissonInput(cells, "v", 5, 20 * Hz, 0.1)
    cells.run_regularly("noise = randn()", dt=1 * ms)
    monitors = [
        b2.StateMonitor(cells, ["v", "g", "I", "K", "drift", "noise"], record=True, when="before_groups", name="mv"),
        b2.StateMonitor(plastic, ["w", "tr"], record=True, when="before_groups", name="mw"),
        *(b2.SpikeMonitor(one, name=f"m{one.name}") for one in (cells, poisson, timed)),
        b2.PopulationRateMonitor(cells, name="mrate"),
    ]
    return b2.Network(cells, plastic, poisson, afferents, timed, listed, background, *monitors)


def raster(monitor, n_steps, start=0.0):
    spikes = np.zeros((n_steps, len(monitor.source)), dtype=bool)
    spikes[np.round((monitor.t_[:] - start) / 1e-4).astype(int), monitor.i[:]] = True
    return torch.from_numpy(spikes)


def a_cable():
    cable = b2.SpatialNeuron(
        morphology=b2.Cylinder(length=300 * b2.um, diameter=1 * b2.um, n=6),
        model="Im = 1e-4*siemens/cm**2 * (-70*mV - v) : amp/meter**2\nI : amp (point current)",
        Cm=1 * b2.uF / b2.cm**2,
        Ri=100 * b2.ohm * b2.cm,
        method="exponential_euler",
        name="G",
    )
    cable.v, cable.I = -70 * mV, [0.1, 0, 0, 0, 0, 0] * nA
    return b2.Network(cable)
