"""Networks of spiking neurons of which theory says how they behave: numbers and connections, for any simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.random import SeedLike, generator

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BalancedNetwork:
    r"""Brunel's sparse network of excitatory and inhibitory leaky integrate-and-fire neurons.

    Potentials follow :math:`\tau \dot v = -v`; a spike of an excitatory cell makes them jump by ``jump`` a ``delay``
    later, one of an inhibitory cell by ``-inhibition * jump``. Every neuron gets as many excitatory trains from
    outside as from inside: Poisson, with jumps of the same size, at ``drive`` times the rate that would just bring the
    mean potential to the threshold. With strong inhibition and drive the network is asynchronous and irregular: cells
    fire rarely, like Poisson processes, at a rate that `mean_field_of` tells. `brian2_network_of` writes it for Brian2.

    Parameters
    ----------
    n_excitatory, n_inhibitory : int
        Cells.
    connected : float
        Share of all excitatory cells, and of all inhibitory ones, that a neuron gets input from.
    jump : float
        Of the potential for one excitatory spike, mV.
    inhibition : float
        By how much stronger inhibitory spikes are (Brunel's g).
    drive : float
        Rate from outside relative to that which reaches the threshold.
    delay : float
        ms.
    tau : float
        Time constant of the membrane, ms.
    threshold, reset : float
        mV, relative to rest.
    refractory : float
        ms.

    Raises
    ------
    OptionError
        A number out of range.
    InputError
        So few connections that a neuron gets none of one kind, or a reset that is not below the threshold.

    References
    ----------
    Brunel 2000, Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons,
    doi:10.1023/A:1008925309027

    Examples
    --------
    >>> network = BalancedNetwork()
    >>> network.in_degrees.tolist(), network.efficacies.tolist()
    ([[160, 40], [160, 40]], [[0.2, -1.0], [0.2, -1.0]])
    >>> round(network.external_mean, 9)  # twice the threshold
    40.0
    >>> source, target = network.connections(seed=0)
    >>> int(np.bincount(target[source < network.n_excitatory]).min()), bool((source == target).any())
    (160, False)
    """

    n_excitatory: int = 1600
    n_inhibitory: int = 400
    connected: float = 0.1
    jump: float = 0.2
    inhibition: float = 5.0
    drive: float = 2.0
    delay: float = 1.5
    tau: float = 20.0
    threshold: float = 20.0
    reset: float = 10.0
    refractory: float = 2.0

    def __post_init__(self) -> None:
        for name in ("n_excitatory", "n_inhibitory"):
            whole(name, getattr(self, name), least=2)
        number("connected", self.connected, 0, 1)
        for name in ("jump", "inhibition", "drive", "delay", "tau", "threshold"):
            number(name, getattr(self, name), 0, math.inf, closed="neither")
        number("reset", self.reset, -math.inf, math.inf, closed="neither")
        number("refractory", self.refractory, 0, math.inf, closed="left")
        if self.reset >= self.threshold:
            raise InputError("the reset is not below the threshold", expected=f"below {self.threshold:g} mV")
        degrees = self.in_degrees[0]
        cells = (self.n_excitatory, self.n_inhibitory)
        if not all(0 < degree < n for degree, n in zip(degrees.tolist(), cells, strict=True)):
            raise InputError(
                "there are not as many cells as connections",
                expected="between 1 and one less than the number of cells of each kind",
                got=f"{degrees[0]} of {cells[0]} and {degrees[1]} of {cells[1]}",
                fix="change connected, or the numbers of cells",
            )

    @property
    def n_cells(self) -> int:
        """Number of cells; the excitatory ones come first."""
        return self.n_excitatory + self.n_inhibitory

    @property
    def in_degrees(self) -> Integers:
        """How many connections a neuron gets, ``(to E or I, from E or I)``."""
        each = [round(self.connected * n) for n in (self.n_excitatory, self.n_inhibitory)]
        return np.array([each, each])

    @property
    def efficacies(self) -> Floats:
        """Jump of the potential for one spike, ``(to E or I, from E or I)``, mV."""
        return np.array([[self.jump, -self.inhibition * self.jump]] * 2)

    @property
    def external_rate(self) -> float:
        """Of all trains from outside that reach one neuron together, spikes per ms."""
        return self.drive * self.threshold / (self.jump * self.tau)

    @property
    def external_mean(self) -> float:
        """Mean potential that the input from outside would give by itself, mV."""
        return self.tau * self.jump * self.external_rate

    @property
    def external_sd(self) -> float:
        """Noise of the input from outside, as mean-field theory has it, mV."""
        return self.jump * math.sqrt(self.tau * self.external_rate)

    def connections(self, seed: SeedLike = 0) -> tuple[Integers, Integers]:
        """Return who is connected to whom: each neuron to cells drawn at random, none to itself or twice.

        Parameters
        ----------
        seed : int or numpy.random.Generator

        Returns
        -------
        source, target : numpy.ndarray of shape (n_connections,)
            Numbers of cells.
        """
        random = generator(seed)
        sources: list[Integers] = []
        for cell in range(self.n_cells):
            for first, n, degree in self._kinds():
                candidates = n - (first <= cell < first + n)
                chosen = first + random.choice(candidates, degree, replace=False)
                sources.append(chosen + ((chosen >= cell) & (candidates < n)))
        return np.concatenate(sources), np.repeat(np.arange(self.n_cells), int(self.in_degrees[0].sum()))

    def weights(self, source: Integers) -> Floats:
        """Return the jump of the potential that a spike of each of these cells makes, mV."""
        return np.where(np.asarray(source) < self.n_excitatory, self.jump, -self.inhibition * self.jump)

    def _kinds(self) -> list[tuple[int, int, int]]:
        """Return the first cell, the number of cells, and connections per neuron of each kind."""
        excitatory, inhibitory = (int(degree) for degree in self.in_degrees[0])
        return [(0, self.n_excitatory, excitatory), (self.n_excitatory, self.n_inhibitory, inhibitory)]
