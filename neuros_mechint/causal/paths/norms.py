"""The final norm with its scale held fixed, recovered from what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuros_mechint.core.errors import CapabilityError

_EPSILONS = (1e-5, 1e-6, 1e-8, 1e-12)
_FIT = 1e-3
"""Largest error of the fitted norm, as a part of its output."""


def fitted_norm(entering: torch.Tensor, leaving: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the linear map that a layer norm or RMS norm is at these inputs when its scale is held fixed.

    Parameters
    ----------
    entering, leaving : torch.Tensor of shape (batch, position, n_units)
        Values before and after the norm.

    Returns
    -------
    callable
        ``f(part)``, what a part of ``entering`` contributes to ``leaving``; parts that add up to ``entering`` give
        ``leaving`` without its bias.

    Raises
    ------
    CapabilityError
        It is neither of these norms.

    Examples
    --------
    >>> x = torch.randn(4, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> norm = torch.nn.LayerNorm(8, dtype=torch.float64)
    >>> scaled = fitted_norm(x, norm(x).detach())
    >>> torch.allclose(scaled(x / 3) + scaled(x * 2 / 3), norm(x), atol=1e-6)
    True
    """
    stream, normed = entering.double(), leaving.double()
    fits = [_fit(stream, normed, centred, epsilon) for centred in (True, False) for epsilon in _EPSILONS]
    error, centred, factor = min(fits, key=lambda fit: fit[0])
    if error > _FIT * float(normed.abs().max()):
        raise CapabilityError(
            "the final norm is neither a layer norm nor an RMS norm, so its scale cannot be held fixed",
            got=f"a best fit that is off by {error:.3g}",
        )
    return lambda part: _centred(part.double(), centred) * factor


def _fit(stream: torch.Tensor, normed: torch.Tensor, centred: bool, epsilon: float) -> tuple[float, bool, torch.Tensor]:
    """Fit gain and bias of every unit; return the largest error and what to multiply the stream by."""
    part = _centred(stream, centred)
    scale = (part.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    standard, target = (part * scale).flatten(0, -2), normed.flatten(0, -2)
    deviation, wanted = standard - standard.mean(0), target - target.mean(0)
    spread = deviation.square().sum(0)
    gain = torch.where(spread > 0, (deviation * wanted).sum(0) / spread.clamp(min=1e-300), 0.0)
    error = float((deviation * gain - wanted).abs().max())
    return error, centred, scale * gain


def _centred(values: torch.Tensor, centred: bool) -> torch.Tensor:
    return values - values.mean(-1, keepdim=True) if centred else values
