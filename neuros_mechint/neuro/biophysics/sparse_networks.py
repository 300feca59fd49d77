"""Mean-field theory of sparse networks of which the numbers are known, and of interventions on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neuros_mechint.core.errors import InputError, OptionError, number
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.biophysics.mean_field import MeanField, mean_field_rates

_NEURON = ("tau", "threshold", "reset", "refractory")
_NUMBERS = ("in_degrees", "efficacies", "external_mean", "external_sd", *_NEURON)


def mean_field_of(network: Any, *, silenced: Any = 0.0, current: float = 0.0) -> MeanField:
    """Return the stationary rates of a network of leaky integrate-and-fire neurons, as it is or under an intervention.

    Parameters
    ----------
    network : BalancedNetwork
        Or any object that has, by these names, what `mean_field_rates` takes.
    silenced : float or array of shape (n_populations,)
        Share of the cells, of all populations or of each, that are kept from firing. The rates are those of the others.
    current : float
        Into every neuron, as the shift of the mean potential that it would give by itself.

    Returns
    -------
    MeanField
        In the units of the network: of a `BalancedNetwork`, spikes per ms and mV.

    Raises
    ------
    InputError
        An object without these numbers, shares of another number of populations, or rates that do not come to rest.
    OptionError
        Shares that are not between 0 and 1, or a current that is not finite.

    References
    ----------
    Brunel 2000, Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons,
    doi:10.1023/A:1008925309027

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> numbers = {"in_degrees": [[400, 100]] * 2, "efficacies": [[0.3, -1.8]] * 2, "external_mean": 20.0}
    >>> neuron = {"tau": 20.0, "threshold": 20.0, "reset": 10.0, "refractory": 2.0}
    >>> network = SimpleNamespace(**numbers, external_sd=2.45, **neuron)
    >>> 1000 * mean_field_of(network).rates.round(4)  # Hz, of excitatory and of inhibitory cells
    array([7.8, 7.8])
    >>> bool((mean_field_of(network, silenced=[0.0, 0.1]).rates > mean_field_of(network).rates).all())
    True
    """
    missing = [name for name in _NUMBERS if not hasattr(network, name)]
    if missing:
        raise InputError(
            "the numbers of this network are not known",
            expected=f"a BalancedNetwork, or an object with {', '.join(_NUMBERS)}",
            got=f"{type(network).__name__} without {', '.join(missing)}",
            fix="give the numbers to mean_field_rates",
        )
    degrees = real_array(network.in_degrees, "in_degrees")
    shares = real_array(silenced, "silenced")
    if shares.ndim and shares.shape != degrees.shape[:1]:
        raise InputError(
            "silenced is about other populations",
            expected=f"1 share, or {degrees.shape[:1]}",
            got=f"shape {shares.shape}",
        )
    if ((shares < 0) | (shares > 1)).any():
        raise OptionError("silenced is out of range", expected="shares from 0 to 1", got=silenced)
    shift = number("current", current, -math.inf, math.inf, closed="neither")
    return mean_field_rates(
        degrees * (1 - shares),
        network.efficacies,
        external_mean=np.full(degrees.shape[:1], network.external_mean + shift),
        external_sd=np.full(degrees.shape[:1], network.external_sd),
        **{name: getattr(network, name) for name in _NEURON},
    )
