"""The eigenvalues of a model at its fixed points, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.fixed_points.results import FixedPoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 6


class JacobianSpectra(Result):
    """Eigenvalues of the Jacobian at each fixed point.

    ``data`` holds over ``(point, mode)``: ``modulus``, ``eigenvalue_real`` and ``eigenvalue_imag``, largest modulus
    first; and ``n_unstable`` over ``point``.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 4.4

    def _draw(self, ax: Axes) -> None:
        angle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(angle), np.sin(angle), color=MUTED_INK, lw=0.8, zorder=1)
        growing = self.data["n_unstable"].values
        for order, number in enumerate(np.unique(growing)[:_MOST_NAMED]):
            own = self.data.isel(point=growing == number)
            label = "none grows" if number == 0 else f"{number} grow{'s' if number == 1 else ''}"
            x, y = own["eigenvalue_real"].values.ravel(), own["eigenvalue_imag"].values.ravel()
            ax.plot(x, y, "o", ms=3.5, alpha=0.7, color=PALETTE[order], label=f"{label} ({own.sizes['point']})")
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel("real part of the eigenvalue (per step)")
        ax.set_ylabel("imaginary part (per step)")
        ax.grid()
        ax.legend(title="fixed points: directions", loc="center left", bbox_to_anchor=(1, 0.5))

    def _summary_lines(self) -> list[str]:
        """Return which moduli there are."""
        largest = self.main.values[:, 0]
        beyond = int((self.data["n_unstable"].values > 0).sum())
        several = f"{len(largest)} fixed point{'s' if len(largest) > 1 else ''}"
        return [
            f"largest modulus of an eigenvalue from {largest.min():.4g} to {largest.max():.4g} at {several}",
            f"{beyond} of them {'has' if beyond == 1 else 'have'} directions that grow (modulus above 1)",
        ]


def jacobian_spectra(found: FixedPoints) -> JacobianSpectra:
    """Return the eigenvalues at the fixed points that a finder found.

    Parameters
    ----------
    found : FixedPoints
        At least one.

    Returns
    -------
    JacobianSpectra

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.fixed_points.finder import FixedPointFinder
    >>> found = FixedPointFinder(lambda state: 0.5 * state).find([[1.0, 2.0]])
    >>> jacobian_spectra(found).main.values.tolist()
    [[0.5, 0.5]]
    """
    values = found.eigenvalues
    about = {"units": "per step"}
    data = {
        "modulus": (("point", "mode"), np.abs(values), {"long_name": "modulus of the eigenvalue", **about}),
        "eigenvalue_real": (("point", "mode"), values.real, {"long_name": "real part of the eigenvalue", **about}),
        "eigenvalue_imag": (("point", "mode"), values.imag, {"long_name": "imaginary part of the eigenvalue", **about}),
        "n_unstable": ("point", found.n_unstable, {"long_name": "growing directions", "units": "1"}),
    }
    return JacobianSpectra(
        xr.Dataset(data),
        "Eigenvalues at the fixed points",
        provenance=Provenance.record(arguments={"states": found.states}),
        citations=("sussillo2013",),
    )
