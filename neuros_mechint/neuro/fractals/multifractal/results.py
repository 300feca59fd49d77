"""What `MultifractalSpectrum.estimate` returns: the spectrum of each signal with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.multifractal.calibration import NoiseWidth, Scatter, nearest_exponent
from neuros_mechint.neuro.fractals.multifractal.moments import Moments, Spectrum, log_cumulants
from neuros_mechint.neuro.fractals.results import MetricEstimate, check_names
from neuros_mechint.neuro.fractals.signals import Signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuros_mechint.neuro.fractals.multifractal.spectrum import MultifractalSpectrum

_MOST_CURVES = 6
_LONG_NAMES = {
    "generalized_hurst": "generalised Hurst exponent h(q)",
    "tau": "scaling exponent tau(q)",
    "alpha": "singularity strength alpha",
    "f": "dimension f(alpha)",
}
_RESERVED = ("q", *_LONG_NAMES, "fluctuation", "c1", "c2", "null_low", "null_high")
# Exponents this close to the largest that a method can see may be larger.
_CLOSE = 0.1


class MultifractalEstimate(MetricEstimate):
    """The multifractal spectrum of each signal.

    ``data`` holds what `MetricEstimate` does, with the width as the metric and the plot of the second moment; over the
    moments ``q`` the ``generalized_hurst`` exponents, ``tau``, ``alpha`` and ``f``, each with the standard error
    ``..._error``, and over the scales as well the ``fluctuation``; the slopes of mean and variance of logarithms
    ``c1`` and ``c2``; and ``null_low`` and ``null_high``, between which lie the widths of exact fractional Gaussian
    noise of this length and exponent, whose true width is 0.
    """

    @property
    def is_multifractal(self) -> np.ndarray:
        """Whether each signal is wider than nearly all fractional Gaussian noise of its length and exponent."""
        return self.values > self.data["null_high"].values

    def _draw(self, ax: Axes) -> None:
        names = ("alpha", "f", "alpha_error")
        alpha, dimension, error = (self.data[name].values.reshape(-1, self.data.sizes["q"]) for name in names)
        if len(alpha) <= _MOST_CURVES:
            for index, width in enumerate(self.values.ravel()):
                color = PALETTE[index % len(PALETTE)]
                label = f"{width:.3f}" + ("" if self.is_multifractal.flat[index] else ", as noise")
                ax.errorbar(alpha[index], dimension[index], xerr=error[index], color=color, marker="o", label=label)
            ax.legend(title=self.main.attrs["long_name"], loc="upper left", bbox_to_anchor=(1, 1))
        else:
            ax.plot(alpha.T, dimension.T, color=MUTED_INK, alpha=0.4, linewidth=0.8)
            ax.plot(np.median(alpha, 0), np.median(dimension, 0), "o-", color=PALETTE[0], label="median")
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        ax.set_xlabel(_LONG_NAMES["alpha"])
        ax.set_ylabel(_LONG_NAMES["f"])

    def _summary_lines(self) -> list[str]:
        """Return the width, what noise without any has, and the exponents at both ends."""
        # errors of one kind of multifractal noise are no errors of all: the mean one is kept in the data only
        lines = [line for line in super()._summary_lines() if not line.startswith("mean error")]
        wide, n_signals = int(self.is_multifractal.sum()), self.values.size
        low, high = (float(np.median(self.data[name].values)) for name in ("null_low", "null_high"))
        many = "it is" if n_signals == 1 and wide else f"{wide} of {n_signals} are"
        many = "it is not" if n_signals == 1 and not wide else many
        lines.insert(1, f"noise with one exponent is {low:.3f} to {high:.3f} wide at this length; {many} wider")
        hurst = self.data["generalized_hurst"].median([dim for dim in self.main.dims])
        ends = ", ".join(f"h({float(q):g}) {hurst.sel(q=q).item():.3f}" for q in self.data["q"].values[[0, -1]])
        c1, c2 = (float(np.median(self.data[name].values)) for name in ("c1", "c2"))
        lines.insert(2, f"{ends}; c1 {c1:.3f}, c2 {c2:.3f}" + (" (medians)" if n_signals > 1 else ""))
        lines.append("values of very different sizes make a width by themselves: compare with the same values shuffled")
        return lines


def multifractal_estimate(
    metric: MultifractalSpectrum,
    base: MetricEstimate,
    found: Signals,
    pieces: Sequence[tuple[Spectrum, Moments, torch.Tensor]],
    level: float,
    n_simulated: int,
    seed: SeedLike,
) -> MultifractalEstimate:
    """Return the spectrum that was found together with what is known of its width."""
    check_names(found, _RESERVED)
    shape, dims = found.values.shape[:-1], found.dims
    joined = {name: torch.cat([getattr(piece[0], name) for piece in pieces]).numpy() for name in _LONG_NAMES}
    scatters = _scatters(metric, base, found.values.shape[-1], n_simulated, seed)
    variables: dict[str, Any] = {}
    for name, text in _LONG_NAMES.items():
        errors = np.stack([getattr(scatter, name).numpy() for scatter, _ in scatters])
        variables[name] = ((*dims, "q"), joined[name].reshape(*shape, -1), {"long_name": text, "units": "1"})
        about = {"long_name": f"standard error of {text}", "units": "1"}
        variables[f"{name}_error"] = ((*dims, "q"), errors.reshape(*shape, -1), about)
    variables |= _cumulants(pieces, shape, dims) | _fluctuations(metric, pieces, shape, dims)
    variables |= _null(scatters, level, shape, dims)
    data = base.data.assign_coords(q=("q", list(metric.q), {"long_name": "moment", "units": "1"})).assign(variables)
    return MultifractalEstimate(
        data,
        base.title,
        attributes=base.attributes,
        provenance=base.provenance,
        citations=base.citations,
        warnings=(*base.warnings, *_cautions(metric, joined["alpha"])),
    )


def _scatters(
    metric: MultifractalSpectrum, base: MetricEstimate, n_samples: int, n_simulated: int, seed: SeedLike
) -> list[tuple[Scatter, Scatter]]:
    """Return for each signal how spectra of noise of its exponent scatter, with its width and with none."""
    scales = base.data[base.attributes["scale_name"]].values
    second = base.data["line"].values.reshape(-1, scales.size)
    hurst = np.log(second[:, -1] / second[:, 0]) / np.log(scales[-1] / scales[0])
    truths = (base.values - base.data["bias"].values).ravel()
    found: dict[tuple[float, float], Scatter] = {}
    pairs = []
    for exponent, truth in zip(nearest_exponent(torch.from_numpy(hurst)).tolist(), truths, strict=True):
        model = NoiseWidth(metric, round(exponent, 1))
        nearest = min(model.truths, key=lambda width, truth=truth: abs(width - truth))
        for width in (nearest, 0.0):
            if (exponent, width) not in found:
                found[exponent, width] = model.scatter(width, n_samples, n_simulated, seed)
        pairs.append((found[exponent, nearest], found[exponent, 0.0]))
    return pairs


def _null(
    scatters: Sequence[tuple[Scatter, Scatter]], level: float, shape: tuple[int, ...], dims: tuple[str, ...]
) -> dict[str, Any]:
    from scipy.stats import norm

    reach = float(norm.ppf((1 + level) / 2))
    limits = {}
    for name, side, text in (("null_low", -1, "lower"), ("null_high", 1, "upper")):
        ends = [null.mean_width + side * reach * null.width for _, null in scatters]
        about = {"long_name": f"{text} limit of widths of noise with one exponent", "units": "1"}
        limits[name] = (dims, np.reshape(ends, shape), about)
    return limits


def _cumulants(
    pieces: Sequence[tuple[Spectrum, Moments, torch.Tensor]], shape: tuple[int, ...], dims: tuple[str, ...]
) -> dict[str, Any]:
    both = zip(*(log_cumulants(found, scales.log()) for _, found, scales in pieces), strict=True)
    found = {}
    for name, what, values in zip(("c1", "c2"), ("mean", "variance"), both, strict=True):
        about = {"long_name": f"slope of the {what} of logarithms", "units": "1"}
        found[name] = (dims, torch.cat(list(values)).reshape(shape).numpy(), about)
    return found


def _fluctuations(
    metric: MultifractalSpectrum,
    pieces: Sequence[tuple[Spectrum, Moments, torch.Tensor]],
    shape: tuple[int, ...],
    dims: tuple[str, ...],
) -> dict[str, Any]:
    """Return means of order q at each scale: their logarithms are what the lines were fitted to."""
    q = pieces[0][0].q[:, None]
    means = []
    for _, found, _ in pieces:
        log_means, tilted = found.log_means[:, :-1], found.tilted_logs[:, :-1]
        means.append(torch.where(q == 0, tilted, log_means / torch.where(q == 0, 1.0, q)).exp())
    values = torch.cat(means).reshape(*shape, len(q), -1).numpy()
    about = {"long_name": "mean fluctuation of order q", "units": "1"}
    return {"fluctuation": ((*dims, "q", metric.scale_name), values, about)}


def _cautions(metric: MultifractalSpectrum, alpha: np.ndarray) -> list[str]:
    most = metric.order + 1 if metric.method == "mfdfa" else metric.vanishing_moments
    parameter = "order" if metric.method == "mfdfa" else "vanishing_moments"
    close = int((alpha.max(-1) > most - _CLOSE).sum())
    if not close:
        return []
    return [
        f"{close} of {len(alpha)} signals have exponents near {most}, the largest that {parameter}="
        f"{getattr(metric, parameter)} can see: raise it"
    ]
