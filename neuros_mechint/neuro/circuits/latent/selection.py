"""select_latent_size: as many nodes as held-out conditions ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import OptionError, whole
from neuros_mechint.core.figures.colours import INK, MUTED_INK, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.observations import folds_of_conditions, observations

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STARTS = 2  # two that agree are enough, and a size that needs more is no good choice


class LatentSizes(Result):
    """How well circuits of several sizes predict held-out conditions.

    ``data`` holds ``score`` and ``connectivity_error``, the largest standard error of the connectivity, over ``size``
    and ``fold``, and the ``chosen`` size.
    """

    @property
    def chosen(self) -> int:
        """The smallest circuit that predicts as well as the best one."""
        return int(self.data["chosen"])

    def _draw(self, ax: Axes) -> None:
        scores = self.main
        sizes = scores["size"].values
        ax.plot(sizes, scores.values, color=MUTED_INK, linewidth=0.8, marker=".")
        ax.plot(sizes, scores.mean("fold").values, color=PALETTE[0], marker="o", label="mean of folds")
        ax.axvline(self.chosen, color=INK, linestyle=":", label=f"chosen: {self.chosen}")
        ax.set(xlabel="nodes", ylabel="held-out R2 of condition means", xticks=sizes)
        ax.grid(axis="y")
        ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return the scores and the choice in words."""
        means, errors = self.main.mean("fold"), self.data["connectivity_error"].max("fold")
        return [
            *(
                f"{int(size)} nodes: held-out R2 {float(means.sel(size=size)):.4f}, "
                f"largest standard error {float(errors.sel(size=size)):.2g}"
                for size in self.main["size"]
            ),
            f"chosen: {self.chosen}, the smallest that predicts as well as the best, within one standard error",
        ]


def select_latent_size(
    inputs: Any,
    activity: Any,
    outputs: Any,
    sizes: Sequence[int],
    conditions: Any = None,
    alpha: float | None = 0.2,
    cv: int = 3,
    seed: SeedLike = 0,
    progress: bool = True,
) -> LatentSizes:
    """Choose the number of nodes of a latent circuit on held-out conditions.

    Conditions are dealt to folds; the mean of each is predicted, from its inputs alone, by a circuit that was fitted to
    the others. The smallest circuit is chosen that predicts as well as the best one: whose mean difference from it,
    over the folds, is at most the standard error of this difference.

    Parameters
    ----------
    inputs, activity, outputs, conditions
        As for `neuros_mechint.neuro.circuits.latent.model.LatentCircuitModel.fit`.
    sizes : sequence of int
        Numbers of nodes, at least two different ones.
    alpha : float or None
        As for the model.
    cv : int
        Folds of the conditions, at least 2.
    seed : int or numpy.random.Generator
        For the folds and the fits.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    LatentSizes

    Raises
    ------
    InputError
        As for the fit, or fewer conditions than folds.
    OptionError
        Numbers out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from neuros_mechint.neuro.circuits.latent.dynamics import simulate
    >>> random = np.random.default_rng(0)
    >>> wiring = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -0.8], [0.9, 0.0, 0.4]])
    >>> inputs = random.uniform(0, 1, (20, 5, 2)).repeat(6, axis=1)
    >>> states = simulate(wiring, np.eye(3, 2), inputs, alpha=0.2)
    >>> activity = states @ np.linalg.qr(random.standard_normal((10, 3)))[0].T
    >>> activity += 0.01 * random.standard_normal(activity.shape)
    >>> select_latent_size(inputs, activity, states[:, :, 2:], sizes=[2, 3], cv=2).chosen
    3
    """
    seen, random = observations(inputs, activity, outputs, conditions), generator(seed)
    counts = numbers_of_nodes(sizes, fewest=2)
    folds = folds_of_conditions(seen, cv, random)
    fits = [(size, fold) for size in range(len(counts)) for fold in range(len(folds))]
    scores, errors = np.zeros((2, len(counts), len(folds)))
    for size, fold in progress_bar(fits, description="fitting", enabled=progress):
        model = LatentCircuitModel(counts[size], alpha=alpha, n_starts=_STARTS, seed=random)
        model.fit_observations(seen.chosen(folds[fold][0]), warn=False)
        held = seen.chosen(folds[fold][1]).averaged()
        scores[size, fold] = model.score(*held[:3])
        errors[size, fold] = model.connectivity_se_.max()
    dims, about = ("size", "fold"), {"long_name": "held-out R2 of condition means", "units": "1"}
    error = {"long_name": "largest standard error of the connectivity", "units": "1"}
    chosen = {"long_name": "chosen number of nodes", "units": "1"}
    data = xr.Dataset(
        {
            "score": (dims, scores, about),
            "connectivity_error": (dims, errors, error),
            "chosen": ((), counts[_smallest_as_good(scores)], chosen),
        },
        {"size": ("size", counts, {"long_name": "nodes"}), "fold": np.arange(len(folds))},
    )
    arguments = {"sizes": counts, "alpha": alpha, "cv": cv, "activity": seen.activity}
    return LatentSizes(
        data,
        "Number of nodes of a latent circuit",
        attributes={"alpha": alpha, "n_conditions": seen.n_conditions},
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("langdon2025",),
    )


def numbers_of_nodes(sizes: Sequence[int], fewest: int = 1, least: int = 1) -> list[int]:
    """Return different numbers of nodes in order.

    Parameters
    ----------
    sizes : sequence of int
    fewest : int
        Numbers there must be.
    least : int
        Nodes there must be.

    Raises
    ------
    OptionError
        No sequence of integers, too few of them, or too small ones.

    Examples
    --------
    >>> numbers_of_nodes([9, 8, 9])
    [8, 9]
    """
    given = list(sizes) if isinstance(sizes, Sequence | np.ndarray) and np.ndim(sizes) == 1 else []
    counts = sorted({whole("sizes", size, least) for size in given})
    if len(counts) < fewest:
        raise OptionError(
            "sizes are too few numbers of nodes",
            expected=f"a list of at least {fewest}, such as {[8, 9][:fewest]}",
            got=repr(sizes),
        )
    return counts


def _smallest_as_good(scores: Floats) -> int:
    """Return the first row that is as good as the best, by the standard error of the difference over folds."""
    behind = scores[scores.mean(1).argmax()] - scores
    errors = behind.std(1, ddof=1) / np.sqrt(scores.shape[1])
    return int(np.flatnonzero(behind.mean(1) <= errors)[0])
