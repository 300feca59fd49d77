"""What a fitted landscape returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

_MOST_TOLD = 6
_LABELLED = 12


class Landscape(Result):
    """Minima, the barriers between them, and how much of the time is spent in the basin of each."""

    @property
    def n_minima(self) -> int:
        """Minima that are no chance."""
        return self.data.sizes["minimum"]

    @property
    def barriers(self) -> Floats:
        """From each minimum (row) over the lowest way to each other one."""
        return self.data["barrier"].values

    @property
    def balance_p(self) -> float:
        """P of the hypothesis that states are in detailed balance."""
        return float(self.attributes["balance_p"])

    @property
    def balance_broken(self) -> bool:
        """Whether detailed balance is rejected, so that the landscape is no energy."""
        return bool(self.attributes["balance_broken"])

    @property
    def occupancy(self) -> Floats:
        """Share of the samples in each basin."""
        return self.data["occupancy"].values

    def plot_tree(self, ax: Axes | None = None) -> Axes:
        """Draw the disconnectivity graph and return the axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        matplotlib.axes.Axes
        """
        from neuros_mechint.core.figures.style import drawing
        from neuros_mechint.neuro.information.energy.valleys.trees import draw_tree

        with drawing(ax) as axes:
            draw_tree(self.data["depth"].values, self.barriers, axes)
            axes.set_ylabel(f"energy ({self.data['depth'].attrs['units']})")
            axes.set_title("Disconnectivity graph")
        return axes

    def _lowest_barriers(self) -> Iterator[str]:
        units = self.data["barrier"].attrs["units"]
        for one in range(min(self.n_minima, _MOST_TOLD) if self.n_minima > 1 else 0):
            others = np.delete(np.arange(self.n_minima), one)
            to = int(others[np.argmin(self.barriers[one, others])])
            error = float(self.data["barrier_error"][one, to])
            more = "" if np.isnan(error) else f" +- {error:.2g}"
            least = "at least " if "is_bound" in self.data and self.data["is_bound"].values[one, to] else ""
            yield f"minimum {one}: barrier {least}{self.barriers[one, to]:.3g}{more} {units} to minimum {to}"
        if self.n_minima > _MOST_TOLD:
            yield f"and {self.n_minima - _MOST_TOLD} more minima"


class DensityLandscape(Landscape):
    """The quasi-potential of trajectories in one or two dimensions.

    ``data`` holds the ``energy`` with its ``error`` on a grid ``(x)`` or ``(x, y)``, the ``density`` and the ``basin``
    of each cell; coordinates are ``(state - centre) @ direction.T``. Of each minimum the ``position``, ``depth``,
    ``occupancy`` and ``dwell_time``; between minima the ``barrier`` with its error, ``pass_position``,
    ``passage_time`` as predicted from the landscape, ``observed_time`` and ``kramers_time``.
    """

    @property
    def minima(self) -> Floats:
        """Positions, ``(n_minima, n_dimensions)``, the lowest first."""
        return self.data["position"].values

    @property
    def passage_times(self) -> Floats:
        """Mean first-passage times from each minimum (row) to each other one, predicted from the landscape."""
        return self.data["passage_time"].values

    @property
    def observed_times(self) -> Floats:
        """Mean first-passage times from each minimum (row) to each other one, as seen; NaN where none was."""
        return self.data["observed_time"].values

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        return (5.6, 4.4) if self.main.ndim == 2 else (6.6, 3.6)

    def _draw(self, ax: Axes) -> None:
        from neuros_mechint.core.figures.plotting import INK, PALETTE, axis_label

        passes = self.data["pass_position"].values[np.triu_indices(self.n_minima, 1)]
        passes = np.unique(passes[np.isfinite(passes).all(1)], axis=0)
        if self.main.ndim == 1:
            x, energy, error = self.data["x"].values, self.main.values, self.data["error"].values
            ax.fill_between(
                x, energy - error, energy + error, color=PALETTE[0], alpha=0.25, lw=0, label="standard error"
            )
            ax.plot(x, energy, color=PALETTE[0])
            heights = [np.interp(values[:, 0], x, energy) for values in (self.minima, passes)]
            ax.plot(self.minima[:, 0], heights[0], "o", color=INK, label="minima")
            if len(passes):
                ax.plot(passes[:, 0], heights[1], "^", color=PALETTE[1], label="passes")
            for number, (place, height) in enumerate(zip(self.minima[:, 0], heights[0], strict=True)):
                ax.annotate(
                    str(number), (place, height), (0, -5), textcoords="offset points", ha="center", va="top", fontsize=9
                )
            low, high = float(np.nanmin(energy)), self._interesting
            ax.set_ylim(low - 0.16 * (high - low), high)  # room for the numbers
            ax.set_xlabel(axis_label(self.data["x"]))
            ax.set_ylabel(self._height_label())
            ax.grid(axis="y")
            ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
        else:
            self._draw_plane(ax)
            ax.plot(*self.minima.T, "o", mfc="white", mec=INK, ms=6, label="minima")
            if len(passes):
                ax.plot(*passes.T, "^", color=PALETTE[1], label="passes")
            self._number_minima(ax)
            handles = [*ax.get_legend_handles_labels()[0], *self._key_of_nothing()]
            ax.legend(handles=handles, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3)

    def _number_minima(self, ax: Axes) -> None:
        from matplotlib.patheffects import withStroke

        from neuros_mechint.core.figures.plotting import INK

        # they lie on dark valleys, on pale heights, and where nothing was seen: only a rim can be read on all
        rim = [withStroke(linewidth=2.5, foreground="white")]
        for number, place in enumerate(self.minima):
            ax.annotate(
                str(number), tuple(place), (5, 4), textcoords="offset points", fontsize=9, color=INK, path_effects=rim
            )

    def _key_of_nothing(self) -> list[Patch]:
        """Return what says in a legend where there is no landscape."""
        from matplotlib.patches import Patch

        from neuros_mechint.core.figures.colours import MISSING

        return [Patch(color=MISSING, label="no sample near")] if np.isnan(self.main.values).any() else []

    def _height_label(self) -> str:
        from neuros_mechint.core.figures.plotting import axis_label

        broken = self.attributes["balance_broken"]
        return axis_label(self.main).replace("energy", "quasi-potential", 1) if broken else axis_label(self.main)

    @property
    def _interesting(self) -> float:
        """The highest energy that a figure shows: somewhat above all barriers."""
        energy = self.main.values
        heights = (self.data["depth"].values[:, None] + self.barriers)[np.isfinite(self.barriers)]
        low, high = float(np.nanmin(energy)), float(np.nanmax(energy))
        kT = float(self.attributes["temperature"])
        return min(high, max(low + 5 * kT, low + 1.8 * (float(heights.max()) - low)))

    def _draw_plane(self, ax: Axes) -> None:
        from neuros_mechint.core.figures.plotting import MUTED_INK, SEQUENTIAL, axis_label

        x, y, energy = self.data["x"].values, self.data["y"].values, self.main.values
        shown = np.minimum(energy, self._interesting)
        image = ax.pcolormesh(x, y, shown.T, cmap=SEQUENTIAL.reversed(), shading="nearest", rasterized=True)
        ax.contour(x, y, shown.T, levels=8, colors=MUTED_INK, linewidths=0.5)
        bar = ax.figure.colorbar(image, ax=ax)
        bar.set_label(self._height_label())
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        ax.set_xlabel(axis_label(self.data["x"]))
        ax.set_ylabel(axis_label(self.data["y"]))

    def _summary_lines(self) -> Iterator[str]:
        about, data = self.attributes, self.data
        kind = "energy" if not about["balance_broken"] else "quasi-potential"
        yield (
            f"{kind} by {about['method']} ({about['smoothing']}), {about['n_samples']:,} samples, which count as "
            f"{about['n_samples'] / about['memory']:,.0f} independent ones; {about['coordinates']}"
        )
        places = ", ".join(
            f"({', '.join(f'{value:.3g}' for value in place)}) {share:.0%}"
            for place, share in zip(self.minima[:_MOST_TOLD], self.occupancy, strict=False)
        )
        yield f"{self.n_minima} {'minima' if self.n_minima > 1 else 'minimum'}, with the share of the time: {places}"
        yield from self._lowest_barriers()
        for dip in about["may_be_chance"]:
            place = ", ".join(f"{value:.3g}" for value in dip["position"])
            yield f"may be chance: a dip at ({place}), barrier {dip['barrier']:.3g} +- {dip['error']:.2g} kT"
        for a, b in list(zip(*np.nonzero(~np.eye(self.n_minima, dtype=bool)), strict=True))[:_MOST_TOLD]:
            names = ("passage_time", "observed_time", "kramers_time")
            predicted, seen, formula = (float(data[name][a, b]) for name in names)
            error = float(data["observed_error"][a, b])
            if not data["n_passages"][a, b] and not np.isfinite([predicted, formula]).any():
                continue
            told = [f"predicted {predicted:.3g}"] if np.isfinite(predicted) else []
            passages = int(data["n_passages"][a, b])
            told.append(
                f"seen {seen:.3g} ± {error:.2g} between their cores (n = {passages})" if passages else "never seen"
            )
            told += [f"Kramers {formula:.3g}"] if np.isfinite(formula) else []
            yield f"from {a} to {b}: {', '.join(told)}"
        production = about["entropy_production"]
        yield (
            f"detailed balance: p = {about['balance_p']:.2g}, entropy production at least {production:.2g} nats per "
            "unit of time"
        )


class IsingLandscape(Landscape):
    """The pairwise maximum entropy model of binary units and its landscape.

    ``data`` holds ``couplings`` and ``fields`` with their errors, in kT, of the energy -h s - sum J s s of spins -1
    and 1; of each minimum under single flips the ``state``, ``depth``, ``occupancy`` and ``model_occupancy``; between
    minima the ``barrier`` with its error.
    """

    @property
    def minima(self) -> Floats:
        """States of -1 and 1, ``(n_minima, n_units)``, the lowest first."""
        return self.data["state"].values

    def _draw(self, ax: Axes) -> None:
        from neuros_mechint.core.figures.plotting import heat_map

        couplings = self.data["couplings"]
        heat_map(couplings.where(~np.eye(len(couplings), dtype=bool)), ax, center=0.0)

    def _summary_lines(self) -> Iterator[str]:
        about = self.attributes
        yield (
            f"{about['n_units']} units (coded {about['coding']}), {about['n_samples']:,} samples, "
            f"{about['method']}; couplings {np.abs(self.main.values).max():.3g} at most, median standard error "
            f"{float(np.median(self.data['couplings_error'].values[np.triu_indices(about['n_units'], 1)])):.2g} kT"
        )
        if about["entropy"] is not None:
            yield (
                f"entropy {about['entropy']:.4g} nats, {about['independent_entropy'] - about['entropy']:.3g} less than "
                "of independent units"
            )
        off = about["triples_off"]
        triples = "" if off is None else f"; {off:.0%} of triple products are two errors off (5% by chance)"
        gain = f"{about['held_out_gain']:.3g} nats per state likelier than with independent units"
        yield f"held-out states: {gain}{triples}"
        shown = min(self.n_minima, _MOST_TOLD)
        for number in range(shown):
            word = "".join("+" if value > 0 else "-" for value in self.minima[number][: 4 * _LABELLED])
            yield f"minimum {number}: {word}, {self.occupancy[number]:.1%} of samples in its basin"
        yield from self._lowest_barriers()
