"""Higuchi's dimension: how the length of a curve grows when it is measured in finer steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import torch

from neuros_mechint.core.errors import CapabilityError, InputError, check_option, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.scaling import FEWEST_SCALES, line_fit
from neuros_mechint.neuro.fractals.stimuli.gaussian import fractional_brownian_motion, fractional_gaussian_noise

_ROUNDINGS = 16
# Two and a half megabytes of float64: more leaves the cache, less is work per call.
_NUMBERS_AT_ONCE = 320_000


class HiguchiFractalDimension(SignalMetric):
    r"""The fractal dimension of the graph of a signal, by Higuchi's method.

    The curve is measured in steps of :math:`k` samples. Its length

    .. math:: L(k) = \frac{1}{k} \sum_{m=1}^{k} \frac{N - 1}{k^2 N_m} \sum_{i=1}^{N_m} |x_{m+ik} - x_{m+(i-1)k}|,
        \qquad N_m = \left\lfloor \frac{N - m}{k} \right\rfloor

    falls as :math:`k^{-D}`: 1 for a smooth curve, :math:`2 - H` for fractional Brownian motion, 2 for white noise.
    Differentiable; at steps of exactly zero the gradient is zero.

    Parameters
    ----------
    k_max : int
        The longest step in samples, at least 3. Signals need twice as many samples.
    fused : bool
        Compile one loop over differences, weights and sums by `torch.compile`. The first call then takes up to half a
        minute and needs a C++ compiler; later ones take about half the time. There are no gradients.

    References
    ----------
    Higuchi 1988, Approach to an irregular time series on the basis of the fractal theory,
    doi:10.1016/0167-2789(88)90081-4

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> walks = nm.fractional_brownian_motion([0.3, 0.7], n_samples=10_000, n_channels=2)
    >>> nm.HiguchiFractalDimension(k_max=10)(walks).round(decimals=1)
    tensor([1.7000, 1.3000], dtype=torch.float64)
    """

    quantity: ClassVar[str] = "dimension"
    long_name: ClassVar[str] = "Higuchi's fractal dimension"
    scale_name: ClassVar[str] = "step"
    statistic_name: ClassVar[str] = "length of the curve"
    citations: ClassVar[tuple[str, ...]] = ("higuchi1988",)
    truths: ClassVar[tuple[float, ...]] = (1.02, 1.05, *(1 + tenth / 10 for tenth in range(1, 10)), 1.95, 2.0)
    simulated: ClassVar[str] = "fractional Brownian motion or white noise"

    def __init__(self, k_max: int = 10, *, fused: bool = False) -> None:
        self.k_max = whole("k_max", k_max, least=FEWEST_SCALES)
        check_option("fused", fused, (True, False))
        self.fused = fused

    def _least(self) -> int:
        return 2 * self.k_max

    def _fits(self, rows: torch.Tensor) -> list[Fit]:
        return [self._fit(rows)]

    def _fit(self, rows: torch.Tensor) -> Fit:
        if self.fused and rows.requires_grad and torch.is_grad_enabled():
            raise CapabilityError("the fused kernel has no gradient", fix="pass fused=False, or detach the signal")
        # what is fused holds nothing in between that could leave the cache
        at_once = len(rows) if self.fused else max(1, _NUMBERS_AT_ONCE // rows.shape[1])
        lengths = torch.cat([curve_lengths(some, self.k_max, self.fused) for some in rows.split(at_once)])
        _check(lengths, rows)
        steps = torch.arange(1, self.k_max + 1, dtype=torch.float64, device=rows.device)
        line = line_fit(steps.log(), lengths.log())
        return Fit(-line.slope, steps, lengths, torch.ones_like(steps, dtype=torch.bool), line)

    def _simulate(self, truth: float, n_signals: int, n_samples: int, seed: SeedLike) -> torch.Tensor:
        if truth == self.truths[-1]:
            return fractional_gaussian_noise(0.5, n_samples, n_signals, seed)
        return fractional_brownian_motion(2 - truth, n_samples, n_signals, seed)


def curve_lengths(rows: torch.Tensor, k_max: int, fused: bool = False) -> torch.Tensor:
    """Return the lengths of curves measured in steps of 1 to ``k_max`` samples, ``(n_signals, k_max)``.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    k_max : int
        At most half the number of samples.
    fused : bool
        See `HiguchiFractalDimension`.

    Examples
    --------
    >>> import torch
    >>> curve_lengths(torch.arange(7.0)[None], 3)  # a straight line: 6 / k
    tensor([[6., 3., 2.]])
    """
    length = _compiled() if fused else _length
    weights = _weights(rows.shape[1], k_max, rows.dtype, rows.device)
    return torch.stack([length(rows[:, step:], rows[:, :-step], weight) for step, weight in enumerate(weights, 1)], 1)


def _length(after: torch.Tensor, before: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (after - before).abs_() @ weight


@lru_cache(maxsize=1)
def _compiled() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    # as a sum, not as a product with a matrix: the compiler leaves that to a library, and fuses nothing
    return torch.compile(lambda after, before, weight: ((after - before).abs() * weight).sum(-1), dynamic=True)


@lru_cache(maxsize=16)
def _weights(n_samples: int, k_max: int, dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """Return for each step what every difference over it counts: curves that start later may have one less."""
    found = []
    for step in range(1, k_max + 1):
        start = torch.arange(n_samples - step) % step
        n_differences = (n_samples - 1 - start) // step
        found.append(((n_samples - 1) / (step**3 * n_differences.double())).to(device, dtype))
    return found


def _check(lengths: torch.Tensor, rows: torch.Tensor) -> None:
    """Raise where a curve has no length in some step: the logarithm of rounding is no finding."""
    found = lengths.detach()
    limit = _ROUNDINGS * torch.finfo(rows.dtype).eps * found.amax(1, keepdim=True)
    if (found <= limit).any():
        step = int((found <= limit).any(0).nonzero()[0]) + 1
        raise InputError(
            f"curves have no length in steps of {step} samples",
            expected="signals that do not repeat themselves exactly",
            got=f"{int((found <= limit).any(1).sum())} of {len(rows)} signals that do, every {step} samples",
            fix=f"pass k_max={step - 1}" if step > FEWEST_SCALES else "this metric has no value for them",
        )
