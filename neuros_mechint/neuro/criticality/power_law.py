"""Whether values have a power-law tail: exponent with interval, goodness of fit, and what fits as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.neuro.criticality.alternatives import ALTERNATIVES, Comparison, compare
from neuros_mechint.neuro.criticality.tails import TailFit, draw, fit_tail, standard_error, survival

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_FIT = 0.1
_LARGEST = 1e20
_CLEARLY = 2.0
"""Nats by which a power law with a cut-off must be likelier than a log-normal: a difference of 4 in AIC."""
"""Clauset, Shalizi and Newman: below, the power law is ruled out."""
_NAMES = {"exponential": "exponential", "lognormal": "log-normal", "truncated_power_law": "power law with a cut-off"}


class PowerLawFit(Result):
    """A power law fitted to the tail of a distribution, and whether it is one.

    ``data`` holds ``exponent`` with ``low``, ``high`` and ``standard_error`` (of a tail that begins at a known
    value); ``xmin``, ``n_tail``, ``distance`` (Kolmogorov and Smirnov) and ``p_fit``, how often a true power law lies
    as far from its fit; over ``alternative``: ``log_likelihood_ratio`` and ``p``; over ``value``, for the figure:
    ``survival``, the share at least as large, and ``fitted``.
    """

    @property
    def exponent(self) -> float:
        """The exponent of the tail."""
        return float(self.main)

    @property
    def verdict(self) -> str:
        """What it is; why is in ``attributes["why"]``.

        ``"power law"``; ``"power law with a cut-off"``; ``"near a power law"``, where nothing else fits better but true
        power laws lie closer to their fits; or ``"no power law"``.
        """
        return self.attributes["verdict"]

    @property
    def is_power_law(self) -> bool:
        """Whether nothing speaks against a power law without a cut-off, and an exponential is ruled out."""
        return self.verdict == "power law"

    def _draw(self, ax: Axes) -> None:
        value, xmin = self.data["value"].values, self.data["xmin"].item()
        ax.plot(value, self.data["survival"], "o", color=PALETTE[0], markerfacecolor="none", label="observed")
        tail = value >= xmin
        words = f"exponent {self.exponent:.2f}: {self.verdict}"
        ax.plot(value[tail], self.data["fitted"].values[tail], color=PALETTE[1], label=words)
        ax.axvline(xmin, color=MUTED_INK, linewidth=0.8, linestyle="--", label=f"tail begins at {xmin:g}")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.5 * float(self.data["survival"].min()))
        ax.set_xlabel(self.attributes["quantity"])
        ax.set_ylabel("share at least as large")
        ax.grid()
        ax.legend(loc="upper right")

    def _summary_lines(self) -> list[str]:
        """Return the verdict, and what it rests on, in words."""
        of, about = (
            {name: array.item() for name, array in self.data.data_vars.items() if not array.dims},
            self.attributes,
        )
        lines = [
            f"{self.verdict}: {about['why']}",
            f"exponent {of['exponent']:.3f}, {100 * about['level']:g}% interval {of['low']:.3f} to {of['high']:.3f}; "
            f"tail from {of['xmin']:g} on: {of['n_tail']} of {about['n_values']} values",
            f"goodness of fit: distance {of['distance']:.3f}, p = {of['p_fit']:.2g}",
        ]
        for name in ALTERNATIVES:
            row = self.data.sel(alternative=name)
            ratio, p = row["log_likelihood_ratio"].item(), row["p"].item()
            lines.append(f"log-likelihood ratio to {_NAMES[name]}: {ratio:+.1f} nats (p = {p:.2g})")
        return lines


class _Drawn(NamedTuple):
    """Fits of values drawn anew, and distances of values simulated from the fit."""

    exponents: Floats
    distances: Floats


def fit_power_law(
    values: Any,
    xmin: float | None = None,
    discrete: bool | None = None,
    n_resamples: int = 200,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> PowerLawFit:
    r"""Return the power law that fits the tail of values, :math:`p(x) \propto x^{-\alpha}` from :math:`x_{min}` on.

    The exponent is that of the highest likelihood, of whole numbers under the zeta distribution. The tail begins where
    the distance of Kolmogorov and Smirnov is smallest. A power law is what survives all of: an exponential is ruled
    out; neither a log-normal nor a power law with an exponential cut-off fits better; and samples of the fitted law,
    with the values below the tail as observed, lie as far from their own fits in at least a tenth of the cases (where
    only this fails, the verdict is "near a power law").

    Parameters
    ----------
    values : array_like, torch.Tensor or xarray.DataArray
        Positive numbers, such as ``avalanches.data["size"]``.
    xmin : float, optional
        Where the tail begins. Its choice is part of the uncertainty unless it is given.
    discrete : bool, optional
        Whether the values are whole numbers; found out by default.
    n_resamples : int
        Samples drawn anew, for the interval, and as many simulated, for the goodness of fit.
    level : float
        Coverage of the interval.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    PowerLawFit
        ``.verdict`` says whether it is one.

    Raises
    ------
    InputError
        Values that are missing, infinite, zero or negative, too few of them, or all alike.
    MissingDependencyError
        The library powerlaw (extra ``criticality``) is not installed.

    References
    ----------
    Clauset, Shalizi and Newman 2009, Power-Law Distributions in Empirical Data, doi:10.1137/070710111;
    Alstott, Bullmore and Plenz 2014, powerlaw, doi:10.1371/journal.pone.0085777;
    Vuong 1989, Likelihood Ratio Tests for Model Selection and Non-Nested Hypotheses, doi:10.2307/1912557

    Examples
    --------
    >>> sizes = np.random.default_rng(0).geometric(0.2, 500)  # exponential
    >>> fit_power_law(sizes, n_resamples=20).verdict
    'no power law'
    """
    check_option("discrete", discrete, (None, True, False))
    array, quantity = _positive(values), _quantity(values)
    whole_numbers = bool((array == np.round(array)).all())
    discrete = whole_numbers if discrete is None else bool(discrete)
    if discrete and not whole_numbers:
        raise InputError("discrete values are whole numbers", got="others", fix="pass discrete=False")
    n_resamples, level = whole("n_resamples", n_resamples, 10), coverage(level)
    if xmin is not None:
        xmin = number("xmin", xmin, 0, np.inf)
    fit = fit_tail(array, discrete, xmin)
    comparisons = compare(array, fit, discrete)
    drawn = _drawn_anew(array, fit, discrete, xmin, n_resamples, seed, progress)
    p_fit = p_of_draws(fit.distance, drawn.distances)
    verdict, why = judge(float(p_fit), comparisons)
    low, high = np.quantile(drawn.exponents, [(1 - level) / 2, (1 + level) / 2])
    return PowerLawFit(
        _dataset(array, fit, discrete, (float(low), float(high), float(p_fit)), comparisons),
        f"{'No power' if verdict == 'no power law' else 'Power'} law of {quantity}",
        attributes={
            "verdict": verdict,
            "why": why,
            "quantity": quantity,
            "level": level,
            "n_values": array.size,
            "discrete": discrete,
            "xmin_rule": "smallest distance" if xmin is None else "given",
            "n_resamples": n_resamples,
        },
        provenance=Provenance.record(
            seed, arguments={"values": array, "xmin": xmin, "discrete": discrete, "n_resamples": n_resamples}
        ),
        citations=("clauset2009", "alstott2014", "vuong1989"),
    )


def judge(p_fit: float, comparisons: dict[str, Comparison]) -> tuple[str, str]:
    """Return whether it is a power law, and why.

    Parameters
    ----------
    p_fit : float
        How often a true power law lies as far from its fit.
    comparisons : dict of str to Comparison
        With an exponential, a log-normal and a power law with a cut-off.

    Examples
    --------
    >>> much = Comparison(ratio=50.0, p=1e-6)
    >>> judge(0.5, {"exponential": much, "lognormal": much, "truncated_power_law": Comparison(0.0, 1.0)})[0]
    'power law'
    >>> judge(0.5, {"exponential": Comparison(2.0, 0.3)})
    ('no power law', 'an exponential fits about as well')
    """
    exponential = comparisons["exponential"]
    if exponential.ratio <= 0 or exponential.p > SIGNIFICANT:
        better = exponential.ratio < 0 and exponential.p <= SIGNIFICANT
        return "no power law", f"an exponential fits {'better' if better else 'about as well'}"
    cut, lognormal = (comparisons[name] for name in ("truncated_power_law", "lognormal"))
    with_cut_off, as_lognormal = (one.ratio < 0 and one.p <= SIGNIFICANT for one in (cut, lognormal))
    # both have two parameters: their likelihoods can be compared as they are
    if with_cut_off and cut.ratio < lognormal.ratio - _CLEARLY:
        return "power law with a cut-off", "an exponential cut-off makes the fit better"
    if as_lognormal:
        also = ", and a cut-off no better than that" if with_cut_off else ""
        return "no power law", f"a log-normal fits better{also}"
    if with_cut_off:
        return "near a power law", "a cut-off makes the fit better, but a log-normal fits as well as that"
    if p_fit < _LEAST_FIT:
        return "near a power law", f"an exponential is ruled out, but true power laws lie closer (p = {p_fit:.2g})"
    also = "" if lognormal.p <= SIGNIFICANT else "; a log-normal cannot be told apart"
    return "power law", f"it fits, and an exponential is ruled out{also}"


def _drawn_anew(
    values: Floats, fit: TailFit, discrete: bool, xmin: float | None, n_resamples: int, seed: SeedLike, progress: bool
) -> _Drawn:
    random, below = generator(seed), values[values < fit.xmin]
    found = np.full((n_resamples, 2), np.nan)
    for index in progress_bar(range(n_resamples), description="power laws of values drawn anew", enabled=progress):
        n_tail = random.binomial(values.size, fit.n_tail / values.size) if below.size else values.size
        simulated = draw(fit.exponent, fit.xmin, n_tail, discrete, random)
        rest = random.choice(below, values.size - n_tail) if below.size else below
        again = random.choice(values, values.size)
        try:
            found[index] = (
                fit_tail(again, discrete, xmin).exponent,
                fit_tail(np.concatenate([rest, simulated]), discrete, xmin).distance,
            )
        except InputError:  # a tail that is barely long enough may lose a value
            continue
    found = found[~np.isnan(found).any(axis=1)]
    if len(found) < n_resamples / 2:
        raise InputError("too few values for an interval of the exponent", got=f"a tail of {fit.n_tail} values")
    return _Drawn(found[:, 0], found[:, 1])


def _dataset(
    values: Floats,
    fit: TailFit,
    discrete: bool,
    uncertainty: tuple[float, float, float],
    comparisons: dict[str, Comparison],
) -> xr.Dataset:
    distinct, counts = np.unique(values, return_counts=True)
    share = counts[::-1].cumsum()[::-1] / values.size
    tail = distinct >= fit.xmin
    fitted = np.full(distinct.size, np.nan)
    fitted[tail] = fit.n_tail / values.size * survival(distinct[tail], fit.exponent, fit.xmin, discrete)
    low, high, p_fit = uncertainty
    numbers = {
        "exponent": fit.exponent,
        "low": low,
        "high": high,
        "standard_error": standard_error(fit, discrete),
        "xmin": fit.xmin,
        "n_tail": fit.n_tail,
        "distance": fit.distance,
        "p_fit": p_fit,
    }
    ratios = ([getattr(comparisons[name], part) for name in ALTERNATIVES] for part in ("ratio", "p"))
    ratio, p = ratios
    return xr.Dataset(
        {name: ((), value, {"units": "1"}) for name, value in numbers.items()}
        | {
            "log_likelihood_ratio": ("alternative", ratio, {"units": "nats"}),
            "p": ("alternative", p, {"units": "1"}),
            "survival": ("value", share, {"long_name": "share at least as large", "units": "1"}),
            "fitted": ("value", fitted, {"long_name": "fitted share", "units": "1"}),
        },
        {"alternative": list(ALTERNATIVES), "value": distinct},
    )


def _positive(values: Any) -> Floats:
    array = as_array(values, "values")
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise InputError(
            "these are no values to fit",
            expected="real numbers (n_values,)",
            got=f"shape {array.shape}, dtype {array.dtype}",
            fix="of avalanches, pass .data['size'] or .data['duration']" if isinstance(values, Result) else None,
        )
    array = array.astype(np.float64)
    bad = int((~np.isfinite(array) | (array <= 0)).sum())
    if array.size and not bad and (array.max() > _LARGEST or array.min() < 1 / _LARGEST):
        raise InputError(
            "values are too large or too small to compute with",
            expected=f"numbers from {1 / _LARGEST:g} to {_LARGEST:g}",
            got=f"{array.min():.3g} to {array.max():.3g}",
            fix="give them in another unit: no exponent depends on it",
        )
    if bad:
        raise InputError(
            "a power law is of positive numbers", expected="finite values above 0", got=f"{bad} of {array.size} others"
        )
    return array


def _quantity(values: Any) -> str:
    return str(values.attrs.get("long_name", values.name or "value")) if isinstance(values, xr.DataArray) else "value"
