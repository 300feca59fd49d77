"""The record of a training: every metric by step and layer or site, and the way its representations went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, line
from neuros_mechint.core.figures.style import drawing
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.training.metrics import METRICS, SIMILARITY
from neuros_mechint.training.similarity import trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABOUT_SIMILARITY = {"long_name": "debiased CKA", "units": ""}
_TOO_COSTLY = 0.05
_MOST_NAMED = 4
_SIZE = 6.6, 3.6


class TrainingCurve(Result):
    """One metric of a training, by step."""

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _SIZE

    def _draw(self, ax: Axes) -> None:
        _curve(self.main, ax)

    def _summary_lines(self) -> Iterator[str]:
        yield f"{self.main.name}: {_first_and_last(self.main)}"


class TrainingRecord(Result):
    """What a tracker saw of a training.

    ``data`` has one variable for each metric: over ``step``, or over ``step`` and ``layer`` (of weights) or ``site``
    (of activations). With ``cka`` there are also ``cka_initial``, ``cka_previous`` and ``cka_final``: likeness to the
    first look, the one before and the last.
    """

    def __getitem__(self, name: str) -> xr.DataArray:
        """Return a metric."""
        check_option("metric", name, [str(one) for one in self.data.data_vars])
        return self.data[name]

    @property
    def steps(self) -> list[int]:
        """Steps at which the tracker looked: updates of the weights before each look."""
        return self.data["step"].values.tolist()

    @property
    def overhead(self) -> float:
        """Seconds of looking by seconds of training; NaN before there was any training."""
        training = self.attributes["training_seconds"]
        return self.attributes["looking_seconds"] / training if training > 0 else float("nan")

    def trajectory(self, site: str | None = None, n_components: int = 2) -> xr.DataArray:
        """Return the way that representations went, as places whose distances are those of CKA.

        Parameters
        ----------
        site : str, optional
            By default all sites together: the mean of their CKA.
        n_components : int
            Axes, the one along which it went furthest first.

        Returns
        -------
        xarray.DataArray of shape (step, component)
            With the ``share`` of variance of each axis.

        Raises
        ------
        InputError
            The record has no ``cka``, or a representation that nothing can be compared with.
        """
        similarity = self._similarity(site)
        if not np.isfinite(similarity).all():
            raise InputError(
                "some representations cannot be compared",
                expected="activations that are finite and differ between samples at every look",
                got=f"none at steps {self.data['step'].values[np.isnan(np.diag(similarity))].tolist()[:8]}",
                fix="choose another site",
            )
        places, share = trajectory(similarity, whole("n_components", n_components))
        return xr.DataArray(
            places,
            dims=("step", "component"),
            coords={"step": self.data["step"], "component": np.arange(len(share)), "share": ("component", share)},
            attrs={"long_name": "distance by CKA"},
        )

    def _similarity(self, site: str | None) -> Floats:
        if SIMILARITY not in self.data:
            raise InputError("this record has no trajectory", expected="a tracker with the metric 'cka'")
        if site is None:
            return self.data[SIMILARITY].mean("site", skipna=False).values
        check_option("site", site, self.data["site"].values.tolist())
        return self.data[SIMILARITY].sel(site=site).values

    def plot_metric(self, name: str, ax: Axes | None = None) -> Axes:
        """Draw a metric over steps, a line for each layer or site.

        Parameters
        ----------
        name : str
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        OptionError
            There is no such metric over steps.
        """
        check_option("metric", name, [str(one) for one in self.data.data_vars if one != SIMILARITY])
        with drawing(ax, self.figure_size) as axes:
            _curve(self.data[name], axes)
            title = str(self.data[name].attrs.get("long_name", name))
            axes.set_title(title[:1].upper() + title[1:])
        return axes

    def plot_trajectory(self, ax: Axes | None = None, site: str | None = None) -> Axes:
        """Draw the way that representations went, see `trajectory`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        site : str, optional

        Returns
        -------
        matplotlib.axes.Axes
        """
        places = self.trajectory(site)
        (x, y), share, steps = places.values.T, places["share"].values, places["step"].values
        with drawing(ax, (5.2, 4.2)) as axes:
            axes.plot(x, y, color=MUTED_INK, lw=1, zorder=1)
            order = np.arange(len(steps))
            dots = axes.scatter(x, y, c=order, cmap="viridis", s=22, zorder=2)
            shown = np.unique(np.linspace(0, len(steps) - 1, min(5, len(steps))).round().astype(int))
            bar = axes.figure.colorbar(dots, ax=axes, ticks=shown)
            bar.ax.set_yticklabels([f"{steps[place]:,}" for place in shown])
            bar.set_label("step")
            axes.set_xlabel(f"first axis ({100 * share[0]:.0f}% of variance)")
            axes.set_ylabel(f"second axis ({100 * share[1]:.0f}%)")
            axes.set_aspect("equal", "datalim")
            axes.set_title("Way of the representations" + (f" at {site}" if site else ""))
        return axes

    def report_sections(self) -> Iterator[tuple[Result, str, str]]:
        """Yield each metric with its title and caption, for `neuros_mechint.report.Report.add`."""
        for name, array in self.data.data_vars.items():
            if name == SIMILARITY:
                continue
            title = str(array.attrs.get("long_name", name))
            title = title[:1].upper() + title[1:]
            over = "".join(f", one line for each {axis}" for axis in array.dims if axis != "step")
            curve = TrainingCurve(array.to_dataset(name=name), title, provenance=self.provenance)
            yield curve, title, " ".join([f"By step{over}.", *_undrawn(array)])

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _SIZE

    def _draw(self, ax: Axes) -> None:
        _curve(self.main, ax)

    def _summary_lines(self) -> Iterator[str]:
        steps = self.steps
        yield f"{len(steps)} look{'s' * (len(steps) != 1)}, steps {steps[0]:,} to {steps[-1]:,}"
        for name, array in self.data.data_vars.items():
            if name == SIMILARITY:
                continue
            yield f"{name}: {_first_and_last(array)}"
        if np.isfinite(self.overhead):
            yield f"looking took {100 * self.overhead:.3g}% of the time of training"


def _curve(values: xr.DataArray, ax: Axes) -> None:
    if not np.isfinite(values.values).any():
        ax.set(xticks=[], yticks=[])
        text = "\n".join(_undrawn(values))
        ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED_INK, transform=ax.transAxes)
        return
    line(values, ax, along="step")
    steps = values["step"].values
    if len(steps) > 2 and steps[-1] > 4 * np.median(steps):
        ax.set_xscale("symlog", linthresh=max(1.0, float(steps[steps > 0].min())))
    ax.set_xlabel("step of training")


def _undrawn(values: xr.DataArray) -> Iterator[str]:
    """Yield which values have no place in a figure, and which lines are missing."""
    numbers, n = values.values, values.size
    n_infinite, n_undefined = int(np.isinf(numbers).sum()), int(np.isnan(numbers).sum())
    if n_infinite + n_undefined == n:
        kinds = " or ".join(kind for kind, count in (("infinite", n_infinite), ("undefined", n_undefined)) if count)
        yield f"Nothing to draw: all {n} values are {kinds}." if n > 1 else f"Nothing to draw: the value is {kinds}."
        return
    if n_infinite:
        yield f"Not drawn: {n_infinite} of {n} values, which are infinite."
    if values.ndim > 1:
        over = str(values.dims[1])
        gone = values[over].values[~np.isfinite(numbers).any(0)].tolist()
        if gone:
            more = f" and {len(gone) - _MOST_NAMED} more" if len(gone) > _MOST_NAMED else ""
            yield f"No line, because nothing is finite, of {over} {', '.join(map(str, gone[:_MOST_NAMED]))}{more}."


def _first_and_last(array: xr.DataArray) -> str:
    values = array.dropna("step", how="all")
    if not values.sizes["step"]:
        return "never defined"
    ends = [values.isel(step=place) for place in (0, -1)]
    texts = []
    for end in ends:
        if end.ndim == 0:
            texts.append(f"{float(end):.4g}")
        else:
            texts.append(f"{float(end.min()):.3g} to {float(end.max()):.3g}")
    over = f" over {values.dims[1]}s" if values.ndim > 1 else ""
    return f"{texts[0]} at first, {texts[1]} at last{over}"


def training_record(
    steps: Sequence[int],
    values: Mapping[str, Sequence[Any]],
    kernels: Floats | None,
    layers: Sequence[str],
    sites: Sequence[str],
    provenance: Provenance,
    attributes: Mapping[str, Any],
    warnings: Sequence[str],
) -> TrainingRecord:
    """Return what was measured as a result.

    Parameters
    ----------
    steps : sequence of int
    values : mapping of str to sequence
        Of each metric, what was measured at each step.
    kernels : numpy.ndarray of shape (n_steps, n_sites, n_pairs) or None
        See `neuros_mechint.training.similarity.kernel_vector`.
    layers, sites : sequence of str
    provenance, attributes, warnings
        See `neuros_mechint.core.result.Result`.
    """
    variables: dict[str, Any] = {}
    for name, measured in values.items():
        metric = METRICS.get(name)
        scope = metric.scope if metric else "run"
        about = {"long_name": metric.long_name, "units": metric.units} if metric else {"long_name": name, "units": ""}
        variables[name] = (("step",) if scope == "run" else ("step", scope), np.array(measured, float), about)
    if kernels is not None:
        variables |= _similarities(kernels)
    coords: dict[str, Any] = {"step": ("step", list(steps), {"long_name": "step of training"})}
    used = {dimension for dimensions, *_ in variables.values() for dimension in dimensions}
    coords |= {scope: list(names) for scope, names in (("layer", layers), ("site", sites)) if scope in used}
    if kernels is not None:
        coords["other_step"] = list(steps)
    overhead = attributes["looking_seconds"] / max(attributes["training_seconds"], 1e-9)
    costly = (
        f"looking took {100 * overhead:.0f}% of the time of training: look less often (schedule), or measure less "
        "(metrics)"
    )
    return TrainingRecord(
        xr.Dataset(variables, coords),
        "A network in training",
        attributes=dict(attributes),
        provenance=provenance,
        citations=("kornblith2019", "gao2017", "mccandlish2018"),
        warnings=(*warnings, costly) if len(steps) > 1 and overhead > _TOO_COSTLY else tuple(warnings),
    )


def _similarities(kernels: Floats) -> dict[str, Any]:
    by_site = kernels.astype(float).transpose(1, 0, 2)
    cka = by_site @ by_site.transpose(0, 2, 1)
    before = np.full(cka.shape[:2], np.nan)
    before[:, 1:] = np.diagonal(cka, offset=1, axis1=1, axis2=2)
    return {
        "cka_initial": (("step", "site"), cka[:, :, 0].T, {"long_name": "CKA to the first look", "units": ""}),
        "cka_previous": (("step", "site"), before.T, {"long_name": "CKA to the look before", "units": ""}),
        "cka_final": (("step", "site"), cka[:, :, -1].T, {"long_name": "CKA to the last look", "units": ""}),
        SIMILARITY: (("site", "step", "other_step"), cka, _ABOUT_SIMILARITY),
    }
