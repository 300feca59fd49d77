"""Neurons driven by currents that are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron


def simulate_neurons(neuron: PointNeuron, current: Any, dt: float, record: Sequence[str] = ("v",)) -> Activations:
    """Return what neurons do under given currents, from rest.

    Parameters
    ----------
    neuron : PointNeuron
        Such as `LIF`, `AdEx`, `Izhikevich` or `HodgkinHuxley`.
    current : array of shape (n_samples, n_times, n_neurons)
        In pA, held over each time step.
    dt : float
        Time step, ms.
    record : sequence of str
        State variables to return besides the spikes.

    Returns
    -------
    Activations
        ``spikes`` (boolean) and each variable after each step, ``(sample, time, unit)``; labels of time are the
        beginnings of the steps, in ms, as Brian2 dates its spikes.

    Raises
    ------
    InputError
        Currents of another shape, or not finite; a state that leaves all bounds.
    OptionError
        A time step too long for the neuron, a variable it does not have.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
    >>> acts = simulate_neurons(Izhikevich.of_type("RS"), torch.full((1, 5000, 1), 10.0), dt=0.1)
    >>> times = acts["spikes"][0, :, 0].nonzero()[:, 0] * 0.1
    >>> [round(float(interval), 1) for interval in times.diff()[-2:]]
    [45.1, 45.1]
    """
    given = _as_current(current)
    neuron.check_step(dt)
    n_samples, n_times, n_neurons = given.shape
    state = neuron.initial_state(n_samples, n_neurons, dtype=given.dtype)
    for name in record:
        check_option("variable to record", name, list(state))
    kept = {name: given.new_empty(n_samples, n_times, n_neurons) for name in record}
    fired = torch.empty(given.shape, dtype=torch.bool)
    with torch.no_grad():
        for time in progress_bar(range(n_times), description="simulation"):
            state, spikes = neuron.step(state, given[:, time], dt)
            fired[:, time] = spikes
            for name, values in kept.items():
                values[:, time] = state[name]
    if not bool(torch.isfinite(state[next(iter(state))]).all()):
        raise InputError(
            f"{type(neuron).__name__} leaves all bounds",
            expected="finite potentials",
            fix="make dt shorter, or the currents smaller",
        )
    tensors = {"spikes": fired, **kept}
    times = [time * dt for time in range(n_times)]
    return Activations(tensors, dict.fromkeys(tensors, ("sample", "time", "unit")), {"time": times})


def _as_current(current: Any) -> torch.Tensor:
    try:
        given = torch.as_tensor(current).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("currents are no numbers", got=type(current).__name__) from error
    if given.ndim != 3 or not given.numel() or given.is_complex():
        raise InputError(
            "currents have the wrong shape",
            expected="real numbers (n_samples, n_times, n_neurons), in pA",
            got=f"shape {tuple(given.shape)} of {given.dtype}",
        )
    given = given if given.is_floating_point() else given.double()
    if not bool(torch.isfinite(given).all()):
        raise InputError("currents are not finite", expected="finite numbers, in pA")
    return given
