"""How a training went, in numbers, words and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import PALETTE, label_logarithmic
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONG_NAMES = {
    "total_loss": "loss",
    "task_loss": "task loss",
    "fractal_loss": "fractal loss",
    "rate_cost": "rate cost",
    "synaptic_cost": "synaptic cost",
    "compliance": "share of weights of the source's sign",
}
_PARTS = ("task_loss", "fractal_loss", "rate_cost", "synaptic_cost")
_SMOOTHED_OVER = 20


class TrainingHistory(Result):
    """How a training went: ``data`` holds losses and costs over ``step``, and of validation trials over ``check``."""

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8

    def _summary_lines(self) -> Iterator[str]:
        about, data = self.attributes, self.data
        early = ", stopped early" if about["stopped_early"] else ""
        yield f"{data.sizes['step']:,} of {about['n_steps']:,} steps{early}"
        for name in _PARTS:
            values = _smoothed(data[name].values)
            weight = about["weights"].get(name)
            note = "" if weight is None else f" (weight {weight:g})"
            yield f"{data[name].attrs['long_name']}{note}: {values[0]:.3g} at first, {values[-1]:.3g} at the end"
        yield f"least share of weights of their source's sign at any step: {100 * float(data['compliance'].min()):.4g}%"
        if data.sizes["check"]:
            best = data.isel(check=int(np.argmin(data["validation_loss"].values)))
            yield f"best validation loss {float(best['validation_loss']):.3g} after {int(best['check']):,} steps"

    def _draw(self, ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        data, drawn = self.data, self.attributes["weights"]
        curves = {name: _smoothed(data[name].values * drawn.get(name, 1.0)) for name in _PARTS}
        shown = [data["validation_loss"].values]
        for (name, values), colour in zip(curves.items(), PALETTE, strict=False):
            if values.any() or name == "task_loss":
                label = str(data[name].attrs["long_name"]) + (" × weight" if name in drawn else "")
                marker = "." if len(values) == 1 else ""  # a line needs two points
                ax.plot(data["step"].values, values, marker, color=colour, label=label)
                shown.append(values)
        if data.sizes["check"]:
            ax.plot(data["check"].values, shown[0], "o", color=PALETTE[6], label="validation loss")
        every = np.concatenate(shown)
        if every.size and (every > 0).all() and every.max() > 5 * every.min():
            ax.set_yscale("log")
            label_logarithmic(ax.yaxis, every)
        ax.set(xlabel="step of training", ylabel="loss")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def training_history(
    steps: Sequence[Mapping[str, float]],
    checks: Mapping[int, float],
    weights: Mapping[str, float],
    n_steps: int,
    provenance: Provenance,
) -> TrainingHistory:
    """Return what is known of each step as a result.

    Parameters
    ----------
    steps : sequence of mapping of str to float
        Losses, costs and compliance of each step.
    checks : mapping of int to float
        After which steps validation trials were tried, and their loss.
    weights : mapping of str to float
        What costs were multiplied by.
    n_steps : int
        How many steps there could have been.
    provenance : Provenance
    """
    data = xr.Dataset(
        {
            name: ("step", [each[name] for each in steps], {"long_name": text, "units": ""})
            for name, text in _LONG_NAMES.items()
        }
        | {"validation_loss": ("check", np.array(list(checks.values()), float), {"long_name": "validation loss"})},
        {"step": np.arange(1, len(steps) + 1), "check": np.array(list(checks), np.int64)},
    )
    attributes = {"n_steps": n_steps, "stopped_early": len(steps) < n_steps, "weights": dict(weights)}
    title = "Training under Dale's law"
    return TrainingHistory(data, title, attributes=attributes, provenance=provenance, citations=("song2016",))


def _smoothed(values: Floats) -> Floats:
    """Return running means over up to 20 steps before each."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - _SMOOTHED_OVER, 0)
    return (sums[stop] - sums[start]) / (stop - start)
