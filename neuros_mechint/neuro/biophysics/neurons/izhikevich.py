"""Izhikevich's neuron, and the types of cortical and thalamic cells that he names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from neuros_mechint.core.errors import check_option
from neuros_mechint.neuro.biophysics.neurons.base import (
    Brian2Text,
    PointNeuron,
    Spike,
    State,
    hard_spike,
    reset_to,
)

CELL_TYPES = {
    "RS": (0.02, 0.2, -65.0, 8.0),
    "IB": (0.02, 0.2, -55.0, 4.0),
    "CH": (0.02, 0.2, -50.0, 2.0),
    "FS": (0.1, 0.2, -65.0, 2.0),
    "LTS": (0.02, 0.25, -65.0, 2.0),
    "TC": (0.02, 0.25, -65.0, 0.05),
    "RZ": (0.1, 0.26, -65.0, 2.0),
}
"""Parameters a, b, c, d of regular spiking, intrinsically bursting, chattering, fast spiking, low-threshold spiking,
thalamo-cortical and resonator cells, as figure 2 of the paper has them."""


@dataclass(frozen=True)
class Izhikevich(PointNeuron):
    r"""Izhikevich's neuron: :math:`\dot v = .04 v^2 + 5 v + 140 - u + I`, :math:`\dot u = a (b v - u)`.

    At 30 mV it fires: :math:`v \leftarrow c, u \leftarrow u + d`. Euler steps, both from the values before the step.
    One unit of the paper's input is 1 pA here, into a membrane of 1 GOhm.

    Parameters
    ----------
    a : float or array
        Rate of recovery, per ms.
    b : float or array
        How recovery follows the potential.
    c : float or array
        Potential after a spike, mV.
    d : float or array
        Jump of the recovery at a spike, mV.

    Raises
    ------
    OptionError
        A rate of recovery that is not positive, or a reset above the peak of 30 mV.

    References
    ----------
    Izhikevich, E. M. (2003). Simple model of spiking neurons. IEEE Transactions on Neural Networks, 14(6), 1569-1572.
    https://doi.org/10.1109/TNN.2003.820440

    Examples
    --------
    >>> Izhikevich.of_type("CH")
    Izhikevich(a=0.02, b=0.2, c=-50.0, d=2.0)
    """

    a: Any = 0.02
    b: Any = 0.2
    c: Any = -65.0
    d: Any = 8.0

    units: ClassVar = {"v": "mV", "u": "mV"}
    method: ClassVar = "euler"
    peak: ClassVar = 30.0

    def __post_init__(self) -> None:
        self._take_numbers()
        self._check_positive("a")
        self._check_below("c", self.peak)

    @classmethod
    def of_type(cls, name: str) -> Izhikevich:
        """Return a cell by the name of its type.

        Parameters
        ----------
        name : {"RS", "IB", "CH", "FS", "LTS", "TC", "RZ"}
            Regular spiking, intrinsically bursting, chattering, fast spiking, low-threshold spiking,
            thalamo-cortical, resonator.

        Raises
        ------
        OptionError
            A type that is not among them.
        """
        check_option("cell type", name, CELL_TYPES)
        return cls(*CELL_TYPES[name])

    @property
    def largest_step(self) -> float:
        """1 ms, or the time of recovery where that is shorter: the upstroke takes about one."""
        return min(1.0, 1 / float(self._numbers("a").max()))

    def initial_state(self, *shape: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """Return the state at rest, or at ``c`` where a neuron has none; of the shape ``(..., n_neurons)``."""
        self.check_number(shape[-1] if shape else 1)
        b, c = self._numbers("b"), self._numbers("c")
        root = (5 - b) ** 2 - 4 * 0.04 * 140
        v = torch.where(root >= 0, (b - 5 - root.clamp(min=0).sqrt()) / 0.08, c)
        return {"v": v.to(dtype).expand(shape).clone(), "u": (b * v).to(dtype).expand(shape).clone()}

    def step(
        self,
        state: State,
        current: torch.Tensor,
        dt: float,
        conductance: torch.Tensor | None = None,
        spike: Spike = hard_spike,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Advance by ``dt`` ms, find who spikes, and reset them (see `PointNeuron.step`)."""
        v, u = state["v"], state["u"]
        driven = current if conductance is None else current - conductance * v
        after = v + dt * ((0.04 * v + 5) * v + (140 - u + driven))
        recovery = u + dt * (self.a * (self.b * v - u))
        spikes = spike(after - self.peak)
        return {"v": reset_to(after, spikes, self.c, spike), "u": recovery + self.d * spikes}, spikes

    def brian2_text(self) -> Brian2Text:
        """Return the same neuron in the words of Brian2."""
        return Brian2Text(
            equations=(
                "dv/dt = (0.04 * v ** 2 / mV + 5 * v + 140 * mV - u + (I + I_synapses) * Gohm) / ms : volt\n"
                "du/dt = a * (b * v - u) : volt"
            ),
            threshold="v > 30 * mV",
            reset="v = c\nu += d",
            method=self.method,
            constants=self._constants({"a": "1/ms", "b": "1", "c": "mV", "d": "mV"}),
        )

    def rheobase(self) -> float:
        """Return the constant input above which the neuron has no stable rest any more, pA.

        A saddle-node, or for ``a < b`` the Hopf bifurcation before it. Fast inputs fire the cell below it.
        """
        a, b = (value for value, _ in (self.brian2_text().constants[name] for name in "ab"))
        v = (min(a, b) - 5) / 0.08
        return -(0.04 * v**2 + (5 - b) * v + 140)
