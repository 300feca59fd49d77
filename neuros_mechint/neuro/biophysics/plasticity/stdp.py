"""Spike-timing-dependent plasticity of pairs and of triplets of spikes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.neuro.biophysics.plasticity.base import (
    PlasticityRule,
    SynapseText,
    Traces,
    check_bounds,
    check_not_negative,
    check_positive,
    decay,
    finite,
)

# Brian2 warns of variables of a synapse whose names also exist where the network is run
_SOURCE_TRACE = "dsource_trace/dt = -source_trace / tau_plus : 1 (event-driven)"
_TARGET_TRACE = "dtarget_trace/dt = -target_trace / tau_minus : 1 (event-driven)"


@dataclass(frozen=True)
class STDP(PlasticityRule):
    r"""Spike-timing-dependent plasticity of pairs, all to all and additive.

    A source that fires :math:`\Delta` ms before its target strengthens the synapse by
    :math:`A_+ e^{-\Delta/\tau_+}`; one that fires after it weakens it by :math:`A_- e^{-\Delta/\tau_-}`. Spikes in the
    same time step count as source before target.

    Parameters
    ----------
    a_plus, a_minus : float
        Largest change by one pair, both of at least 0, in units of the weight.
    tau_plus, tau_minus : float
        Time constants of the two halves of the window, ms.
    w_min, w_max : float
        Bounds at which weights stop.

    Raises
    ------
    OptionError
        Time constants that are not positive, changes that are negative, bounds without room.

    References
    ----------
    Song, S., Miller, K. D., & Abbott, L. F. (2000). Competitive Hebbian learning through spike-timing-dependent
    synaptic plasticity. Nature Neuroscience, 3, 919-926. https://doi.org/10.1038/78829

    Examples
    --------
    >>> rule = STDP(a_plus=0.01, a_minus=0.0105, tau_plus=20.0, tau_minus=20.0)
    >>> [round(float(change), 7) for change in rule.window(torch.tensor([10.0, -10.0]))]
    [0.0060653, -0.0063686]
    """

    a_plus: float = 0.01
    a_minus: float = 0.0105
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    w_min: float = -math.inf
    w_max: float = math.inf

    def __post_init__(self) -> None:
        check_not_negative(self, "a_plus", "a_minus")
        check_positive(self, "tau_plus", "tau_minus")
        check_bounds(self, self.w_min, self.w_max)

    def window(self, lag: Any) -> torch.Tensor:
        """Return the change of weight by one pair of spikes.

        Parameters
        ----------
        lag : array
            Time of the target's spike less that of the source's, ms.

        Returns
        -------
        torch.Tensor
            Of the shape of ``lag``.
        """
        lags = finite("lags", lag)
        stronger = self.a_plus * torch.exp(-lags.clamp(min=0) / self.tau_plus)
        weaker = -self.a_minus * torch.exp(lags.clamp(max=0) / self.tau_minus)
        return torch.where(lags >= 0, stronger, weaker)

    def start(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the traces of a synapse that nothing has happened to."""
        return {"source": weights.new_zeros(weights.shape[1]), "target": weights.new_zeros(weights.shape[0])}

    def step(
        self, weights: torch.Tensor, traces: Traces, source: torch.Tensor, target: torch.Tensor, dt: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Advance by one time step (see `PlasticityRule.step`)."""
        seen_source = traces["source"] * decay(dt, self.tau_plus) + source
        seen_target = traces["target"] * decay(dt, self.tau_minus)
        if bool(source.any()):
            weights = (weights - self.a_minus * torch.outer(seen_target, source)).clamp(self.w_min, self.w_max)
        if bool(target.any()):
            weights = (weights + self.a_plus * torch.outer(target, seen_source)).clamp(self.w_min, self.w_max)
        return weights, {"source": seen_source, "target": seen_target + target}

    def brian2_text(self) -> SynapseText:
        """Return the same rule in the words of Brian2."""
        return SynapseText(
            model=f"w : 1\n{_SOURCE_TRACE}\n{_TARGET_TRACE}",
            on_pre="source_trace += 1\nw = clip(w - a_minus * target_trace, w_min, w_max)",
            on_post="target_trace += 1\nw = clip(w + a_plus * source_trace, w_min, w_max)",
            constants={
                "a_plus": (self.a_plus, "1"),
                "a_minus": (self.a_minus, "1"),
                "tau_plus": (self.tau_plus, "ms"),
                "tau_minus": (self.tau_minus, "ms"),
                "w_min": (self.w_min, "1"),
                "w_max": (self.w_max, "1"),
            },
        )


@dataclass(frozen=True)
class TripletSTDP(PlasticityRule):
    r"""Spike-timing-dependent plasticity of triplets, all to all: how change depends on the rate of pairs as well.

    With traces :math:`r_1, r_2` of the source and :math:`o_1, o_2` of the target, a spike of the source changes the
    weight by :math:`-o_1 (A_2^- + A_3^- r_2)`, one of the target by :math:`r_1 (A_2^+ + A_3^+ o_2)`; :math:`r_2` and
    :math:`o_2` are read before the spike adds itself to them. The defaults are those that the authors fitted to pairs
    in visual cortex (the full model, all to all).

    Parameters
    ----------
    a2_plus, a3_plus, a2_minus, a3_minus : float
        Change by a pair and by a triplet, all of at least 0, in units of the weight.
    tau_plus, tau_minus, tau_x, tau_y : float
        Time constants of :math:`r_1, o_1, r_2, o_2`, ms.
    w_min, w_max : float
        Bounds at which weights stop.

    Raises
    ------
    OptionError
        Time constants that are not positive, changes that are negative, bounds without room.

    References
    ----------
    Pfister, J.-P., & Gerstner, W. (2006). Triplets of spikes in a model of spike timing-dependent plasticity. Journal
    of Neuroscience, 26(38), 9673-9682. https://doi.org/10.1523/JNEUROSCI.1425-06.2006

    Examples
    --------
    >>> spikes = torch.zeros(200, 1)
    >>> spikes[50] = 1
    >>> later = spikes.roll(10, 0)
    >>> pairs = TripletSTDP(a2_plus=0.01, a3_plus=0.0, a2_minus=0.01, a3_minus=0.0, tau_plus=20.0)
    >>> pairs.run([[0.0]], spikes, later, dt=1.0)  # without triplets: the window of pairs
    tensor([[0.0061]], dtype=torch.float64)
    """

    a2_plus: float = 5e-10
    a3_plus: float = 6.2e-3
    a2_minus: float = 7e-3
    a3_minus: float = 2.3e-4
    tau_plus: float = 16.8
    tau_minus: float = 33.7
    tau_x: float = 101.0
    tau_y: float = 125.0
    w_min: float = -math.inf
    w_max: float = math.inf

    def __post_init__(self) -> None:
        check_not_negative(self, "a2_plus", "a3_plus", "a2_minus", "a3_minus")
        check_positive(self, "tau_plus", "tau_minus", "tau_x", "tau_y")
        check_bounds(self, self.w_min, self.w_max)

    def start(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the traces of a synapse that nothing has happened to."""
        source, target = weights.new_zeros(weights.shape[1]), weights.new_zeros(weights.shape[0])
        return {"source": source, "source_slow": source, "target": target, "target_slow": target}

    def step(
        self, weights: torch.Tensor, traces: Traces, source: torch.Tensor, target: torch.Tensor, dt: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Advance by one time step (see `PlasticityRule.step`)."""
        fast_source = traces["source"] * decay(dt, self.tau_plus) + source
        slow_source = traces["source_slow"] * decay(dt, self.tau_x)
        fast_target = traces["target"] * decay(dt, self.tau_minus)
        slow_target = traces["target_slow"] * decay(dt, self.tau_y)
        if bool(source.any()):
            weaker = torch.outer(fast_target, source * (self.a2_minus + self.a3_minus * slow_source))
            weights = (weights - weaker).clamp(self.w_min, self.w_max)
        if bool(target.any()):
            stronger = torch.outer(target * (self.a2_plus + self.a3_plus * slow_target), fast_source)
            weights = (weights + stronger).clamp(self.w_min, self.w_max)
        return weights, {
            "source": fast_source,
            "source_slow": slow_source + source,
            "target": fast_target + target,
            "target_slow": slow_target + target,
        }

    def brian2_text(self) -> SynapseText:
        """Return the same rule in the words of Brian2."""
        slow = "dslow_source_trace/dt = -slow_source_trace / tau_x : 1 (event-driven)\n"
        slow += "dslow_target_trace/dt = -slow_target_trace / tau_y : 1 (event-driven)"
        weaker = "w - target_trace * (a2_minus + a3_minus * slow_source_trace)"
        stronger = "w + source_trace * (a2_plus + a3_plus * slow_target_trace)"
        amounts = ("a2_plus", "a3_plus", "a2_minus", "a3_minus", "w_min", "w_max")
        times = ("tau_plus", "tau_minus", "tau_x", "tau_y")
        return SynapseText(
            model=f"w : 1\n{_SOURCE_TRACE}\n{_TARGET_TRACE}\n{slow}",
            on_pre=f"source_trace += 1\nw = clip({weaker}, w_min, w_max)\nslow_source_trace += 1",
            on_post=f"target_trace += 1\nw = clip({stronger}, w_min, w_max)\nslow_target_trace += 1",
            constants={name: (getattr(self, name), "1") for name in amounts}
            | {name: (getattr(self, name), "ms") for name in times},
        )
