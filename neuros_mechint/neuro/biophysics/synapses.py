"""Synapses that spikes open and time closes: currents, conductances, and the receptors of the cortex."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from neuros_mechint.core.errors import number

Input = tuple[torch.Tensor, torch.Tensor | None]
"""Current in pA and conductance in nS, as `PointNeuron.step` takes them."""


@dataclass(frozen=True)
class Synapse(ABC):
    """Base of the synapses of one kind onto a neuron: they share a state, to which each spike adds its weight.

    Within a step the neuron sees the state from before the step; the state then decays, and the spikes of the step add
    their weights: the order of Brian2.

    Parameters
    ----------
    tau : float
        Time constant of the decay, ms.

    Raises
    ------
    OptionError
        A time constant that is not positive.
    """

    tau: float = 5.0

    unit: ClassVar[str]
    """Of the state and of the weights."""

    def __post_init__(self) -> None:
        number(f"tau of {type(self).__name__}", self.tau, 0, math.inf, closed="neither")

    def decayed(self, state: torch.Tensor, dt: float, method: str) -> torch.Tensor:
        """Return the state ``dt`` ms later, by the neuron's integrator: exactly, or by an Euler step."""
        return state * (1 - dt / self.tau if method == "euler" else math.exp(-dt / self.tau))

    @abstractmethod
    def input(self, state: torch.Tensor, v: torch.Tensor) -> Input:
        """Return current and conductance at the potential ``v`` in mV."""

    @abstractmethod
    def brian2_equations(self, name: str) -> tuple[str, str, dict[str, tuple[float, str]]]:
        """Return the equations of the state ``name``, the current it gives, and the constants of both."""


@dataclass(frozen=True)
class CurrentSynapse(Synapse):
    """A current that each spike raises by its weight in pA, and that decays.

    Examples
    --------
    >>> synapse = CurrentSynapse(tau=5.0)
    >>> round(float(synapse.decayed(torch.tensor(1.0), 5.0, "exponential_euler")), 4)
    0.3679
    """

    unit: ClassVar = "pA"

    def input(self, state: torch.Tensor, v: torch.Tensor) -> Input:
        """Return current and conductance at the potential ``v`` in mV."""
        return state, None

    def brian2_equations(self, name: str) -> tuple[str, str, dict[str, tuple[float, str]]]:
        """Return the equations of the state ``name``, the current it gives, and the constants of both."""
        return f"d{name}/dt = -{name} / tau_{name} : amp", name, {f"tau_{name}": (self.tau, "ms")}


@dataclass(frozen=True)
class PulseSynapse(Synapse):
    """A current of the weight in pA that lasts for the one time step in which a spike arrives.

    With `LIF` it is what machine learning calls a synapse without dynamics.

    Examples
    --------
    >>> float(PulseSynapse().decayed(torch.tensor(1.0), 0.1, "exponential_euler"))
    0.0
    """

    unit: ClassVar = "pA"

    def decayed(self, state: torch.Tensor, dt: float, method: str) -> torch.Tensor:
        """Return what is left one time step later: nothing."""
        return torch.zeros_like(state)

    def input(self, state: torch.Tensor, v: torch.Tensor) -> Input:
        """Return current and conductance at the potential ``v`` in mV."""
        return state, None

    def brian2_equations(self, name: str) -> tuple[str, str, dict[str, tuple[float, str]]]:
        """Return the equations of the state ``name``, which whoever builds the group must set to 0 in each step."""
        return f"{name} : amp", name, {}


@dataclass(frozen=True)
class ConductanceSynapse(Synapse):
    """A conductance that each spike raises by its weight in nS, and that decays; it pulls towards its reversal.

    Parameters
    ----------
    tau : float
        Time constant of the decay, ms.
    reversal : float
        mV.

    Examples
    --------
    >>> current, conductance = ConductanceSynapse(reversal=-80.0).input(torch.tensor(2.0), torch.tensor(-60.0))
    >>> float(current - conductance * -60.0)  # 2 nS over -20 mV, pA
    -40.0
    """

    reversal: float = 0.0

    unit: ClassVar = "nS"

    def __post_init__(self) -> None:
        super().__post_init__()
        number(f"reversal of {type(self).__name__}", self.reversal, -math.inf, math.inf, closed="neither")

    def input(self, state: torch.Tensor, v: torch.Tensor) -> Input:
        """Return current and conductance at the potential ``v`` in mV."""
        return state * self.reversal, state

    def brian2_equations(self, name: str) -> tuple[str, str, dict[str, tuple[float, str]]]:
        """Return the equations of the state ``name``, the current it gives, and the constants of both."""
        constants = {f"tau_{name}": (self.tau, "ms"), f"reversal_{name}": (self.reversal, "mV")}
        return f"d{name}/dt = -{name} / tau_{name} : siemens", f"{name} * (reversal_{name} - v)", constants


@dataclass(frozen=True)
class AMPA(ConductanceSynapse):
    """Fast excitation: 2 ms, reversal at 0 mV.

    Examples
    --------
    >>> AMPA()
    AMPA(tau=2.0, reversal=0.0)
    """

    tau: float = 2.0
    reversal: float = 0.0


@dataclass(frozen=True)
class GABA(ConductanceSynapse):
    """Fast inhibition (GABA-A): 10 ms, reversal at -70 mV.

    Examples
    --------
    >>> GABA()
    GABA(tau=10.0, reversal=-70.0)
    """

    tau: float = 10.0
    reversal: float = -70.0


@dataclass(frozen=True)
class NMDA(ConductanceSynapse):
    r"""Slow excitation that magnesium blocks at rest: 100 ms, reversal at 0 mV.

    The share of open channels is :math:`1 / (1 + [Mg] / 3.57 \cdot e^{-.062 v})`, taken from the potential before a
    step and held over it. Its rise, of some 2 ms, is left out.

    Parameters
    ----------
    tau : float
        Time constant of the decay, ms.
    reversal : float
        mV.
    magnesium : float
        Concentration outside of the cell, mM.

    Raises
    ------
    OptionError
        A time constant that is not positive, or a negative concentration.

    References
    ----------
    Jahr, C. E., & Stevens, C. F. (1990). Voltage dependence of NMDA-activated macroscopic conductances predicted by
    single-channel kinetics. Journal of Neuroscience, 10(9), 3178-3182.
    https://doi.org/10.1523/JNEUROSCI.10-09-03178.1990

    Examples
    --------
    >>> [round(float(NMDA().unblocked(torch.tensor(v))), 3) for v in (-70.0, -20.0, 20.0)]
    [0.044, 0.508, 0.925]
    """

    tau: float = 100.0
    reversal: float = 0.0
    magnesium: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("magnesium of NMDA", self.magnesium, 0, math.inf, closed="left")

    def unblocked(self, v: torch.Tensor) -> torch.Tensor:
        """Return the share of channels that magnesium does not block at ``v`` in mV."""
        return 1 / (1 + self.magnesium / 3.57 * torch.exp(-0.062 * v))

    def input(self, state: torch.Tensor, v: torch.Tensor) -> Input:
        """Return current and conductance at the potential ``v`` in mV."""
        return super().input(state * self.unblocked(v), v)

    def brian2_equations(self, name: str) -> tuple[str, str, dict[str, tuple[float, str]]]:
        """Return the equations of the state ``name``, the current it gives, and the constants of both."""
        equations, _, constants = super().brian2_equations(name)
        block = f"1 / (1 + magnesium_{name} / 3.57 * exp(-0.062 * v / mV)) : 1 (constant over dt)"
        return (
            f"{equations}\nunblocked_{name} = {block}",
            f"{name} * unblocked_{name} * (reversal_{name} - v)",
            {**constants, f"magnesium_{name}": (self.magnesium, "1")},
        )
