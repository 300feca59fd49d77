"""The leaky integrate-and-fire neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from neuros_mechint.core.errors import OptionError
from neuros_mechint.neuro.biophysics.neurons.arithmetic import exp, where
from neuros_mechint.neuro.biophysics.neurons.base import (
    Brian2Text,
    PointNeuron,
    Spike,
    State,
    free_spikes,
    hard_spike,
    reset_to,
    still_waiting,
)


@dataclass(frozen=True)
class LIF(PointNeuron):
    r"""Leaky integrate-and-fire neuron: :math:`\tau \dot v = v_{rest} - v + R I`, reset at the threshold.

    Input is held constant over a step, under which the step is exact (exponential Euler). With the defaults the
    potential is in units of the distance from rest to threshold, as in machine learning; give millivolts for a neuron
    in physical units.

    Parameters
    ----------
    tau : float or array
        Membrane time constant, ms.
    rest, threshold, reset : float or array
        Potentials, mV.
    resistance : float or array
        Of the membrane, GOhm: the current in pA times it is in mV.
    refractory : float
        How long the potential stays at its reset after a spike, ms.

    Raises
    ------
    OptionError
        A time constant or resistance that is not positive, a threshold that is not above the reset.

    References
    ----------
    Gerstner, W., Kistler, W. M., Naud, R., & Paninski, L. (2014). Neuronal Dynamics. Cambridge University Press.
    https://doi.org/10.1017/CBO9781107447615

    Examples
    --------
    >>> neuron = LIF(tau=20.0, refractory=2.0)
    >>> state = neuron.initial_state(1)
    >>> fired = 0
    >>> for _ in range(1000):
    ...     state, spikes = neuron.step(state, torch.tensor([2.0]), dt=0.1)
    ...     fired += int(spikes)
    >>> fired  # one spike each 2 + 20 ln 2 = 15.9 ms
    6
    """

    tau: Any = 20.0
    rest: Any = 0.0
    threshold: Any = 1.0
    reset: Any = 0.0
    resistance: Any = 1.0
    refractory: float = 0.0

    units: ClassVar = {"v": "mV", "refractory": "ms"}
    method: ClassVar = "exponential_euler"

    def __post_init__(self) -> None:
        self._take_numbers()
        self._check_positive("tau", "resistance")
        self._check_not_negative("refractory")
        if not bool((self._numbers("threshold") > self._numbers("reset")).all()):
            raise OptionError(
                "a neuron that is reset above its threshold fires for ever",
                expected="threshold > reset",
                got=f"threshold={self.threshold!r}, reset={self.reset!r}",
            )

    @property
    def largest_step(self) -> float:
        """The shortest membrane time constant: any step is stable, but spikes are placed to within one."""
        return float(self._numbers("tau").min())

    def initial_state(self, *shape: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """Return the state at rest, each variable of the given shape ``(..., n_neurons)``."""
        self.check_number(shape[-1] if shape else 1)
        rest = torch.as_tensor(self.rest, dtype=dtype)
        return {"v": rest.expand(shape).clone(), "refractory": torch.zeros(shape, dtype=dtype)}

    def step(
        self,
        state: State,
        current: torch.Tensor,
        dt: float,
        conductance: torch.Tensor | None = None,
        spike: Spike = hard_spike,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Advance by ``dt`` ms, find who spikes, and reset them (see `PointNeuron.step`)."""
        v, waiting = state["v"], state["refractory"]
        towards = self.resistance * current + self.rest
        rate: Any = 1 / self.tau
        if conductance is not None:
            gain = 1 + self.resistance * conductance
            towards, rate = towards / gain, gain * rate
        after = towards + (v - towards) * exp(-dt * rate)
        if not self.refractory:
            spikes = spike(after - self.threshold)
            return {"v": reset_to(after, spikes, self.reset, spike), "refractory": waiting}, spikes
        free = waiting < 0.5 * dt  # up to rounding
        after = where(free, after, v)
        spikes = free_spikes(after - self.threshold, free, spike)
        waiting = still_waiting(waiting, spikes, self.refractory, dt)
        return {"v": reset_to(after, spikes, self.reset, spike), "refractory": waiting}, spikes

    def brian2_text(self) -> Brian2Text:
        """Return the same neuron in the words of Brian2."""
        return Brian2Text(
            equations="dv/dt = (rest - v + resistance * (I + I_synapses)) / tau : volt (unless refractory)",
            threshold="v > threshold",
            reset="v = reset",
            method=self.method,
            constants=self._constants(
                {"tau": "ms", "rest": "mV", "threshold": "mV", "reset": "mV", "resistance": "Gohm", "refractory": "ms"}
            ),
            refractory="refractory",
        )
