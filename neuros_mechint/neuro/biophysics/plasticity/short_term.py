"""Short-term plasticity: release that facilitates and is used up, after Tsodyks and Markram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.core.errors import InputError, number
from neuros_mechint.neuro.biophysics.plasticity.base import (
    SynapseText,
    check_positive,
    decay,
    finite,
    refuse_no_spikes,
)


@dataclass(frozen=True)
class ShortTermPlasticity:
    r"""Short-term facilitation and depression of a synapse.

    At each spike the share :math:`u` that is released grows, :math:`u \leftarrow u + U (1 - u)`, then
    :math:`u x` of the resource :math:`x` is released, :math:`x \leftarrow x - u x`. In between :math:`u` decays to 0
    with ``tau_f`` and :math:`x` recovers to 1 with ``tau_d``. The first spike releases ``U``.

    Parameters
    ----------
    U : float
        Share that a first spike releases, above 0 and up to 1.
    tau_f, tau_d : float
        Time constants of facilitation and of recovery from depression, ms.

    Raises
    ------
    OptionError
        A share outside of its range, time constants that are not positive.

    References
    ----------
    Tsodyks, M., Pawelzik, K., & Markram, H. (1998). Neural networks with dynamic synapses. Neural Computation, 10(4),
    821-835. https://doi.org/10.1162/089976698300017502

    Examples
    --------
    >>> depressing = ShortTermPlasticity(U=0.5, tau_f=10.0, tau_d=800.0)
    >>> [round(float(release), 3) for release in depressing([0.0, 50.0, 100.0])]
    [0.5, 0.266, 0.155]
    """

    U: float = 0.2
    tau_f: float = 600.0
    tau_d: float = 200.0

    def __post_init__(self) -> None:
        number("U of ShortTermPlasticity", self.U, 0, 1)
        check_positive(self, "tau_f", "tau_d")

    def __call__(self, spike_times: Any) -> torch.Tensor:
        """Return what each spike releases.

        Parameters
        ----------
        spike_times : array of shape (n_spikes,)
            In ms, rising.

        Returns
        -------
        torch.Tensor of shape (n_spikes,)
            The share :math:`u x` of all resources.

        Raises
        ------
        InputError
            Times that do not rise, or are no finite numbers.
        """
        times = finite("spike times", spike_times, 1)
        intervals = times.diff()
        if bool((intervals <= 0).any()):
            raise InputError(
                "spike times do not rise",
                expected="each spike after the one before it",
                got=f"an interval of {float(intervals.min()):g} ms",
                fix="sort them, one synapse at a time",
            )
        share, resource, released = times.new_tensor(self.U), times.new_tensor(1.0), []
        for interval in [*intervals, None]:
            released.append(share * resource)
            if interval is not None:
                left = resource - released[-1]
                share = share * torch.exp(-interval / self.tau_f)
                share = share + self.U * (1 - share)
                resource = 1 - (1 - left) * torch.exp(-interval / self.tau_d)
        return torch.stack(released)

    def run(self, spikes: Any, dt: float) -> torch.Tensor:
        """Return what is released in each time step.

        Parameters
        ----------
        spikes : array of shape (n_times, n_synapses)
            0 or 1.
        dt : float
            Time step in ms.

        Returns
        -------
        torch.Tensor of shape (n_times, n_synapses)
            0 where there is no spike.

        Raises
        ------
        InputError, OptionError
            Something else than spikes, or a time step that is not positive.
        """
        number("dt", dt, 0, math.inf, closed="neither")
        given = finite("spikes", spikes, 2)
        refuse_no_spikes("spikes", given)
        state = self.start(given.shape[1], given.dtype)
        released: list[torch.Tensor] = []
        for now in given:
            release, state = self.step(state, now, dt)
            released.append(release)
        return torch.stack(released)

    def start(self, n_synapses: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """Return the state of synapses that have rested."""
        return {"u": torch.zeros(n_synapses, dtype=dtype), "x": torch.ones(n_synapses, dtype=dtype)}

    def step(
        self, state: dict[str, torch.Tensor], spikes: torch.Tensor, dt: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Advance by one time step of ``dt`` ms; return what is released, and the state after it."""
        share = state["u"] * decay(dt, self.tau_f)
        resource = 1 - (1 - state["x"]) * decay(dt, self.tau_d)
        share = share + self.U * (1 - share) * spikes
        release = share * resource * spikes
        return release, {"u": share, "x": resource - release}

    def steady_release(self, rate: float) -> float:
        """Return what each spike of a regular train releases once the train has lasted long.

        Parameters
        ----------
        rate : float
            Spikes per second.

        Returns
        -------
        float
        """
        interval = 1000.0 / number("rate", rate, 0, math.inf, closed="neither")
        share = self.U / (1 - (1 - self.U) * decay(interval, self.tau_f))
        recovery = decay(interval, self.tau_d)
        return share * (1 - recovery) / (1 - (1 - share) * recovery)

    def brian2_text(self) -> SynapseText:
        """Return the same synapse in the words of Brian2: ``release`` holds what the last spike released."""
        return SynapseText(
            model="w : 1\nrelease : 1\n"
            "du/dt = -u / tau_f : 1 (event-driven)\ndx/dt = (1 - x) / tau_d : 1 (event-driven)",
            on_pre="u += U * (1 - u)\nrelease = u * x\nx -= release",
            on_post="",
            constants={"U": (self.U, "1"), "tau_f": (self.tau_f, "ms"), "tau_d": (self.tau_d, "ms")},
        )
