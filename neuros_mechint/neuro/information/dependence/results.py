"""What the estimators of information return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.neuro.information.estimate import InformationEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS_SHOWN = 40
NAMES = {
    "ksg": "nearest neighbours, KSG 1",
    "ksg2": "nearest neighbours, KSG 2",
    "gaussian": "normal distributions",
    "ross": "nearest neighbours within categories, Ross",
    "binned": "bins",
    "mine": "trained lower bound, MINE",
    "infonce": "trained lower bound, InfoNCE",
    "mixed": "nearest neighbours of continuous and discrete variables",
}


def as_variables(name: str, value: float, error: float, reach: float) -> dict[str, tuple[Any, ...]]:
    """Return the variables of a result that is one estimate with its interval.

    Parameters
    ----------
    name : str
        What was estimated.
    value, error : float
        Nats.
    reach : float
        How far the interval reaches on either side.

    Examples
    --------
    >>> list(as_variables("mutual information", 0.5, 0.1, 0.2))
    ['information', 'error', 'low', 'high']
    """
    units = {"units": "nats"}
    return {
        "information": ((), value, units | {"long_name": name}),
        "error": ((), error, units | {"long_name": "standard error"}),
        "low": ((), value - reach, units | {"long_name": "lower end of the interval"}),
        "high": ((), value + reach, units | {"long_name": "upper end of the interval"}),
    }


class MutualInformation(InformationEstimate):
    """How many nats one variable tells of another, by one estimator.

    ``data`` holds ``information`` with its ``error`` and the interval from ``low`` to ``high``, in nats.
    """

    def _draw(self, ax: Axes) -> None:
        low, high = self.interval
        ax.errorbar(
            [self.value], [0], xerr=[[self.value - low], [high - self.value]], fmt="o", color=PALETTE[0], capsize=4
        )
        ax.axvline(0, color=MUTED_INK, lw=1)
        limit = self.attributes["most"]
        if limit is not None and self.value > limit / 2:
            ax.axvline(limit, color=MUTED_INK, lw=1.2, ls="--", label=f"the most it can show, {limit:.3g}")
            ax.legend(fontsize=8)
        ax.set_yticks([0], [self.attributes["method"]])
        ax.set_ylim(-1, 1)
        ax.set_xlabel("information (nats)")

    def _summary_lines(self) -> list[str]:
        """Return the estimate in words."""
        about, (low, high) = self.attributes, self.interval
        kind = "at least " if about["method"] in ("mine", "infonce") else ""
        lines = [
            f"{about['name']}: {kind}{self.value:.3g} nats ({self.bits:.3g} bits), "
            f"{100 * about['level']:g}% interval {low:.3g} to {high:.3g}, sampling error only",
            f"by {NAMES[about['method']]}, from {about['n_samples']} samples of {about['sizes']}",
        ]
        return [*lines, *self._verdict(low)]

    def _verdict(self, low: float) -> list[str]:
        """Return what the estimate says about dependence."""
        if low > 0:
            return ["the interval lies above 0"]
        return ["the interval holds 0: these samples do not show that the variables are dependent"]


class _TestedInformation(MutualInformation):
    """An estimate beside those of data in which the dependence that is asked about was broken."""

    _drawn = "rearrangements"

    @property
    def p(self) -> float | None:
        """How often chance alone would give as much, or more; None where nothing was rearranged."""
        return float(self.data["p"]) if "p" in self.data else None

    @property
    def null(self) -> Floats | None:
        """The estimates of rearranged data, in nats; None where nothing was rearranged."""
        return self.data["null"].values if "null" in self.data else None

    def _draw(self, ax: Axes) -> None:
        null = self.null
        if null is None:
            super()._draw(ax)
            return
        low, high = self.interval
        _draw_null(null, max(high, null.max()) - min(low, null.min()), ax)
        ax.axvspan(low, high, color=PALETTE[1], alpha=0.15, lw=0, zorder=0)
        ax.axvline(self.value, color=PALETTE[1], lw=2)
        ax.annotate(
            f"{self.value:.3g}, p = {self.p:.2g}", (self.value, 0.98), xycoords=("data", "axes fraction"),
            xytext=(-4, 0), textcoords="offset points", rotation=90, ha="right", va="top", color=INK, fontsize=9,
            bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1},
        )  # fmt: skip
        ax.axvline(float(null.mean()), color=MUTED_INK, lw=1, ls="--")
        ax.set_xlabel(f"{self.attributes['name']} (nats)")
        ax.set_ylabel(self._drawn)


class ConditionalMutualInformation(_TestedInformation):
    """How many nats one variable tells of another where a third is known already, and how much of it is chance.

    ``data`` holds ``information`` with its ``error`` and the interval from ``low`` to ``high``, in nats; and where the
    test was made its ``p``, and over ``rearrangement`` the ``null``.
    """

    def _verdict(self, low: float) -> list[str]:
        p, null = self.p, self.null
        if p is None or null is None:
            return ["not tested: n_permutations=0"]
        told = "x and y are dependent given z" if p <= SIGNIFICANT else "no dependence of x and y given z is shown"
        return [
            f"{told} (p = {p:.2g}; x rearranged among samples alike in z {null.size} times: {null.mean():.3g} ± "
            f"{null.std():.2g} nats)"
        ]


class TransferEntropy(_TestedInformation):
    """How many nats the past of a source tells of a target's next value that the target's own past does not.

    ``data`` holds ``information`` with its ``error`` and the interval from ``low`` to ``high``, in nats; and with
    surrogates ``effective``, the estimate less their mean, its ``p``, over ``rearrangement`` the ``null``, and the
    estimate of the series ``reversed`` in time, with the ``reversed_error`` of the difference.
    """

    _drawn = "surrogates"

    @property
    def reversed(self) -> float | None:
        """The estimate of the series run backwards, in nats; None without surrogates."""
        return float(self.data["reversed"]) if "reversed" in self.data else None

    @property
    def effective(self) -> float | None:
        """The estimate less the mean of the surrogates, in nats; None where there are none."""
        return float(self.data["effective"]) if "effective" in self.data else None

    def _verdict(self, low: float) -> list[str]:
        p, null, effective = self.p, self.null, self.effective
        about = self.attributes
        lines = [about["embedding"]]
        if p is None or null is None or effective is None:
            return [*lines, "not tested: n_permutations=0"]
        told = "the source's past tells of the target's next value" if p <= SIGNIFICANT else "no transfer is shown"
        return [
            *lines,
            f"{told} (p = {p:.2g}; {null.size} circular shifts of the source: {null.mean():.3g} ± {null.std():.2g} "
            "nats)",
            f"effective transfer entropy, less the mean of the shifted ones: {effective:.3g} nats",
            *self._backwards(),
        ]

    def _backwards(self) -> list[str]:
        seen = self.reversed
        if seen is None:
            return []
        return [
            f"series reversed in time: {seen:.3g} nats, a difference of {self.value - seen:.3g} ± "
            f"{float(self.data['reversed_error']):.2g} (transfer turns round with time, unequal noise does not)"
        ]


def _draw_null(null: Floats, shown: float, ax: Axes) -> None:
    """Draw how the estimates of rearranged data are distributed, in bins that can be seen on an axis of that width."""
    from matplotlib.ticker import MaxNLocator

    n_bins = max(8, null.size // 10)
    width = max(float(np.ptp(null)) / n_bins, shown / _BINS_SHOWN) or 1.0
    first = float(null.mean()) - (np.ceil((null.mean() - null.min()) / width) + 0.5) * width  # the mean within a bin
    edges = np.arange(first, null.max() + width, width)
    ax.hist(null, bins=edges.tolist(), color=PALETTE[0], edgecolor="white", linewidth=0.5)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def beside_null(value: float, null: Floats) -> dict[str, tuple[Any, ...]]:
    """Return the variables of a result that tell how much of an estimate is chance.

    Examples
    --------
    >>> import numpy as np
    >>> beside_null(1.0, np.zeros(19))["p"][1]
    0.05
    """
    about = {"long_name": "estimate of rearranged data", "units": "nats"}
    return {
        "p": ((), float(p_of_draws(value, null)), {"long_name": "p"}),
        "null": ("rearrangement", null, about),
    }
