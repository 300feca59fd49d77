"""Balanced networks in one call: their mean-field theory, and the Brian2 network of the same numbers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import brian2 as b2
import numpy as np
import pytest

from neuros_mechint.adapters.brian2.balanced import brian2_network_of
from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.edits import Add, Zero
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.spiking_networks import BalancedNetwork
from neuros_mechint.neuro.biophysics.mean_field import lif_rate, mean_field_rates
from neuros_mechint.neuro.biophysics.sparse_networks import mean_field_of
from tests.truth.brian2_networks import plain_runs_in_numpy  # noqa: F401 - used by every test

SMALL = BalancedNetwork(n_excitatory=160, n_inhibitory=40, drive=3.0)
LOUD = BalancedNetwork(n_excitatory=800, n_inhibitory=200, jump=0.3, inhibition=6.0, drive=1.0)


# -- theory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("silenced", "current"), [(0.0, 0.0), ([0.3, 0.1], -2.0), (1.0, 3.0)])
def test_rates_agree_with_the_input_that_is_left(silenced: Any, current: float) -> None:
    found = mean_field_of(LOUD, silenced=silenced, current=current)
    firing = LOUD.in_degrees * (1 - np.broadcast_to(silenced, 2))
    mean = LOUD.external_mean + current + LOUD.tau * (firing * LOUD.efficacies) @ found.rates
    sd = np.sqrt(LOUD.external_sd**2 + LOUD.tau * (firing * LOUD.efficacies**2) @ found.rates)
    for population in range(2):
        alone = lif_rate(mean[population], sd[population], tau=20.0, threshold=20.0, reset=10.0, refractory=2.0)
        assert found.rates[population] == pytest.approx(alone, rel=1e-6)


def test_it_is_the_theory_of_the_numbers_and_of_no_others() -> None:
    by_hand = mean_field_rates(
        LOUD.in_degrees,
        LOUD.efficacies,
        external_mean=[LOUD.external_mean] * 2,
        external_sd=[LOUD.external_sd] * 2,
        tau=20.0,
        threshold=20.0,
        reset=10.0,
        refractory=2.0,
    )
    found = mean_field_of(LOUD)
    np.testing.assert_array_equal(found.rates, by_hand.rates)
    np.testing.assert_array_equal(found.interval_cv, by_hand.interval_cv)
    for other in (replace(LOUD, refractory=4.0), replace(LOUD, reset=5.0), replace(LOUD, tau=18.0)):
        assert abs(mean_field_of(other).rates[0] / found.rates[0] - 1) > 0.01
    names = ("in_degrees", "efficacies", "external_mean", "external_sd", "tau", "threshold", "reset", "refractory")
    alike = SimpleNamespace(**{name: getattr(LOUD, name) for name in names})
    np.testing.assert_array_equal(mean_field_of(alike).rates, found.rates)


# -- Brian2 ------------------------------------------------------------------------------------------------------------


def _by_hand(design: BalancedNetwork, seed: int) -> b2.Network:
    random = np.random.default_rng(seed)
    cells = b2.NeuronGroup(
        design.n_cells,
        "dv/dt = -v / tau : volt (unless refractory)",
        threshold="v > threshold",
        reset="v = reset",
        refractory=design.refractory * b2.ms,  # pyright: ignore[reportArgumentType]
        method="exact",
        namespace={"tau": design.tau * b2.ms, "threshold": 20 * b2.mV, "reset": 10 * b2.mV},
        dt=0.1 * b2.ms,
        name="cells",
    )
    source, target = design.connections(random)
    cells.v = random.uniform(0, 20, design.n_cells) * b2.mV
    synapses = b2.Synapses(cells, cells, "w : volt", on_pre="v_post += w", delay=1.5 * b2.ms, clock=cells.clock)
    synapses.connect(i=source, j=target)
    synapses.w = np.where(source < 160, 0.2, -1.0) * b2.mV
    outside = b2.PoissonInput(cells, "v", 1500, design.external_rate / 1500 / b2.ms, 0.2 * b2.mV)
    return b2.Network(cells, synapses, outside)


def _spikes(network: b2.Network) -> list[tuple[float, int]]:
    monitor = b2.SpikeMonitor(network["cells"])
    network.add(monitor)
    b2.seed(3)
    network.run(60 * b2.ms)
    return list(zip(np.round(monitor.t / b2.ms, 6).tolist(), monitor.i[:].tolist(), strict=True))


def test_it_is_the_network_that_one_writes_by_hand() -> None:
    for seed in (0, 1):
        found = _spikes(brian2_network_of(SMALL, seed=seed))
        assert len(found) > 100
        assert found == _spikes(_by_hand(SMALL, seed))
    assert found != _spikes(brian2_network_of(SMALL, seed=2))  # the control: other connections
    assert found != _spikes(brian2_network_of(replace(SMALL, delay=1.6), seed=1))


def test_refractory_cells_take_no_input() -> None:
    design = replace(SMALL, refractory=5.0, drive=6.0)
    model = adapt(brian2_network_of(design), duration=60 * b2.ms)
    found = model.capture(1, ["cells.v", "cells.spikes"])
    cells, fired = found["cells.v"][0] * 1000, found["cells.spikes"][0]
    times, units = np.nonzero(fired[:-50].numpy())
    assert len(times) > 50
    for later in (1, 25, 50):
        np.testing.assert_allclose(cells[times + later, units], design.reset)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_interventions_change_rates_as_theory_says(seed: int) -> None:
    model = adapt(brian2_network_of(LOUD, seed=seed), duration=500 * b2.ms, seed=seed)

    def rate(edit: Any) -> float:  # of excitatory cells, in Hz, after 100 ms
        return 1e4 * float(model.run(1, edit).output["cells.spikes"][0, 1000:, :800].float().mean())

    plain, in_theory = rate([]), mean_field_of(LOUD)
    # cells fire less than in theory, in steps of .1 ms and with jumps of this size; what changes them is compared
    assert plain / (1000 * in_theory.rates[0]) == pytest.approx(0.87, abs=0.1)
    for edit, changed in (
        (Zero("cells.spikes[unit=800:840]"), mean_field_of(LOUD, silenced=[0.0, 0.2])),
        (Add("cells.I", -2 * b2.pA), mean_field_of(LOUD, current=-2.0)),
        (Add("cells.I", 3 * b2.pA), mean_field_of(LOUD, current=3.0)),
    ):
        wanted = changed.rates[0] / in_theory.rates[0]
        assert abs(wanted - 1) > 0.3
        assert rate(edit) / plain == pytest.approx(wanted, rel=0.15)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_what_is_no_network_no_share_and_no_step() -> None:
    with pytest.raises(InputError, match="int without in_degrees"):
        mean_field_of(3)
    with pytest.raises(InputError, match="other populations"):
        mean_field_of(LOUD, silenced=[0.1, 0.1, 0.1])
    for wrong in (-0.1, 1.1, [0.0, 2.0]):
        with pytest.raises(OptionError, match="silenced"):
            mean_field_of(LOUD, silenced=wrong)
    with pytest.raises(OptionError, match="current"):
        mean_field_of(LOUD, current=np.nan)
    with pytest.raises(InputError, match="a BalancedNetwork"):
        brian2_network_of(SimpleNamespace())  # type: ignore[arg-type]
    for wrong in (0.0, -0.1, 2.0):
        with pytest.raises(OptionError, match="dt"):
            brian2_network_of(SMALL, dt=wrong)
