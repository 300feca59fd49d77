"""Permutation test of canonical correlations: whiten once, shuffle, and look at a small matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, TIE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class CanonicalTest(Result):
    """Canonical correlations in sample, each with its p.

    ``data`` holds ``correlation`` and ``p`` over ``(component,)``, and ``null`` over ``(permutation,)``, the largest
    correlation after each shuffle. With regularisation, correlations are those that are maximised: covariances of
    the variates relative to the regularised variances.
    """

    @property
    def p(self) -> Floats:
        """One p per component, corrected for their number."""
        return self.data["p"].values

    @property
    def n_significant(self) -> int:
        """How many components are above chance at 0.05."""
        return int((self.p <= SIGNIFICANT).sum())

    def _summary_lines(self) -> list[str]:
        """Return the correlation and p of each component."""
        rows = zip(self.data["component"].values, self.main.values, self.p, strict=True)
        lines = [f"component {component}: r = {r:.3f} in sample, p = {p:.3g}" for component, r, p in rows]
        return [*lines, f"{self.n_significant} of {len(lines)} above chance at {SIGNIFICANT}"]

    def _draw(self, ax: Axes) -> None:
        components, values = self.data["component"].values, self.main.values
        significant = self.p <= SIGNIFICANT
        for chosen, filled, label in (
            (significant, True, f"p <= {SIGNIFICANT}"),
            (~significant, False, f"p > {SIGNIFICANT}"),
        ):
            if chosen.any():
                face = PALETTE[0] if filled else "none"
                ax.plot(components[chosen], values[chosen], "o", color=PALETTE[0], markerfacecolor=face, label=label)
        limit = float(np.quantile(self.data["null"].values, 1 - SIGNIFICANT))
        ax.axhline(limit, color=MUTED_INK, linestyle=":", label="largest by chance, 95% of permutations")
        ax.set_xlabel("component")
        ax.set_ylabel("canonical correlation (in sample)")
        ax.set_ylim(0, 1.05)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3)


def permute_canonical(
    x: Floats,
    y: Floats,
    n_components: int,
    n_permutations: int,
    seed: SeedLike,
    arguments: Mapping[str, Any],
) -> CanonicalTest:
    """Return the test of `CCA.permutation_test` for sides that are whitened.

    Parameters
    ----------
    x, y : numpy.ndarray of shape (n_samples, rank)
        Whitened.
    n_components, n_permutations : int
    seed : int or numpy.random.Generator
    arguments : mapping
        For the record.

    Returns
    -------
    CanonicalTest

    Raises
    ------
    InputError
        Fewer than one permutation.
    """
    n_permutations = whole("n_permutations", n_permutations)
    provenance = Provenance.record(seed=seed, arguments=arguments)
    random = generator(seed)
    if x.shape[1] < y.shape[1]:
        x, y = y, x  # the smaller side gives the smaller Gram matrix
    left, observed, right = np.linalg.svd(x.T @ y / (len(x) - 1))
    # in canonical coordinates, taking the first components out is leaving out rows and columns
    x, y = np.ascontiguousarray((x @ left).T) / (len(x) - 1), y @ right.T
    exceeded, null = np.zeros(n_components, dtype=int), np.empty(n_permutations)
    limits = observed[:n_components] ** 2 * (1 - TIE)
    for draw in range(n_permutations):
        product = x @ y[random.permutation(len(y))]
        null[draw] = _count_exceeded(product, limits, exceeded)
    p = np.maximum.accumulate((exceeded + 1) / (n_permutations + 1))
    components = np.arange(1, n_components + 1)
    data = xr.Dataset(
        {
            "correlation": ("component", observed[:n_components], {"long_name": "canonical correlation", "units": ""}),
            "p": ("component", p, {"long_name": "p, stepwise over components", "units": ""}),
            "null": ("permutation", null, {"long_name": "largest correlation after a shuffle", "units": ""}),
        },
        coords={"component": components},
    )
    return CanonicalTest(
        data,
        "Permutation test of canonical correlations",
        attributes={"n_samples": len(y), "n_permutations": n_permutations},
        provenance=provenance,
        citations=("hotelling1936", "winkler2020"),
    )


def _count_exceeded(product: Floats, limits: Floats, exceeded: npt.NDArray[np.int_]) -> float:
    """Count for each component whether the largest correlation of the rest reaches it; return that of the whole.

    The largest eigenvalue of a Gram matrix G is below r exactly if r - G has a Cholesky decomposition, which costs a
    fraction of the eigenvalues.
    """
    from scipy.linalg import lapack

    gram = product.T @ product
    # LAPACK's solvers for the largest alone are faster, and fail where many are equal, as with saturated data
    largest = float(np.linalg.eigvalsh(gram)[-1])
    for component, limit in enumerate(limits):
        if component:
            row = product[component - 1, component - 1 :]
            gram = (gram - np.outer(row, row))[1:, 1:]
        if largest < limit:
            continue  # the rest has no larger value than the whole
        shifted = -gram
        shifted[np.diag_indices_from(shifted)] += limit
        _, failed = lapack.dpotrf(shifted.T, overwrite_a=True, clean=False)  # pyright: ignore[reportAttributeAccessIssue]
        exceeded[component] += failed > 0
    return float(np.sqrt(max(largest, 0.0)))
