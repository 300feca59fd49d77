"""Plasticity that follows rates: the sliding threshold of BCM, and scaling that keeps a target's rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.biophysics.plasticity.base import (
    PlasticityRule,
    SynapseText,
    Traces,
    check_bounds,
    check_positive,
)


@dataclass(frozen=True)
class BCM(PlasticityRule):
    r"""Rule of Bienenstock, Cooper and Munro, for rates :math:`x` of sources and :math:`y` of targets.

    .. math:: \tau_w \dot w = x\, y\, (y - \theta), \qquad \tau_\theta \dot\theta = y^2 / y_0 - \theta

    (Euler steps, both from the values before the step). The threshold has to move faster than the weights, or they
    oscillate. The scale of the rates is fixed by :math:`y_0`.

    Parameters
    ----------
    tau_w, tau_theta : float
        Time constants of the weights and of the threshold, ms.
    target_rate : float
        :math:`y_0`, in units of the rates.
    w_min, w_max : float
        Bounds at which weights stop.

    Raises
    ------
    OptionError
        Parameters that are not positive, bounds without room.

    References
    ----------
    Bienenstock, E. L., Cooper, L. N., & Munro, P. W. (1982). Theory for the development of neuron selectivity.
    Journal of Neuroscience, 2(1), 32-48. https://doi.org/10.1523/JNEUROSCI.02-01-00032.1982

    Examples
    --------
    >>> rule = BCM(tau_w=1000.0, tau_theta=50.0)
    >>> rates = torch.ones(2000, 1)
    >>> rule.run([[0.5]], rates, rates, dt=1.0) > 0.5  # at first the threshold is below the rate
    tensor([[True]])
    """

    tau_w: float = 10000.0
    tau_theta: float = 1000.0
    target_rate: float = 1.0
    w_min: float = 0.0
    w_max: float = math.inf

    def __post_init__(self) -> None:
        check_positive(self, "tau_w", "tau_theta", "target_rate")
        check_bounds(self, self.w_min, self.w_max)

    def start(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return a threshold of 0 for each target."""
        return {"threshold": weights.new_zeros(weights.shape[0])}

    def step(
        self, weights: torch.Tensor, traces: Traces, source: torch.Tensor, target: torch.Tensor, dt: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Advance by one time step (see `PlasticityRule.step`)."""
        _check_euler(dt, self.tau_theta, "tau_theta")
        threshold = traces["threshold"]
        change = torch.outer(target * (target - threshold), source) * (dt / self.tau_w)
        threshold = threshold + (target**2 / self.target_rate - threshold) * (dt / self.tau_theta)
        return (weights + change).clamp(self.w_min, self.w_max), {"threshold": threshold}

    def brian2_text(self) -> SynapseText:
        """Return the same rule in the words of Brian2; both groups need a variable ``rate``."""
        return SynapseText(
            model="dw/dt = rate_pre * rate_post * (rate_post - threshold) / tau_w : 1 (clock-driven)\n"
            "dthreshold/dt = (rate_post ** 2 / target_rate - threshold) / tau_theta : 1 (clock-driven)",
            on_pre="",
            on_post="",
            constants={
                "tau_w": (self.tau_w, "ms"),
                "tau_theta": (self.tau_theta, "ms"),
                "target_rate": (self.target_rate, "1"),
                "w_min": (self.w_min, "1"),
                "w_max": (self.w_max, "1"),
            },
            each_step="w = clip(w, w_min, w_max)",
        )

    def _check_activity(self, source: torch.Tensor, target: torch.Tensor) -> None:
        for name, rates in (("source", source), ("target", target)):
            if bool((rates < 0).any()):
                raise InputError(f"{name} holds negative rates", expected="at least 0", got=f"{float(rates.min()):g}")


@dataclass(frozen=True)
class HomeostaticScaling(PlasticityRule):
    r"""Synaptic scaling: all inputs of a target grow or shrink by one factor until it fires at its rate.

    .. math:: \tau_w \dot w = w\, (1 - r / r_0), \qquad \tau_r \dot r = -r + \textstyle\sum_k \delta(t - t_k)

    with Euler steps: a spike adds :math:`1/\tau_r` to the running rate :math:`r`.

    Parameters
    ----------
    target_rate : float
        :math:`r_0`, spikes per second.
    tau_w, tau_rate : float
        Time constants of the weights and of the running rate, ms. Weights must be the slower ones by far, or they
        oscillate.

    Raises
    ------
    OptionError
        Parameters that are not positive.

    References
    ----------
    Turrigiano, G. G., Leslie, K. R., Desai, N. S., Rutherford, L. C., & Nelson, S. B. (1998). Activity-dependent
    scaling of quantal amplitude in neocortical neurons. Nature, 391, 892-896. https://doi.org/10.1038/36103
    van Rossum, M. C. W., Bi, G. Q., & Turrigiano, G. G. (2000). Stable Hebbian learning from spike timing-dependent
    plasticity. Journal of Neuroscience, 20(23), 8812-8821. https://doi.org/10.1523/JNEUROSCI.20-23-08812.2000

    Examples
    --------
    >>> silent = torch.zeros(1000, 2), torch.zeros(1000, 1)
    >>> HomeostaticScaling(target_rate=5.0, tau_w=10000.0).run([[1.0, 2.0]], *silent, dt=1.0)  # both by e^(1/10)
    tensor([[1.1052, 2.2103]], dtype=torch.float64)
    """

    target_rate: float = 5.0
    tau_w: float = 100000.0
    tau_rate: float = 1000.0

    def __post_init__(self) -> None:
        check_positive(self, "target_rate", "tau_w", "tau_rate")

    def start(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return a running rate of 0 for each target."""
        return {"rate": weights.new_zeros(weights.shape[0])}

    def step(
        self, weights: torch.Tensor, traces: Traces, source: torch.Tensor, target: torch.Tensor, dt: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Advance by one time step (see `PlasticityRule.step`)."""
        _check_euler(dt, min(self.tau_w, self.tau_rate), "the time constants")
        rate = traces["rate"]
        growth = 1 + (dt / self.tau_w) * (1 - rate / self.target_rate)
        if bool((growth < 0).any()):
            raise InputError(
                "scaling turns weights around: the target fires far above its rate",
                expected=f"less than {self.target_rate * (1 + self.tau_w / dt):.4g} spikes/s",
                got=f"{float(rate.max()):.4g}",
                fix="give a longer tau_w, or a shorter dt",
            )
        rate = rate * (1 - dt / self.tau_rate) + target * (1000.0 / self.tau_rate)
        return weights * growth[:, None], {"rate": rate}

    def brian2_text(self) -> SynapseText:
        """Return the same rule in the words of Brian2."""
        return SynapseText(
            model="dw/dt = w * (1 - running_rate / target_rate) / tau_w : 1 (clock-driven)\n"
            "drunning_rate/dt = -running_rate / tau_rate : Hz (clock-driven)",
            on_pre="",
            on_post="running_rate += 1 / tau_rate",
            constants={
                "target_rate": (self.target_rate, "Hz"),
                "tau_w": (self.tau_w, "ms"),
                "tau_rate": (self.tau_rate, "ms"),
            },
        )


def _check_euler(dt: float, tau: float, name: str) -> None:
    if dt >= tau:
        raise OptionError("dt is too long", expected=f"far less than {name}, {tau:g} ms", got=f"{dt:g} ms")
