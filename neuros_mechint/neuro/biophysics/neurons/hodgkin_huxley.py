"""Neurons with the currents of Hodgkin and Huxley: the squid axon, and the hippocampal cell of Traub and Miles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from neuros_mechint.core.errors import check_option
from neuros_mechint.neuro.biophysics.neurons.arithmetic import exp, exprel, sigmoid
from neuros_mechint.neuro.biophysics.neurons.base import (
    Brian2Text,
    PointNeuron,
    Spike,
    State,
    hard_spike,
)

Rates = tuple[torch.Tensor, torch.Tensor]

_SQUID = """
alpha_m = 1 / exprel(-(v + 40*mV) / (10*mV)) / ms : Hz
beta_m = 4 * exp(-(v + 65*mV) / (18*mV)) / ms : Hz
alpha_h = 0.07 * exp(-(v + 65*mV) / (20*mV)) / ms : Hz
beta_h = 1 / (exp(-(v + 35*mV) / (10*mV)) + 1) / ms : Hz
alpha_n = 0.1 / exprel(-(v + 55*mV) / (10*mV)) / ms : Hz
beta_n = 0.125 * exp(-(v + 65*mV) / (80*mV)) / ms : Hz
"""

_TRAUB_MILES = """
alpha_m = 0.32 * 4 / exprel((13*mV - v + shift) / (4*mV)) / ms : Hz
beta_m = 0.28 * 5 / exprel((v - shift - 40*mV) / (5*mV)) / ms : Hz
alpha_h = 0.128 * exp((17*mV - v + shift) / (18*mV)) / ms : Hz
beta_h = 4 / (1 + exp((40*mV - v + shift) / (5*mV))) / ms : Hz
alpha_n = 0.032 * 5 / exprel((15*mV - v + shift) / (5*mV)) / ms : Hz
beta_n = 0.5 * exp((10*mV - v + shift) / (40*mV)) / ms : Hz
"""

_MEMBRANE = """
dv/dt = (leak * (leak_reversal - v) - sodium * m**3 * h * (v - sodium_reversal)
    - potassium * n**4 * (v - potassium_reversal) + I + I_synapses) / capacitance : volt
dm/dt = alpha_m * (1 - m) - beta_m * m : 1
dh/dt = alpha_h * (1 - h) - beta_h * h : 1
dn/dt = alpha_n * (1 - n) - beta_n * n : 1
"""


@dataclass(frozen=True)
class HodgkinHuxley(PointNeuron):
    r"""Hodgkin and Huxley's neuron, with exponential Euler steps.

    .. math:: C \dot v = g_L (E_L - v) - g_{Na} m^3 h (v - E_{Na}) - g_K n^4 (v - E_K) + I

    and :math:`\dot x = \alpha_x(v) (1 - x) - \beta_x(v) x` for the gates m, h and n. The defaults are the squid axon at
    6.3 degrees, for a patch of 100 square micrometres: there, pA are the paper's uA/cm2, nS its mS/cm2 and pF its
    uF/cm2. It fires where the potential rises through -20 mV, and is not reset.

    Parameters
    ----------
    capacitance : float or array
        pF.
    sodium, potassium, leak : float or array
        Largest conductances, nS.
    sodium_reversal, potassium_reversal, leak_reversal : float or array
        mV.
    kinetics : {"squid", "traub_miles"}
        Rates of the gates.
    shift : float
        Shift of the potential in the rates of Traub and Miles, mV.

    Raises
    ------
    OptionError
        Parameters that are not physical, kinetics that do not exist.

    References
    ----------
    Hodgkin, A. L., & Huxley, A. F. (1952). A quantitative description of membrane current and its application to
    conduction and excitation in nerve. Journal of Physiology, 117(4), 500-544.
    https://doi.org/10.1113/jphysiol.1952.sp004764
    Traub, R. D., & Miles, R. (1991). Neuronal Networks of the Hippocampus. Cambridge University Press.
    https://doi.org/10.1017/CBO9780511895401

    Examples
    --------
    >>> rest = HodgkinHuxley().initial_state(1)
    >>> {name: round(float(value), 3) for name, value in rest.items()}
    {'v': -65.0, 'm': 0.053, 'h': 0.596, 'n': 0.318}
    """

    capacitance: Any = 1.0
    sodium: Any = 120.0
    potassium: Any = 36.0
    leak: Any = 0.3
    sodium_reversal: Any = 50.0
    potassium_reversal: Any = -77.0
    leak_reversal: Any = -54.387
    kinetics: str = "squid"
    shift: float = -63.0

    units: ClassVar = {"v": "mV", "m": "1", "h": "1", "n": "1"}
    method: ClassVar = "exponential_euler"
    fires_at: ClassVar = -20.0

    def __post_init__(self) -> None:
        check_option("kinetics", self.kinetics, ("squid", "traub_miles"))
        self._take_numbers()
        self._check_positive("capacitance", "sodium", "potassium", "leak")

    @classmethod
    def traub_miles(cls) -> HodgkinHuxley:
        """Return the pyramidal cell of Traub and Miles as Brette et al. (2007) have it: 200 pF, 10 nS of leak."""
        return cls(200.0, 20000.0, 6000.0, 10.0, 50.0, -90.0, -65.0, kinetics="traub_miles")

    @property
    def largest_step(self) -> float:
        """.1 ms: the sodium gate follows the potential within that time."""
        return 0.1

    def initial_state(self, *shape: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """Return the state at rest, each variable of the shape ``(..., n_neurons)``.

        The lowest potential at which the membrane's current falls through 0 with open gates at their steady state;
        ``leak_reversal`` where there is none between -120 and 0 mV.
        """
        self.check_number(shape[-1] if shape else 1)
        grid = torch.linspace(-120, 0, 1201, dtype=torch.float64)[:, None]
        falls = (self._steady_current(grid[:-1]) > 0) & (self._steady_current(grid[1:]) <= 0)
        first = grid[falls.int().argmax(0), 0]
        low, high = first, first + 0.1
        for _ in range(50):
            middle = (low + high) / 2
            above = self._steady_current(middle) > 0
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        v = torch.where(falls.any(0), low, self._numbers("leak_reversal"))
        gates = {name: alpha / (alpha + beta) for name, (alpha, beta) in self._gates(v).items()}
        return {name: value.to(dtype).expand(shape).clone() for name, value in {"v": v, **gates}.items()}

    def _steady_current(self, v: torch.Tensor) -> torch.Tensor:
        m, h, n = (alpha / (alpha + beta) for alpha, beta in self._gates(v).values())
        numbers = {name: self._numbers(name) for name in ("leak", "sodium", "potassium")}
        currents = (
            numbers["leak"] * (v - self._numbers("leak_reversal"))
            + numbers["sodium"] * m**3 * h * (v - self._numbers("sodium_reversal"))
            + numbers["potassium"] * n**4 * (v - self._numbers("potassium_reversal"))
        )
        return -currents

    def step(
        self,
        state: State,
        current: torch.Tensor,
        dt: float,
        conductance: torch.Tensor | None = None,
        spike: Spike = hard_spike,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Advance by ``dt`` ms and find who spikes (see `PointNeuron.step`)."""
        v, m, h, n = state["v"], state["m"], state["h"], state["n"]
        after = {}
        for name, (alpha, beta) in self._gates(v).items():
            rate = alpha + beta
            towards = alpha / rate
            after[name] = towards + (state[name] - towards) * exp(-dt * rate)
        open_sodium, open_potassium = self.sodium * (m * m * m) * h, self.potassium * (n * n) * (n * n)
        total = self.leak + open_sodium + open_potassium
        pull = self.leak * self.leak_reversal + open_sodium * self.sodium_reversal
        pull = pull + open_potassium * self.potassium_reversal + current
        if conductance is not None:
            total = total + conductance
        towards = pull / total
        potential = towards + (v - towards) * exp(-dt * (total / self.capacitance))
        spikes = spike(potential - self.fires_at) * (v <= self.fires_at)
        return {"v": potential, **after}, spikes

    def _gates(self, v: torch.Tensor) -> dict[str, Rates]:
        """Return alpha and beta of each gate, per ms."""
        return (_squid_rates if self.kinetics == "squid" else _traub_miles_rates)(v, self.shift)

    def brian2_text(self) -> Brian2Text:
        """Return the same neuron in the words of Brian2."""
        units = {"capacitance": "pF", "sodium": "nS", "potassium": "nS", "leak": "nS"}
        units |= {f"{ion}_reversal": "mV" for ion in ("sodium", "potassium", "leak")}
        if self.kinetics == "traub_miles":
            units["shift"] = "mV"
        above = f"v > {self.fires_at} * mV"
        return Brian2Text(
            equations=(_MEMBRANE + (_SQUID if self.kinetics == "squid" else _TRAUB_MILES)).strip(),
            threshold=above,
            reset="",
            method=self.method,
            constants=self._constants(units),
            refractory=above,
        )


def _squid_rates(v: torch.Tensor, shift: float) -> dict[str, Rates]:
    del shift  # is of the other kinetics
    return {
        "m": (1 / exprel((v + 40) / -10), 4 * exp((v + 65) / -18)),
        "h": (0.07 * exp((v + 65) / -20), sigmoid((v + 35) / 10)),
        "n": (0.1 / exprel((v + 55) / -10), 0.125 * exp((v + 65) / -80)),
    }


def _traub_miles_rates(v: torch.Tensor, shift: float) -> dict[str, Rates]:
    above = v - shift
    return {
        "m": (1.28 / exprel((13 - above) / 4), 1.4 / exprel((above - 40) / 5)),
        "h": (0.128 * exp((17 - above) / 18), 4 * sigmoid((above - 40) / 5)),
        "n": (0.16 / exprel((15 - above) / 5), 0.5 * exp((10 - above) / 40)),
    }
