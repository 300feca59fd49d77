"""Neurons driven by currents that are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.numbers import graph_tensor, refuse_not_finite
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
        Currents of another shape, or not finite; parameters of another number of neurons; a state that leaves all
        bounds.
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
    if not isinstance(neuron, PointNeuron):
        raise InputError("this is no neuron", expected="a PointNeuron such as LIF()", got=repr(neuron))
    given, dt = _as_current(current), neuron.check_step(dt)
    n_samples, n_times, n_neurons = given.shape
    neuron.check_number(n_neurons)
    state: dict[str, Any] = neuron.initial_state(n_samples, n_neurons, dtype=given.dtype)
    _check_recorded(record, list(state))
    state = {name: values.numpy() for name, values in state.items()}
    currents: Any = given.numpy()
    kept = {name: np.empty_like(currents) for name in record}
    fired = np.empty(given.shape, dtype=bool)
    on_arrays = _on_arrays(neuron)
    with np.errstate(all="ignore"):  # what leaves all bounds is refused below
        for time in progress_bar(range(n_times), description="simulation"):
            state, fired[:, time] = on_arrays.step(state, currents[:, time], dt)
            for name, values in kept.items():
                values[:, time] = state[name]
    if not np.isfinite(state[next(iter(state))]).all():
        raise InputError(
            f"{type(neuron).__name__} leaves all bounds",
            expected="finite potentials",
            fix="make dt shorter, or the currents smaller",
        )
    tensors = {name: torch.from_numpy(values) for name, values in {"spikes": fired, **kept}.items()}
    times = [time * dt for time in range(n_times)]
    return Activations(tensors, dict.fromkeys(tensors, ("sample", "time", "unit")), {"time": times})


def _on_arrays(neuron: PointNeuron) -> PointNeuron:
    """Return the neuron with arrays in place of tensors."""
    alike = copy(neuron)
    vars(alike).update(
        {name: as_numpy(value) for name, value in vars(neuron).items() if isinstance(value, torch.Tensor)}
    )
    return alike


def _check_recorded(record: Any, variables: Sequence[str]) -> None:
    if not isinstance(record, (list, tuple)):
        raise InputError("record is a list of names", expected=f"such as ({variables[0]!r},)", got=repr(record))
    for name in record:
        check_option("variable to record", name, variables)


def _as_current(current: Any) -> torch.Tensor:
    given = graph_tensor(current, "currents").detach().cpu()  # only read: not copied
    refuse_not_finite(given, "currents")
    if given.ndim != 3 or not given.numel():
        raise InputError(
            "currents have the wrong shape",
            expected="(n_samples, n_times, n_neurons), in pA",
            got=f"shape {tuple(given.shape)}",
        )
    return given if given.dtype in (torch.float32, torch.float64) else given.double()
