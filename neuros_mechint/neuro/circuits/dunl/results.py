"""What is found of kernels and events, in numbers, words and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NEURONS_DRAWN = 20
_FOUND = (
    "when a kernel begins is arbitrary: it may be moved in its window if its events are moved back by as much",
    "amplitudes are those of events large enough to be found: their median is above that of all events",
)


class DUNLResult(Result):
    """Kernels, and the events at which they begin.

    ``data`` holds ``kernel`` over ``kernel`` index and ``lag`` (and ``neuron``, where each has its own), ``baseline``,
    and one entry per event: ``event_trial``, ``event_kernel``, ``event_time`` and ``amplitude`` (``(event,)``, or
    ``(event, neuron)`` for several neurons, which share the list of events; an amplitude of 0 is no event).
    """

    @property
    def kernels(self) -> Floats:
        """``(n_kernels, kernel_length)``, or ``(n_neurons, n_kernels, kernel_length)``; their peaks are 1."""
        return self.data["shape"].values

    @property
    def event_times(self) -> npt.NDArray[np.int64]:
        """One row for each event: trial, kernel, bin."""
        return np.stack([self.data[f"event_{name}"].values for name in ("trial", "kernel", "bin")], axis=1)

    @property
    def reliable(self) -> bool:
        """Whether events predict hidden bins, and both halves of the trials give the same kernels."""
        return bool(self.attributes["reliable"])

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        return 6.6, 3.6

    def _summary_lines(self) -> list[str]:
        about, sizes = self.attributes, self.data.sizes
        per = "value" if about["link"] == "gaussian" else "spike"
        whose = f" for each of {sizes['neuron']} neurons" if "neuron" in self.data["shape"].dims else ""
        lines = [
            f"{sizes['kernel']} kernels of {sizes['lag']} bins{whose}, {about['link']} link, "
            f"events {'given' if about['events_known'] else 'found'}",
            f"held out: {self._score('score')} nats per {per} better than constant rates, in hidden bins, and "
            f"{self._score('score_over_drift')} better than a slow drift (± standard error over held-out trials)",
            *self._uncertain(),
            f"kernels of two halves of the trials agree with a cosine of {about['split_half']:.3g} at least",
        ]
        if about["start_score"] is not None:
            kept = "trained network kept" if about["trained"] else "kernels before training kept"
            lines.append(f"before training {about['start_score']:.4g}, after {about['trained_score']:.4g}: {kept}")
        amplitudes, kernel = np.abs(self.data["amplitude"].values), self.data["event_kernel"].values
        per_trial = about["n_trials"] * (amplitudes.shape[1] if amplitudes.ndim > 1 else 1)
        for index in range(sizes["kernel"]):
            own = amplitudes[kernel == index]
            there = own[own > 0]
            told = f"median amplitude {np.median(there):.3g}" if there.size else "none"
            lines.append(f"kernel {index}: {there.size / per_trial:.3g} events per trial, {told}")
        return lines if about["events_known"] else [*lines, *_FOUND]

    def _score(self, name: str) -> str:
        error = self.attributes.get(f"{name}_error")
        return f"{self.attributes[name]:.3g} ± {'unknown' if error is None else format(error, '.2g')}"

    def _uncertain(self) -> list[str]:
        """Say over what a score is not more than two standard errors above 0, as far as known."""
        about, told = self.attributes, {"score": "constant rates", "score_over_drift": "a slow drift"}
        errors: dict[str, Any] = {name: about.get(f"{name}_error") for name in told}
        over = [words for name, words in told.items() if errors[name] is None or about[name] <= 2 * errors[name]]
        if not over:
            return []
        return [f"not above two standard errors, over {' and over '.join(over)}: noise alone may score as much"]

    def _draw(self, ax: Axes) -> None:
        shapes, lags = self.data["shape"], self.data["lag"]
        for index in range(shapes.sizes["kernel"]):
            colour = PALETTE[index % len(PALETTE)]
            one = shapes.isel(kernel=index).values
            if one.ndim == 2:
                ax.plot(lags.values, one[:_MOST_NEURONS_DRAWN].T, color=colour, linewidth=0.6, alpha=0.4)
                one = one.mean(0)
            ax.plot(lags.values, one, color=colour, label=f"kernel {index}")
        ax.axhline(0, color=MUTED_INK, linewidth=0.7)
        origin = "the event" if self.attributes["events_known"] else "the fitted event; its origin is arbitrary"
        ax.set_xlabel(f"time since {origin} ({lags.attrs['units']})")
        ax.set_ylabel(f"{shapes.attrs['long_name']} ({shapes.attrs['units']})")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        if not self.reliable:
            ax.set_title(f"{self.title}: not reliable")
