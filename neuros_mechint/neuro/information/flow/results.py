"""What `InformationFlowAnalyzer` shows: information by layer and time, and over training."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, SEQUENTIAL
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PALEST = 0.25
_INFINITE = "one is a linear function of the other, and tells infinitely much"
_NONE = {
    ("gaussian", "categories"): "categories have no correlations",
    ("noise", "numbers"): "it tells of categories, and of what decides the states, only",
}


class InformationFlow(Result):
    """How many nats each site tells of the inputs and of labels, by several estimators side by side.

    ``data`` holds over ``about``, ``estimator``, ``site`` and ``time`` the ``information`` with its ``error`` and, of
    shuffled samples, ``null`` and ``p``; NaN where an estimator has no answer, infinite where ``gaussian`` sees a
    linear function. Of several times the figure draws all (of several sites by the first estimator), and the summary
    tells the last. A description: estimators of deterministic networks say how finely they look.
    """

    def _draw(self, ax: Axes) -> None:
        about = str(self.data["about"].values[-1])
        found = self.data.sel(about=about)
        there = [str(name) for name in found["estimator"].values if np.isfinite(_of(found, name)).any()]
        of_one = ""
        if found.sizes["time"] == 1 or not there:
            _draw_over_sites(found.isel(time=0), there, ax)
        else:
            of_one = _draw_over_time(found, there, ax)
        ax.axhline(0, color=MUTED_INK, lw=1, zorder=0)  # below what is dotted
        ax.set_ylabel(f"information about the {about} (nats){of_one}")
        if there:
            title = "dotted: shuffled" if "null" in found else None
            ax.legend(fontsize=8, title=title, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)

    def _summary_lines(self) -> list[str]:
        """Return the estimates of each site in words."""
        how = self.attributes
        low, high = float(self.data["share"].min()), float(self.data["share"].max())
        lines = [
            f"{how['n_samples']} samples, principal components fitted on {how['n_fitted']} others; neighbours and bins "
            f"see {how['n_components']} ({_percent(low, high)} of the variance of a site), the noise is "
            f"{how['noise']:g} of a site's size"
        ]
        lines += [
            _told(self.data.sel(about=about, site=site), f"{site} about the {about}")
            for about, site in product(self.data["about"].values, self.data["site"].values)
        ]
        return [*lines, *self._left_out()]

    def _left_out(self) -> list[str]:
        """Return why estimates are missing: one line for each reason."""
        found: dict[str, list[str]] = {}
        for about, name in product(map(str, self.data["about"].values), map(str, self.data["estimator"].values)):
            values = self.data["information"].sel(about=about, estimator=name)
            sites = values["site"].values
            infinite, empty = (
                sites[those] for those in (np.isinf(values.values).any(1), values.isnull().values.all(1))
            )
            kind = self.attributes.get("kinds", {}).get(about, "")
            for those, reason in ((infinite, _INFINITE), (empty, _why_none(name, kind, len(empty) == len(sites)))):
                if len(those):
                    where = "" if len(those) == len(sites) else f" of {', '.join(map(str, those))}"
                    found.setdefault(reason, []).append(f"{name}{where} about the {about}")
        return [f"left out: {', '.join(which)}: {reason}" for reason, which in found.items()]


def _draw_over_sites(found: xr.Dataset, estimators: list[str], ax: Axes) -> None:
    """Draw one line for each estimator, of data ``(estimator, site)``."""
    sites = [str(site) for site in found["site"].values]
    for name in estimators:
        one, colour = found.sel(estimator=name), PALETTE[_place(found, name)]
        values = _finite(one["information"])
        ax.errorbar(range(len(sites)), values, yerr=one["error"], color=colour, marker="o", capsize=3, label=name)
        if "null" in one:
            ax.plot(range(len(sites)), one["null"], color=colour, lw=1, ls=":")
    ax.set_xticks(range(len(sites)), sites, rotation=20, ha="right")


def _draw_over_time(found: xr.Dataset, estimators: list[str], ax: Axes) -> str:
    """Draw one line for each estimator of one site, or for each site by the first estimator, and say which that is."""
    if found.sizes["site"] == 1:
        lines, of_one = {name: found.isel(site=0).sel(estimator=name) for name in estimators}, ""
        colours: Any = [PALETTE[_place(found, name)] for name in estimators]
    else:
        lines = {str(site): found.sel(site=site, estimator=estimators[0]) for site in found["site"].values}
        of_one = f", {estimators[0]}"
        colours = SEQUENTIAL(np.linspace(_PALEST, 1, len(lines))) if len(lines) > len(PALETTE) else PALETTE
    times = found["time"].values
    for colour, (name, one) in zip(colours, lines.items(), strict=False):
        values, error = _finite(one["information"]), one["error"].values
        ax.plot(times, values, color=colour, marker="o", ms=3, label=name)
        ax.fill_between(times, values - error, values + error, color=colour, alpha=0.15, lw=0)
        if "null" in one:
            ax.plot(times, one["null"], color=colour, lw=1, ls=":")
    ax.set_xlabel(found["time"].attrs.get("long_name", "time"))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return of_one


def _place(found: xr.Dataset, estimator: str) -> int:
    return found["estimator"].values.tolist().index(estimator)


def _told(found: xr.Dataset, asked: str) -> str:
    """Return what one site tells, at its last time where it has several, of data ``(estimator, time)``."""
    last = at_last_time(found.expand_dims("site", -1)).isel(site=0)
    texts = [
        f"{name} {'infinite' if np.isinf(value) else f'{value:.3g}'}{_tested(last, str(name))}"
        for name, value in zip(last["estimator"].values, last["information"].values, strict=True)
        if not np.isnan(value)
    ]
    if not texts:
        return f"{asked}: nothing that can be estimated"
    if found.sizes["time"] == 1:
        return f"{asked}: {', '.join(texts)} nats"
    axis, time = found["time"].attrs.get("long_name", "time"), int(last["time"])
    return f"{asked} at its last {axis}, {time}: {', '.join(texts)} nats{_most(found, time, axis)}"


def _most(found: xr.Dataset, last: int, axis: str) -> str:
    """Return when most is told by the first estimator that has an answer, unless that is at the last time."""
    for name in found["estimator"].values:
        values = _finite(_of(found, name))
        if np.isfinite(values).any():
            time = int(np.nanargmax(values))
            return "" if time == last else f"; by {name} most at {axis} {time}, {values[time]:.3g}"
    return ""


def at_last_time(data: xr.Dataset) -> xr.Dataset:
    """Return each site at the last of its times at which something is told.

    Examples
    --------
    >>> told = ("about", "estimator", "site", "time"), [[[[0.5, 0.1], [0.3, float("nan")]]]]
    >>> at_last_time(xr.Dataset({"information": told}))["information"].values.ravel().tolist()
    [0.1, 0.3]
    """
    there = data["information"].notnull()
    there = there.any([axis for axis in there.dims if axis not in ("site", "time")]).transpose("site", "time")
    backwards = there.values[:, ::-1].argmax(1)
    times = xr.DataArray(data.sizes["time"] - 1 - backwards, dims="site")
    return data.assign_coords(time=np.arange(data.sizes["time"])).isel(time=times)


def _of(found: xr.Dataset, estimator: Any) -> Any:
    return found["information"].sel(estimator=estimator)


def _finite(values: Any) -> Floats:
    """Return values with NaN where they are infinite."""
    return np.where(np.isfinite(values), values, np.nan)


def _why_none(estimator: str, kind: str, of_all_sites: bool) -> str:
    if kind == "tokens":
        return "tokens have no distances"
    if of_all_sites and (estimator, kind) in _NONE:
        return _NONE[estimator, kind]
    return "states that are all alike, or repeat, or a label that occurs once"


class InformationPlane(Result):
    """Information about inputs and labels over training, by several estimators side by side: a description.

    ``data`` holds over ``step``, ``about``, ``estimator`` and ``site`` the ``information`` and its ``error``.
    """

    def _draw(self, ax: Axes) -> None:
        data = self.data
        estimator = next(
            (str(name) for name in data["estimator"].values if _complete(data, str(name))),
            str(data["estimator"].values[0]),
        )
        one = data["information"].sel(estimator=estimator)
        for marker, site in zip("osD^v<>P*X", data["site"].values, strict=False):
            x, y = (one.sel(about=about, site=site).values for about in ("input", "label"))
            ax.plot(x, y, color=MUTED_INK, lw=0.8, zorder=1)
            place = np.linspace(_PALEST, 1, len(x))
            ax.scatter(x, y, c=SEQUENTIAL(place), marker=marker, s=28, zorder=2, label=str(site))
        ax.set_xlabel(f"information about the input (nats), {estimator}")
        ax.set_ylabel("information about the label (nats)")
        ax.legend(fontsize=8, title="darker: later", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)

    def _summary_lines(self) -> list[str]:
        """Return the first and the last step in words."""
        data = self.data
        steps = data["step"].values
        lines = [f"{len(steps)} steps of training from {steps[0]} to {steps[-1]}; a description, not a law of learning"]
        for about in data["about"].values:
            for site in data["site"].values:
                one = data["information"].sel(about=about, site=site)
                texts = [
                    f"{name} {first:.3g} to {last:.3g}"
                    for name in data["estimator"].values
                    for first, last in [one.sel(estimator=name).values[[0, -1]]]
                    if np.isfinite(first) and np.isfinite(last)
                ]
                lines.append(f"{site} about the {about}: {', '.join(texts)} nats")
        return lines


def _percent(low: float, high: float) -> str:
    if np.isnan(low):
        return "nothing"
    return f"{low:.0%}" if round(100 * low) == round(100 * high) else f"{low:.0%} to {high:.0%}"


def _tested(found: xr.Dataset, estimator: str) -> str:
    """Return the p of an estimate where it was tested."""
    p = float(found["p"].sel(estimator=estimator)) if "p" in found else float("nan")
    return f" (p = {p:.2g})" if np.isfinite(p) else ""


def _complete(data: Any, estimator: str) -> bool:
    return bool(np.isfinite(data["information"].sel(estimator=estimator).values).all())
