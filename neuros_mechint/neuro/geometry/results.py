"""What `intrinsic_dimension` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE, label_logarithmic
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "two_nn": "TwoNN",
    "mle": "maximum likelihood",
    "correlation": "correlation dimension",
    "participation_ratio": "participation ratio",
    "pca": "PCA",
}
_FULL = 0.85


class IntrinsicDimension(Result):
    """How many dimensions data fill, by several estimators and at several scales.

    ``data`` holds over ``estimator``, the one asked for first: ``estimate`` with ``low`` and ``high``; over
    ``local_estimator`` and ``scale``: ``scale_estimate`` with ``scale_error``, at ``scale_distance``, from
    ``scale_setting``: so many points (TwoNN), neighbours (maximum likelihood) or such a share of pairs (correlation
    dimension); and over ``component``: ``variance_share``.
    """

    @property
    def dimension(self) -> float:
        """The estimate by the method asked for."""
        return float(self.main[0])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its interval: sampling error only, no bias."""
        return float(self.data["low"][0]), float(self.data["high"][0])

    @property
    def estimates(self) -> dict[str, float]:
        """All estimates by name."""
        return dict(zip(self.data["estimator"].values.tolist(), self.main.values.tolist(), strict=True))

    def _draw(self, ax: Axes) -> None:
        chosen = str(self.data["estimator"].values[0])
        reach: list[float] = []
        for colour, name in zip(PALETTE, self.data["local_estimator"].values, strict=False):
            curve = self.data.sel(local_estimator=name)
            seen = np.isfinite(curve["scale_estimate"].values)
            distance, value, error = (curve[f"scale_{part}"].values[seen] for part in ("distance", "estimate", "error"))
            reach += distance.tolist()
            strong = name == chosen
            ax.plot(distance, value, "o-", color=colour, lw=2.2 if strong else 1.2, label=NAMES[name])
            ax.fill_between(distance, value - 2 * error, value + 2 * error, color=colour, alpha=0.15, lw=0)
        for style, name in (("--", "participation_ratio"), (":", "pca")):
            value = self.estimates[name]
            ax.axhline(value, color=MUTED_INK, lw=1.2, ls=style, label=f"{NAMES[name]} {value:.3g}")
        if chosen in self.data["local_estimator"].values:
            low, high = self.interval
            start = self.data["scale_distance"].sel(local_estimator=chosen)
            at = float(start[int(self.attributes["chosen_scale"])])
            ax.errorbar(
                [at], [self.dimension], [[self.dimension - low], [high - self.dimension]],
                fmt="s", color=INK, capsize=3, zorder=5, label=f"estimate {self.dimension:.3g}",
            )  # fmt: skip
        ax.set_xscale("log")
        if reach:
            label_logarithmic(ax.xaxis, np.array(reach))
        ax.set_ylim(bottom=0)
        ax.set_xlabel("distance between neighbours (units of the data)")
        ax.set_ylabel("dimension")
        ax.grid(axis="y")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))

    def _summary_lines(self) -> list[str]:
        """Return the estimates in words."""
        about, found = self.attributes, self.estimates
        method = str(self.data["estimator"].values[0])
        low, high = self.interval
        error = f"{100 * about['level']:g}% interval {low:.3g} to {high:.3g}, sampling error only"
        several = f"{about['n_points']} points in {about['n_features']} features"
        lines = [f"dimension {self.dimension:.3g} ({NAMES[method]}; {error}), from {several}"]
        others = [f"{NAMES[name]} {found[name]:.3g}" for name in found if name not in (method, "pca")]
        lines.append(f"other estimates: {', '.join(others)}; {found['pca']:.0f} components hold 95% of the variance")
        if self.dimension > _FULL * about["n_features"]:
            lines.append(
                f"the data fill all {about['n_features']} features, as noise does, and as anything does in few of them"
            )
        if method in self.data["local_estimator"].values:
            lines.append(self._across_scales(method))
        if about["n_duplicates"]:
            lines.append(
                f"{about['n_duplicates']} points repeat another one: they count in PCA and participation ratio only"
            )
        if about["theiler"] is not None:
            lines.append(_neighbours_in_time(about["theiler"], about["n_blocks"]))
        return lines

    def _across_scales(self, method: str) -> str:
        curve = self.data.sel(local_estimator=method)
        seen = np.isfinite(curve["scale_estimate"].values)
        distance, value = curve["scale_distance"].values[seen], curve["scale_estimate"].values[seen]
        return (
            f"by scale: {value[0]:.3g} where neighbours are {distance[0]:.3g} apart, {value[-1]:.3g} where they are "
            f"{distance[-1]:.3g} apart; noise adds dimensions at small scales, edges and curvature change large ones"
        )


def _neighbours_in_time(window: int, n_blocks: int) -> str:
    errors = f"errors are those of {n_blocks} stretches of trials"
    if window == 0:
        return f"all other samples count as neighbours, also the next one in time; {errors}"
    apart = "one sample apart" if window == 1 else f"up to {window} samples apart"
    return f"samples of one trial that are {apart} do not count as neighbours; {errors}"
