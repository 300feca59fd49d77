"""What silencing a population did to what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, axis_label, interval_bars
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


class PopulationEffects(Result):
    """The change of every readout while a population is silenced, against the same trials left alone.

    ``data`` holds over ``(readout,)`` the mean change ``effect`` with its interval ``low`` and ``high``; ``p`` and
    ``p_adjusted``, the sign-flip test over trials, adjusted for the number of readouts; and ``unit``. Over
    ``(readout, sample)``: the change ``per_sample``, and ``baseline``, what was read of the trial left alone. With
    controls, ``control`` over ``(control, readout)`` and ``p_control``: the share of random populations that change
    the readout as much, counting the silenced one itself.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean change of each readout, ``(readout,)``."""
        return self.data["effect"]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 1.6 + 0.4 * self.data.sizes["readout"]

    def _draw(self, ax: Axes) -> None:
        unit = self.data["unit"].values[0]
        data = self.data.isel(readout=self.data["unit"].values == unit)  # lengths of different units do not compare
        if data.sizes["readout"] < self.data.sizes["readout"]:
            ax.set_title(f"{self.title}\n(readouts in other units than the first are in the summary)", loc="left")
        names = [str(name) for name in data["readout"].values]
        table = {"value": data["effect"].values, "low": data["low"].values, "high": data["high"].values}
        interval_bars(names, table, (data["p_adjusted"] <= SIGNIFICANT).values, ax)
        if "control" in data:
            rows = np.broadcast_to(np.arange(len(names)), data["control"].shape)
            ax.plot(
                data["control"].values.ravel(),
                rows.ravel() + 0.25,
                "|",
                color=MUTED_INK,
                markersize=9,
                clip_on=False,  # those at 0 lie on the edge
                label=f"{data.sizes['control']} random populations",
            )
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3))
        ax.set_xlabel(axis_label(data["effect"].assign_attrs(units=unit)))

    def _summary_lines(self) -> list[str]:
        """Return the change of each readout, with its certainty."""
        lines = []
        for name in self.data["readout"].values:
            row = self.data.sel(readout=name)
            before = float(row["baseline"].mean())
            change = f"{float(row['effect']):+.4g} {row['unit'].item()}".rstrip()
            line = f"{name}: {change} from {before:.4g}"
            if np.isfinite(row["p"]):
                interval = f"[{float(row['low']):+.4g}, {float(row['high']):+.4g}]"
                line += f", 95% interval {interval}, adjusted p = {float(row['p_adjusted']):.2g}"
            if "p_control" in row:
                others = np.abs(row["control"].values)
                line += f"; random populations {others.min():.4g} to {others.max():.4g} in size"
                line += f", p = {float(row['p_control']):.2g}"
            lines.append(line)
        return lines
