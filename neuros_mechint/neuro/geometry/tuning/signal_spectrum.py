"""Cross-validated principal components: how the variance of responses that repeats spreads over dimensions."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.geometry.arguments import CONDITIONS, UNITS, by_axes
from neuros_mechint.neuro.geometry.linear import participation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_STIMULI = 20
_FEWEST_PERMUTATIONS = 19
_FEWEST_FITTED = 5
_N_GROUPS = 10
_NOISY = 4.0


class SignalSpectrum(Result):
    """How the variance that repeats spreads over principal components.

    ``data`` holds over ``component``, from 1 on: ``variance`` that repeats share, ``null_limit`` (95% of shuffled
    stimuli) and ``total_variance``; and ``exponent`` with ``low`` and ``high``, ``dimension`` and ``signal_share``.
    """

    @property
    def exponent(self) -> float:
        """Exponent of the power law with which variances fall with component number; NaN where none was fitted."""
        return float(self.data["exponent"])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of the exponent, over stimuli."""
        return float(self.data["low"]), float(self.data["high"])

    @property
    def dimension(self) -> float:
        """Participation ratio of the shared variances."""
        return float(self.data["dimension"])

    @property
    def n_significant(self) -> int:
        """How many components, from the first on, share more variance than 95% of shuffled stimuli."""
        return int(self.attributes["n_significant"])

    def _draw(self, ax: Axes) -> None:
        component, variance = self.data["component"].values, self.main.values
        seen = variance > 0
        ax.loglog(component[seen], variance[seen], "o", ms=3, mew=0, color=PALETTE[0], label="shared by repeats")
        ax.loglog(component, self.data["total_variance"], color=MUTED_INK, lw=1, label="of one half, with noise")
        first, last = self.attributes["fitted"]
        if np.isfinite(self.exponent):
            at = np.array([first, last])
            line = np.exp(self.attributes["offset"]) * at**-self.exponent
            ax.loglog(at, line, color=PALETTE[1], lw=2, label=f"exponent {self.exponent:.3g}")
        ax.set_xlabel("component")
        ax.set_ylabel("variance")
        ax.legend(fontsize=8)

    def _summary_lines(self) -> list[str]:
        """Return spectrum and exponent in words."""
        about, (low, high) = self.attributes, self.interval
        lines = [
            f"{100 * float(self.data['signal_share']):.3g}% of the variance repeats, over {self.dimension:.3g} "
            "dimensions (participation ratio)",
            f"{self.n_significant} components share more than shuffled stimuli do",
        ]
        if np.isfinite(self.exponent):
            first, last = about["fitted"]
            lines.append(
                f"variances of components {first} to {last} fall with exponent {self.exponent:.3g} "
                f"({100 * about['level']:g}% interval {low:.3g} to {high:.3g})"
            )
        lines.append(f"{about['n_stimuli']} stimuli, {about['n_repeats']} repeats, {about['n_units']} units")
        return lines


def signal_spectrum(
    X: Any,
    fit_from: int = 11,
    fit_to: int | None = None,
    n_permutations: int = 19,
    level: float = 0.95,
    seed: SeedLike = 0,
) -> SignalSpectrum:
    r"""Return how the variance of responses that repeats is spread over principal components (cvPCA).

    Axes come from the mean of half of the repeats; the variance along each is the covariance of this half and the
    other, so that noise, which does not repeat, adds nothing on average.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray or Recording, (n_repeats, n_stimuli, n_units)
        At least two repeats of 20 stimuli; labelled axes in any order.
    fit_from : int
        First component, counted from 1, of the fit of a power law.
    fit_to : int, optional
        Last one; by default the last that shares more variance than shuffled stimuli do, with all before it.
    n_permutations : int
        How often the stimuli of one half are shuffled, at least 19.
    level : float
        Coverage of the interval of the exponent, jackknifed over stimuli.
    seed : int or numpy.random.Generator

    Returns
    -------
    SignalSpectrum
        With ``.exponent``, ``.interval``, ``.dimension`` and ``.n_significant``.

    Raises
    ------
    InputError
        Other shapes, values that are missing, too few stimuli, or responses that do not vary.
    OptionError
        A range of components that is not there.

    References
    ----------
    Stringer et al. 2019, High-dimensional geometry of population responses in visual cortex,
    doi:10.1038/s41586-019-1346-5

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> axes = np.linalg.qr(random.normal(size=(60, 60)))[0]
    >>> signal = random.normal(size=(500, 60)) / np.arange(1, 61) ** 0.5 @ axes
    >>> found = signal_spectrum(signal + 0.1 * random.normal(size=(2, 500, 60)), fit_from=2)
    >>> round(found.exponent, 1)
    1.0
    """
    level, random = coverage(level), generator(seed)
    n_permutations = whole("n_permutations", n_permutations, _FEWEST_PERMUTATIONS)
    given = _checked(X)
    order = random.permutation(len(given))
    first, second = (given[rows].mean(0) for rows in (order[: len(given) // 2], order[len(given) // 2 :]))
    variances, total = _shared(first, second)
    drawn = [_shared(first, second[random.permutation(len(second))])[0] for _ in range(n_permutations)]
    limit = np.quantile(drawn, 1 - SIGNIFICANT, axis=0, method="higher")
    n_significant = int(np.argmin(np.append(variances > limit, False)))
    fitted = _range(fit_from, fit_to, n_significant, len(variances))
    found = _fit(variances, fitted)
    cautions = _cautions(variances, total, fitted, n_significant)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    groups = np.array_split(random.permutation(len(first)), _N_GROUPS)
    kept = [np.delete(np.arange(len(first)), group) for group in groups]
    exponents = [_fit(_shared(first[rows], second[rows])[0], fitted)[0] for rows in kept]
    reach = t_reach(float(jackknife_error(exponents)), _N_GROUPS - 1, level)
    positive = variances.clip(0)
    arguments = {"X": X, "fit_from": fit_from, "fit_to": fit_to, "n_permutations": n_permutations, "level": level}
    return SignalSpectrum(
        xr.Dataset(
            {
                "variance": ("component", variances, {"long_name": "variance that repeats share"}),
                "null_limit": ("component", limit, {"long_name": "95% of shuffled stimuli"}),
                "total_variance": ("component", total, {"long_name": "variance of one half"}),
                "exponent": ((), found[0], {"long_name": "exponent"}),
                "low": ((), found[0] - reach),
                "high": ((), found[0] + reach),
                "dimension": ((), participation(positive), {"long_name": "participation ratio"}),
                "signal_share": (
                    (),
                    variances.sum() / total.sum(),
                    {"long_name": "share of the variance that repeats"},
                ),
            },
            coords={"component": np.arange(1, len(variances) + 1)},
        ),
        "Signal spectrum (cvPCA)",
        attributes={
            "level": level,
            "fitted": list(fitted),
            "offset": found[1],
            "n_significant": n_significant,
            "n_repeats": given.shape[0],
            "n_stimuli": given.shape[1],
            "n_units": given.shape[2],
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("stringer2019",),
        warnings=cautions,
    )


def _checked(X: Any) -> Floats:
    given = by_axes(X, (("repeat", "trial"), (*CONDITIONS, "sample"), UNITS), "X")
    if given.ndim != 3 or given.shape[0] < 2 or given.shape[1] < _FEWEST_STIMULI or not given.size:
        raise InputError(
            "these are no repeated responses",
            expected=f"(n_repeats, n_stimuli, n_units), at least 2 repeats of {_FEWEST_STIMULI} stimuli",
            got=f"shape {given.shape}",
        )
    if not np.ptp(given, axis=1).any():
        raise InputError("responses do not vary over stimuli", expected="responses that differ", got="constants")
    return given


def _shared(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the covariance of both halves along the axes of the first, and the variance of the first."""
    one, other = first - first.mean(0), second - second.mean(0)
    left, sizes, axes = np.linalg.svd(one, full_matrices=False)
    n_axes = min(len(sizes), len(first) - 1)
    scores = left[:, :n_axes] * sizes[:n_axes]
    return (scores * (other @ axes[:n_axes].T)).mean(0), sizes[:n_axes] ** 2 / len(first)


def _range(fit_from: int, fit_to: int | None, n_significant: int, n_components: int) -> tuple[int, int]:
    first = whole("fit_from", fit_from)
    last = max(n_significant, first) if fit_to is None else whole("fit_to", fit_to, first)
    if last > n_components:
        raise OptionError(
            "there are not so many components",
            expected=f"at most {n_components}",
            got=f"{first} to {last}",
            fix="pass a smaller fit_from (11 unless you say) or fit_to",
        )
    return first, last


def _fit(variances: Floats, fitted: tuple[int, int]) -> tuple[float, float]:
    """Return exponent and offset of a line through logarithms, each octave of components with the same weight."""
    first, last = fitted
    values = variances[first - 1 : last]  # without some stimuli there may be fewer
    number = first + np.arange(len(values))
    seen = values > 0
    if seen.sum() < _FEWEST_FITTED:
        return np.nan, np.nan
    slope, offset = np.polyfit(np.log(number[seen]), np.log(values[seen]), 1, w=number[seen] ** -0.5)
    return float(-slope), float(offset)


def _cautions(variances: Floats, total: Floats, fitted: tuple[int, int], n_significant: int) -> tuple[str, ...]:
    first, last = fitted
    values = variances[first - 1 : last]
    if (values > 0).sum() < _FEWEST_FITTED:
        return (
            f"only {n_significant} components share more variance than shuffled stimuli do: no power law was fitted "
            f"from component {first} on; pass a smaller fit_from, or more stimuli and repeats",
        )
    cautions = []
    if (values <= 0).any() or last > n_significant:
        cautions.append(
            f"components up to {last} are fitted, but only {n_significant} share more variance than shuffled stimuli "
            "do: the rest is noise, and leaving out what is negative flattens the slope"
        )
    if total[last - 1] > _NOISY * values[-1]:
        cautions.append(
            f"noise is {total[last - 1] / values[-1] - 1:.2g} times as large as the signal of component {last}: it "
            "turns the axes, and the exponent is too low; fit fewer components, or pass more repeats"
        )
    return tuple(cautions)
