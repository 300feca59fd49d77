"""The crackling relation: whether sizes, durations and the growth of one with the other fit together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.figures.plotting import PALE, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.neuro.criticality.avalanches import Avalanches
from neuros_mechint.neuro.criticality.power_law import PowerLawFit, fit_power_law
from neuros_mechint.neuro.criticality.tails import fit_tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_STEPS = 50
_WIDEST = 1.0
"""An interval of the difference that is wider than this agrees with nearly any exponent."""
_QUANTITIES = ("size_exponent", "duration_exponent", "predicted", "measured", "difference")


class CracklingRelation(Result):
    """Exponents of sizes and durations, and two answers to how mean sizes grow with duration.

    ``data`` holds, over ``quantity``: ``value``, ``low`` and ``high`` of ``size_exponent``, ``duration_exponent``,
    ``predicted`` (from both), ``measured`` and their ``difference``; and over ``length``, for the figure:
    ``mean_size``, with the ``n_avalanches`` of that duration.
    """

    @property
    def holds(self) -> bool:
        """Whether sizes and durations are power laws or near them, and the difference is known and about zero."""
        return self.attributes["holds"]

    def __getitem__(self, quantity: str) -> tuple[float, float, float]:
        """Return value, low and high of a quantity."""
        row = self.data.sel(quantity=quantity)
        return tuple(row[name].item() for name in ("value", "low", "high"))  # pyright: ignore[reportReturnType]

    def _draw(self, ax: Axes) -> None:
        length, mean = (self.data[name].values for name in ("length", "mean_size"))
        shortest, intercept = self.attributes["shortest"], self.attributes["log_size_of_one_bin"]
        fitted = length >= shortest
        ax.plot(length[~fitted], mean[~fitted], "o", color=PALE, label="shorter than the fitted ones")
        ax.plot(length[fitted], mean[fitted], "o", color=PALETTE[0], markerfacecolor="none", label="mean size")
        ends = np.array([shortest, length[-1]], dtype=float)
        measured, predicted = self["measured"][0], self["predicted"][0]
        line = np.exp(intercept) * ends**measured
        ax.plot(ends, line, color=PALETTE[1], label=f"measured: {measured:.2f}")
        ax.plot(
            ends, line[0] * (ends / ends[0]) ** predicted, "--", color=PALETTE[2], label=f"predicted: {predicted:.2f}"
        )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("duration (bins)")
        ax.set_ylabel(f"mean size ({self.attributes['units']})")
        ax.grid()
        ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return the verdict and the numbers it rests on."""
        names = {
            "size_exponent": "exponent of sizes",
            "duration_exponent": "exponent of durations",
            "predicted": "growth of mean size with duration, predicted from both",
            "measured": "growth of mean size with duration, measured",
            "difference": "measured less predicted",
        }
        lines = [f"the crackling relation {'holds' if self.holds else 'does not hold'}: {self.attributes['why']}"]
        for quantity in _QUANTITIES:
            value, low, high = self[quantity]
            lines.append(f"{names[quantity]}: {value:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"intervals: {100 * self.attributes['level']:g}%, from avalanches drawn anew")
        if self.holds:
            lines.append(
                "random walks, and units that share a slow rate, fulfil it too: alone it proves no criticality"
            )
        return lines


def crackling_relation(
    avalanches: Avalanches, n_resamples: int = 200, level: float = 0.95, seed: SeedLike = 0, progress: bool = True
) -> CracklingRelation:
    r"""Return whether the exponents of avalanches fit together as at a critical point.

    With sizes :math:`P(S) \sim S^{-\tau_s}`, durations :math:`P(T) \sim T^{-\tau_t}` and mean sizes
    :math:`\langle S \rangle(T) \sim T^{\gamma}`, criticality demands

    .. math:: \frac{\tau_t - 1}{\tau_s - 1} = \gamma

    The two exponents on the left are those of `fit_power_law`; :math:`\gamma` is fitted to the sizes of all
    avalanches that are at least as long as the tail of durations begins (gamma regression with a logarithmic link, in
    which durations with a single avalanche do no harm). All of it is repeated with avalanches drawn anew.

    Noise fulfils the equation too: where sizes are proportional to durations both sides are near 1. The relation is
    therefore said to hold only where sizes and durations are power laws as well, with a cut-off or near one at least,
    and where the difference is known well enough to be told from zero (its interval no wider than 1).

    Parameters
    ----------
    avalanches : Avalanches
    n_resamples : int
        How often the avalanches are drawn anew.
    level : float
        Coverage of the intervals.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    CracklingRelation

    Raises
    ------
    InputError
        No avalanches, or too few of them.

    References
    ----------
    Sethna, Dahmen and Myers 2001, Crackling noise, doi:10.1038/35065675;
    Friedman et al. 2012, Universal Critical Dynamics in High Resolution Neuronal Avalanche Data,
    doi:10.1103/PhysRevLett.108.208102;
    Touboul and Destexhe 2017, Power-law statistics and universal scaling in the absence of criticality,
    doi:10.1103/PhysRevE.95.012413

    Examples
    --------
    >>> from neuros_mechint.neuro.criticality.avalanches import detect_avalanches
    >>> noise = detect_avalanches(np.random.default_rng(0).poisson(0.7, 1000))
    >>> crackling_relation(noise, n_resamples=10).holds
    False
    """
    check_avalanches(avalanches)
    n_resamples, level = whole("n_resamples", n_resamples, 10), coverage(level)
    random = generator(seed)
    fits = {
        name: fit_power_law(avalanches.data[name], None, None, n_resamples, level, random, progress)
        for name in ("size", "duration")
    }
    sizes, durations = (avalanches.data[name].values.astype(np.float64) for name in ("size", "duration"))
    shortest = fits["duration"].data["xmin"].item()
    intercept, measured = growth(sizes, durations, shortest)
    value = _together(fits["size"].exponent, fits["duration"].exponent, measured)
    drawn = _drawn_anew(sizes, durations, fits["size"].attributes["discrete"], n_resamples, random, progress)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    holds, why = _judge(fits, low[-1], high[-1])
    length, counts = np.unique(durations, return_counts=True)
    means = np.array([sizes[durations == one].mean() for one in length])
    units = avalanches.main.attrs["units"]
    data = xr.Dataset(
        {
            "value": ("quantity", value, {"units": "1"}),
            "low": ("quantity", low, {"units": "1"}),
            "high": ("quantity", high, {"units": "1"}),
            "mean_size": ("length", means, {"long_name": "mean size", "units": units}),
            "n_avalanches": ("length", counts, {"units": "1"}),
        },
        {"quantity": list(_QUANTITIES), "length": ("length", length, {"long_name": "duration", "units": "bins"})},
    )
    return CracklingRelation(
        data,
        "Crackling relation",
        attributes={
            "holds": holds,
            "why": why,
            "level": level,
            "shortest": shortest,
            "log_size_of_one_bin": intercept,
            "units": units,
            "n_resamples": n_resamples,
            "verdicts": {name: fit.verdict for name, fit in fits.items()},
        },
        provenance=Provenance.record(
            seed, arguments={"sizes": sizes, "durations": durations, "n_resamples": n_resamples, "level": level}
        ),
        citations=("sethna2001", "friedman2012", "touboul2017", "clauset2009"),
    )


def growth(sizes: Floats, durations: Floats, shortest: float) -> tuple[float, float]:
    r"""Return :math:`a, \gamma` of :math:`\langle S \rangle(T) = e^a T^{\gamma}` over avalanches of some length.

    Parameters
    ----------
    sizes, durations : numpy.ndarray of shape (n_avalanches,)
    shortest : float
        Shortest duration that is taken.

    Returns
    -------
    tuple of float
        Of the highest likelihood of gamma distributions whose mean is the curve.

    Raises
    ------
    InputError
        Fewer than two durations.

    Examples
    --------
    >>> durations = np.array([2.0, 3.0, 5.0])
    >>> intercept, exponent = growth(durations**2, durations, 1)
    >>> round(intercept, 6) == 0, round(exponent, 6)
    (True, 2.0)
    """
    kept = durations >= shortest
    log_length, size = np.log(durations[kept]), sizes[kept]
    if np.unique(log_length).size < 2:
        raise InputError("growth with duration needs avalanches of different durations", got=f"{size.size} of one")
    design = np.stack([np.ones_like(log_length), log_length], axis=1)
    # the least squares of logarithms are near enough to start from
    found = np.linalg.lstsq(design, np.log(size), rcond=None)[0]
    for _ in range(_MOST_STEPS):
        # Fisher scoring; the weights of a gamma distribution with a logarithmic link are 1
        step = np.linalg.lstsq(design, size / np.exp(design @ found) - 1, rcond=None)[0]
        found = found + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-10:
            break
    return float(found[0]), float(found[1])


def check_avalanches(avalanches: Any) -> None:
    """Raise `InputError` unless these are avalanches.

    Examples
    --------
    >>> check_avalanches([1, 2])
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: these are no avalanches
      expected: what detect_avalanches returns
      got:      list
    """
    if not isinstance(avalanches, Avalanches):
        raise InputError(
            "these are no avalanches", expected="what detect_avalanches returns", got=type(avalanches).__name__
        )


def _together(size_exponent: float, duration_exponent: float, measured: float) -> list[float]:
    predicted = (duration_exponent - 1) / (size_exponent - 1)
    return [size_exponent, duration_exponent, predicted, measured, measured - predicted]


def _drawn_anew(
    sizes: Floats, durations: Floats, discrete: bool, n_resamples: int, random: np.random.Generator, progress: bool
) -> Floats:
    """Return all quantities of avalanches drawn anew, ``(n_resamples, 5)``."""
    found = []
    for _ in progress_bar(range(n_resamples), description="exponents of avalanches drawn anew", enabled=progress):
        again = random.integers(sizes.size, size=sizes.size)
        size, duration = sizes[again], durations[again]
        with contextlib.suppress(InputError):  # a tail that is barely long enough may lose an avalanche
            tail = fit_tail(duration, discrete=True)
            measured = growth(size, duration, tail.xmin)[1]
            found.append(_together(fit_tail(size, discrete).exponent, tail.exponent, measured))
    if len(found) < n_resamples / 2:
        raise InputError("too few avalanches for intervals of exponents", got=f"{sizes.size} avalanches")
    return np.array(found)


def _judge(fits: dict[str, PowerLawFit], low: float, high: float) -> tuple[bool, str]:
    """Return whether the relation holds, and why; a cut-off, as of a finite network, or a poor fit are mentioned."""
    not_scaling = [name for name, fit in fits.items() if fit.verdict == "no power law"]
    if not_scaling:
        reasons = [f"{name}s are no power law ({fits[name].attributes['why']})" for name in not_scaling]
        return False, "; ".join(reasons)
    if not low <= 0 <= high:
        return False, "the difference is not compatible with zero"
    if high - low > _WIDEST:
        return False, f"it cannot be told, as the difference is known only to within {high - low:.2f}"
    doubts = [f"{name}s: {fit.verdict}, {fit.attributes['why']}" for name, fit in fits.items() if not fit.is_power_law]
    words = "sizes and durations are power laws or near them, and the difference is compatible with zero"
    return True, "; ".join([words, *doubts])
