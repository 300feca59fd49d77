"""How far multifractal spectra may be from the truth: learned from noise of the same exponent and length."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.multifractal.model import multifractal_noise, width_of_model
from neuros_mechint.neuro.fractals.uncertainty import Uncertainty, calibrated, counted, remembered

if TYPE_CHECKING:
    from neuros_mechint.neuro.fractals.multifractal.spectrum import MultifractalSpectrum

# How strongly the model is intermittent: from nothing to more than turbulence (0.025) or a binomial cascade of 3/4.
_INTERMITTENCIES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
# The scatter of widths grows with the exponent, by a third in 0.1 at most; no model has an exponent of 1.
_EXPONENTS = np.array([tenths / 10 for tenths in range(1, 20) if tenths != 10])
SIMULATED = "noise with a parabolic spectrum"


class Scatter(NamedTuple):
    """Standard deviations over signals of one kind, and what width they have on average."""

    generalized_hurst: torch.Tensor
    tau: torch.Tensor
    alpha: torch.Tensor
    f: torch.Tensor
    mean_width: float
    width: float


class NoiseWidth(SignalMetric):
    """The width that a multifractal spectrum finds in noise of one Hurst exponent.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> NoiseWidth(nm.MultifractalSpectrum(), hurst=0.5).truths[:2]
    (0.0, 0.04)
    """

    quantity = "width"
    long_name = "width of the multifractal spectrum"
    simulated = SIMULATED

    def __init__(self, spectrum: MultifractalSpectrum, hurst: float) -> None:
        self.spectrum, self.hurst = spectrum, hurst

    @property
    def truths(self) -> tuple[float, ...]:  # type: ignore[override]
        """Widths of the model between the moments of the spectrum, as long as they grow with its intermittency."""
        widths = width_of_model(_INTERMITTENCIES, self.spectrum.q)
        growing = np.concatenate([[True], np.diff(np.maximum.accumulate(widths)) > 0])
        return tuple(float(width) for width in widths[growing])

    def _least(self) -> int:
        return self.spectrum._least()

    def _fit(self, rows: torch.Tensor) -> Fit:
        return self.spectrum._fit(rows)

    def _simulate(self, truth: float, n_signals: int, n_samples: int, seed: SeedLike) -> torch.Tensor:
        intermittency = _INTERMITTENCIES[self.truths.index(truth)]
        return multifractal_noise(self.hurst, intermittency, n_samples, n_signals, seed)

    def scatter(self, truth: float, n_samples: int, n_simulated: int, seed: SeedLike) -> Scatter:
        """Return how spectra of such noise scatter, whose width is one of `truths`.

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> model = NoiseWidth(nm.MultifractalSpectrum(), hurst=0.5)
        >>> bool(model.scatter(0.0, 4096, 20, seed=0).mean_width < 0.2)
        True
        """
        return _scatter(self, truth, n_samples, n_simulated, seed)


@remembered
def _scatter(model: NoiseWidth, truth: float, n_samples: int, n_simulated: int, seed: SeedLike) -> Scatter:
    found = model.spectrum.spectrum(model._simulate(truth, n_simulated, n_samples, seed))
    widths = found.alpha[:, 0] - found.alpha[:, -1]
    deviations = (values.std(0) for values in found[1:])
    return Scatter(*deviations, mean_width=float(widths.mean()), width=float(widths.std()))


def nearest_exponent(hurst: torch.Tensor) -> torch.Tensor:
    """Return the closest of the exponents that noise is made with.

    Examples
    --------
    >>> import torch
    >>> nearest_exponent(torch.tensor([0.67, 1.02])).tolist()
    [0.7, 1.1]
    """
    exponents = torch.from_numpy(_EXPONENTS)
    return exponents[(hurst.double()[:, None] - exponents).abs().argmin(1)]


def uncertainty_of_widths(
    spectrum: MultifractalSpectrum,
    widths: torch.Tensor,
    hurst: torch.Tensor,
    n_samples: int,
    level: float,
    n_simulated: int,
    seed: SeedLike,
) -> Uncertainty:
    """Return the true widths of which such estimates are not unusual, for noise of the same exponents.

    Parameters
    ----------
    spectrum : MultifractalSpectrum
    widths, hurst : torch.Tensor of shape (n_signals,)
        The estimates, and the exponents of the model for each.
    n_samples : int
    level, n_simulated, seed
        See `SignalMetric.estimate`.

    Examples
    --------
    >>> import neuros_mechint as nm, torch
    >>> found = uncertainty_of_widths(
    ...     nm.MultifractalSpectrum(), torch.tensor([0.05]), torch.tensor([0.5]), 4096, 0.95, 20, seed=0
    ... )
    >>> found.low.item()
    0.0
    """
    found: dict[float, Uncertainty] = {}
    error, low, high, bias = (torch.full_like(widths, torch.nan) for _ in range(4))
    for exponent in hurst.unique().tolist():
        group = hurst == exponent
        model = NoiseWidth(spectrum, round(exponent, 1))
        one = found[exponent] = calibrated(model, widths[group], n_samples, level, n_simulated, seed)
        assert one.bias is not None
        error[group], low[group], high[group], bias[group] = one.standard_error, one.low, one.high, one.bias
    exponents = ", ".join(f"{exponent:.1f}" for exponent in found)
    origin = f"{n_simulated} signals each of {SIMULATED} with H of {exponents} and {len(_INTERMITTENCIES)} widths"
    widest = float(width_of_model(_INTERMITTENCIES, spectrum.q).max())
    return Uncertainty(error, low, high, bias, origin, _warnings(low, high, widest))


def _warnings(low: torch.Tensor, high: torch.Tensor, widest: float) -> tuple[str, ...]:
    """Return what to say of signals outside what was simulated; that an interval begins at 0 is as it should be."""
    texts = {
        f"have a width that {SIMULATED} of this length does not give: no interval": low.isnan().numpy(),
        f"have an interval that ends at {widest:.2f}, the widest that was simulated": (high >= widest).numpy(),
    }
    return counted(texts)
