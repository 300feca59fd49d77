"""What `RotationalDynamics` shows: the planes that activity rotates in, and its test against surrogates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE, SEQUENTIAL, histogram
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.dynamics.projections.directions import draw_start_and_direction, key_of_starts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARKER = 0.25


class Rotations(Result):
    """The planes in which activity rotates.

    ``data`` holds over ``plane``, fastest first: ``frequency``; ``free_frequency``, of free linear dynamics in the
    plane (0 where they do not turn), which is higher where activity runs on ellipses; ``variance_share``; and the
    share of the changes in it that a rotation (``plane_r2_skew``) and free linear dynamics (``plane_r2_best``) explain;
    the same in all dimensions, ``r2_skew`` and ``r2_best``; ``noise_share``, at least how much of the changes is noise
    that is new in every sample, and ``frequency_loss``, by how much each frequency is too low for it; and
    ``projection`` over ``trial``, ``time`` and ``axis``, in the first plane.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 4.6, 5.2

    def _draw(self, ax: Axes) -> None:
        paths = self.data["projection"].values
        start = paths[:, 0, 0]
        place = (start - start.min()) / (np.ptp(start) or 1.0)
        for path, at in zip(paths, place, strict=True):
            colour = SEQUENTIAL(_DARKER + (1 - _DARKER) * at)
            ax.plot(path[:, 0], path[:, 1], color=colour, lw=1.2)
            draw_start_and_direction(ax, path, colour)
        key_of_starts(ax, MUTED_INK, "a condition")
        for at, label in ((_DARKER, "starts low on jPC 1"), (1.0, "starts high on jPC 1")):
            ax.plot([], [], color=SEQUENTIAL(at), lw=1.2, label=label)
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2, borderaxespad=0)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel("jPC 1")
        ax.set_ylabel("jPC 2")
        frequency = self.data["frequency"]
        ax.set_title(f"fastest plane: {float(frequency[0]):.3g} {frequency.attrs['units']}", fontsize=10)

    def _summary_lines(self) -> list[str]:
        """Return planes and fits in words."""
        data, about = self.data, self.attributes
        units = data["frequency"].attrs["units"]
        skew, best = data["r2_skew"].item(), data["r2_best"].item()
        lines = [
            f"rotations explain {100 * skew:.0f}% of the changes in {about['n_components']} dimensions, free linear "
            f"dynamics {100 * best:.0f}% (ratio {skew / best:.2f})"
        ]
        for plane in range(data.sizes["plane"]):
            one = data.isel(plane=plane)
            lines.append(
                f"plane {plane + 1}: {one['frequency'].item():.3g} {units}, {100 * one['variance_share'].item():.0f}% "
                f"of the variance; rotation explains {100 * one['plane_r2_skew'].item():.0f}% of the changes in it, "
                f"free dynamics {100 * one['plane_r2_best'].item():.0f}%, turning at "
                f"{one['free_frequency'].item():.3g} {units}"
            )
        mean = "the mean over conditions at each time was" if about["subtract_mean"] else "no mean over conditions was"
        lines.append(f"{mean} subtracted from {about['n_trials']} conditions of {about['n_times']} times")
        lines.append("smooth activity always looks somewhat rotational: test() says whether there is more to it")
        return lines


class RotationTest(Result):
    """How well rotations explain activity, beside surrogates with its covariances of times, units and conditions.

    ``data`` holds ``r2_skew``, its ``p``, ``r2_best``, their ``ratio`` and its ``ratio_p``; and over ``surrogate``:
    ``surrogate_r2`` and ``surrogate_ratio``.
    """

    @property
    def p(self) -> float:
        """Of the hypothesis that smoothness, low dimension and few conditions make activity rotate as much."""
        return self.data["p"].item()

    def _draw(self, ax: Axes) -> None:
        histogram(self.data["surrogate_r2"].values, ax)
        ax.axvline(self.main.item(), color=PALETTE[1], lw=2)
        ax.annotate(
            f"activity {self.main.item():.2f}", (self.main.item(), 0.98), xycoords=("data", "axes fraction"),
            xytext=(-4, 0), textcoords="offset points", rotation=90, ha="right", va="top", color=INK, fontsize=9,
        )  # fmt: skip
        ax.axvline(float(self.data["surrogate_r2"].mean()), color=MUTED_INK, lw=1, ls="--")
        ax.set_xlabel("share of the changes that rotations explain")
        ax.set_ylabel("surrogates")

    def _summary_lines(self) -> list[str]:
        """Return whether activity rotates more than its surrogates, in words."""
        data = self.data
        surrogate = data["surrogate_r2"].values
        more, passed = "not more than", ""
        if self.p <= SIGNIFICANT:
            more, passed = "more than", "; so can be sequences of responses that do not rotate (Lebedev et al. 2019)"
        return [
            f"rotations explain {100 * self.main.item():.0f}% of the changes, in surrogates with the same covariances "
            f"of times, units and conditions {100 * surrogate.mean():.0f} ± {100 * surrogate.std():.0f}%",
            f"that is {more} in surrogates (p = {self.p:.2g}, {surrogate.size} surrogates){passed}",
            f"ratio to free linear dynamics {data['ratio'].item():.2f}, in surrogates "
            f"{data['surrogate_ratio'].values.mean():.2f} (p = {data['ratio_p'].item():.2g})",
        ]
