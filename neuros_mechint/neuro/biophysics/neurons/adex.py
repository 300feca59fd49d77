"""The adaptive exponential integrate-and-fire neuron."""

from __future__ import annotations

import math
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
class AdEx(PointNeuron):
    r"""Adaptive exponential integrate-and-fire neuron.

    .. math::
        C \dot v = g_L (E_L - v) + g_L \Delta_T e^{(v - V_T)/\Delta_T} - w + I, \qquad
        \tau_w \dot w = a (v - E_L) - w

    and at ``peak`` :math:`v \leftarrow V_r, w \leftarrow w + b`. Euler steps, both from the values before the step. The
    defaults are those of the paper.

    Parameters
    ----------
    capacitance : float or array
        pF.
    leak : float or array
        Conductance :math:`g_L`, nS.
    rest, threshold, reset : float or array
        :math:`E_L, V_T, V_r`, mV.
    slope : float or array
        :math:`\Delta_T`, how sharply a spike begins, mV.
    a : float or array
        Adaptation below threshold, nS.
    b : float or array
        Adaptation by a spike, pA.
    tau_w : float or array
        Time constant of adaptation, ms.
    peak : float or array
        Where a spike is cut, mV; a few ``slope`` above the threshold. Higher peaks need shorter steps.
    refractory : float
        How long the potential stays at its reset after a spike, ms.

    Raises
    ------
    OptionError
        Parameters that are not physical.

    References
    ----------
    Brette, R., & Gerstner, W. (2005). Adaptive exponential integrate-and-fire model as an effective description of
    neuronal activity. Journal of Neurophysiology, 94(5), 3637-3642. https://doi.org/10.1152/jn.00686.2005
    Touboul, J., & Brette, R. (2008). Dynamics and bifurcations of the adaptive exponential integrate-and-fire model.
    Biological Cybernetics, 99, 319-334. https://doi.org/10.1007/s00422-008-0267-4

    Examples
    --------
    >>> round(AdEx().rheobase(), 1)
    627.2
    """

    capacitance: Any = 281.0
    leak: Any = 30.0
    rest: Any = -70.6
    threshold: Any = -50.4
    reset: Any = -70.6
    slope: Any = 2.0
    a: Any = 4.0
    b: Any = 80.5
    tau_w: Any = 144.0
    peak: Any = -40.4
    refractory: float = 0.0

    units: ClassVar = {"v": "mV", "w": "pA", "refractory": "ms"}
    method: ClassVar = "euler"

    def __post_init__(self) -> None:
        self._take_numbers()
        self._check_positive("capacitance", "leak", "slope", "tau_w")
        self._check_not_negative("refractory")
        for lower, upper in (("reset", "peak"), ("threshold", "peak")):
            if not bool((self._numbers(upper) > self._numbers(lower)).all()):
                raise OptionError(
                    f"{upper} of AdEx is too low",
                    expected=f"{upper} > {lower}",
                    got=f"{upper}={getattr(self, upper)!r}, {lower}={getattr(self, lower)!r}",
                )

    @property
    def largest_step(self) -> float:
        """A fifth of the shortest membrane time constant: the exponential needs steps that see it."""
        return float((self._numbers("capacitance") / self._numbers("leak")).min() / 5)

    def initial_state(self, *shape: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """Return the state at ``rest``, each variable of the given shape ``(..., n_neurons)``."""
        self.check_number(shape[-1] if shape else 1)
        rest = torch.as_tensor(self.rest, dtype=dtype).expand(shape).clone()
        return {"v": rest, "w": torch.zeros(shape, dtype=dtype), "refractory": torch.zeros(shape, dtype=dtype)}

    def step(
        self,
        state: State,
        current: torch.Tensor,
        dt: float,
        conductance: torch.Tensor | None = None,
        spike: Spike = hard_spike,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Advance by ``dt`` ms, find who spikes, and reset them (see `PointNeuron.step`)."""
        v, w, waiting = state["v"], state["w"], state["refractory"]
        driven = current if conductance is None else current - conductance * v
        upstroke = self.slope * exp((v - self.threshold) / self.slope)
        after = v + dt / self.capacitance * (self.leak * (self.rest - v + upstroke) - w + driven)
        adapted = w + dt / self.tau_w * (self.a * (v - self.rest) - w)
        if self.refractory:
            free = waiting < 0.5 * dt
            after = where(free, after, v)
            spikes = free_spikes(after - self.peak, free, spike)
            waiting = still_waiting(waiting, spikes, self.refractory, dt)
        else:
            spikes = spike(after - self.peak)
        after = reset_to(after, spikes, self.reset, spike)
        return {"v": after, "w": adapted + self.b * spikes, "refractory": waiting}, spikes

    def brian2_text(self) -> Brian2Text:
        """Return the same neuron in the words of Brian2."""
        units = {"capacitance": "pF", "leak": "nS", "rest": "mV", "threshold": "mV", "reset": "mV", "slope": "mV"}
        units |= {"a": "nS", "b": "pA", "tau_w": "ms", "peak": "mV", "refractory": "ms"}
        inward = "leak * (rest - v + slope * exp((v - threshold) / slope))"
        return Brian2Text(
            equations=(
                f"dv/dt = ({inward} - w + I + I_synapses) / capacitance : volt (unless refractory)\n"
                "dw/dt = (a * (v - rest) - w) / tau_w : amp"
            ),
            threshold="v > peak",
            reset="v = reset\nw += b",
            method=self.method,
            constants=self._constants(units),
            refractory="refractory",
        )

    def rheobase(self) -> float:
        """Return the constant current above which the neuron has no stable rest any more, pA.

        A saddle-node, or a Hopf bifurcation where adaptation is fast or strong (Touboul & Brette 2008).
        """
        numbers = {name: value for name, (value, _) in self.brian2_text().constants.items()}
        leak, slope, a = numbers["leak"], numbers["slope"], numbers["a"]
        tau_m, gap = numbers["capacitance"] / leak, numbers["threshold"] - numbers["rest"] - slope
        if a / leak < tau_m / numbers["tau_w"]:
            return (leak + a) * (gap + slope * math.log(1 + a / leak))
        ratio = tau_m / numbers["tau_w"]
        return (leak + a) * (gap + slope * math.log(1 + ratio)) + slope * leak * (a / leak - ratio)
