"""The model to be looked into: it knows nothing of neuros-mechint, and nothing of torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class WilsonCowanNetwork:
    """Excitatory and inhibitory firing rates (Wilson and Cowan 1972, doi:10.1016/S0006-3495(72)86068-5).

    ``tau dr/dt = -r + sigmoid(W r + B u)``, in Euler steps; excitatory columns of ``W`` are positive, inhibitory ones
    negative.

    Parameters
    ----------
    n_excitatory, n_inhibitory, n_inputs : int
        Sizes.
    seed : int
        Of the random weights.

    Examples
    --------
    >>> WilsonCowanNetwork().run(np.ones((3, 20, 2))).shape
    (3, 20, 8)
    """

    def __init__(self, n_excitatory: int = 6, n_inhibitory: int = 2, n_inputs: int = 2, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n_units = n_excitatory + n_inhibitory
        signs = np.repeat([1.0, -1.0], [n_excitatory, n_inhibitory])
        self.recurrent = np.abs(rng.normal(0, 2 / np.sqrt(n_units), (n_units, n_units))) * signs
        self.input = rng.normal(0, 1, (n_units, n_inputs))
        self.step_size = 0.2  # time step over time constant
        self.populations = {"excitatory": slice(0, n_excitatory), "inhibitory": slice(n_excitatory, n_units)}

    def step(self, rates: Array, inputs: Array) -> Array:
        """Return the rates ``(batch, n_units)`` one time step later."""
        drive = rates @ self.recurrent.T + inputs @ self.input.T
        return rates + self.step_size * (1 / (1 + np.exp(-drive)) - rates)

    def run(self, inputs: Array) -> Array:
        """Return the rates ``(batch, time, n_units)`` for inputs ``(batch, time, n_inputs)``, starting from silence."""
        rates = np.zeros((len(inputs), len(self.recurrent)))
        history = []
        for time in range(inputs.shape[1]):
            rates = self.step(rates, inputs[:, time])
            history.append(rates)
        return np.stack(history, axis=1)
