"""What `SignalMetric.estimate` returns: values with their uncertainty, and the log-log plot that gave them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, histogram, label_logarithmic
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.fractals.signals import Signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
    from neuros_mechint.neuro.fractals.uncertainty import Uncertainty

_MOST_CURVES = 6
_ONE_DECADE = 10
_FEWEST_TO_AVERAGE = 2
_RESERVED = ("standard_error", "low", "high", "bias", "r2", "statistic", "line", "fitted")


class MetricEstimate(Result):
    """A metric of each signal.

    ``data`` holds, over the axes of the signals: the metric under its own name, ``standard_error``, ``low`` and
    ``high``, and where they are known ``bias`` and ``r2``; and for metrics that are slopes, over the scales as well,
    ``statistic``, the fitted ``line`` through it and which scales were ``fitted``.
    """

    @property
    def values(self) -> np.ndarray:
        """The metric of each signal."""
        return self.main.values

    def average(self, over: str) -> MetricEstimate:
        """Return the mean over an axis of independent signals: one value for each channel, say, from all its trials.

        Intervals are those of Student's t from the scatter over that axis. What the method is wrong by for signals of
        this length does not average out: ``bias`` says how much that is for signals of the kind that was simulated.

        Parameters
        ----------
        over : str
            Name of the axis, such as ``"trial"``.

        Returns
        -------
        MetricEstimate
            Over the other axes, with geometric means of the log-log plots.

        Raises
        ------
        InputError
            No such axis, or a single signal along it.

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> trials = nm.fractional_gaussian_noise(0.7, 1000, 12, seed=1).reshape(4, 3, 1000)  # (trial, channel, time)
        >>> nm.HurstExponent().estimate(trials).average("axis_0").values.round(1).tolist()
        [0.7, 0.7, 0.7]
        """
        main, about = self.main, dict[str, Any](self.attributes)
        if over not in main.dims or main.sizes[over] < _FEWEST_TO_AVERAGE:
            raise InputError(
                f"there is nothing to average over {over!r}",
                expected=f"one of {', '.join(map(repr, main.dims))}, with at least {_FEWEST_TO_AVERAGE} signals",
                got=f"{main.sizes[over]} signal" if over in main.dims else repr(over),
            )
        n_signals = main.sizes[over]
        mean, error = main.mean(over, keep_attrs=True), main.std(over, ddof=1) / n_signals**0.5
        reach = t_reach(error, n_signals - 1, about["level"])
        variables = {main.name: mean, "standard_error": error, "low": mean - reach, "high": mean + reach}
        for name in ("bias", "r2"):
            if name in self.data:
                variables[name] = self.data[name].mean(over)
        for name in ("statistic", "line"):
            if name in self.data:
                variables[name] = xr.apply_ufunc(np.exp, xr.apply_ufunc(np.log, self.data[name]).mean(over))
        if "fitted" in self.data:
            variables["fitted"] = self.data["fitted"]
        data = xr.Dataset({name: array.assign_attrs(self.data[name].attrs) for name, array in variables.items()})
        about["uncertainty"] = f"the scatter over {n_signals} of {over}"
        warnings = (*self.warnings, *_warnings_of_bias(data))
        return MetricEstimate(
            data, self.title, attributes=about, provenance=self.provenance, citations=self.citations, warnings=warnings
        )

    def _draw(self, ax: Axes) -> None:
        if "statistic" in self.data:
            self._draw_fits(ax)
        else:
            self._draw_values(ax)

    def _draw_fits(self, ax: Axes) -> None:
        scales = self.data[self.attributes["scale_name"]]
        points, lines = (self.data[name].values.reshape(-1, scales.size) for name in ("statistic", "line"))
        fitted, values = self.data["fitted"].values, self.values.ravel()
        if len(values) <= _MOST_CURVES:
            names = self._names()
            for index, value in enumerate(values):
                color = PALETTE[index % len(PALETTE)]
                label = f"{names[index]}{value:.3f}"
                ax.plot(scales, points[index], "o", color=color, markerfacecolor="none", label=label)
                ax.plot(scales[fitted], lines[index, fitted], color=color)
        else:
            low, middle, high = np.exp(np.quantile(np.log(points), [0.25, 0.5, 0.75], axis=0))
            ax.fill_between(scales, low, high, color=PALETTE[0], alpha=0.2, linewidth=0, label="middle half")
            ax.plot(scales, middle, "o", color=PALETTE[0], markerfacecolor="none", label="median")
            ax.plot(scales[fitted], np.exp(np.median(np.log(lines), axis=0))[fitted], color=PALETTE[1], label="fit")
        ax.set_xscale("log")
        ax.set_yscale("log")
        label_logarithmic(ax.xaxis, scales.values)
        ax.set_xlabel(f"{scales.attrs['long_name']} ({scales.attrs['units']})")
        ax.set_ylabel(self.data["statistic"].attrs["long_name"])
        title = self.main.attrs["long_name"] if len(values) <= _MOST_CURVES else None
        ax.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1))

    def _names(self) -> list[str]:
        """Return what to call each signal in a legend, where it has labels."""
        labelled = [axis for axis in self.main.dims if axis in self.main.coords]
        if len(self.main.dims) != 1 or not labelled:
            return [""] * self.values.size
        return [f"{label}: " for label in self.main[labelled[0]].values]

    def _draw_values(self, ax: Axes) -> None:
        values = self.values.ravel()
        if len(values) <= _MOST_CURVES:
            error = np.abs(np.stack([self.data[name].values.ravel() for name in ("low", "high")]) - values)
            ax.errorbar(np.arange(len(values)), values, error, fmt="o", color=PALETTE[0], ecolor=MUTED_INK, capsize=3)
            ax.set_xticks(np.arange(len(values)))
            ax.set_xlim(-0.5, len(values) - 0.5)
            ax.set_xlabel("signal")
            ax.set_ylabel(self.main.attrs["long_name"])
        else:
            histogram(values, ax)
            ax.set_xlabel(self.main.attrs["long_name"])
            ax.set_ylabel("signals")

    def _summary_lines(self) -> list[str]:
        """Return values, fit and the origin of the uncertainty in words."""
        values, about = self.values.ravel(), self.attributes
        errors = self.data["standard_error"].values
        error = float(np.median(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else np.nan
        percent = f"{100 * about['level']:g}%"
        if len(values) == 1:
            low, high = (self.data[name].item() for name in ("low", "high"))
            found = f"{values[0]:.3f}, {percent} interval {low:.3f} to {high:.3f}"
        else:
            found = f"mean {values.mean():.3f}, standard deviation {values.std(ddof=1):.3f} over {len(values)} signals"
        lines = [f"{self.main.name}: {found}; standard error of one signal {error:.3f}"]
        if "bias" in self.data:
            lines.append(f"mean error of the method there: {float(np.median(self.data['bias'].values)):+.3f}")
        if "statistic" in self.data:
            low, high = about["fit_range"]
            straight = self.data["r2"].values
            r2 = f"r2 {np.median(straight):.3f}" + (f", lowest {straight.min():.3f}" if straight.size > 1 else "")
            units = self.data[about["scale_name"]].attrs["units"]
            lines.append(f"fitted over {about['n_fitted']} scales from {low:g} to {high:g} {units}, {r2}")
        return [*lines, f"signals of {about['n_samples']} samples; uncertainty from {about['uncertainty']}"]


def _warnings_of_bias(data: xr.Dataset) -> tuple[str, ...]:
    if "bias" not in data or not bool((np.abs(data["bias"]) > data["standard_error"]).any()):
        return ()
    worst = float(data["bias"].values.flat[np.argmax(np.abs(data["bias"].values))])
    return (
        f"averages keep the error that the method makes at this length (up to {worst:+.3f}), more than they scatter",
    )


def metric_estimate(
    asked: SignalMetric,
    metric: SignalMetric,
    found: Signals,
    fit: Fit,
    uncertainty: Uncertainty,
    level: float,
    n_simulated: int,
    seed: SeedLike,
) -> MetricEstimate:
    """Return what was found as a result; ``asked`` is the metric as the caller made it."""
    check_names(found, (metric.quantity, metric.scale_name, *_RESERVED))
    shape, dims = found.values.shape[:-1], found.dims
    units = {"units": "1"}

    def over_signals(values: torch.Tensor, long_name: str) -> tuple[Any, ...]:
        return dims, values.reshape(shape).numpy(), {"long_name": long_name, **units}

    variables = {metric.quantity: over_signals(fit.value, metric.long_name)}
    for name, text in (("standard_error", "standard error"), ("low", "lower limit"), ("high", "upper limit")):
        variables[name] = over_signals(getattr(uncertainty, name), text)
    if uncertainty.bias is not None:
        variables["bias"] = over_signals(uncertainty.bias, "mean error of the method")
    about: dict[str, Any] = {"n_samples": found.values.shape[-1], "level": level, "uncertainty": uncertainty.origin}
    coords = dict(found.coords)
    warnings = [*uncertainty.warnings, *metric._cautions(fit)]
    if fit.scales is not None and fit.statistic is not None and fit.fitted is not None and fit.line is not None:
        variables["r2"] = over_signals(fit.line.r2, "share of variance on the line")
        variables |= _plot_of(metric, fit, dims, shape)
        scale_text = {"long_name": metric.scale_name.replace("_", " "), "units": metric.scale_units}
        coords[metric.scale_name] = (metric.scale_name, fit.scales.numpy(), scale_text)
        within = fit.scales[fit.fitted].tolist()
        about |= {"scale_name": metric.scale_name, "fit_range": [within[0], within[-1]], "n_fitted": len(within)}
        if within[-1] < _ONE_DECADE * within[0]:
            warnings.append(f"the fit spans less than a decade of scales ({within[0]:g} to {within[-1]:g})")
    return MetricEstimate(
        xr.Dataset(variables, coords),
        metric.long_name[:1].upper() + metric.long_name[1:],
        attributes=about,
        provenance=Provenance.record(
            seed,
            arguments={"metric": repr(asked), "x": found.values.numpy(), "level": level, "n_simulated": n_simulated},
        ),
        citations=metric.citations,
        warnings=tuple(warnings),
    )


def _plot_of(metric: SignalMetric, fit: Fit, dims: tuple[str, ...], shape: torch.Size) -> dict[str, tuple[Any, ...]]:
    """Return the variables of a log-log plot."""
    assert fit.scales is not None and fit.statistic is not None  # noqa: PT018
    assert fit.fitted is not None and fit.line is not None  # noqa: PT018
    line = torch.exp(fit.line.intercept[:, None] + fit.line.slope[:, None] * fit.scales.log())
    found = {}
    for name, values, text in (("statistic", fit.statistic, metric.statistic_name), ("line", line, "fitted line")):
        found[name] = ((*dims, metric.scale_name), values.reshape(*shape, -1).numpy(), {"long_name": text})
    found["fitted"] = (metric.scale_name, fit.fitted.numpy(), {"long_name": "in the range of the fit"})
    return found


def check_names(found: Signals, reserved: Iterable[str]) -> None:
    """Raise `InputError` where an axis is called like a variable of the result.

    Examples
    --------
    >>> check_names(Signals(torch.zeros(2, 9), ("unit",), {}, None), ["low"])
    """
    taken = {*reserved} & {*found.dims, *map(str, found.coords)}
    if taken:
        raise InputError(
            f"x has axes or labels called {', '.join(sorted(taken))}, which the result needs for itself",
            fix="rename them first",
        )
